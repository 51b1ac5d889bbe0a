"""The tracker on databases of its own: empty or filled, on SQLite or on each of the three kinds.

Filling takes longer than most tests, so there is one filled database of each kind for the whole
run, and what a test changed in it is put back.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, delete, event, select

from shipworthy.demo.database import driver_urls, set_pragmas
from shipworthy.demo.migrate import migrate
from shipworthy.demo.models import Client, Label, Model
from shipworthy.demo.seed import seed
from shipworthy.demo.service import create_app

KINDS = ("sqlite", "postgres", "mariadb")


@dataclass(frozen=True)
class Filled:
    """A database with the sample rows, named without a driver, as people name it."""

    url: str
    engine: Engine
    app: FastAPI


@pytest.fixture(scope="session", params=KINDS)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """A filled database of each kind in turn."""
    with _database(request, tmp_path_factory.mktemp("filled")) as url, _engine(url) as engine:
        migrate(engine)
        seed(engine)
        yield Filled(url, engine, create_app(url))


@pytest.fixture
def client(filled: Filled) -> Iterator[TestClient]:
    """The service on a filled database of each kind; what the test changes is put back."""
    before = _rows(filled.engine)
    with TestClient(filled.app) as started:
        yield started
    if _rows(filled.engine) != before:
        _put_back(filled.engine, before)


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty database of each kind in turn."""
    with _database(request, tmp_path) as url, _engine(url) as made:
        yield made


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty SQLite file, for what does not depend on the database."""
    with _engine(f"sqlite:///{tmp_path}/empty.sqlite3") as made:
        yield made


@pytest.fixture(scope="session")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled SQLite file, to be copied and not to be changed."""
    file = tmp_path_factory.mktemp("filled") / "original.sqlite3"
    with _engine(f"sqlite:///{file}") as engine:
        migrate(engine)
        seed(engine)
    return file


@pytest.fixture
def sqlite_url(filled_file: Path, tmp_path: Path) -> str:
    """The URL of a filled SQLite file of the test's own."""
    return f"sqlite:///{shutil.copy(filled_file, tmp_path)}"


@pytest.fixture
def sqlite_client(sqlite_url: str) -> Iterator[TestClient]:
    """The service on a filled SQLite file of the test's own."""
    with TestClient(create_app(sqlite_url)) as started:
        yield started


@pytest.fixture(scope="session")
def reading_app(filled_file: Path) -> FastAPI:
    """The service on the file that is not to be changed."""
    return create_app(f"sqlite:///{filled_file}")


@pytest.fixture
def reader(reading_app: FastAPI) -> Iterator[TestClient]:
    """The service, for tests that change nothing."""
    with TestClient(reading_app) as started:
        yield started


@contextmanager
def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/tracker.sqlite3"
        return
    with request.getfixturevalue(f"{request.param}_server").database() as url:
        yield url.replace("+psycopg", "").replace("+pymysql", "")


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    made = create_engine(driver_urls(url)[0])
    if url.startswith("sqlite"):
        event.listen(made, "connect", set_pragmas)
    yield made
    made.dispose()


def _rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in Model.metadata.sorted_tables
        }


def _put_back(engine: Engine, before: dict[str, list[dict[str, Any]]]) -> None:
    with engine.begin() as connection:
        connection.execute(delete(Client))
        connection.execute(delete(Label))
        for table in Model.metadata.sorted_tables:
            connection.execute(table.insert(), before[table.name])
