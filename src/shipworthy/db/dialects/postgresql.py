"""PostgreSQL: SQLSTATEs by code and by class, and what drivers say that have none to show."""

import re
from collections.abc import Mapping
from typing import Final, final

from shipworthy.db.dialects.statements import AdvisoryLock, TransactionStatus, number_of
from shipworthy.db.outcome import Outcome, Sign, Verdict

Rule = tuple[Outcome, str]

# What a SQLSTATE means where its class does not say it, or says something else.
CODES: Final[Mapping[str, Rule]] = {
    "08001": (Outcome.NOT_SENT, "the connection could not be made"),
    "08004": (Outcome.NOT_SENT, "the server rejected the connection"),
    "08007": (Outcome.AMBIGUOUS, "the transaction's resolution is unknown"),
    "23P01": (Outcome.PERMANENT, "an exclusion constraint"),
    "25006": (Outcome.READ_ONLY, "a write in a read-only transaction or on a replica"),
    "25P03": (Outcome.LOST, "the server closed a session that was idle in a transaction"),
    "25P04": (Outcome.DEADLINE, "the server closed a session whose transaction took too long"),
    "40002": (Outcome.PERMANENT, "an integrity constraint at the end of the transaction"),
    "40003": (Outcome.AMBIGUOUS, "it is unknown whether the statement was completed"),
    "42501": (Outcome.AUTH_CONFIG, "a privilege is missing"),
    "42P05": (Outcome.STALE_PLAN, "a prepared statement of that name exists already"),
    "53100": (Outcome.STORAGE, "the disk is full"),
    "55P03": (Outcome.RERUN, "a lock was not available"),
    "57014": (Outcome.DEADLINE, "the statement was cancelled, or took too long"),
    "57P01": (Outcome.LOST, "an administrator ended the session"),
    "57P02": (Outcome.LOST, "another session of the server crashed"),
    "57P03": (Outcome.NOT_SENT, "the server starts, stops or recovers"),
    "57P04": (Outcome.AUTH_CONFIG, "the database was dropped"),
    "57P05": (Outcome.LOST, "the server closed an idle session"),
    "XX001": (Outcome.STORAGE, "data are corrupted"),
    "XX002": (Outcome.STORAGE, "an index is corrupted"),
}
# What every other code of a class means.
CLASSES: Final[Mapping[str, Rule]] = {
    "02": (Outcome.PERMANENT, "no data"),
    "03": (Outcome.PERMANENT, "a statement that is not yet complete"),
    "08": (Outcome.LOST, "the connection was lost"),
    "09": (Outcome.PERMANENT, "a triggered action"),
    "0A": (Outcome.PERMANENT, "a feature that is not supported"),
    "0B": (Outcome.PERMANENT, "an invalid start of a transaction"),
    "0F": (Outcome.PERMANENT, "an invalid locator"),
    "0L": (Outcome.PERMANENT, "an invalid grantor"),
    "0P": (Outcome.PERMANENT, "an invalid role in a statement"),
    "0Z": (Outcome.PERMANENT, "diagnostics outside a handler"),
    "10": (Outcome.PERMANENT, "XQuery"),
    "20": (Outcome.PERMANENT, "a case that was not found"),
    "21": (Outcome.PERMANENT, "more rows than one"),
    "22": (Outcome.PERMANENT, "data that do not fit"),
    "23": (Outcome.PERMANENT, "an integrity constraint"),
    "24": (Outcome.PERMANENT, "a cursor in the wrong state"),
    "25": (Outcome.APP_STATE, "a transaction in the wrong state"),
    "26": (Outcome.STALE_PLAN, "a prepared statement is gone"),
    "27": (Outcome.PERMANENT, "a row that its own trigger changed"),
    "28": (Outcome.AUTH_CONFIG, "the role or its password was not accepted"),
    "2B": (Outcome.PERMANENT, "privileges that others depend on"),
    "2D": (Outcome.APP_STATE, "an invalid end of a transaction"),
    "2F": (Outcome.PERMANENT, "an SQL routine"),
    "34": (Outcome.PERMANENT, "an invalid cursor name"),
    "38": (Outcome.PERMANENT, "an external routine"),
    "39": (Outcome.PERMANENT, "the call of an external routine"),
    "3B": (Outcome.APP_STATE, "a savepoint that is not there"),
    "3D": (Outcome.AUTH_CONFIG, "the database does not exist"),
    "3F": (Outcome.PERMANENT, "a schema that does not exist"),
    "40": (Outcome.RERUN, "the server rolled the transaction back"),
    "42": (Outcome.PERMANENT, "a statement that is wrong"),
    "44": (Outcome.PERMANENT, "a row outside its view"),
    "53": (Outcome.OVERLOAD, "the server is out of a resource"),
    "54": (Outcome.PERMANENT, "a limit of the program"),
    "55": (Outcome.PERMANENT, "an object in the wrong state"),
    "57": (Outcome.UNKNOWN, "an intervention of an operator"),
    "58": (Outcome.STORAGE, "the server's operating system failed it"),
    "72": (Outcome.RERUN, "a snapshot that is too old"),
    "F0": (Outcome.AUTH_CONFIG, "the server's own settings"),
    "HV": (Outcome.PERMANENT, "a foreign data wrapper"),
    "P0": (Outcome.PERMANENT, "an exception raised in PL/pgSQL"),
    "XX": (Outcome.UNKNOWN, "an internal error of the server"),
}
# After these the session is over, so they leave open what became of a COMMIT on its way.
_SESSION_OVER = frozenset({"25P04"})
_OPEN = frozenset({Outcome.LOST, Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.UNKNOWN})
# Classes that the standard leaves to implementations: here, to the application's own RAISE.
_OWN_CLASS = re.compile(r"[5-9I-Z][0-9A-Z]")
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")

