"""What the tests of the lifecycle share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shipworthy.events import Event, listen


@pytest.fixture
def heard() -> Iterator[Callable[..., list[Any]]]:
    """`heard(Kind, ...)` listens from now on and returns the growing list of the facts."""
    stops = []

    def hear(*kinds: type[Event]) -> list[Any]:
        facts: list[Any] = []
        stops.append(listen(facts.append, *kinds))
        return facts

    yield hear
    for stop in stops:
        stop()
