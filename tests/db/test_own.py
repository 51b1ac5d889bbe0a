"""Connections of our own: in no pool, in no list, and cut in time."""

import asyncio
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shipworthy.db import (
    DbSettings,
    connection_beside,
    engine_urls_here,
    own_engine,
    protect,
    protect_all,
    protections,
)
from shipworthy.resilience import breakers


@pytest.fixture
def everything_guarded():
    """As under `run`."""
    end = protect_all()
    yield
    end()


@pytest.mark.usefixtures("everything_guarded")
@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_an_engine_of_our_own_is_not_shown(driver: str, tmp_path):
    """Neither when it is made nor while it is used; an engine of the application is."""
    url = sa.make_url(f"{driver}:///{tmp_path}/app.db")

    async def ask(engine: sa.Engine) -> None:
        async with AsyncEngine(engine).connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    engine = own_engine(url, name="ours", settings=DbSettings(), poolclass=NullPool)
    if engine.dialect.is_async:
        asyncio.run(ask(engine))
    else:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    seen, urls = protections(), engine_urls_here()
    assert "db:ours" not in breakers()
    engine.dispose()
    theirs = sa.create_engine(f"sqlite:///{tmp_path}/app.db")

    assert (seen, urls) == ((), ())
    assert [one.name for one in protections()] == ["main"]
    theirs.dispose()


@pytest.mark.slow
def test_a_statement_of_our_own_is_cut_in_time(postgres_url: str):
    """Whoever looks is not kept by a server that does not answer."""
    limits = DbSettings(statement_seconds=0.2, server_limit=False)
    engine = own_engine(postgres_url, name="ours", settings=limits)
    began = time.monotonic()
    with (
        pytest.raises(sa.exc.DBAPIError, match="cut by shipworthy: the statement on 'ours'"),
        engine.connect() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(20)")
    engine.dispose()
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("everything_guarded")
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_one_more_connection_does_not_wait_for_the_pool(kind: str, request):
    """Of a pool of one that is held; what listens to the engine's connections readied it too."""
    url = request.getfixturevalue(f"{kind}_url")
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)
    readied = []
    sa.event.listen(engine, "connect", lambda raw, _: readied.append(raw))
    try:
        with engine.connect() as held, connection_beside(held) as beside:
            beside.exec_driver_sql("SELECT 1")
            made = beside.connection.driver_connection
            assert made is not held.connection.driver_connection
            assert readied[-1] is made
            assert [(one.name, one.statistics().in_use) for one in protections()] == [("main", 1)]
        assert engine.pool.checkedin() == 1
    finally:
        engine.dispose()


def test_one_more_connection_is_made_by_the_engines_own_driver(mariadb_url: str):
    """Also where its calls are awaited."""

    async def scene() -> int:
        url = sa.make_url(mariadb_url).set(drivername="mariadb+asyncmy")
        engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)

        def look(held: sa.Connection) -> int:
            with connection_beside(held) as beside:
                return int(beside.scalar(sa.text("SELECT 7")))

        try:
            async with engine.connect() as connection:
                return await connection.run_sync(look)
        finally:
            await engine.dispose()

    assert asyncio.run(scene()) == 7


@pytest.mark.slow
def test_one_more_connection_is_cut_in_time(postgres_url: str):
    """By the guard of the engine that it stands beside."""
    engine = sa.create_engine(postgres_url)
    settings = DbSettings(statement_seconds=0.2, server_limit=False)
    protection = protect(engine, name="theirs", settings=settings)
    try:
        with (
            engine.connect() as held,
            pytest.raises(sa.exc.DBAPIError, match="cut by shipworthy"),
            connection_beside(held) as beside,
        ):
            beside.exec_driver_sql("SELECT pg_sleep(20)")
    finally:
        protection.undo()
        engine.dispose()
