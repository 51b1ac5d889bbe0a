"""What every test gets: the event loop's name, real services, and nobody left behind."""

import faulthandler
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from hypothesis import settings

import services
from shipworthy.redact import known

T = TypeVar("T")
_PATIENCE_SECONDS = 2.0
# `timeout` in pyproject.toml.
_USUAL_BOUND_SECONDS = 60

# Each client of httpx and each connection of PyMySQL reads all authorities the machine trusts, for
# which it takes 25 ms, and there are thousands. No test talks to the world, so one that is nobody's
# will do, here and in the processes that tests start.
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))

# What a test writes is thrown away when it ends, so it need not reach a disk: a commit of SQLite
# waits 5 to 30 ms for one, and tests commit by the ten thousand.
_MEMORY, _MEMORY_BYTES_MIN = Path("/dev/shm"), 2 * 1024**3
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES_MIN:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# No deadline for an example: a loaded machine is no finding, and pytest-timeout bounds the test.
# CI decides whether a change may land, so it must say the same thing twice; new examples are looked
# for where people work.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take long: at the end of a run each process finds something short."""
    items.sort(key=_bound_seconds, reverse=True)


def _bound_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    asked = mark.args[0] if mark is not None and mark.args else 0
    return float(max(asked, _USUAL_BOUND_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let no stacks be printed of a test that may take longer than a minute.

    They are printed without the interpreter's lock (`faulthandler_timeout`), and a process with
    many threads at work has died of it: the drill, in the middle of a line. At its own bound
    pytest-timeout prints them under the lock.
    """
    if _bound_seconds(item) > _USUAL_BOUND_SECONDS:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the loop that servers use."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nobody_left_behind() -> Iterator[None]:
    """A test ends the processes and threads it started, and stays where it is.

    What it leaves behind disturbs the next one. Daemon threads count when they are ours by name.
    Costs some 50 us. Where /proc does not list children (not on Linux), only threads are looked at.
    """
    children, threads, directory = _children(), set(threading.enumerate()), Path.cwd()

    yield

    # Ordered before `monkeypatch` of the test, which is undone by now.
    assert Path.cwd() == directory, "the test has changed the directory; change it back"
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while (left := _left(children, threads)) and time.monotonic() < give_up:
        time.sleep(0.005)
    assert left == [], "the test left these behind; end them in the test"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[services.Server]:
    """A PostgreSQL server: the one named or found, else one started for this run."""
    yield from _served(services.postgres())


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[services.Server]:
    """A MariaDB server: the one named or found, else one started for this run."""
    yield from _served(services.mariadb())


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """The port of a Redis or Valkey: the one named or found, else one from the wheel."""
    yield from _served(services.redis())


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., AbstractContextManager[int]]]:
    """Start a Redis or Valkey of the test's own, which it may stop, fill and spoil."""

    def start(*options: str, port: int = 0) -> AbstractContextManager[int]:
        return services.own_redis(tmp_path, *options, port=port)

    try:
        yield start
    except services.Unavailable as missing:
        _without(missing)


@pytest.fixture
def postgres_url(postgres_server: services.Server) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database, dropped after the test."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: services.Server) -> Iterator[str]:
    """The URL of a new, empty MariaDB database, dropped after the test."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(autouse=True)
def _secrets_of_this_test_alone() -> Iterator[None]:
    """What one test gives as a secret, another may have for a word."""
    before = known._known
    yield
    known._known = before


@pytest.fixture(scope="session")
def debian() -> Callable[[str, str], str]:
    """Say where a program is, by its name and that of its package in Debian."""

    def find(name: str, package: str) -> str:
        try:
            return services.program(name, package=package)
        except services.Unavailable as missing:
            return _without(missing)

    return find


def _without(missing: services.Unavailable) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{missing} (a skip would hide it under CI)", pytrace=False)
    pytest.skip(str(missing))


def _served(server: AbstractContextManager[T]) -> Iterator[T]:
    try:
        with server as running:
            yield running
    except services.Unavailable as missing:
        _without(missing)


def _children() -> set[int]:
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, listing.read_text().split()))
        except FileNotFoundError:  # the thread ended meanwhile
            continue
    return found - {tracker} - services.running


def _left(children: set[int], threads: set[threading.Thread]) -> list[str]:
    return [f"process {pid}: {_command(pid)}" for pid in sorted(_children() - children)] + [
        f"thread {thread.name}"
        for thread in set(threading.enumerate()) - threads
        if not thread.daemon or thread.name.startswith("shipworthy")
    ]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200] or "(zombie)"
    except OSError:
        return "(gone)"
