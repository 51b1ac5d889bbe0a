"""Deadlines of tasks, many on one timer."""

import asyncio
import time

import pytest

from shipworthy.resilience.expiry import Expiries

pytestmark = pytest.mark.anyio


async def ends(expiries: Expiries, seconds: float) -> float:
    """Wait until cut, and return after how long that was."""
    began = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    expiry = expiries.enter(task, began + seconds, began)
    with pytest.raises(asyncio.CancelledError) as cut:
        await asyncio.sleep(10)
    assert expiry.too_late(cut.value)
    return time.monotonic() - began


@pytest.mark.slow
async def test_each_is_cut_at_its_own_deadline_whatever_their_order() -> None:
    """Later ones share the timer of the first, an earlier one has its own and is first."""
    expiries = Expiries(asyncio.get_running_loop(), time.monotonic)
    wanted = [0.10, 0.10, 0.15, 0.05, 0.20]

    took = await asyncio.gather(*(ends(expiries, seconds) for seconds in wanted))

    assert took[3] == min(took)
    assert took[3] < took[0] - 0.01
    assert all(
        seconds - 0.002 <= real < seconds + 1 for seconds, real in zip(wanted, took, strict=True)
    )


async def test_who_has_left_is_not_cut() -> None:
    """Leaving takes the deadline away, on the shared timer and on one of one's own."""
    now = time.monotonic()
    expiries = Expiries(asyncio.get_running_loop(), time.monotonic)
    task = asyncio.current_task()
    assert task is not None
    shared = expiries.enter(task, now + 0.02, now)
    own = expiries.enter(task, now + 0.01, now)
    left = [own.leave(), shared.leave()]

    await asyncio.sleep(0.05)

    assert left == [False, False]
    assert task.cancelling() == 0


async def test_a_cancel_by_another_is_not_ours() -> None:
    """Cut and cancelled at once, it is the other's: a cancel must never be swallowed."""
    expiries = Expiries(asyncio.get_running_loop(), time.monotonic)
    task = asyncio.current_task()
    assert task is not None
    now = time.monotonic()
    expiry = expiries.enter(task, now + 5, now)
    expiry.fire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await asyncio.sleep(0)

    ours = expiry.too_late(cancelled.value)

    assert not ours
    assert task.uncancel() == 0
