"""A small business on each engine, with its trail: what the trash is tried on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from records.shop import Model, fill
from shipworthy.audit import AuditSettings, add_tables, bind, install
from shipworthy.records import TABLES

ENGINES = ("sqlite", "postgresql", "mariadb")


def url_of(engine: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the URL of a new, empty database of that kind."""
    if engine == "sqlite":
        return f"sqlite:///{folder / 'app.db'}"
    return str(request.getfixturevalue("postgres_url" if engine == "postgresql" else "mariadb_url"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine of each kind in turn."""
    yield from _ready(ready_engine(url_of(request.param, request, tmp_path)))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine of SQLite, for what does not depend on the engine."""
    yield from _ready(ready_engine(f"sqlite:///{tmp_path / 'app.db'}"))


def ready_engine(url: str) -> sa.Engine:
    """Return an engine; SQLite's keeps foreign keys, and one in memory is one connection."""
    made = sa.create_engine(url)
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", _quick_and_strict)
    return made


def _ready(made: sa.Engine) -> Iterator[sa.Engine]:
    yield made
    made.dispose()


def _quick_and_strict(raw: Any, _: object) -> None:
    raw.execute("PRAGMA foreign_keys = ON")
    # No test pulls the plug.
    raw.execute("PRAGMA synchronous = OFF")


Prepare = Callable[..., None]


@contextmanager
def prepared(
    made: sa.Engine, metadata: sa.MetaData, personal: tuple[str, ...] = ()
) -> Iterator[None]:
    """Make tables and their trail; in the block, writes carry their actor."""
    with made.begin() as connection:
        metadata.create_all(connection)
        add_tables(TABLES)
        install(connection, AuditSettings(personal=personal), say=lambda _: None)
    made.dispose()
    end = bind(made, service="shop")
    try:
        yield
    finally:
        end()


@pytest.fixture
def prepare() -> Iterator[Prepare]:
    """Make tables and their trail; from then on writes carry their actor."""
    with ExitStack() as until_the_end:

        def make(*given: Any, **named: Any) -> None:
            until_the_end.enter_context(prepared(*given, **named))

        yield make


@pytest.fixture
def shop(sqlite: sa.Engine, prepare: Prepare) -> sa.Engine:
    """The business on SQLite: none of this depends on the engine."""
    prepare(sqlite, Model.metadata)
    with sqlite.begin() as connection:
        fill(connection)
    return sqlite


@pytest.fixture
def shop_anywhere(engine: sa.Engine, prepare: Prepare) -> sa.Engine:
    """The business on each engine, where locks and clients matter."""
    prepare(engine, Model.metadata)
    with engine.begin() as connection:
        fill(connection)
    return engine
