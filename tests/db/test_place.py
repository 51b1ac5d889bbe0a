"""Places: which line of the service's own code a report names."""

import asyncio
import sqlite3
import threading

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy.db.place import NOWHERE, here, stands


def test_the_innermost_line_of_the_service_is_named():
    """File, line and function, as a traceback has them."""
    place = str(here())

    assert place.startswith("tests/db/test_place.py:")
    assert place.endswith("in test_the_innermost_line_of_the_service_is_named")


def test_lines_of_libraries_are_passed_over():
    """What SQLAlchemy calls is asked for by whoever called SQLAlchemy."""
    found = []
    engine = create_engine(
        "sqlite://", creator=lambda: found.append(_asked()) or sqlite3.connect(":memory:")
    )

    engine.connect().close()
    engine.dispose()

    assert "in _asked" in found[0]


def test_in_an_async_engine_the_line_of_the_task_is_found():
    """SQLAlchemy's greenlet has none of the service's frames; its parent has."""
    from sqlalchemy import event

    async def work():
        engine, found = create_async_engine("sqlite+aiosqlite://"), []
        event.listen(engine.sync_engine, "do_connect", _Listener(found))
        async with engine.connect():
            pass
        await engine.dispose()
        return found

    (place,) = asyncio.run(work())
    assert "test_place.py" in place


def test_a_thread_stands_where_its_own_code_waits():
    """The line of the service, not the lock of the library it waits in."""
    ready, over = threading.Event(), threading.Event()

    def wait_here():
        ready.set()
        over.wait(5)

    thread = threading.Thread(target=wait_here)
    thread.start()
    ready.wait(5)
    place = str(stands(thread.ident))
    over.set()
    thread.join()

    assert place.endswith("in wait_here")


def test_a_thread_that_is_gone_stands_nowhere():
    """No frame, no line."""
    assert stands(0) is NOWHERE
    assert str(NOWHERE) == "no line of the service"


def test_a_working_directory_that_was_removed_costs_only_the_short_name(tmp_path, monkeypatch):
    """A release that runs is replaced by the next, and its folder goes."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    place = str(here())

    assert place.startswith("/")
    assert "tests/db/test_place.py:" in place


class _Listener:
    def __init__(self, found):
        self._found = found

    def __call__(self, *_):
        self._found.append(str(here()))


def _asked():
    return str(here())
