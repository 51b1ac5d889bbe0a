"""Callers of a database by every driver, written once, and how long each of them took.

A scene is written against SQLAlchemy's synchronous API. For a driver of asyncio it runs in a loop
of its own, in SQLAlchemy's greenlet, so it goes the way that an application's call goes; what runs
together is threads there, and tasks here.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from shipworthy.db import DbSettings, Protection, protect
from shipworthy.faults import FaultProxy
from shipworthy.resilience import ResilienceSettings

T = TypeVar("T")

POSTGRES = ("psycopg", "psycopg_async", "asyncpg")
MARIADB = ("pymysql", "asyncmy")
SQLITE = ("sqlite3", "aiosqlite")
ASYNC = frozenset({"psycopg_async", "asyncpg", "asyncmy", "aiosqlite"})
# How SQLAlchemy spells what it spells differently.
_SPELLED = {"psycopg_async": "psycopg", "sqlite3": "pysqlite"}

# What the tests allow beside what the machine took from this process: a server is late, too.
SLACK_SECONDS = 0.25
# The guard's own promise is not what bounds a scene.
GUARD_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class End:
    """How one caller ended: after how long, with which error, if any."""

    seconds: float
    error: Exception | None


class Gate:
    """Something to wait for, in a thread or in a task's greenlet."""

    def __init__(self, driver: str) -> None:
        self._awaited = driver in ASYNC
        self._event: Any = asyncio.Event() if self._awaited else threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        if self._awaited:
            await_only(asyncio.wait_for(self._event.wait(), GUARD_SECONDS))
        else:
            assert self._event.wait(GUARD_SECONDS), "the gate was never opened"


def play(driver: str, scene: Callable[[], T]) -> T:
    """Run a scene where the driver's callers live."""
    if driver not in ASYNC:
        return scene()

    async def bounded() -> T:
        async with asyncio.timeout(2 * GUARD_SECONDS):
            return await greenlet_spawn(scene)

    return asyncio.run(bounded())


def ended(work: Callable[[], object]) -> End:
    """Do something and return how it ended."""
    began = time.monotonic()
    error = None
    try:
        work()
    except Exception as raised:
        error = raised
    return End(time.monotonic() - began, error)


def together(driver: str, *works: Callable[[], object]) -> list[End]:
    """Do all at once, in threads or tasks, and return how each ended, in their order."""
    if driver in ASYNC:

        async def all_of_them() -> list[End]:
            return await asyncio.gather(*(greenlet_spawn(ended, work) for work in works))

        return await_only(all_of_them())
    ends: list[End | None] = [None] * len(works)

    def run(index: int, work: Callable[[], object]) -> None:
        ends[index] = ended(work)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD_SECONDS)
    found = [end for end in ends if end is not None]
    assert len(found) == len(works), "a caller never came back"
    return found


def address_of(driver: str, url: str) -> URL:
    """The URL as the driver takes it; that of SQLite is the path of the file."""
    made = make_url(url)
    name = _SPELLED.get(driver, driver)
    return made.set(drivername=f"{made.get_backend_name()}+{name}")


@contextmanager
def engine_of(driver: str, url: URL | str, **options: Any) -> Iterator[Engine]:
    """An engine for the driver, bare; disposed of at the end."""
    address = address_of(driver, str(url) if isinstance(url, str) else _open(url))
    if driver in ASYNC:
        engine = create_async_engine(address, **options).sync_engine
    else:
        engine = create_engine(address, **options)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def protected(
    driver: str,
    url: URL | str,
    *,
    settings: DbSettings | None = None,
    resilience: ResilienceSettings | None = None,
    **options: Any,
) -> Iterator[tuple[Engine, Protection]]:
    """An engine for the driver under guard, and its protection; let go at the end."""
    with engine_of(driver, url, **options) as engine:
        protection = protect(engine, settings=settings, resilience=resilience)
        try:
            yield engine, protection
        finally:
            protection.undo()


@contextmanager
def harmed(url: str) -> Iterator[tuple[FaultProxy, URL]]:
    """A proxy in front of the server of `url`, and the URL that leads through it."""
    made = make_url(url)
    assert made.host is not None
    assert made.port is not None
    with FaultProxy.in_thread(made.host, made.port) as proxy:
        yield proxy, made.set(host=proxy.host, port=proxy.port)


def milliseconds(seconds: float) -> float:
    """For a report."""
    return round(seconds * 1000, 1)


def _open(url: URL) -> str:
    return url.render_as_string(hide_password=False)
