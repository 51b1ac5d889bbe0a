"""A burst on the service people write: sync handlers, a session for each request, a response model.

What is shown here is a deadlock that needs real threads and a real pool. The service is asked in
its own event loop, with the guards that the door needs in front of it, or without.
"""

import asyncio
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from serve.launch import started
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.db import DbSettings, PoolStarvation, StarvationFound, protect
from shipworthy.events import listen
from shipworthy.telemetry import Registry
from shipworthy.web import Correlation, DoorGuard, Line, Problems

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(60)]

REQUESTS = 200
# Of the pool, so that what hangs is over soon; nobody who gets in waits for so long.
# Far from what a burst takes on a loaded machine under coverage (3 s): who waits for it is seen.
POOL_TIMEOUT_SECONDS = 15.0


class Item(BaseModel):
    id: int
    name: str


def service(engine):
    """The tutorial's application: nothing in it knows of us."""
    factory = sessionmaker(engine)
    app = FastAPI()

    def get_session():
        with factory() as session:
            yield session

    @app.get("/items/{item}", response_model=Item)
    def read(item: int, session: Annotated[Session, Depends(get_session)]):
        return {"id": item, "name": session.scalar(text("SELECT 'name'"))}

    @app.get("/short/{item}", response_model=Item)
    def short(item: int):
        with factory() as session:
            return {"id": item, "name": session.scalar(text("SELECT 'name'"))}

    return app


def behind(app, *, mode="enforce", wait_seconds=30.0):
    """The application behind the door, and the door."""
    door = DoorGuard(Registry(), mode=mode, wait_seconds=wait_seconds, now=SYSTEM_CLOCK.now)
    line = Line(
        app,
        (Correlation(), door),
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: "",
        now=SYSTEM_CLOCK.now,
    )
    return line, door


@contextmanager
def pooled(url, **options):
    """An engine with the pool that SQLAlchemy gives by default, 5 and 10 over."""
    engine = create_engine(url, **{"pool_timeout": POOL_TIMEOUT_SECONDS, **options})
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def guarded(engine):
    protection = protect(engine, settings=DbSettings(checkout_seconds=POOL_TIMEOUT_SECONDS))
    try:
        yield protection
    finally:
        protection.undo()


async def burst(app, path="/items/{}", requests=REQUESTS):
    """All at once; return the statuses, and how long it took."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        began = time.monotonic()
        answers = await asyncio.gather(*[client.get(path.format(i)) for i in range(requests)])
        return [answer.status_code for answer in answers], time.monotonic() - began


async def test_without_a_door_a_burst_ends_in_errors(postgres_url):
    """The control: threads that wait for connections keep their holders from giving them back."""
    with pooled(postgres_url, pool_timeout=0.5) as engine:
        statuses, took = await burst(service(engine))

    assert statuses.count(500) >= 25
    assert took >= 0.5


async def test_the_first_burst_of_a_service_nobody_knows_is_served(postgres_url):
    """200 at once, the default pool, nothing learned yet: no error, and no wait for a timeout."""
    with pooled(postgres_url) as engine, guarded(engine) as protection:
        line, door = behind(service(engine))

        statuses, _ = await burst(line)
        again, _ = await burst(line)

    assert (statuses, again) == ([200] * REQUESTS, [200] * REQUESTS)
    assert protection.counts.timeouts == 0
    assert door.statistics().limit == 15
    assert (door.statistics().inside, door.statistics().waiting) == (0, 0)
    assert door.statistics().waited_total >= REQUESTS


async def test_a_burst_on_a_file_of_sqlite_is_served(tmp_path):
    """The same with a pool of connections to a file."""
    with pooled(f"sqlite:///{tmp_path / 'x.db'}") as engine, guarded(engine):
        line, _ = behind(service(engine))

        statuses, _ = await burst(line)

    assert statuses == [200] * REQUESTS


async def test_the_door_opens_for_a_service_that_gives_connections_back_at_once(postgres_url):
    """Threads may all wait where each holder goes on by itself: nobody is held back outside."""
    with pooled(postgres_url) as engine, guarded(engine):
        line, door = behind(service(engine))

        first, _ = await burst(line, "/short/{}")
        held_back = door.statistics().waited_total
        second, _ = await burst(line, "/short/{}")

    assert (first, second) == ([200] * REQUESTS, [200] * REQUESTS)
    assert door.statistics().limit is None
    assert door.statistics().waited_total == held_back


async def test_without_a_door_the_pool_refuses_the_newest_and_the_others_go_on(postgres_url):
    """Nobody waits for a timeout: one thread after another is freed until holders have theirs."""
    heard = []
    stop = listen(heard.append, StarvationFound)
    with pooled(postgres_url) as engine, guarded(engine) as protection:
        app = service(engine)
        raised = []

        @app.exception_handler(PoolStarvation)
        async def note(request, error):
            raised.append(error)
            return JSONResponse({}, 503)

        statuses, took = await burst(app)
    stop()

    assert statuses.count(200) >= 15
    assert len(raised) == protection.counts.starvations == statuses.count(503)
    assert statuses.count(200) + statuses.count(503) == REQUESTS
    assert 1 <= len(heard) < 20
    assert protection.counts.timeouts == 0
    assert "40 worker threads wait for 15 connections of 'main'" in str(raised[0])
    assert "test_door.py:" in str(raised[0])
    assert took < POOL_TIMEOUT_SECONDS


APP = """
import os
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

engine = create_engine(os.environ["DATABASE"])
factory = sessionmaker(engine)
app = FastAPI()

class Item(BaseModel):
    id: int
    name: str

def get_session():
    with factory() as session:
        yield session

@app.get("/items/{item}", response_model=Item)
def read(item: int, session: Session = Depends(get_session)):
    return {"id": item, "name": session.scalar(text("SELECT 'name'"))}
"""


async def test_run_serves_a_burst_on_an_application_nobody_changed(postgres_url, tmp_path: Path):
    """`shipworthy run`, real sockets, the first 200 requests of the process."""
    (tmp_path / "shop.py").write_text(APP)
    # A loaded machine may need longer for 200 than the 5 s that a caller waits by default.
    environ = {"DATABASE": postgres_url, "SHIPWORTHY_DB__CHECKOUT": "20s"}
    with started("shop:app", directory=tmp_path, environ=environ) as service:
        service.until_ready()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*[client.get(f"/items/{i}") for i in range(REQUESTS)])
        waited = re.search(
            r"^shipworthy_door_waited_total (\d+)$",
            httpx.get(f"{service.operations}/metrics").text,
            re.MULTILINE,
        )

    assert {answer.text for answer in answers if answer.status_code != 200} == set()
    assert waited is not None
    assert int(waited[1]) > 0
