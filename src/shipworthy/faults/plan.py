"""What happens to one connection, decided from its bytes alone.

Pure: the same faults, seed and bytes give the same harm, however the bytes were cut into pieces on
their way. Nothing is ever held back to wait for the rest of a pattern, so no conversation stalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import final

from shipworthy.faults.fault import (
    Bandwidth,
    Delay,
    Direction,
    HalfClose,
    Placed,
    Silence,
    several,
)

_ACROSS = {Direction.UP: Direction.DOWN, Direction.DOWN: Direction.UP}


@final
@dataclass(slots=True)
class Charge:
    """A fault in force, shared by all connections: `left` is how many it may still harm."""

    fault: Placed
    index: int = 0
    left: int | None = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what the fault allows."""
        self.left = self.fault.times

    def take(self) -> bool:
        """Whether one more connection may be harmed, which is counted then."""
        if self.left is not None:
            if self.left == 0:
                return False
            self.left -= 1
        return True


@final
@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes to be carried on, this much later and at most this fast."""

    data: bytes
    delay_seconds: float = 0.0
    bytes_per_second: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Struck:
    """A fault began here: `direction` is where its place was found, after `at_bytes` bytes."""

    fault: Placed
    direction: Direction
    at_bytes: int


@final
@dataclass(frozen=True, slots=True)
class Fed:
    """What to do with some bytes, in order, and those that must wait because of `Silence`."""

    steps: tuple[Pass | Struck, ...] = ()
    held: bytes = b""


@final
class Plan:
    """What happens to one connection; not thread-safe.

    `ordinal` is the connection's number since the faults were applied, None if it is older.
    """

    def __init__(
        self, charges: Sequence[Charge], *, seed: int, connection: int, ordinal: int | None
    ) -> None:
        self._seed = seed
        self._connection = connection
        self._over = False
        chosen = [charge for charge in charges if self._chooses(charge, ordinal)]
        self._streams = {way: _Stream(way, chosen) for way in _ACROSS}

    def start(self) -> tuple[Struck, ...]:
        """Return what begins before any byte."""
        fed = [*self.feed(Direction.UP, b"").steps, *self.feed(Direction.DOWN, b"").steps]
        return tuple(step for step in fed if isinstance(step, Struck))

    def silent(self, way: Direction) -> bool:
        """Whether nothing passes that way any more: bytes and the end of the stream must wait."""
        return self._streams[way].silent

    def feed(self, way: Direction, data: bytes) -> Fed:
        """Say what happens to the next bytes that go this way."""
        stream, across = self._streams[way], self._streams[_ACROSS[way]]
        if self._stops(stream):
            return Fed(held=data if stream.silent else b"")
        steps: list[Pass | Struck] = []
        done = 0
        for place, watch in stream.places(data):
            if self._stops(stream) or not watch.charge.take():
                continue
            if place > done:
                steps.append(stream.pass_on(data[done:place]))
                done = place
            steps.append(Struck(watch.charge.fault, way, stream.passed))
            self._begin(watch.charge, stream, across)
        if done < len(data) and not self._stops(stream):
            steps.append(stream.pass_on(data[done:]))
            done = len(data)
        across.hears(data[:done])
        return Fed(tuple(steps), data[done:] if self.silent(way) else b"")

    def _begin(self, charge: Charge, stream: "_Stream", across: "_Stream") -> None:
        fault = charge.fault
        for harmed in (stream, across) if fault.direction is Direction.BOTH else (stream,):
            harmed.forget(charge)
            match fault:
                case Delay():
                    share = _draw(self._seed, self._connection, charge.index, "jitter")
                    harmed.delay_seconds += fault.seconds + fault.jitter_seconds * share
                case Bandwidth():
                    harmed.rate = min(harmed.rate or fault.bytes_per_second, fault.bytes_per_second)
                case Silence():
                    harmed.silent = True
                case HalfClose():
                    harmed.ended = True
                case _:  # Cut and Reset: the two ends of a connection
                    self._over = True

    def _stops(self, stream: "_Stream") -> bool:
        return self._over or stream.silent or stream.ended

    def _chooses(self, charge: Charge, ordinal: int | None) -> bool:
        fault = charge.fault
        if fault.nth is not None and fault.nth != ordinal:
            return False
        share = _draw(self._seed, self._connection, charge.index, "chance")
        return share < fault.chance


class _Stream:
    """One direction: what is still looked for in it, and what is done to it by now."""

    def __init__(self, way: Direction, charges: Sequence[Charge]) -> None:
        self._watches = [
            _Watch(charge) for charge in charges if charge.fault.direction in (way, Direction.BOTH)
        ]
        self.passed = 0
        self.delay_seconds = 0.0
        self.rate: float | None = None
        self.silent = False
        self.ended = False

    def places(self, data: bytes) -> list[tuple[int, "_Watch"]]:
        """Return where in `data` faults begin, in order; on one place, as they were given."""
        found = [(watch.place(data, self.passed), watch) for watch in self._watches]
        return sorted(
            ((place, watch) for place, watch in found if place is not None),
            key=lambda each: each[0],
        )

    def pass_on(self, data: bytes) -> Pass:
        self.passed += len(data)
        return Pass(data, self.delay_seconds, self.rate)

    def hears(self, data: bytes) -> None:
        """Take notice of what went the other way, for what waits for the answer to it."""
        for watch in self._watches:
            watch.hear(data)

    def forget(self, charge: Charge) -> None:
        self._watches = [watch for watch in self._watches if watch.charge is not charge]


class _Watch:
    """One fault that has not begun yet in one direction, and where it will."""

    def __init__(self, charge: Charge) -> None:
        fault = charge.fault
        self.charge = charge
        self._here = _Finder(several(fault.at)) if fault.at else None
        self._there = _Finder(several(fault.answer_to)) if fault.answer_to else None
        self._asked = False

    def place(self, data: bytes, passed: int) -> int | None:
        """Return how many of these bytes come before the fault, None if all do."""
        if self._there is not None:
            return 0 if self._asked and data else None
        if self._here is not None:
            end = self._here.find(data)
            return end if end is None or not self.charge.fault.before else end - 1
        place = self.charge.fault.after_bytes - passed
        return place if 0 <= place <= len(data) else None

    def hear(self, data: bytes) -> None:
        if self._there is not None and self._there.find(data) is not None:
            self._asked = True


class _Finder:
    """Finds the first of some patterns in a stream that comes in pieces."""

    def __init__(self, patterns: tuple[bytes, ...]) -> None:
        self._patterns = patterns
        self._keep = max(map(len, patterns)) - 1
        self._tail = b""

    def find(self, data: bytes) -> int | None:
        """Return where in `data` the first pattern ends, None if none does."""
        text = self._tail + data
        ends = [
            start + len(pattern) - len(self._tail)
            for pattern in self._patterns
            # A match that ends in the tail was reported when it ended.
            if (start := text.find(pattern, max(0, len(self._tail) - len(pattern) + 1))) >= 0
        ]
        self._tail = text[-self._keep :] if self._keep else b""
        return min(ends, default=None)


def _draw(seed: int, connection: int, index: int, what: str) -> float:
    """Return a number from 0 up to 1 that depends on nothing but these, in any process."""
    digest = blake2b(f"{seed}/{connection}/{index}/{what}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
