"""What a database has of a trail."""

import pytest
import sqlalchemy as sa

from shipworthy.audit import install
from shipworthy.audit.dialects import dialect_for
from shipworthy.audit.survey import is_installed, survey_trail
from shipworthy.audit.tables import TABLES, VERSION, our_tables
from shipworthy.errors import Misuse


@pytest.fixture
def engine(tmp_path):
    """A database with one table."""
    made = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE clients (id INTEGER PRIMARY KEY)")
    yield made
    made.dispose()


def survey(engine):
    with engine.connect() as connection:
        return survey_trail(connection, dialect_for(engine.dialect.name))


def test_without_a_trail_everything_is_missing(engine):
    """And the application's tables are seen."""
    found = survey(engine)
    assert found.version is None
    # Rooms above have tables here too, once they are imported.
    assert list(found.missing) == [table.name for table in our_tables()]
    assert {table.name for table in TABLES} <= set(found.missing)
    assert [str(name) for name in found.catalog.tables] == ["clients"]
    with engine.connect() as connection:
        assert not is_installed(connection)


def test_a_trail_is_seen_with_its_shapes_and_triggers(engine):
    """Our own tables are none of the application's."""
    install(engine, say=lambda _: None)
    found = survey(engine)
    assert found.version == VERSION
    assert found.missing == ()
    assert [one.shape.table.name.name for one in found.noted] == ["clients"]
    assert {it.table.name for it in found.triggers} > {"clients"}
    assert [str(name) for name in found.catalog.tables] == ["clients"]
    with engine.connect() as connection:
        assert is_installed(connection)


def test_a_column_that_is_missing_is_named(engine):
    """As in a trail of an earlier version."""
    install(engine, say=lambda _: None)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE shipworthy_audit_batches DROP COLUMN header")
    assert survey(engine).missing == ("shipworthy_audit_batches.header",)


def test_a_kind_of_database_without_a_trail_is_misuse():
    """It says which there are."""
    with pytest.raises(Misuse, match="PostgreSQL, MariaDB and SQLite"):
        dialect_for("oracle")
