"""A database with a trail, of each kind and by each driver.

Making one takes PostgreSQL a second, so tests share one of each kind: a test sees what was recorded
since it began.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from audit.past_database import sqlite_engine
from audit.sealed_people import people
from shipworthy.audit import CONTEXTS, ENTRIES, bind, bind_all, binding, install

ENGINES = ("sqlite", "postgresql", "mariadb")
ASYNC_DRIVERS = ("aiosqlite", "psycopg", "asyncpg", "asyncmy")
_NAMES = {
    "aiosqlite": "sqlite+aiosqlite",
    "psycopg": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "asyncmy": "mariadb+asyncmy",
}

PLAIN = sa.MetaData()
NOTES = sa.Table(
    "notes",
    PLAIN,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(200)),
    mariadb_engine="InnoDB",
    mysql_engine="InnoDB",
)


@final
class TrailDatabase:
    """A database with the table `notes`, empty, and its trail; engines for it."""

    def __init__(self, url: str, kind: str, stack: ExitStack) -> None:
        self.url = url
        self.kind = kind
        self._stack = stack
        # Looks at the log from outside: nobody is bound here.
        self.outside = sa.create_engine(url)
        stack.callback(self.outside.dispose)
        self._since = 0

    def install(self) -> None:
        """Capture `notes`."""
        install(self.outside, say=lambda _: None)

    def begin(self) -> None:
        """Empty `notes`, and show only what is recorded from here on."""
        with self.outside.begin() as connection:
            connection.execute(sa.delete(NOTES))
            self._since = connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq))) or 0

    def engine(self, *, bound: bool = True, **options: Any) -> Engine:
        """Return an engine whose writes carry their actor, unless not `bound`."""
        engine = sa.create_engine(self.url, **options)
        self._stack.callback(engine.dispose)
        if bound:
            self._stack.callback(bind(engine, service="shop"))
        return engine

    def async_engine(self, driver: str, **options: Any) -> AsyncEngine:
        """Return an async one; whoever asks disposes of it."""
        url = make_url(self.url).set(drivername=_NAMES[driver])
        engine = create_async_engine(url, **options)
        self._stack.callback(bind(engine, service="shop"))
        return engine

    def recorded(self) -> list[Any]:
        """Return the entries with their contexts, in order."""
        joined = ENTRIES.outerjoin(CONTEXTS, CONTEXTS.c.tx == ENTRIES.c.tx)
        names = (
            ENTRIES.c.op, ENTRIES.c.key, ENTRIES.c.old, ENTRIES.c.new, ENTRIES.c.tx,
            CONTEXTS.c.actor, CONTEXTS.c.actor_kind, CONTEXTS.c.on_behalf_of,
            CONTEXTS.c.correlation_id, CONTEXTS.c.trace_id, CONTEXTS.c.route, CONTEXTS.c.address,
            CONTEXTS.c.application, CONTEXTS.c.db_user, CONTEXTS.c.note, CONTEXTS.c.continues,
        )  # fmt: skip
        query = sa.select(*names).select_from(joined).where(ENTRIES.c.seq > self._since)
        with self.outside.connect() as connection:
            return list(connection.execute(query.order_by(ENTRIES.c.seq)))

    def actors(self) -> list[str]:
        """Return who each entry was recorded for, '' for nobody."""
        return [row.actor or "" for row in self.recorded()]


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Applications that were hardened in this process listen to every engine; here only we do."""
    before = [*binding._bound_all]
    for end in before:
        binding._bound_all.remove(end)
        end()

    yield

    if before:
        bind_all(service="tests")


@pytest.fixture(scope="session")
def _trail_urls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url_of(kind: str) -> str:
            if kind not in urls:
                url = _new_url(kind, request, tmp_path_factory.mktemp("trail"), stack)
                PLAIN.create_all(engine := sa.create_engine(url))
                install(engine, say=lambda _: None)
                engine.dispose()
                urls[kind] = url
            return urls[kind]

        yield url_of


def _new_url(kind: str, request: pytest.FixtureRequest, folder: Path, stack: ExitStack) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder}/app.db"
    server = "postgres_server" if kind == "postgresql" else "mariadb_server"
    url = stack.enter_context(request.getfixturevalue(server).database())
    return str(url).replace("mysql+", "mariadb+")


@pytest.fixture
def trail_database(
    _trail_urls: Callable[[str], str],
) -> Iterator[Callable[[str], TrailDatabase]]:
    """Give the database of a kind, with its trail."""
    with ExitStack() as stack:

        def give(kind: str) -> TrailDatabase:
            database = TrailDatabase(_trail_urls(kind), kind, stack)
            database.begin()
            return database

        yield give


@pytest.fixture
def bare_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], TrailDatabase]]:
    """Make a database of a kind that has no trail yet, for this test alone."""
    with ExitStack() as stack:

        def make(kind: str) -> TrailDatabase:
            database = TrailDatabase(_new_url(kind, request, tmp_path, stack), kind, stack)
            PLAIN.create_all(database.outside)
            return database

        yield make


@pytest.fixture
def sealed_people(tmp_path):
    """Two people in SQLite, sealed."""
    with sqlite_engine(tmp_path / "app.db") as engine:
        found = people(engine, tmp_path / "archive")
        found.seal()
        yield found


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def people_on_a_server(request, tmp_path):
    """Two people on a server, sealed."""
    engine = sa.create_engine(request.getfixturevalue(request.param))
    found = people(engine, tmp_path / "archive")
    found.seal()
    yield found
    engine.dispose()
