"""A clock that is moved by hand, and what was stated while a test ran."""

from collections.abc import Iterator

import pytest

from shipworthy.clock import ManualClock
from shipworthy.events import Event, listen
from shipworthy.resilience import (
    BreakerChanged,
    BreakerWouldOpen,
    BulkheadFilled,
    FallbackUsed,
    RetryBudgetSpent,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def facts() -> Iterator[list[Event]]:
    """Every event of the room, as it is stated."""
    heard: list[Event] = []
    stop = listen(
        heard.append,
        BreakerChanged, BreakerWouldOpen, BulkheadFilled, FallbackUsed, RetryBudgetSpent,
    )  # fmt: skip
    yield heard
    stop()
