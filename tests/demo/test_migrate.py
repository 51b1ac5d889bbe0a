"""The revisions make exactly the tables of the models, on every database."""

from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from shipworthy.demo.migrate import configuration, migrate, revisions
from shipworthy.demo.models import Model


def test_the_revisions_equal_the_models(engine: Engine):
    """Alembic finds nothing that would have to change to make the database fit the models."""
    migrate(engine)

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Model.metadata) == []


def test_what_alembic_does_not_compare_is_equal_too(engine: Engine):
    """Check constraints, what a deletion does to children, and the types are as in the models."""
    migrate(engine)
    migrated = described(engine)
    with engine.begin() as connection:
        command.downgrade(configuration(connection), "base")

    Model.metadata.create_all(engine)

    assert migrated == described(engine)


def test_a_second_run_changes_nothing(sqlite_engine: Engine):
    """A database at the newest revision is left alone."""
    migrate(sqlite_engine)
    before = described(sqlite_engine)

    migrate(sqlite_engine)

    assert described(sqlite_engine) == before
    with sqlite_engine.connect() as connection:
        seen = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    assert set(seen) <= revisions()
    assert len(seen) == 1


@pytest.mark.parametrize("fixture", ["sqlite_engine", "postgres_engine"])
def test_a_revision_that_fails_half_way_leaves_nothing(
    fixture: str, request: pytest.FixtureRequest
):
    """Where the database can undo a CREATE TABLE, a failed revision is undone as a whole."""
    engine: Engine = request.getfixturevalue(fixture)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE labels (id INTEGER)"))

    with pytest.raises(DBAPIError, match="labels"):
        migrate(engine)

    assert inspect(engine).get_table_names() == ["labels"]


@pytest.fixture
def postgres_engine(postgres_url: str):
    """An engine on an empty PostgreSQL database."""
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


def described(engine: Engine) -> dict[str, Any]:
    """Return what the database says of the tracker's tables, in a form that can be compared."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"])
                for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(
                (key["name"] or "", key["referred_table"], key["options"].get("ondelete", ""))
                for key in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(
                (unique["name"] or "", unique["column_names"])
                for unique in inspector.get_unique_constraints(table)
            ),
            "checks": sorted(
                check["name"] or "" for check in inspector.get_check_constraints(table)
            ),
            "indexes": sorted(
                (index["name"] or "", index["column_names"])
                for index in inspector.get_indexes(table)
            ),
        }
        for table in Model.metadata.tables
    }
