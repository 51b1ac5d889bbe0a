"""What a server is told about one transaction."""

import pytest

from shipworthy.db.dialects.bounds import Bounds, begin_statement, commits, rolled_back

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
    assert all(rolled_back("mariadb", code) for code in (1020, 1206, 1213))
    assert rolled_back("mysql", 1206)
    assert not rolled_back("mariadb", 1205)
    assert not rolled_back("mariadb", None)
    assert not rolled_back("postgresql", 1213)


EVERYWHERE = ("postgresql", "sqlite", "mariadb", "mysql")


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "commit;",
        "  \n COMMIT AND CHAIN",
        "-- the end\nCOMMIT",
        "/* a */ /* b\n */\tCommit WORK",
    ],
)
def test_a_commit_is_seen_by_its_first_word(name, statement):
    """After blanks and comments, in any case."""
    assert commits(name, statement)


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "",
        "-- COMMIT",
        "/* COMMIT */ SELECT 1",
        "/* never closed COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE SAVEPOINT s",
        "ROLLBACK TO SAVEPOINT s",
        "SELECT 'COMMIT'",
        "COMMITTED",
        "INSERT INTO t VALUES (1)",
        "CREATE TEMPORARY TABLE t (id INT)",
        "DROP TEMPORARY TABLE t",
    ],
)
def test_what_commits_nothing_is_let_be(name, statement):
    """A savepoint is no end, nor is a word in a text or a comment."""
    assert not commits(name, statement)


@pytest.mark.parametrize("name", ["postgresql", "sqlite"])
def test_where_ddl_belongs_to_the_transaction_only_commit_and_end_commit(name):
    """And what was prepared elsewhere is not what came before."""
    assert commits(name, "END TRANSACTION")
    for statement in ("BEGIN", "CREATE TABLE t (id INT)", "COMMIT PREPARED 'x'", "ENDS"):
        assert not commits(name, statement)


@pytest.mark.parametrize("name", ["mariadb", "mysql"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (id INT)",
        "CREATE OR REPLACE TABLE t (id INT)",
        "# why\nALTER TABLE t ADD n INT",
        "DROP TABLE t",
        "TRUNCATE t",
        "RENAME TABLE t TO u",
        "BEGIN",
        "START TRANSACTION",
        "SET autocommit = 1",
        "SET SESSION autocommit = 1",
        "LOCK TABLES t WRITE",
        "GRANT ALL ON t TO u",
        "ANALYZE LOCAL TABLE t",
    ],
)
def test_mariadb_commits_before_it_changes_the_schema(name, statement):
    """Whether that goes well or not."""
    assert commits(name, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE OR REPLACE TEMPORARY TABLE t (id INT)",
        "ANALYZE SELECT 1",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "SET lock_wait_timeout = 1",
        "XA END 'x'",
    ],
)
def test_what_resembles_it_does_not(statement):
    """What is temporary belongs to the session, and a plan changes nothing."""
    assert not commits("mariadb", statement)


def test_many_comments_cost_no_more_than_their_length():
    """A pattern that tries all ways to divide them would never end."""
    assert not commits("postgresql", "/* a */" * 5000 + "SELECT 1")
