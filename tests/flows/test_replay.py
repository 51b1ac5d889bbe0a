"""A request whose database fails under it is run again: real servers, frameworks as they are used.

The application kills its own connection in its first run, which is what a restart does to it.
"""

import asyncio
from contextvars import Context
from typing import Annotated

import flask
import httpx
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from shipworthy import db, outbound
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.db import attempt_scope, protect
from shipworthy.events import listen
from shipworthy.resilience import RetryBudget
from shipworthy.telemetry import Registry
from shipworthy.web import Correlation, Line, Problems, Replay, WsgiApp, observe

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.usefixtures("guarded")]


@pytest.fixture
def guarded():
    """As under `run`: every engine of the process is protected, and calls out are seen."""
    undo = db.install()
    outbound.install()
    yield
    outbound.uninstall()
    undo()


KILL = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    "mariadb": ("SELECT connection_id()", "KILL {}"),
}
# A statement that is at work when it is cut, and how to see that it is.
BUSY = {
    "postgresql": (
        "SELECT pg_sleep(30)",
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND state = 'active'",
    ),
    "mariadb": (
        "SELECT sleep(30)",
        "SELECT count(*) FROM information_schema.processlist WHERE id = {} AND command = 'Query'",
    ),
}
ASYNC = {"postgresql+psycopg": "postgresql+asyncpg", "mariadb+pymysql": "mariadb+asyncmy"}


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def url(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def heard():
    found = []
    stop = listen(found.append)
    yield found
    stop()


@pytest.fixture
def engine(url):
    made = sa.create_engine(url, pool_size=20)
    protection = protect(made)
    yield made
    protection.undo()
    made.dispose()


@pytest.fixture
def killer(url):
    """Who kills connections; what it does is not noted with the request that asks for it."""
    made = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def kill(number, *, busy=False):
        Context().run(do, number, busy)

    def do(number, busy):
        with attempt_scope(), made.connect() as connection:
            seen = sa.text(BUSY[made.dialect.name][1].format(number))
            while busy and not connection.scalar(seen):
                pass
            connection.execute(sa.text(KILL[made.dialect.name][1].format(number)))

    yield kill
    made.dispose()


def ask_id(engine):
    return sa.text(KILL[engine.dialect.name][0])


def around(app, **options):
    said = {"mode": "enforce", "methods": ("GET", "HEAD", "OPTIONS"), "within_seconds": 10.0}
    observe(app)
    return Line(
        WsgiApp(app, threads=4) if isinstance(app, flask.Flask) else app,
        (Correlation(), Replay(Registry(), now=SYSTEM_CLOCK.now, **(said | options))),
        answers=Problems(mode="enforce", development=False, leaving=lambda: False),
        route_of=lambda scope: "/",
        now=SYSTEM_CLOCK.now,
    )


def client_of(line):
    transport = httpx.ASGITransport(line, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_a_sync_route_with_a_session_of_its_own(engine, killer):
    """FastAPI with the session as a dependency, in threads: 200, and the application ran twice."""
    app, runs = FastAPI(), []

    def session():
        with Session(engine) as made:
            yield made

    @app.get("/count")
    def count(session: Annotated[Session, Depends(session)]):
        number = session.scalar(ask_id(engine))
        runs.append(number)
        if len(runs) == 1:
            killer(number)
        return {"answer": session.scalar(sa.text("SELECT 42"))}

    async with client_of(around(app)) as client:
        told = await client.get("/count")

    assert (told.status_code, told.json(), len(set(runs))) == (200, {"answer": 42}, 2)


async def test_an_async_route(url, killer, heard):
    """The same with an async driver, where the failure comes out of a greenlet."""
    name = url.partition(":")[0]
    engine = create_async_engine(url.replace(name, ASYNC[name], 1))
    protection = protect(engine)
    app, runs = FastAPI(), []

    @app.get("/count")
    async def count():
        async with engine.connect() as connection:
            number = await connection.scalar(ask_id(engine))
            runs.append(number)
            if len(runs) == 1:
                killing = asyncio.create_task(asyncio.to_thread(killer, number, busy=True))
                try:
                    await connection.execute(sa.text(BUSY[engine.dialect.name][0]))
                finally:
                    await killing
            return {"answer": await connection.scalar(sa.text("SELECT 42"))}

    async with client_of(around(app)) as client:
        told = await client.get("/count")
    protection.undo()
    await engine.dispose()

    assert (told.status_code, told.json(), len(runs)) == (200, {"answer": 42}, 2), heard


async def test_a_framework_that_answers_for_its_exceptions_by_itself(engine, killer):
    """Flask raises nothing out of itself: its 500 is held back until it is known to be the last."""
    app, runs = flask.Flask(__name__), []

    @app.get("/count")
    def count():
        with engine.connect() as connection:
            number = connection.scalar(ask_id(engine))
            runs.append(number)
            if len(runs) == 1:
                killer(number)
            return str(connection.scalar(sa.text("SELECT 42")))

    line = around(app)
    async with client_of(line) as client:
        told = await client.get("/count")
    line.app._pool.shutdown()

    assert (told.status_code, told.text, len(runs)) == (200, "42", 2)


@pytest.mark.parametrize(
    ("methods", "status", "expected"), [(("GET",), 503, 1), (("POST",), 200, 2)]
)
async def test_a_write_is_not_run_again_unless_that_is_set(
    engine, killer, methods, status, expected
):
    """Nobody changed the application, so nobody said that its POST may run twice."""
    app, runs = FastAPI(), []

    @app.post("/count")
    def count():
        with engine.begin() as connection:
            number = connection.scalar(ask_id(engine))
            runs.append(number)
            if len(runs) == 1:
                killer(number)
            return connection.scalar(sa.text("SELECT 42"))

    async with client_of(around(app, methods=methods)) as client:
        told = await client.post("/count")

    assert (told.status_code, len(runs)) == (status, expected)


@pytest.mark.timeout(120)
async def test_hot_rows_cost_time_and_few_failures(engine):
    """Transfers that collide: most that would fail are answered, and the ledger is exact."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE accounts (id INTEGER PRIMARY KEY, held INTEGER)"))
        connection.execute(sa.text("INSERT INTO accounts VALUES (0, 1000), (1, 1000)"))
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    app = FastAPI()

    @app.post("/transfer/{number}")
    def transfer(number: int):
        with strict.begin() as connection:
            for account, amount in ((number % 2, -1), (1 - number % 2, 1)):
                held = connection.scalar(
                    sa.text("SELECT held FROM accounts WHERE id = :id"), {"id": account}
                )
                connection.execute(
                    sa.text("UPDATE accounts SET held = :held WHERE id = :id"),
                    {"id": account, "held": held + amount},
                )

    async def answered(methods):
        """The transfers that were, of 40 of which two are always at work."""
        line = around(app, methods=methods, contention=RetryBudget(1.0, 100.0))
        turns = asyncio.Semaphore(2)

        async def one(number):
            async with turns:
                return (await client.post(f"/transfer/{number}")).status_code == 200

        async with client_of(line) as client:
            good = await asyncio.gather(*map(one, range(40)))
        return [number for number, is_good in enumerate(good) if is_good]

    bare, replayed = await answered(()), await answered(("POST",))

    with engine.connect() as connection:
        held = dict(connection.execute(sa.text("SELECT id, held FROM accounts")).all())
    odd = sum(number % 2 for number in bare + replayed)
    even = len(bare) + len(replayed) - odd
    assert held == {0: 1000 - even + odd, 1: 1000 - odd + even}
    assert len(bare) < 40, "they did not collide, so nothing was shown"
    assert 40 - len(replayed) <= (40 - len(bare)) / 2
