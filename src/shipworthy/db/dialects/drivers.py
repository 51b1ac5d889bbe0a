"""What differs between drivers when a connection must be made, or cut, by a deadline.

`cut` never waits and never fails: it shuts the socket down, so that whoever reads from it gets the
driver's own error at once; SQLite is interrupted and its connection lives on. A driver we do not
know is left alone: its calls are as bounded as it makes them.
"""

import asyncio
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from os import dup
from time import monotonic
from typing import Any, Protocol

from sqlalchemy.util import await_only

CONNECT_THREAD = "shipworthy-db-connect"

Connect = Callable[..., Any]


class Cuttable(Protocol):
    """What is guarded while a connection is made."""

    at: float
    cut: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """How one driver is bounded.

    `connect(dialect, original, watch, args, options)` calls `original` and is back by `watch.at`,
    raising what the driver raises when a server does not answer. `bound_to_loop`: a connection is
    of no use in another event loop than its own. `lock_wait` is for a driver that waits for locks
    by itself and is not woken by a cut: it tells, or with a length sets, how long.
    """

    cut: Callable[[Any], None]
    connect: Callable[[Any, Connect, Cuttable, Any, dict[str, Any]], Any]
    bound_to_loop: bool = False
    lock_wait: Callable[..., float] | None = None


def driver_of(dialect: Any) -> Driver:
    """Return how the driver of an SQLAlchemy dialect is bounded."""
    name = str(getattr(dialect, "driver", ""))
    if name == "psycopg" and dialect.is_async:
        name = "psycopg_async"
    return _DRIVERS.get(name, _UNKNOWN)


def driver_known(dialect: Any) -> bool:
    """Say whether the calls of an SQLAlchemy dialect's driver can be cut at their deadline."""
    return driver_of(dialect) is not _UNKNOWN


def shut(descriptor: int) -> None:
    """Shut a socket down by its descriptor, under whatever wraps it; closed ones are let be."""
    with suppress(OSError), socket.socket(fileno=dup(descriptor)) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def _cut_psycopg(connection: Any) -> None:
    pgconn = connection.driver_connection.pgconn if _adapted(connection) else connection.pgconn
    # A connection that is closed already has no descriptor to give.
    with suppress(sys.modules["psycopg"].Error):
        shut(pgconn.socket)


def _cut_asyncpg(connection: Any) -> None:
    connection.driver_connection.terminate()


def _cut_pymysql(connection: Any) -> None:
    plain = connection._sock  # noqa: SLF001 - no other way to the socket
    if plain is not None:
        shut(plain.fileno())


def _cut_asyncmy(connection: Any) -> None:
    driver = connection.driver_connection
    transport = getattr(driver, "_transport", None)
    if transport is None:  # until 0.2.10
        writer = getattr(driver, "_writer", None)
        transport = None if writer is None else writer.transport
    plain = None if transport is None else transport.get_extra_info("socket")
    if plain is not None:
        shut(plain.fileno())


def _interrupt(connection: Any) -> None:
    # Closed meanwhile: sqlite3 says so with the first, aiosqlite with the second.
    with suppress(sqlite3.ProgrammingError, ValueError):
        plain = connection
        if _adapted(connection):
            plain = connection.driver_connection._conn  # noqa: SLF001 - `interrupt` is awaited
        plain.interrupt()


def _busy_timeout(connection: Any, seconds: float | None = None) -> float:
    """Return how long SQLite waits for a lock, after setting it to `seconds`."""
    # Its busy handler sleeps on whatever `interrupt` says.
    cursor = connection.cursor()
    try:
        if seconds is not None:
            cursor.execute(f"PRAGMA busy_timeout = {max(0, int(seconds * 1000))}")
        else:
            cursor.execute("PRAGMA busy_timeout")
        return float(cursor.fetchone()[0]) / 1000
    finally:
        cursor.close()


def _adapted(connection: Any) -> bool:
    return hasattr(connection, "driver_connection")


def _connect_plainly(
    dialect: Any, original: Connect, watch: Cuttable, args: Any, options: dict[str, Any]
) -> Any:
    del dialect, watch
    return original(*args, **options)


