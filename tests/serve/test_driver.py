"""The server's half of the lifespan protocol, against apps of every temper."""

import asyncio
from typing import Any

import pytest

from shipworthy.errors import StartFailed
from shipworthy.serve.driver import LifespanDriver

pytestmark = pytest.mark.anyio


async def test_start_and_stop_run_the_two_halves_and_hand_the_state_over() -> None:
    """What the app puts into its state is what requests will see."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        scope["state"]["db"] = "open"
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    driver = LifespanDriver(app)
    await driver.start()
    why = await driver.stop()

    assert (why, driver.state) == ("", {"db": "open"})
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    assert await driver.stop() == ""


@pytest.mark.parametrize(
    ("message", "reason"),
    [({"message": "no database"}, "no database"), ({}, "the app's start-up failed")],
)
async def test_a_failed_start_gives_its_reason(message: dict[str, str], reason: str) -> None:
    """Or says that there was none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", **message})

    with pytest.raises(StartFailed, match=reason):
        await LifespanDriver(app).start()


@pytest.mark.parametrize("raises", [True, False])
async def test_an_app_that_ends_before_it_answers_has_not_started(raises: bool) -> None:
    """Raised or returned: either way nobody said complete."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if raises:
            raise OSError("no disk")

    with pytest.raises(StartFailed, match="OSError: no disk" if raises else "ended early"):
        await LifespanDriver(app).start()


async def test_a_failed_shutdown_gives_its_reason() -> None:
    """It is reported, not raised: the process leaves anyway."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await receive()
        raise OSError("no disk")

    driver = LifespanDriver(app)
    await driver.start()

    assert await driver.stop() == "OSError: no disk"


async def test_a_start_that_hangs_is_abandoned_in_its_time() -> None:
    """Whether it obeys its cancellation or swallows it."""
    release = asyncio.Event()

    async def obeys(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def swallows(scope: Any, receive: Any, send: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    for app, ends in ((obeys, True), (swallows, False)):
        driver = LifespanDriver(app)
        starting = asyncio.create_task(driver.start())
        for _ in range(5):  # until the app waits
            await asyncio.sleep(0)
        starting.cancel()

        assert await driver.abandon(0.05) is ends
        if not ends:
            release.set()
        assert await driver.abandon(5.0)
    assert await LifespanDriver(obeys).abandon(0.0)
