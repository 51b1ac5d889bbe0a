"""MariaDB: error numbers of the server and of the client, and the same of MySQL where they differ.

The number decides. SQLSTATEs say too little here: HY000 is a lock timeout as well as a full disk,
and a user's connection limit is a syntax error (42000).
"""

from collections.abc import Iterator, Mapping
from typing import Final, final

from shipworthy.db.dialects.statements import AdvisoryLock, TransactionStatus
from shipworthy.db.outcome import Outcome, Sign, Verdict

Rule = tuple[Outcome, str]


def _table() -> Iterator[tuple[int, Rule]]:
    for outcome, because, numbers in NUMBERS:
        for number in numbers:
            yield number, (outcome, because)


# What a number means where its range does not say it.
NUMBERS: Final[tuple[tuple[Outcome, str, tuple[int, ...]], ...]] = (
    (Outcome.RERUN, "a deadlock", (1213, 1402, 1614, 1689, 3058)),
    (Outcome.RERUN, "a lock was not available in time", (1205, 1613)),
    (Outcome.RERUN, "a row or table has changed since the snapshot was taken", (1020, 1412)),
    (Outcome.NOT_SENT, "the server cannot be reached", (2001, 2002, 2003, 2004, 2005, 2070)),
    (
        Outcome.NOT_SENT,
        "the connection could not be made",
        (1043, 2009, 2010, 2011, 2012, 2015, 2016, 2017, 2018, *range(2037, 2047)),
    ),
    (Outcome.NOT_SENT, "the server or node takes no statements now", (1047, 3032)),
    (Outcome.LOST, "the server shuts down", (1053, 1077, 1078, 1079)),
    (Outcome.LOST, "the server ended the session", (1080, 1152, 1184, 1927, 4031)),
    (Outcome.LOST, "the connection was lost", (0, 2006, 2013, 2027, 2048, 2055)),
    (Outcome.LOST, "the server lost the connection", (1154, 1155, 1156, 1157, *range(1158, 1162))),
    (Outcome.LOST, "a packet could not be read", (1835,)),
    (Outcome.AMBIGUOUS, "the server failed while it committed", (1180,)),
    (Outcome.AMBIGUOUS, "a transaction that waited for another failed at its end", (1964,)),
    (Outcome.OVERLOAD, "the server has no free slot", (1040, 1203, 1226)),
    (Outcome.OVERLOAD, "the server is out of threads or transactions", (1135, 1461, 1637)),
    (
        Outcome.OVERLOAD,
        "the server is out of memory",
        (1037, 1038, 1041, 1206, 1257, 2008, 3015, 3044),
    ),
    (Outcome.READ_ONLY, "a write in a read-only transaction", (1792,)),
    (Outcome.READ_ONLY, "the server or table only reads", (1036, 1836, 1874)),
    (Outcome.DEADLINE, "the statement took too long", (1969, 3024, 4192)),
    (Outcome.DEADLINE, "the statement was cancelled", (1028, 1317)),
    (Outcome.STALE_PLAN, "a prepared statement is gone or no longer fits", (1243, 1615, 2056)),
    (
        Outcome.APP_STATE,
        "not in this state of the transaction or connection",
        (1179, 1192, 1399, 1400, 1568, 1679, 1685, 1694, 1766, 1929, 1953, 2014, 2057, 2058, 4060),
    ),
    (
        Outcome.AUTH_CONFIG,
        "the user or its password was not accepted",
        (1045, 1251, 1275, 1698, 1820, 1862, 1873, 2049, 2059, 2061, 2067, 2072, 4151),
    ),
    (Outcome.AUTH_CONFIG, "the host was not accepted", (1042, 1129, 1130)),
    (Outcome.AUTH_CONFIG, "the database is not there, or was not chosen", (1046, 1049)),
    (
        Outcome.AUTH_CONFIG,
        "a privilege is missing",
        (1044, 1095, 1142, 1143, 1211, 1227, 1370, 1410, 1419, 1959, 1961, 1979, 4150),
    ),
    (Outcome.AUTH_CONFIG, "the server did not accept how we connect", (2007, 2019, 2026, 2047)),
    (
        Outcome.AUTH_CONFIG,
        "the client is not set up for this server",
        (2028, 2062, 2064, 2065, 2066, 2071, 4167),
    ),
    (Outcome.STORAGE, "the disk or a table is full", (1021, 1114, 3019, 4139)),
    (
        Outcome.STORAGE,
        "the server cannot read or write a file",
        (1004, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018, 1019, 1023, 1024, 1025, 1026, 1030,
         1039, 1376, 1810, 1811, 1812, 1878, 1932),
    ),
    (
        Outcome.STORAGE,
        "a table or index is corrupted",
        (1033, 1034, 1035, 1194, 1195, 1244, 1457, 1459, 1602, 1707, 1712, 1817, 1877, 3000),
    ),
    (Outcome.UNKNOWN, "an internal error", (1105, 1181, 1296, 1297, 1815, 2000, 2029, 3002)),
    (Outcome.UNKNOWN, "an exception inside the server", tuple(range(3045, 3055))),
)  # fmt: skip
# What every other number of a range means.
RANGES: Final[tuple[tuple[range, Outcome, str], ...]] = (
    (range(1000, 2000), Outcome.PERMANENT, "the server refused the statement or its data"),
    (range(2000, 2100), Outcome.PERMANENT, "the client library refused the call"),
    (range(3000, 5000), Outcome.PERMANENT, "the server refused the statement or its data"),
)
CODES: Final[Mapping[int, Rule]] = dict(_table())
# An option that prevents a statement: among many others the one for which whole servers fail over.
OPTION_PREVENTS = 1290
_READ_ONLY_OPTION = "read-only"

