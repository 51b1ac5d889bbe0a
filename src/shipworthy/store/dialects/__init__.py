"""What differs between databases for the store: how the time is asked for.

Not here: what the time is for (`lease`).
"""

from typing import Final

__all__ = ["now_statement"]

_NOW: Final = {
    # Of this moment, not of the transaction's begin, which may be long ago.
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
    "mariadb": "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
    # A file has no clock but that of the machine it lies on; whole milliseconds.
    "sqlite": (
        "SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
        " + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000"
    ),
}


def now_statement(dialect: str) -> str:
    """Return the SQL that gives the database's own time, in microseconds since 1970.

    Raises `ValueError` for a database that is not known here.
    """
    try:
        return _NOW[dialect]
    except KeyError:
        known = ", ".join(sorted(_NOW))
        raise ValueError(
            f"leases cannot be kept in '{dialect}': its time is not known; there is {known}"
        ) from None
