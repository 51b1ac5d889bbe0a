"""A request with an Idempotency-Key takes effect once, whoever sends it twice and whoever dies.

On real databases, with sync and async engines. Started as a program, this file is the worker that
is killed: `python test_idempotency.py URL before|after`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from shipworthy import db, outbound
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.db import protect
from shipworthy.db.idempotency import KeyStore
from shipworthy.db.tables import install, remove
from shipworthy.telemetry import Registry
from shipworthy.web import (
    Correlation,
    Idempotency,
    IdempotencySettings,
    Line,
    Problems,
    Replay,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.usefixtures("guarded")]


@pytest.fixture
def guarded():
    """As under `run`: every engine of the process is protected, and calls out are seen."""
    undo = db.install()
    outbound.install()
    yield
    outbound.uninstall()
    undo()


DRIVERS = {
    "sqlite": ("sqlite", "sqlite+aiosqlite"),
    "postgres_server": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mariadb_server": ("mariadb+pymysql", "mariadb+asyncmy"),
}
LEASE_SECONDS = 60.0
INSERT = sa.text("INSERT INTO orders VALUES (1)")


class Shop:
    """A service that takes orders, with a sync or an async engine, behind our guards."""

    def __init__(self, url, *, on_the_way=None, wall=time.time):
        self.runs = 0
        self.on_the_way = on_the_way or (lambda when: None)
        self.is_async = "async" in url or "aiosqlite" in url
        self.engine = (create_async_engine if self.is_async else sa.create_engine)(url)
        self.protection = protect(self.engine)
        self.store = KeyStore(url, seconds=10.0)
        keys = IdempotencySettings(mode="enforce", lease_seconds=LEASE_SECONDS)
        replay = Replay(
            Registry(), mode="enforce", methods=("GET",), within_seconds=10.0, now=SYSTEM_CLOCK.now
        )
        self.line = Line(
            Starlette(routes=[Route("/orders", self.take, methods=["POST"])]),
            (Correlation(), Idempotency(keys, self.store, wall=wall), replay),
            answers=Problems(mode="enforce", development=False, leaving=lambda: False),
            route_of=lambda scope: "/orders",
            now=SYSTEM_CLOCK.now,
        )

    async def take(self, request):
        self.runs += 1
        if self.is_async:
            async with self.engine.begin() as connection:
                await connection.execute(INSERT)
                await asyncio.to_thread(self.on_the_way, "before")
        else:
            await run_in_threadpool(self.insert)
        await asyncio.to_thread(self.on_the_way, "after")
        return JSONResponse({"run": self.runs}, 201)

    def insert(self):
        with self.engine.begin() as connection:
            connection.execute(INSERT)
            self.on_the_way("before")

    @asynccontextmanager
    async def open(self):
        transport = httpx.ASGITransport(self.line, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            yield client
        await self.store.close()
        self.protection.undo()
        disposed = self.engine.dispose()
        if self.is_async:
            await disposed


def post(client, key="k"):
    return client.post("/orders", json={"apples": 2}, headers={"Idempotency-Key": f'"{key}"'})


@pytest.fixture(scope="module", params=DRIVERS)
def urls(request, tmp_path_factory):
    """A database, by the URLs of a sync and an async driver."""
    sync, other = DRIVERS[request.param]
    if request.param == "sqlite":
        path = f":///{tmp_path_factory.mktemp('shop')}/shop.db"
        yield sync + path, other + path
    else:
        with request.getfixturevalue(request.param).database() as url:
            yield url, url.replace(sync, other, 1)


@pytest.fixture
def seen(urls):
    """Look at the database from outside; all of it is empty at first."""
    engine = sa.create_engine(urls[0], poolclass=sa.NullPool)
    with engine.begin() as connection:
        remove(connection)
        install(connection)
        connection.execute(sa.text("DROP TABLE IF EXISTS orders"))
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))

    def look(of="SELECT count(*) FROM orders"):
        with engine.connect() as connection:
            return connection.scalar(sa.text(of))

    yield look
    engine.dispose()


@pytest.fixture(params=["sync", "async"])
def url(request, urls, seen):
    return urls[request.param == "async"]


async def test_many_at_once_with_one_key_are_one_order(url, seen):
    """The others get 409 or its answer; afterwards all get its answer."""
    shop = Shop(url)
    async with shop.open() as client:
        told = await asyncio.gather(*(post(client) for _ in range(8)))
        again = await post(client)

    assert (seen(), shop.runs) == (1, 1)
    fresh = [one for one in told if "idempotency-replayed" not in one.headers]
    assert [one.status_code for one in fresh].count(201) == 1
    assert {one.status_code for one in told} <= {201, 409}
    assert all("retry-after" in one.headers for one in told if one.status_code == 409)
    assert (again.status_code, again.json()) == (201, {"run": 1})
    assert again.headers["idempotency-replayed"] == "true"


async def test_many_keys_at_once_are_as_many_orders(url, seen):
    """Keys do not get into each other's way."""
    async with Shop(url).open() as client:
        told = await asyncio.gather(*(post(client, f"key-{number}") for number in range(8)))

    assert [one.status_code for one in told] == [201] * 8
    assert seen() == 8
    assert seen("SELECT count(*) FROM shipworthy_idempotency WHERE state = 'done'") == 8


async def test_a_run_that_was_taken_over_does_not_commit(url, seen):
    """Its lease ended while it worked; whoever took over has the one order."""
    now = time.time()
    first, second = Shop(url, wall=lambda: now), Shop(url, wall=lambda: now)

    async def overtaken(request):
        nonlocal now
        now += LEASE_SECONDS
        told.append(await post(other))
        return await first.take(request)

    told = []
    first.line.app = Starlette(routes=[Route("/orders", overtaken, methods=["POST"])])
    async with first.open() as client, second.open() as other:
        told.append(await post(client))
        again = await post(client)

    assert [one.status_code for one in told] == [201, 500]
    assert (seen(), again.json()) == (1, told[0].json())


@pytest.mark.parametrize(("dies", "orders"), [("before", 0), ("after", 1)])
async def test_a_worker_that_is_killed_leaves_no_order_twice(urls, seen, dies, orders):
    """Before COMMIT nothing took effect: it is run again. After it, it never is: 409 says so."""
    worker = await asyncio.to_thread(
        subprocess.run, [sys.executable, __file__, urls[0], dies], capture_output=True, text=True
    )
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    assert seen() == orders
    now = time.time()
    shop = Shop(urls[0], wall=lambda: now)

    async with shop.open() as client:
        in_flight = await post(client)
        now += LEASE_SECONDS
        told = await post(client)
        again = await post(client)

    assert in_flight.status_code == 409
    assert seen() == 1
    if dies == "before":
        assert (told.status_code, again.json()) == (201, told.json())
    else:
        assert (told.status_code, again.status_code, shop.runs) == (409, 409, 0)
        assert "took effect" in told.json()["detail"]


def die(url, where):
    """Take an order, and be killed on the way."""

    def on_the_way(when):
        if when == where:
            os.kill(os.getpid(), signal.SIGKILL)

    async def work():
        async with Shop(url, on_the_way=on_the_way).open() as client:
            await post(client)

    asyncio.run(work())


if __name__ == "__main__":
    die(*sys.argv[1:])
