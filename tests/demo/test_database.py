"""Which driver a URL leads to, and how SQLite's connections are set."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError

from shipworthy.demo.database import connect, driver_urls


@pytest.mark.parametrize(
    ("url", "sync", "asynchronous"),
    [
        ("sqlite:///a", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("postgresql://h/a", "postgresql+psycopg", "postgresql+asyncpg"),
        ("postgres://h/a", "postgresql+psycopg", "postgresql+asyncpg"),
        ("postgresql+asyncpg://h/a", "postgresql+psycopg", "postgresql+asyncpg"),
        ("postgresql+psycopg://h/a", "postgresql+psycopg", "postgresql+psycopg"),
        ("mysql://h/a", "mysql+pymysql", "mysql+asyncmy"),
        ("mariadb+pymysql://h/a", "mariadb+pymysql", "mariadb+asyncmy"),
    ],
)
def test_a_url_names_a_database_and_the_drivers_follow(url: str, sync: str, asynchronous: str):
    """Whatever driver the URL names, each kind of route gets one that suits it."""
    assert [made.drivername for made in driver_urls(url)] == [sync, asynchronous]
    assert {made.database for made in driver_urls(url)} == {"a"}


def test_an_unknown_kind_is_refused():
    """A database without drivers here is named, and so are those that have some."""
    with pytest.raises(LookupError, match="'oracle' is none of sqlite, postgres"):
        driver_urls("oracle://h/a")


def test_what_is_no_url_is_refused():
    """A path is no URL."""
    with pytest.raises(ArgumentError):
        driver_urls("demo.sqlite3")


def test_the_environment_names_the_database(monkeypatch: pytest.MonkeyPatch):
    """Without a URL it is DATABASE_URL, and without that a file beside the process."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/tracker")
    named = connect()
    monkeypatch.delenv("DATABASE_URL")
    unnamed = connect()

    assert named.engine.url.render_as_string() == "postgresql+psycopg://h/tracker"
    assert unnamed.async_engine.url.render_as_string() == "sqlite+aiosqlite:///demo.sqlite3"


@pytest.mark.anyio
async def test_sqlite_keeps_foreign_keys_on_every_connection(tmp_path):
    """Both engines enforce foreign keys and let readers read beside a writer."""
    database = connect(f"sqlite:///{tmp_path}/a.sqlite3")
    pragmas = [text("PRAGMA foreign_keys"), text("PRAGMA journal_mode")]

    with database.engine.connect() as connection:
        sync = [connection.scalar(pragma) for pragma in pragmas]
    async with database.async_engine.connect() as connection:
        asynchronous = [await connection.scalar(pragma) for pragma in pragmas]
    await database.close()

    assert sync == asynchronous == [1, "wal"]
