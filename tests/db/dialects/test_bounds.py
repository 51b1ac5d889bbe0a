"""What a server is told about one transaction."""

import pytest

from shipworthy.db.dialects.bounds import Bounds, begin_statement, rolled_back

ALL = Bounds(statement_seconds=1.5, lock_seconds=0.2, idle_seconds=5, read_only=True)


def test_postgresql_is_told_all_of_it_in_one_statement_for_one_transaction():
    """`true` is local: nothing of it stays on the connection."""
    assert begin_statement("postgresql", ALL) == (
        "SELECT set_config('statement_timeout', '1500', true), "
        "set_config('lock_timeout', '200', true), "
        "set_config('idle_in_transaction_session_timeout', '5000', true), "
        "set_config('transaction_read_only', 'on', true)"
    )


def test_a_length_below_a_millisecond_is_not_told_as_none():
    """0 would be no limit at all."""
    assert "'1'" in str(begin_statement("postgresql", Bounds(lock_seconds=0.0001)))


@pytest.mark.parametrize("name", ["mariadb", "mysql"])
def test_mariadb_is_told_that_it_only_reads(name):
    """Its limits are those of a session, and would stay."""
    assert begin_statement(name, ALL) == "SET TRANSACTION READ ONLY"
    assert begin_statement(name, Bounds(statement_seconds=1)) is None


@pytest.mark.parametrize("name", ["postgresql", "sqlite", "oracle"])
def test_nothing_is_said_where_there_is_nothing_to_say(name):
    """No statement, no round trip."""
    assert begin_statement(name, Bounds()) is None
    assert begin_statement("sqlite", ALL) is None


def test_a_deadlock_of_mariadb_has_ended_the_whole_transaction():
    """A lock that was not had in time has not, nor any failure that PostgreSQL keeps in mind."""
    assert rolled_back("mariadb", 1213)
    assert not rolled_back("mariadb", 1205)
    assert not rolled_back("mariadb", None)
    assert not rolled_back("postgresql", 1213)
