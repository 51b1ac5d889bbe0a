"""Breaking the demo's database: what is broken, for how long, and that it is whole again."""

import asyncio
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import make_url

from shipworthy.demo import breakage
from shipworthy.demo.breakage import ACTION, breakable, harm, hold_lock
from shipworthy.errors import ShipworthyError
from shipworthy.faults import FaultProxy, Refuse, Silence

PATIENCE_SECONDS = 10.0


@pytest.fixture
def server() -> Iterator[int]:
    """A server that answers every byte with itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def echo(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while data := connection.recv(100):
                    connection.sendall(data)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=echo, args=(connection,)).start()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def asks(url: str) -> bytes:
    """Send a byte to where `url` says, and return what comes back within a moment."""
    parts = make_url(url)
    assert parts.host is not None
    assert parts.port is not None
    with socket.create_connection((parts.host, parts.port), timeout=0.3) as connection:
        connection.sendall(b"x")
        return connection.recv(1)


def test_a_server_is_reached_through_a_proxy_for_as_long_as_the_block(server: int):
    """Everything else of the URL stays, the password too; afterwards nobody listens there."""
    given = f"postgresql://me:s3cret@127.0.0.1:{server}/tracker?application_name=demo"

    with breakable(given) as broken:
        url = make_url(broken.url)
        answer = asks(broken.url)

    assert answer == b"x"
    assert url.port != server
    assert url.set(port=server) == make_url(given)
    assert [action.name for action in broken.actions] == [ACTION]
    assert "s3cret" not in repr(broken)
    with pytest.raises(ConnectionRefusedError):
        asks(broken.url)


@pytest.mark.parametrize(
    ("url", "port"), [("mysql://127.0.0.1/a", 3306), ("postgresql+psycopg://127.0.0.1/a", 5432)]
)
def test_a_url_without_a_port_means_the_usual_one(url: str, port: int):
    """The proxy is made for it before anybody connects."""
    with breakable(url) as broken:
        proxied = make_url(broken.url).port

    assert proxied not in {None, port}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///tracker",
        "postgresql://db.example/tracker?host=/var/run/postgresql",
        "postgresql://db.example/tracker?sslmode=verify-full",
        "mariadb://db.example/tracker?ssl_ca=ca.pem",
        "mariadb://db.example/tracker?unix_socket=/run/mysqld/mysqld.sock",
    ],
)
def test_a_server_that_is_elsewhere_or_proves_its_name_is_left_alone(url: str):
    """Through a proxy it would be another server, or not the one it says."""
    with breakable(url) as broken:
        assert (broken.url, broken.actions) == (url, ())


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_server_falls_silent_then_refuses_then_is_whole(server: int):
    """Each for its share of the time; what was connected is cut in between."""
    with FaultProxy.in_thread("127.0.0.1", server) as proxy:
        url = f"postgresql://127.0.0.1:{proxy.port}/a"
        harming = asyncio.create_task(harm(proxy, 3.0))
        await _until(lambda: proxy.faults == (Silence(),))
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(asks, url)
        await _until(lambda: proxy.faults == (Refuse(),))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(asks, url)
        await _until(lambda: proxy.connections == 0)
        await harming
        after = await asyncio.to_thread(asks, url)

    assert after == b"x"


@pytest.mark.anyio
async def test_stopped_it_is_whole_at_once(server: int):
    """Cancelled in the middle of the silence."""
    with FaultProxy.in_thread("127.0.0.1", server) as proxy:
        harming = asyncio.create_task(harm(proxy, 300))
        await _until(lambda: proxy.faults == (Silence(),))
        harming.cancel()
        await asyncio.wait({harming})
        after = await asyncio.to_thread(asks, f"postgresql://127.0.0.1:{proxy.port}/a")

    assert after == b"x"


def test_a_file_stays_where_it_is(tmp_path: Path):
    """Its lock is taken; nothing stands between."""
    url = f"sqlite:///{tmp_path}/a.sqlite3"

    with breakable(url) as broken:
        assert broken.url == url
        assert [action.name for action in broken.actions] == [ACTION]


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_held_lock_is_free_when_the_action_is_stopped(tmp_path: Path):
    """The process is ended and buried before the stop is over."""
    url, writable = _file(tmp_path)
    with breakable(url) as broken:
        holding = asyncio.ensure_future(broken.actions[0].perform(60))
        await _until(lambda: not writable())
        holding.cancel()
        await asyncio.wait({holding})

    assert writable()
    assert _children() == []


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_held_lock_is_free_when_its_time_is_over(tmp_path: Path):
    """The action ends without being told."""
    url, writable = _file(tmp_path)
    with breakable(url) as broken:
        holding = asyncio.ensure_future(broken.actions[0].perform(1.5))
        await _until(lambda: not writable())
        await holding

    assert writable()


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_lock_that_could_not_be_had_is_an_error_that_says_so(tmp_path: Path):
    """The file is gone, or somebody else has it."""
    with pytest.raises(ShipworthyError, match="could not be had; start it again"):
        await hold_lock(str(tmp_path / "none.sqlite3"), 1)


def test_the_shares_of_the_time_are_shares():
    """There is time for both, and the refusal is the longer: a breaker opens and closes again."""
    assert 0 < breakage.SILENT_RATIO < 0.5


def _file(folder: Path) -> tuple[str, Callable[[], bool]]:
    path = folder / "a.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE boats (name TEXT)")
    return f"sqlite:///{path}", partial(_writable, path)


def _writable(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


def _children() -> list[str]:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    pids = listing.read_text().split() if listing.exists() else []
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    return [pid for pid, command in zip(pids, commands, strict=True) if b"demo.lock" in command]


async def _until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not look():
            await asyncio.sleep(0.01)
