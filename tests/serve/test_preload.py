"""What a spare process imports beforehand, and how it waits to become a worker."""

import importlib
import os
import site
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shipworthy.serve.order import Order
from shipworthy.serve.preload import await_call, environment_stamp, libraries_loaded, preload

SPARE = Order(
    target="shop:app",
    directory="/",
    config=None,
    overrides={},
    channel_fd=7,
    listen_fds=(8,),
    generation=0,
    spare=True,
)


@pytest.fixture
def wires() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end and the spare's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def say(wire: socket.socket, **facts: object) -> None:
    wire.sendall(orjson.dumps(facts) + b"\n")


def test_only_known_libraries_of_the_environment_and_ours_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the application that stands in for a library would not, in another process."""
    import sqlalchemy.orm  # noqa: F401

    monkeypatch.syspath_prepend(tmp_path)
    for name in ("itsdangerous", "orders_of_mine"):
        (tmp_path / f"{name}.py").write_text("")
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)

    found = libraries_loaded()

    assert found.index("sqlalchemy") < found.index("sqlalchemy.orm")
    assert "shipworthy.serve.preload" in found
    assert not {"itsdangerous", "orders_of_mine", "pytest", "json"} & set(found)
    assert not [name for name in found if name.startswith("shipworthy.demo")]


def test_what_cannot_be_imported_or_is_no_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name comes from another process, and an import of anything may do anything."""
    for name in ("sqlalchemy.ext.baked", "antigravity"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    left = preload(["sqlalchemy.no_such_module", "antigravity", "sqlalchemy.ext.baked", "sys"])

    assert left == ["sqlalchemy.no_such_module", "antigravity"]
    assert "sqlalchemy.ext.baked" in sys.modules
    assert "antigravity" not in sys.modules


def test_the_stamp_is_another_when_a_package_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the spare has imported may then be half of one version and half of another."""
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path), str(tmp_path / "none")])
    os.utime(tmp_path, (1, 1))
    before = environment_stamp()
    assert environment_stamp() == before
    (tmp_path / "shop-1.1.dist-info").mkdir()

    assert environment_stamp() != before


def test_a_spare_says_that_it_is_warm_and_becomes_the_worker_it_is_told_to(
    wires: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the directory as it is called now; what is said after that is for the worker's loop."""
    ours, theirs = wires
    monkeypatch.chdir("/")
    order = Order.from_text(SPARE.to_text().replace('"directory":"/"', f'"directory":"{tmp_path}"'))
    say(ours, kind="preload", modules=["sqlalchemy"])
    say(ours, kind="serve", generation=7, workers=3)
    say(ours, kind="retire", together=False)

    called = await_call(theirs, order)

    assert called is not None
    assert (called.generation, called.workers, called.spare) == (7, 3, False)
    assert (called.target, called.listen_fds) == ("shop:app", (8,))
    assert Path.cwd() == tmp_path
    assert orjson.loads(ours.recv(100)) == {"kind": "warm", "left": []}
    assert orjson.loads(theirs.recv(100)) == {"kind": "retire", "together": False}


def test_a_line_may_come_in_parts(
    wires: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of all modules are more than a socket takes at once."""
    ours, theirs = wires
    monkeypatch.chdir("/")
    called: list[Order | None] = []
    waiting = threading.Thread(target=lambda: called.append(await_call(theirs, SPARE)))
    waiting.start()
    ours.sendall(b'{"kind":"serve",')
    ours.sendall(b'"generation":1,"workers":1}\n')
    waiting.join(10)

    assert called[0] is not None


def test_a_supervisor_that_hangs_up_ends_the_wait(
    wires: tuple[socket.socket, socket.socket],
) -> None:
    """Nobody will ever need us."""
    ours, theirs = wires
    ours.sendall(b'{"kind":"serve"')
    ours.close()

    assert await_call(theirs, SPARE) is None


def test_an_endless_line_ends_the_wait(wires: tuple[socket.socket, socket.socket]) -> None:
    """It is nothing that a supervisor of ours says."""
    ours, theirs = wires
    pouring = threading.Thread(target=ours.sendall, args=(b"x" * 1024 * 1024,))
    pouring.start()
    called = await_call(theirs, SPARE)
    pouring.join(10)

    assert called is None


def test_a_directory_that_is_gone_is_an_error(
    wires: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """As it is for a process that is to be started in it."""
    ours, theirs = wires
    order = Order.from_text(
        SPARE.to_text().replace('"directory":"/"', f'"directory":"{tmp_path}/gone"')
    )
    say(ours, kind="serve", generation=1, workers=1)

    with pytest.raises(FileNotFoundError):
        await_call(theirs, order)
