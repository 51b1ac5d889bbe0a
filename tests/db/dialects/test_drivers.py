"""How drivers are bounded, where that can be told without a server."""

import socket
import threading
from math import inf
from time import monotonic
from types import SimpleNamespace

import pytest

from shipworthy.db.dialects.drivers import driver_of, shut


class Late(Exception):
    """Stands for the driver's own error of a connect that timed out."""


def dialect(driver, *, is_async=False):
    errors = SimpleNamespace(ConnectionTimeout=Late)
    return SimpleNamespace(
        driver=driver,
        is_async=is_async,
        loaded_dbapi=SimpleNamespace(errors=errors, OperationalError=Late),
    )


def watch(at=inf):
    return SimpleNamespace(at=at, cut=lambda: None)


def test_shutting_a_socket_ends_whoever_reads_from_it():
    """The reader gets its end at once, and closing stays the owner's business."""
    near, far = socket.socketpair()

    shut(near.fileno())

    assert near.recv(1) == b""
    near.close()
    far.close()


def test_shutting_what_is_closed_does_nothing():
    """A descriptor that is gone is let be."""
    near, far = socket.socketpair()
    descriptor = near.fileno()
    near.close()
    far.close()

    shut(descriptor)
    shut(-1)


def test_a_driver_nobody_knows_is_left_alone():
    """It connects as it does, and is not cut."""
    driver = driver_of(dialect("oracledb"))

    driver.cut(object())

    assert driver.connect(dialect("oracledb"), lambda *a, **o: (a, o), watch(), (1,), {"b": 2}) == (
        (1,),
        {"b": 2},
    )


def test_psycopg_gets_a_timeout_of_its_own_as_a_backstop():
    """So that a thread that was left behind ends too; what the service set stands."""
    driver, given = driver_of(dialect("psycopg")), []

    def connect(**options):
        given.append(options["connect_timeout"])
        return "connection"

    at = monotonic() + 2.5
    assert driver.connect(dialect("psycopg"), connect, watch(at), (), {}) == "connection"
    driver.connect(dialect("psycopg"), connect, watch(at), (), {"connect_timeout": 7})
    assert given == [4, 7]


def test_psycopg_without_a_deadline_connects_where_it_stands():
    """No limit, no thread."""
    driver = driver_of(dialect("psycopg"))

    assert (
        driver.connect(dialect("psycopg"), threading.current_thread, watch(), (), {})
        is threading.current_thread()
    )


def test_a_connection_that_comes_too_late_is_closed_by_the_thread_that_made_it():
    """Nobody else has it, so nobody else would."""
    driver, go, closed = driver_of(dialect("psycopg")), threading.Event(), threading.Event()

    def connect(**_):
        go.wait(5)
        return SimpleNamespace(close=closed.set)

    with pytest.raises(Late, match="did not finish its handshake within"):
        driver.connect(dialect("psycopg"), connect, watch(monotonic() + 0.01), (), {})
    assert not closed.is_set()
    go.set()

    assert closed.wait(5)
    for thread in threading.enumerate():
        if thread.name == "shipworthy-db-connect":
            thread.join(5)


def test_what_the_connect_raises_in_its_thread_is_raised_to_the_caller():
    """The same exception, not one about it."""
    driver, error = driver_of(dialect("psycopg")), ValueError("no such host")

    def connect(**_):
        raise error

    with pytest.raises(ValueError, match="no such host") as caught:
        driver.connect(dialect("psycopg"), connect, watch(monotonic() + 5), (), {})

    assert caught.value is error


def test_pymysql_is_cut_while_it_shakes_hands():
    """It connects in two steps; between them the watch learns whom to cut."""
    driver, guarded = driver_of(dialect("pymysql")), watch(monotonic() + 5)

    class Connection:
        _sock = None

        def __init__(self, **options):
            self.options = options

        def connect(self):
            self._sock, far = socket.socketpair()
            with self._sock as near, far:
                guarded.cut()
                if near.recv(1) == b"":
                    raise Late("lost")

    with pytest.raises(Late):
        driver.connect(dialect("pymysql"), Connection, guarded, (), {"connect_timeout": 1})


def test_psycopg_of_an_async_engine_is_another_driver():
    """The name is the same in SQLAlchemy, the way to bound it is not."""
    one, other = driver_of(dialect("psycopg")), driver_of(dialect("psycopg", is_async=True))

    assert one is not other


def test_cutting_what_is_closed_already_does_nothing(postgres_url, tmp_path):
    """The deadline may pass in the moment in which a connection ends by itself."""
    import sqlite3

    import psycopg

    closed = psycopg.connect(postgres_url.replace("+psycopg", ""))
    closed.close()
    other = sqlite3.connect(tmp_path / "x.db")
    other.close()

    driver_of(dialect("psycopg")).cut(closed)
    driver_of(dialect("pysqlite")).cut(other)
    driver_of(dialect("pymysql")).cut(SimpleNamespace(_sock=None))
    driver_of(dialect("asyncmy")).cut(SimpleNamespace(driver_connection=SimpleNamespace()))
