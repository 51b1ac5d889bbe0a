"""The spare process: kept, handed over, ended, and told of when it is lost."""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shipworthy.events import listen
from shipworthy.serve import preload
from shipworthy.serve.channel import Channel
from shipworthy.serve.spare import Begun, SpareLost, Spares
from shipworthy.serve.standby import SpareStage, StandbyRule

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(60)]

RULE = StandbyRule(rest_seconds=0.0)
# Speaks as a spare does, and is up at once.
WAITS = """
import socket, sys
wire = socket.socket(fileno=int(sys.argv[1])).makefile("rwb", buffering=0)
wire.readline()
wire.write(b'{"kind":"warm"}\\n')
wire.readline()
"""


async def start() -> Begun:
    ours, theirs = socket.socketpair()
    watching, watched = socket.socketpair()
    with theirs, watched:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WAITS, str(theirs.fileno()), pass_fds=[theirs.fileno()]
        )
    return Begun(process, await Channel.over(ours), watching)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def look(spares: Spares, *, at_rest: bool = True, room: bool = True) -> None:
    spares.tick(time.monotonic(), at_rest=at_rest, room=room, libraries=["sqlalchemy"])


async def warm(spares: Spares) -> None:
    look(spares)
    await until(lambda: spares.stage is SpareStage.WARM)


async def test_a_spare_is_handed_over_alive_and_the_next_one_is_another() -> None:
    """Its pipe goes with it: who takes it is the only one who reads there."""
    spares = Spares(RULE, start)
    assert await spares.take() is None
    await warm(spares)
    (pid,) = spares.pids
    begun = await spares.take()
    assert begun is not None
    begun.channel.send("serve")
    ended = await begun.process.wait()
    heard = [message async for message in begun.channel.messages()]
    await warm(spares)
    (next_pid,) = spares.pids
    await spares.close()
    begun.let_go()  # one that has ended already is let go of as well

    assert (begun.process.pid, ended, heard) == (pid, 0, [])
    assert next_pid != pid
    assert spares.pids == set()


async def test_one_that_is_killed_is_told_of_and_not_handed_over() -> None:
    """The kernel short of memory takes it first; a worker is started from nothing then."""
    told: list[SpareLost] = []
    stop = listen(told.append, SpareLost)
    spares = Spares(RULE, start)
    await warm(spares)
    assert spares._begun is not None
    spares._begun.process.kill()
    await until(lambda: bool(told))
    stop()
    look(spares)
    taken = await spares.take()
    await spares.close()

    assert told[0].because == "it ended by itself"
    assert taken is None
    assert spares.stage is SpareStage.NONE


async def test_one_that_cannot_be_started_is_told_of() -> None:
    """No descriptor or no process left: the workers are not hindered."""
    told: list[SpareLost] = []

    async def fail() -> Begun:
        raise OSError("too many open files")

    stop = listen(told.append, SpareLost)
    spares = Spares(RULE, fail)
    look(spares)
    await until(lambda: bool(told))
    stop()

    assert told[0].because == "OSError: too many open files"
    assert await spares.take() is None


async def test_one_whose_libraries_were_replaced_meanwhile_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a mixture of old modules and new ones."""
    monkeypatch.setattr(preload, "_installed_folders", lambda: [str(tmp_path)])
    spares = Spares(RULE, start)
    await warm(spares)
    (tmp_path / "shop-1.1.dist-info").mkdir()
    taken = await spares.take()
    await spares.close()

    assert taken is None
    assert spares.pids == set()


@pytest.mark.parametrize("why", ["new code", "no room", "a worker of it failed"])
async def test_one_that_is_of_no_use_any_more_is_ended(why: str) -> None:
    """Also while it starts."""
    spares = Spares(RULE, start)
    await warm(spares)
    begun = spares._begun
    assert begun is not None
    if why == "new code":
        spares.outdated()
    elif why == "no room":
        look(spares, room=False)
    else:
        spares.failed()
    code = await begun.process.wait()
    look(spares)
    starting = spares.stage
    spares.outdated()
    await spares.close()

    assert code == -9
    assert starting is (SpareStage.WARMING if why == "new code" else SpareStage.NONE)
    assert spares.stage is SpareStage.NONE
