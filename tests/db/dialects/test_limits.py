"""The server's own limit on statements: shorter ones stand, unknown ones do no harm."""

import sqlite3

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from shipworthy.db import DbSettings, protect
from shipworthy.db.dialects.limits import limit, limit_statement

SHOW = {
    "postgresql": "SELECT current_setting('statement_timeout')",
    "mariadb": "SELECT @@max_statement_time",
}


def shown(url, statement, **options):
    engine = create_engine(url, **options)
    protection = protect(engine, settings=DbSettings(statement_seconds=10.0))
    try:
        with engine.connect() as connection:
            return str(connection.scalar(text(statement)))
    finally:
        protection.undo()
        engine.dispose()


def test_postgresql_is_told_a_limit_a_little_below_ours(postgres_url):
    """A quarter of a second earlier than the watchdog, so that the server's error comes first."""
    assert shown(postgres_url, SHOW["postgresql"]) == "9750ms"


def test_a_shorter_limit_of_the_service_stands(postgres_url):
    """What the service asked for in its connection string is not made longer."""
    options = {"connect_args": {"options": "-c statement_timeout=2000"}}

    assert shown(postgres_url, SHOW["postgresql"], **options) == "2s"


def test_mariadb_is_told_the_same_and_keeps_a_shorter_one(mariadb_url):
    """Seconds there, and a session's own shorter limit stands."""
    shorter = {"connect_args": {"init_command": "SET SESSION max_statement_time = 2"}}

    assert float(shown(mariadb_url, SHOW["mariadb"])) == 9.75
    assert float(shown(mariadb_url, SHOW["mariadb"], **shorter)) == 2.0


@pytest.mark.slow
def test_the_server_ends_a_long_statement_and_the_connection_lives(postgres_url):
    """The error is the server's, the transaction's connection is not thrown away."""
    engine = create_engine(postgres_url)
    protection = protect(engine, settings=DbSettings(statement_seconds=0.5))
    with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="statement timeout") as caught:
            connection.execute(text("SELECT pg_sleep(5)"))
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1
    protection.undo()
    engine.dispose()

    assert not caught.value.connection_invalidated


def test_no_limit_and_no_such_server_ask_nothing():
    """Length 0, and a dialect without such a limit, give no statement."""
    assert limit_statement("postgresql", 0.0) is None
    assert limit_statement("sqlite", 10.0) is None


def test_a_short_limit_is_a_tenth_earlier():
    """A quarter of a second would be most of a short limit."""
    assert "450" in (limit_statement("postgresql", 0.5) or "")


def test_a_server_that_does_not_know_the_limit_is_left_alone():
    """The connection is as good as before."""
    connection = sqlite3.connect(":memory:")

    error = limit(connection, "SET SESSION max_statement_time = 1", sqlite3.Error)

    assert isinstance(error, sqlite3.OperationalError)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()