TYPES: Final[Mapping[str, Rule]] = {
    "InterfaceError": (Outcome.LOST, "the connection was closed"),
    "OperationalError": (Outcome.LOST, "the connection was lost"),
    "DataError": (Outcome.PERMANENT, "a value the driver cannot send"),
    "IntegrityError": (Outcome.PERMANENT, "an integrity constraint"),
    "NotSupportedError": (Outcome.PERMANENT, "a feature that is not supported"),
    "ProgrammingError": (Outcome.PERMANENT, "a use of the driver it does not know"),
}
# With these a COMMIT on its way may have been done all the same.
_OPEN = frozenset(
    {Outcome.LOST, Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.UNKNOWN, Outcome.DEADLINE,
     Outcome.STORAGE}
)  # fmt: skip


@final
class Mariadb:
    """MariaDB through PyMySQL or asyncmy."""

    __slots__ = ()

    name = "mariadb"
    transaction_status: TransactionStatus | None = None

    def by_code(self, sign: Sign) -> Verdict | None:
        """Judge by error number."""
        number = sign.code
        if number is None:
            return None
        outcome, because = _rule_of(number, sign.text)
        return Verdict(
            outcome=outcome,
            because=f"{because} ({number})",
            coded=True,
            definite=outcome not in _OPEN,
        )

    def by_text(self, sign: Sign) -> Verdict | None:
        """Judge nothing: there is always a number."""
        del sign
        return None

    def by_type(self, sign: Sign) -> Verdict | None:
        """Judge an exception of the driver itself."""
        for name in sign.types:
            rule = TYPES.get(name.rpartition(".")[2])
            if rule is not None:
                return Verdict(outcome=rule[0], because=rule[1])
        return None

    def advisory_lock(self, name: str) -> AdvisoryLock | None:
        """Return the lock of that name; the name of the database is part of it, as elsewhere."""
        # Locks belong to the whole server here, and their names may not be long.
        lock = "SHA1(CONCAT_WS('/', DATABASE(), :name))"
        return AdvisoryLock(
            take=(f"SELECT GET_LOCK({lock}, 0)", {"name": name}),
            release=(f"SELECT RELEASE_LOCK({lock})", {"name": name}),
        )


def _rule_of(number: int, text: str) -> Rule:
    if number == OPTION_PREVENTS and _READ_ONLY_OPTION in text:
        return Outcome.READ_ONLY, "the server only reads"
    if number in CODES:
        return CODES[number]
    for numbers, outcome, because in RANGES:
        if number in numbers:
            return outcome, because
    return Outcome.UNKNOWN, "a number of no known range"


MARIADB = Mariadb()
