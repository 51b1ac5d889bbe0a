"""How a statement waits, whichever engine it goes through."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from shipworthy.db.dialects.migration import migration_dialect
from shipworthy.db.migrate.steps import CarefulSteps

SHOW = {
    "postgresql": "SELECT current_setting('lock_timeout')",
    "mariadb": "SELECT @@lock_wait_timeout",
    "sqlite": "PRAGMA busy_timeout",
}
SET = {
    "postgresql": "SET lock_timeout = '7s'",
    "mariadb": "SET SESSION lock_wait_timeout = 7",
    "sqlite": "PRAGMA busy_timeout = 7000",
}


@pytest.fixture
def steps(url, said):
    dialect = migration_dialect(create_engine(url).dialect.name)
    with CarefulSteps(
        dialect, lock_timeout_seconds=3.0, tries=2, say=said.append, wait=lambda seconds: None
    ) as careful:
        yield careful


def shown(connection):
    return str(connection.scalar(text(SHOW[connection.dialect.name])))


def test_each_statement_is_told_how_long_to_wait(steps, url, connect):
    """On any engine of the process."""
    with connect(url).connect() as connection:
        assert shown(connection) in {"3s", "3", "3000"}


def test_a_timeout_of_the_revision_stands_until_its_end(steps, url, connect):
    """The next revision begins with ours again."""
    with connect(url).connect() as connection:
        connection.execute(text(SET[connection.dialect.name]))
        assert shown(connection) in {"7s", "7", "7000"}
        steps.begin_revision()
        assert shown(connection) in {"3s", "3", "3000"}


def test_commits_of_changes_are_counted(steps, url, connect):
    """What only reads, and Alembic's own table, are none; a rollback takes changes back."""
    with connect(url).connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.commit()
        assert steps.committed == 0
        connection.execute(text("CREATE TABLE t (id INT)"))
        connection.commit()
        assert steps.committed == 1
        connection.execute(text("INSERT INTO t VALUES (:id)"), [{"id": 1}, {"id": 2}])
        connection.rollback()
        assert steps.committed == 1
        connection.execute(text("INSERT INTO t VALUES (3)"))
        connection.commit()
        assert steps.committed == 2
        steps.begin_revision()
        assert steps.committed == 0


def test_a_statement_without_parameters_goes_the_same_way(steps, url, connect):
    """SQLAlchemy sends it by another of the dialect's functions."""
    with connect(url).connect().execution_options(no_parameters=True) as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT)")
        connection.commit()

    assert steps.committed == 1


def test_a_part_that_failed_can_be_taken_back(steps, url, connect):
    """PostgreSQL takes nothing but that ROLLBACK in a transaction that has failed."""
    with connect(url).connect() as connection:
        connection.execute(text("CREATE TABLE t (id INT)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
        with pytest.raises(DBAPIError, match="nowhere"), connection.begin_nested():
            connection.execute(text("INSERT INTO nowhere VALUES (1)"))
        connection.execute(text("INSERT INTO t VALUES (2)"))
        connection.commit()
        assert connection.scalar(text("SELECT count(*) FROM t")) == 2


@pytest.mark.slow
def test_a_statement_that_stands_alone_is_tried_again_where_it_is(steps, url, connect, said):
    """Twice, as these steps are told; then the lock timeout is raised."""
    alone = connect(url, isolation_level="AUTOCOMMIT")
    with alone.connect() as connection, connect(url).connect() as other:
        connection.exec_driver_sql("CREATE TABLE t (id INT)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        other.execute(text("UPDATE t SET id = 2"))
        with pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql("ALTER TABLE t ADD COLUMN b INT")
        other.rollback()

    assert steps.is_lock_timeout(refused.value)
    assert [sentence for sentence in said if "(try 1 of 2)" in sentence]


def test_nothing_is_left_on_the_engines_afterwards(url, connect, said):
    """A process may go on."""
    dialect = migration_dialect(connect(url).dialect.name)
    with CarefulSteps(dialect, lock_timeout_seconds=3.0, say=said.append, wait=said.append):
        pass

    with connect(url).connect() as connection:
        assert shown(connection) not in {"3s", "3", "3000"}


def test_what_blocks_nobody_waits_as_long_as_it_takes():
    """An index that is built beside its users must see them all go."""
    dialect = migration_dialect("postgresql")

    assert dialect.wait_for_locks("CREATE INDEX CONCURRENTLY I ON T ( A )", 2.0).endswith("= 0")
    assert dialect.wait_for_locks("ALTER TABLE T VALIDATE CONSTRAINT C", 2.0).endswith("= 0")
    assert dialect.wait_for_locks("CREATE INDEX I ON T ( A )", 2.0).endswith("= 2000")