def _connect_psycopg(
    dialect: Any, original: Connect, watch: Cuttable, args: Any, options: dict[str, Any]
) -> Any:
    """Connect in a thread of its own: libpq's timeout knows whole seconds, two at least."""
    left = watch.at - monotonic()
    if left == inf:
        return original(*args, **options)
    # So that a thread that was left behind ends too.
    options.setdefault("connect_timeout", max(2, ceil(left) + 1))
    connecting = _Connecting(original, args, options)
    threading.Thread(target=connecting.run, name=CONNECT_THREAD, daemon=True).start()
    if connecting.done.wait(max(0.0, left)) or not connecting.leave():
        return connecting.result()
    raise dialect.loaded_dbapi.errors.ConnectionTimeout(_late(left))


class _Connecting:
    def __init__(self, original: Connect, args: Any, options: dict[str, Any]) -> None:
        self.done = threading.Event()
        self._original, self._args, self._options = original, args, options
        self._lock = threading.Lock()
        self._left = False
        self._connection: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._connection = self._original(*self._args, **self._options)
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            self._error = error
        with self._lock:
            self.done.set()
            left = self._left
        if left and self._connection is not None:
            self._connection.close()

    def leave(self) -> bool:
        """Leave the thread to itself; false when it has come to its end after all."""
        with self._lock:
            self._left = not self.done.is_set()
            return self._left

    def result(self) -> Any:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no circle of error, traceback and ourselves
        return self._connection


def _connect_pymysql(
    dialect: Any, original: Connect, watch: Cuttable, args: Any, options: dict[str, Any]
) -> Any:
    """Connect in two steps, so that the handshake, which no timeout covers, has a socket to cut."""
    left = watch.at - monotonic()
    if left == inf or options.get("defer_connect"):
        return original(*args, **options)
    given = options.get("connect_timeout") or inf
    options.update(defer_connect=True, connect_timeout=max(0.001, min(given, left)))
    connection = original(*args, **options)
    watch.cut = lambda: _cut_pymysql(connection)
    try:
        connection.connect()
    except dialect.loaded_dbapi.OperationalError as error:
        if monotonic() >= watch.at and hasattr(error, "add_note"):
            error.add_note(_late(left))
        raise
    return connection


def _connect_in_loop(late: Callable[[Any, str], BaseException]) -> Any:
    def connect(
        dialect: Any, original: Connect, watch: Cuttable, args: Any, options: dict[str, Any]
    ) -> Any:
        """Connect under `asyncio.timeout`, entered by hand: we stand in SQLAlchemy's greenlet."""
        left = watch.at - monotonic()
        if left == inf:
            return original(*args, **options)
        timeout = asyncio.timeout(max(0.0, left))
        await_only(timeout.__aenter__())
        try:
            connection = original(*args, **options)
        except BaseException as error:
            try:
                await_only(timeout.__aexit__(type(error), error, sys.exc_info()[2]))
            except TimeoutError:
                raise late(dialect, _late(left)) from error
            raise
        await_only(timeout.__aexit__(None, None, None))
        return connection

    return connect


def _late(seconds: float) -> str:
    return (
        f"connection timeout expired: the server did not finish its handshake within "
        f"{max(0.0, seconds):.3g} s (setting db.connect, or the deadline of the request)"
    )


_UNKNOWN = Driver(cut=lambda _: None, connect=_connect_plainly)
_DRIVERS = {
    "psycopg": Driver(cut=_cut_psycopg, connect=_connect_psycopg),
    "psycopg_async": Driver(
        cut=_cut_psycopg,
        connect=_connect_in_loop(
            lambda dialect, text: dialect.loaded_dbapi.errors.ConnectionTimeout(text)
        ),
    ),
    "asyncpg": Driver(
        cut=_cut_asyncpg,
        # The same as asyncpg's own `timeout` raises.
        connect=_connect_in_loop(lambda _, text: TimeoutError(text)),
        bound_to_loop=True,
    ),
    "pymysql": Driver(cut=_cut_pymysql, connect=_connect_pymysql),
    "asyncmy": Driver(
        cut=_cut_asyncmy,
        connect=_connect_in_loop(
            lambda dialect, text: dialect.loaded_dbapi.OperationalError(2003, text)
        ),
        bound_to_loop=True,
    ),
    "pysqlite": Driver(cut=_interrupt, connect=_connect_plainly, lock_wait=_busy_timeout),
    "aiosqlite": Driver(cut=_interrupt, connect=_connect_plainly, lock_wait=_busy_timeout),
}
