"""Databases and engines for migrations; whatever is opened is closed again."""

from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'app.db'}"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request):
    """A new, empty database of each kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def connect():
    """Make engines that nothing keeps a connection of."""
    engines = []

    def make(url, **options):
        engine = create_engine(url, poolclass=NullPool, **options)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def sql(connect):
    """Run statements on a database, each by itself, and return the rows of the last one."""

    def run(url, *statements):
        with connect(url, isolation_level="AUTOCOMMIT").connect() as connection:
            rows = None
            for statement in statements:
                result = connection.execute(text(statement))
                rows = result.all() if result.returns_rows else None
            return rows

    return run


@pytest.fixture
def said():
    """What was said, in order."""
    return []


@pytest.fixture
def holding(connect):
    """Hold what a statement takes, in a transaction that is open for the length of a block."""

    @contextmanager
    def hold(url, *statements):
        with connect(url).connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
            yield connection
            connection.rollback()

    return hold