# PostgreSQL has no code of its own for a plan that no longer fits; the function that found it out
# does not depend on the language of messages.
_PLAN_ROUTINE = "RevalidateCachedQuery"
_PLAN_TYPE = "asyncpg.exceptions.InvalidCachedStatementError"

# Classes of exceptions that come without a SQLSTATE, the most special first in any chain.
TYPES: Final[Mapping[str, Rule]] = {
    "psycopg.errors.ConnectionTimeout": (Outcome.NOT_SENT, "no connection in time"),
    "psycopg.errors.PipelineAborted": (Outcome.APP_STATE, "a pipeline that has failed before"),
    "psycopg.OperationalError": (Outcome.LOST, "the connection was lost"),
    "psycopg.InterfaceError": (Outcome.APP_STATE, "a use of the driver it does not allow"),
    "psycopg.DataError": (Outcome.PERMANENT, "a value the driver cannot send"),
    "psycopg.IntegrityError": (Outcome.PERMANENT, "an integrity constraint"),
    "psycopg.NotSupportedError": (Outcome.PERMANENT, "a feature that is not supported"),
    "psycopg.ProgrammingError": (Outcome.PERMANENT, "a use of the driver it does not know"),
    "asyncpg.exceptions._base.ClientConfigurationError": (
        Outcome.AUTH_CONFIG,
        "settings the driver cannot use",
    ),
    "asyncpg.exceptions._base.DataError": (Outcome.PERMANENT, "a value the driver cannot send"),
    "asyncpg.exceptions._base.OutdatedSchemaCacheError": (
        Outcome.STALE_PLAN,
        "types that the driver remembered have changed",
    ),
    "asyncpg.exceptions._base.TargetServerAttributeNotMatched": (
        Outcome.NOT_SENT,
        "no server of the kind that was asked for",
    ),
    "asyncpg.exceptions._base.InterfaceError": (
        Outcome.APP_STATE,
        "a use of the driver it does not allow",
    ),
}

