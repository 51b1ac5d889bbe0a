"""The limit that the server itself puts on a statement, set once for each new connection.

A server that ends a statement says so and keeps the connection, and stops working on it; a socket
that is cut does neither. So the server is asked to be a little earlier than the watchdog. A
shorter limit of a role, a database or the connection string stands.

Not by an argument of the connect: poolers such as PgBouncer refuse what they do not know in a
start-up packet, and a guard must not keep a service from connecting.
"""

from typing import Any

# How much earlier than the watchdog; a tenth where the whole is short.
AHEAD_SECONDS = 0.25

_POSTGRESQL = (
    "SELECT set_config('statement_timeout', '{ms}', false) FROM pg_settings "
    "WHERE name = 'statement_timeout' AND (setting = '0' OR CAST(setting AS bigint) > {ms})"
)
_MARIADB = (
    "SET SESSION max_statement_time = "
    "IF(@@max_statement_time = 0 OR @@max_statement_time > {s}, {s}, @@max_statement_time)"
)
_STATEMENTS = {"postgresql": _POSTGRESQL, "mariadb": _MARIADB, "mysql": _MARIADB}


# Where nothing but a session has a limit, that of one unit is one of its session.
_MARIADB_OTHER = (
    "SET SESSION max_statement_time = "
    "IF(@@max_statement_time = {before}, {after}, @@max_statement_time)"
)
_OTHERS = {"mariadb": _MARIADB_OTHER, "mysql": _MARIADB_OTHER}


def limit_statement(name: str, seconds: float) -> str | None:
    """Return what sets the limit for a session of the dialect `name`; None where there is none."""
    text = _STATEMENTS.get(name)
    if text is None or not seconds:
        return None
    ahead = _ahead(seconds)
    return text.format(ms=max(1, int(ahead * 1000)), s=f"{ahead:.3f}")


def other_limit_statement(name: str, before_seconds: float, seconds: float) -> str | None:
    """Return what gives a session that has one limit of ours another, for a unit and after it.

    A limit that is not ours stands. None where a transaction has limits of its own (`bounds`), or
    nothing has.
    """
    text = _OTHERS.get(name)
    if text is None:
        return None
    return text.format(before=f"{_ahead(before_seconds):.3f}", after=f"{_ahead(seconds):.3f}")


def _ahead(seconds: float) -> float:
    return seconds - min(AHEAD_SECONDS, seconds / 10)


def limit(connection: Any, statement: str, errors: type[Exception]) -> Exception | None:
    """Run it on a new connection; return the error where it failed, and nothing is lost."""
    try:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()
        connection.commit()
    except errors as error:
        connection.rollback()
        return error
    return None
