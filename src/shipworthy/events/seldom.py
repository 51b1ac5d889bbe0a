"""Whether something may be said again, where what happens ten times a second is news once. Pure."""

from collections.abc import Hashable
from math import inf
from typing import final


@final
class Seldom:
    """Lets each of a few things be said once in so many seconds, and counts what it held back.

    What is said is told apart by a key, of which there are as many as names in the code. Not safe
    between threads that say the same: then it may be said twice.
    """

    __slots__ = ("_every_seconds", "_held_back", "_said_at")

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._said_at: dict[Hashable, float] = {}
        self._held_back: dict[Hashable, int] = {}

    def held_back(self, key: Hashable, now: float) -> int | None:
        """Return how often it was not said since it last was; None where it is not to be said now.

        `now` is in seconds of any clock that only goes forwards. Who gets a number says it.
        """
        if now - self._said_at.get(key, -inf) < self._every_seconds:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        self._said_at[key] = now
        return self._held_back.pop(key, 0)