# What libpq says of a connect that failed: it shows no SQLSTATE. Some of it comes translated, so
# whatever is not understood is a connection that could not be made; either way, nothing was sent.
_CONNECTING = re.compile(
    r"connection (failed|to server|timeout|is bad)|failed to resolve|could not (translate|connect)",
    re.IGNORECASE,
)
CONNECT_TEXTS: Final[tuple[tuple[str, Outcome, str], ...]] = (
    (
        r"too many (clients|connections)|connection slots|connection limit exceeded",
        Outcome.OVERLOAD,
        "the server has no free slot",
    ),
    (
        r"the database system is|accepting connections|recovery",
        Outcome.NOT_SENT,
        "the server starts, stops or recovers",
    ),
    (
        r"authentication|password|pg_hba\.conf|denied for database|\" (does not exist|is not )",
        Outcome.AUTH_CONFIG,
        "the server did not accept the role, its password or the database",
    ),
    (
        r"\bSSL\b|certificate|unrecognized configuration parameter|invalid (value|connection)",
        Outcome.AUTH_CONFIG,
        "the server did not accept how we connect",
    ),
    (
        r"connection refused|failed to resolve|name or service not known|no such file",
        Outcome.NOT_SENT,
        "nobody listens there",
    ),
)


@final
class Postgresql:
    """PostgreSQL through psycopg or asyncpg."""

    __slots__ = ()

    name = "postgresql"
    transaction_status: TransactionStatus | None = TransactionStatus(
        # A number is made where there is none: a unit may have written by a foreign table, which
        # gets none here. A replica cannot make one, and nothing is written there.
        assigned=(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN CAST(pg_current_xact_id() AS text) END"
        ),
        place=(
            # The timeline of the log itself: the last checkpoint's is the old one for a while after
            # a promotion.
            "SELECT CAST(system_identifier AS text) || '/'"
            " || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) FROM pg_control_system()"
        ),
        status="SELECT pg_xact_status(CAST(CAST(:xid AS text) AS xid8))",
    )

    def by_code(self, sign: Sign) -> Verdict | None:
        """Judge by SQLSTATE."""
        state = sign.sqlstate
        if state is None or not _SQLSTATE.fullmatch(state):
            return None
        if sign.routine == _PLAN_ROUTINE or _PLAN_TYPE in sign.types:
            return Verdict(
                outcome=Outcome.STALE_PLAN,
                because=f"a cached plan no longer fits its result ({state})",
                coded=True,
                definite=True,
            )
        outcome, because = CODES.get(state) or CLASSES.get(state[:2]) or _rule_of_stranger(state)
        return Verdict(
            outcome=outcome,
            because=f"{because} ({state})",
            coded=True,
            definite=outcome not in _OPEN and state not in _SESSION_OVER,
            refused=state == "57P03",
        )

    def by_text(self, sign: Sign) -> Verdict | None:
        """Judge what libpq says of a connect that failed."""
        if "psycopg.OperationalError" not in sign.types or not _CONNECTING.match(sign.text):
            return None
        for pattern, outcome, because in CONNECT_TEXTS:
            if re.search(pattern, sign.text, re.IGNORECASE):
                refused = outcome is Outcome.NOT_SENT
                return Verdict(outcome=outcome, because=because, definite=True, refused=refused)
        return Verdict(
            outcome=Outcome.NOT_SENT, because="the connection could not be made", definite=True
        )

    def by_type(self, sign: Sign) -> Verdict | None:
        """Judge an exception of the driver itself."""
        for name in sign.types:
            if name in TYPES:
                outcome, because = TYPES[name]
                return Verdict(outcome=outcome, because=because)
        return None

    def advisory_lock(self, name: str) -> AdvisoryLock | None:
        """Return the lock whose number is computed from `name`."""
        key = {"key": number_of(name)}
        return AdvisoryLock(
            take=("SELECT pg_try_advisory_lock(:key)", key),
            release=("SELECT pg_advisory_unlock(:key)", key),
        )


def _rule_of_stranger(state: str) -> Rule:
    if _OWN_CLASS.match(state):
        return Outcome.PERMANENT, "an exception of the application's own SQL"
    return Outcome.UNKNOWN, "a SQLSTATE of no known class"


POSTGRESQL = Postgresql()
