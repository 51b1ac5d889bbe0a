"""Whoever waits for a store is answered, or stops waiting in time."""

import asyncio

import pytest

from lateness import Lateness
from shipworthy.store import Algorithm, Ask, BucketsUnavailable, Quota
from shipworthy.store.bucket_rows import Wish, settle
from shipworthy.store.bucket_waiting import WAITING_MOST, BucketRequest, crowded

WISH = Wish((Ask("k", Quota(algorithm=Algorithm.GCRA, count=1, period_ns=10**9, burst=1)),))
ANSWER = settle([WISH], {}, 10**18).answers[0]

pytestmark = pytest.mark.anyio


async def test_an_answer_wakes_whoever_waits():
    waiting = BucketRequest(WISH, 5.0)
    waiting.answer = ANSWER
    waiting.loop.call_soon(waiting.deliver)
    assert await waiting.answered() == ANSWER
    assert waiting.gone


async def test_a_refusal_of_the_store_is_raised():
    waiting = BucketRequest(WISH, 5.0)
    waiting.answer = BucketsUnavailable("away")
    waiting.loop.call_soon(waiting.deliver)
    with pytest.raises(BucketsUnavailable, match="away"):
        await waiting.answered()


async def test_without_an_answer_the_bound_ends_it():
    """And says for how long it was waited; what comes after it is nobody's."""
    with Lateness() as late:
        waiting = BucketRequest(WISH, 0.03)
        began = asyncio.get_running_loop().time()
        with pytest.raises(BucketsUnavailable, match=r"did not answer within 0\.03 s"):
            await waiting.answered()
        took = asyncio.get_running_loop().time() - began
    assert 0.03 <= took <= 0.03 + late.allowed_seconds
    assert waiting.gone
    waiting.answer = ANSWER
    waiting.deliver()


async def test_a_loop_that_is_late_takes_what_has_come_meanwhile():
    """The answer is there when the timer rings, so it is the answer."""
    waiting = BucketRequest(WISH, 0.0)
    waiting.answer = ANSWER
    assert await waiting.answered() == ANSWER


async def test_nothing_is_delivered_before_there_is_an_answer():
    waiting = BucketRequest(WISH, 5.0)
    waiting.deliver()
    assert not waiting.gone


def test_a_crowd_is_told_its_size():
    assert str(WAITING_MOST) in str(crowded())
