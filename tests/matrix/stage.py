"""Where a fault is provoked on a driver for real, and what was seen is taken down.

A fault is written once, against SQLAlchemy's synchronous API. For a driver of asyncio it runs in
SQLAlchemy's greenlet, in a loop of its own, so it goes the way that an application's call goes.
"""

import asyncio
import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

import shipworthy.db
from shipworthy.db import Outcome, classify
from shipworthy.db.classify import facts_of

ASYNC = frozenset({"psycopg_async", "asyncpg", "asyncmy", "aiosqlite"})
PATIENCE_SECONDS = 10.0
# How SQLAlchemy spells what it spells differently.
_SPELLED = {"psycopg_async": "psycopg", "sqlite3": "pysqlite"}


@dataclass(frozen=True)
class Fault:
    """One way to fail; `expected` is what it means, whichever driver meets it."""

    name: str
    expected: Outcome
    provoke: Callable[["Stage"], object]
    only: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """One fault on one driver: what was provoked, what was seen, and what it was taken for."""

    driver: str
    provoked: str
    seen: str
    phase: str
    outcome: str
    expected: str
    because: str
    seconds: float

    @property
    def right(self) -> bool:
        return self.outcome == self.expected

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class Stage:
    """A database, a driver to reach it by, and a second connection that does not go that way."""

    url: URL
    driver: str
    plain: Callable[..., Any]
    """`plain(url)` connects with a synchronous driver, in autocommit."""
    _ends: ExitStack = field(default_factory=ExitStack)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def is_async(self) -> bool:
        return self.driver in ASYNC

    def engine(self, url: URL | None = None, *, protect: bool = True, **options: Any) -> Engine:
        """A new engine, under the guard that `shipworthy run` puts on; disposed of at the end."""
        target = url or self.url
        name = _SPELLED.get(self.driver, self.driver)
        target = target.set(drivername=f"{target.get_backend_name()}+{name}")
        if self.is_async:
            engine = create_async_engine(target, **options).sync_engine
        else:
            engine = create_engine(target, **options)
        self._ends.callback(engine.dispose)
        if protect:
            self._ends.callback(shipworthy.db.protect(engine).undo)
        return engine

    def other(self) -> Any:
        """A second connection, in autocommit, closed at the end."""
        connection = self.plain(self.url)
        self._ends.callback(_close, connection)
        return connection

    def sql(self, *statements: str) -> Any:
        """Run statements beside the driver; return the first value of the last."""
        connection = self.plain(self.url)
        with contextlib.closing(connection), contextlib.closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]

    def at_the_end(self, *statements: str) -> None:
        """Run statements when the engines of this stage are gone."""
        self._ends.callback(self.sql, *statements)

    def meanwhile(self, work: Callable[[], object], *, after_seconds: float = 0.0) -> None:
        """Do something in a thread of its own; what it raises is nobody's concern here."""

        def run() -> None:
            time.sleep(after_seconds)
            with contextlib.suppress(Exception):
                work()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def pause(self, seconds: float) -> None:
        """Wait, and let the event loop run, if there is one."""
        if self.is_async:
            await_only(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, bounded."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > give_up:
                raise AssertionError("what the fault needs did not come about")
            self.pause(0.02)

    def within(self, seconds: float, work: Callable[[], object]) -> object:
        """Do something as a caller who waits only so long (drivers of asyncio)."""
        return await_only(asyncio.wait_for(greenlet_spawn(work), seconds))

    def enter(self, context: AbstractContextManager[Any]) -> Any:
        """Enter something that is left at the end."""
        return self._ends.enter_context(context)

    def name(self) -> str:
        """A name nobody has used."""
        return f"ship_{secrets.token_hex(5)}"

    def end(self) -> None:
        """Leave nothing behind."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self._ends.close()


def perform(fault: Fault, stage: Stage) -> Row:
    """Provoke a fault, and say what it was taken for."""
    began = time.monotonic()
    error = asyncio.run(_in_loop(fault, stage)) if stage.is_async else _caught(fault, stage)
    took = time.monotonic() - began
    if error is None:
        seen, phase, outcome, because = "no error", "", "no error", ""
    else:
        facts = facts_of(error)
        found = classify(error)
        seen = chain(error, invalidated=facts.invalidated)
        phase, outcome, because = facts.phase or "", found.outcome, found.because
    return Row(stage.driver, fault.name, seen, phase, outcome, fault.expected, because, took)


def chain(error: BaseException, *, invalidated: bool) -> str:
    """Name an exception and its causes, with their codes and without their messages."""
    names = []
    for sign in facts_of(error).signs:
        codes = [str(code) for code in (sign.code, sign.sqlstate) if code is not None]
        names.append(" ".join([sign.types[0].rpartition(".")[2], *codes]))
    return " < ".join(names) + (", invalidated" if invalidated else "")


def listener(speak: Callable[[socket.socket], object]) -> AbstractContextManager[int]:
    """A port whose every connection is handed to `speak`, and closed at the end."""

    @contextlib.contextmanager
    def open_port() -> Iterator[int]:
        held: list[socket.socket] = []

        def serve(server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    held.append(peer)
                    speak(peer)

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=serve, args=(server,), daemon=True).start()
            try:
                yield server.getsockname()[1]
            finally:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                for peer in held:
                    peer.close()

    return open_port()


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parsed(url: str) -> URL:
    """The URL without the name of a driver."""
    found = make_url(url)
    return found.set(drivername=found.get_backend_name())


def run(connection: Connection, statement: str) -> Any:
    """Run one statement."""
    return connection.execute(text(statement))


def _caught(fault: Fault, stage: Stage) -> BaseException | None:
    try:
        fault.provoke(stage)
    except AssertionError:
        raise
    except Exception as error:
        return error
    finally:
        stage.end()
    return None


async def _in_loop(fault: Fault, stage: Stage) -> BaseException | None:
    return await greenlet_spawn(_caught, fault, stage)


def _close(connection: Any) -> None:
    with contextlib.suppress(Exception):
        connection.close()
