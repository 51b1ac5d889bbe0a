"""What is answered instead."""

import pytest

from shipworthy.resilience import Answered, Fallback
from shipworthy.resilience.fallback import key_of


def test_a_remembered_answer_stands_in_with_its_age() -> None:
    """As long as it is young enough; then there is none."""
    fallback = Fallback(stale_seconds=60.0)
    fallback.remember("berths", [12], 100.0)

    young = fallback.stand_in("berths", "it was down", 160.0)
    old = fallback.stand_in("berths", "it was down", 160.1)

    assert young == Answered(value=[12], source="stale", age_seconds=60.0, because="it was down")
    assert young.instead
    assert old is None


def test_the_default_comes_last() -> None:
    """None is a default like any other."""
    fallback = Fallback(stale_seconds=1.0, default=None)

    assert fallback.stand_in("berths", "it was down", 0.0) == Answered(
        value=None, source="default", because="it was down"
    )


def test_what_is_remembered_is_bounded() -> None:
    """The least recently used goes first, and use is also a look."""
    fallback = Fallback(stale_seconds=60.0, stale_entries=2)
    fallback.remember("a", 1, 0.0)
    fallback.remember("b", 2, 0.0)
    fallback.stand_in("a", "", 0.0)
    fallback.remember("c", 3, 0.0)

    found = [fallback.stand_in(key, "", 0.0) is not None for key in "abc"]

    assert found == [True, False, True]


def test_without_a_time_nothing_is_remembered() -> None:
    """A default alone keeps no answers."""
    fallback = Fallback(default=0)
    fallback.remember("a", 1, 0.0)

    assert fallback.stand_in("a", "", 0.0) == Answered(value=0, source="default")


def test_a_call_is_known_by_its_function_and_arguments() -> None:
    """Keywords in any order; what cannot be hashed is not remembered."""
    assert key_of(len, (1,), {"a": 1, "b": 2}) == key_of(len, (1,), {"b": 2, "a": 1})
    assert key_of(len, (1,), {}) != key_of(max, (1,), {})
    assert key_of(len, ([],), {}) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "one of replica"),
        ({"stale_seconds": -1.0}, "0 s old or more"),
        ({"stale_seconds": 1.0, "stale_entries": 0}, "at least 1"),
    ],
)
def test_a_fallback_that_could_never_answer_is_refused(options: dict, problem: str) -> None:
    """With nothing to answer it would be a promise without content."""
    with pytest.raises(ValueError, match=problem):
        Fallback(**options)
