"""Bring a database to the newest revision of the tracker's tables, from inside Python."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

SCRIPTS = Path(__file__).with_name("migrations")


def migrate(engine: Engine, revision: str = "head") -> None:
    """Apply every revision up to `revision` that the database has not seen; again does nothing.

    All or nothing on SQLite and PostgreSQL; MariaDB commits every statement by itself.
    """
    with engine.begin() as connection:
        if engine.url.get_backend_name() == "sqlite":
            # Python's driver begins a transaction before rows are written, not before tables are
            # made. Said here, it also makes a second migrator wait for the first.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(configuration(connection), revision)


def revisions() -> frozenset[str]:
    """Return the names of all revisions there are."""
    return frozenset(script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions())


def configuration(connection: Connection) -> Config:
    """Return what Alembic's own commands need to work on `connection`."""
    config = Config(attributes={"connection": connection})
    # Alembic reads % as the start of a placeholder, and paths may hold one.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
