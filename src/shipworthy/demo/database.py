"""Which database, and how its connections are made: one engine for sync routes, one for async."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.requests import Request

DEFAULT_URL = "sqlite:///demo.sqlite3"

# What DATABASE_URL names is the database; the drivers are ours to choose.
DRIVERS = {
    "sqlite": ("sqlite+pysqlite", "sqlite+aiosqlite"),
    "postgres": ("postgresql+psycopg", "postgresql+asyncpg"),
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mysql": ("mysql+pymysql", "mysql+asyncmy"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
}


@dataclass(frozen=True, slots=True)
class Database:
    """Both engines of one database. Nothing connects before the first query."""

    engine: Engine
    async_engine: AsyncEngine

    async def close(self) -> None:
        """Close every idle connection; an engine that is used again opens new ones."""
        self.engine.dispose()
        await self.async_engine.dispose()


def driver_urls(url: str | URL) -> tuple[URL, URL]:
    """Return the URL for the sync and for the async driver of the database that `url` names.

    `postgresql+psycopg` keeps psycopg for both, for options that asyncpg does not know (sslmode).
    Raises `LookupError` for a database without drivers here, `ArgumentError` for what is no URL.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in DRIVERS:
        raise LookupError(f"'{backend}' is none of {', '.join(DRIVERS)}")
    sync, asynchronous = DRIVERS[backend]
    if parsed.drivername == "postgresql+psycopg":
        asynchronous = sync
    return parsed.set(drivername=sync), parsed.set(drivername=asynchronous)


def connect(url: str | None = None) -> Database:
    """Make the engines for `url`, else for DATABASE_URL of the environment, else for a file."""
    sync, asynchronous = driver_urls(url or os.environ.get("DATABASE_URL") or DEFAULT_URL)
    database = Database(create_engine(sync), create_async_engine(asynchronous))
    if sync.get_backend_name() == "sqlite":
        event.listen(database.engine, "connect", set_pragmas)
        event.listen(database.async_engine.sync_engine, "connect", set_pragmas)
    return database


def set_pragmas(connection: Any, _record: object) -> None:
    """Let SQLite keep foreign keys, and readers read while somebody writes."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def session(request: Request) -> Iterator[Session]:
    """One session per request, for the routes that run in a thread."""
    with Session(request.app.state.database.engine) as opened:
        yield opened


async def async_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One session per request, for the routes that run on the loop."""
    async with AsyncSession(request.app.state.database.async_engine) as opened:
        yield opened
