"""What a proxy can do to a connection, as data.

Fault
├── Refuse          nobody listens: a connect is refused
└── Placed          begins at a place in the bytes of a connection
    ├── Delay       every byte arrives later
    ├── Bandwidth   so many bytes in a second and no more
    ├── Silence     nothing passes any more, and the connection stays open
    ├── HalfClose   one direction ends, the other goes on
    ├── Cut         the connection is closed in order (FIN)
    └── Reset       the connection is torn down (RST)
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import final

from typing_extensions import override

from shipworthy.errors import Misuse
from shipworthy.units import format_duration, format_size

Patterns = bytes | tuple[bytes, ...]


class FaultInvalid(Misuse, ValueError):
    """A fault that could never happen as it is written; the message says what would."""


class Direction(StrEnum):
    """Which way bytes go, as the client sees it."""

    UP = "up"  # from the client to the server
    DOWN = "down"  # from the server to the client
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to connections; str() says it in a few words."""

    @override
    def __str__(self) -> str:
        return type(self).__name__.lower()


@final
@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """Nobody listens any more: a connect is refused at once; what is open stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Fault):
    """A fault with a place: without one it begins at once, on open connections as on new ones.

    `after_bytes` counts in each direction from when the fault was applied, or from the start of a
    later connection. `at` is a pattern (or several: the first that is seen) in the bytes of the
    harmed direction: with `before` its last byte is harmed already, so that no receiver has it
    whole; without, the fault begins behind it. `answer_to` is a pattern in the other direction, and
    the fault begins with the first byte of the answer: the server has the request, and nobody
    hears of it.

    `nth` harms only that connection, counted from 1 from when the fault was applied. `chance` harms
    that share of the connections, drawn from the proxy's seed and the connection's number.
    `times` is how many connections are harmed at all. With `Direction.BOTH`, a place that is found
    in one direction harms both.
    """

    direction: Direction = Direction.BOTH
    after_bytes: int = 0
    at: Patterns = ()
    answer_to: Patterns = ()
    before: bool = True
    nth: int | None = None
    chance: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could never happen, and numbers that are none."""
        places = [
            name
            for name, given in (
                ("after_bytes", self.after_bytes != 0),
                ("at", self.at != ()),
                ("answer_to", self.answer_to != ()),
            )
            if given
        ]
        if len(places) > 1:
            raise self._wrong(f"has {' and '.join(places)}; a fault has one place")
        if not all(_patterns_hold(given) for given in (self.at, self.answer_to)):
            raise self._wrong("has a pattern that is not bytes, or is empty")
        if not self.before and self.at == ():
            raise self._wrong("says before=False without a pattern in `at` to be behind of")
        if self.after_bytes < 0:
            raise self._wrong(f"begins after {self.after_bytes} bytes; 0 is the first place")
        if self.nth is not None and self.nth < 1:
            raise self._wrong(f"names connection {self.nth}; they count from 1")
        if not 0 < self.chance <= 1:
            raise self._wrong(f"has the chance {self.chance}; it is above 0 and at most 1")
        if self.times is not None and self.times < 1:
            raise self._wrong(f"harms {self.times} connections; at least 1, or leave `times` out")

    @override
    def __str__(self) -> str:
        """Say what is done, and where."""
        said = [self._what()]
        if self.direction is not Direction.BOTH:
            said.append(self.direction.value)
        if self.after_bytes:
            said.append(f"after {format_size(self.after_bytes)}")
        for words, patterns in (
            ("at" if self.before else "behind", self.at),
            ("answer to", self.answer_to),
        ):
            if patterns:
                first, *more = several(patterns)
                said.append(f"{words} {first!r}" + (f" (or {len(more)} more)" if more else ""))
        if self.nth is not None:
            said.append(f"on connection {self.nth}")
        if self.chance < 1:
            said.append(f"for {self.chance * 100:g} % of the connections")
        if self.times is not None:
            said.append(f"on at most {self.times}")
        return ", ".join(said)

    def _what(self) -> str:
        return type(self).__name__.lower()

    def _wrong(self, because: str) -> FaultInvalid:
        return FaultInvalid(f"{type(self).__name__} {because}")


@final
@dataclass(frozen=True, slots=True)
class Delay(Placed):
    """Every byte arrives `seconds` later, and up to `jitter_seconds` more.

    The jitter is drawn once for each connection. Bytes stay in order and may be many on their way;
    beyond the proxy's bound it reads no further.
    """

    seconds: float
    jitter_seconds: float = field(default=0.0, kw_only=True)

    @override
    def __post_init__(self) -> None:
        """Refuse times that no clock can wait for."""
        Placed.__post_init__(self)
        for value in (self.seconds, self.jitter_seconds):
            if not (math.isfinite(value) and value >= 0):
                raise self._wrong(f"waits {value} seconds; write a number from 0 on")
        if self.seconds + self.jitter_seconds == 0:
            raise self._wrong("waits 0 seconds, so it does nothing")

    @override
    def _what(self) -> str:
        jitter = f" + up to {format_duration(self.jitter_seconds)}" if self.jitter_seconds else ""
        return f"delay {format_duration(self.seconds)}{jitter}"


@final
@dataclass(frozen=True, slots=True)
class Bandwidth(Placed):
    """At most `bytes_per_second` pass in each harmed direction, evenly."""

    bytes_per_second: float

    @override
    def __post_init__(self) -> None:
        """Refuse a rate at which nothing would ever arrive."""
        Placed.__post_init__(self)
        if not (math.isfinite(self.bytes_per_second) and self.bytes_per_second > 0):
            raise self._wrong(
                f"passes {self.bytes_per_second} bytes per second; for none at all use Silence"
            )

    @override
    def _what(self) -> str:
        return f"bandwidth {self.bytes_per_second:g} bytes per second"


@final
@dataclass(frozen=True, slots=True)
class Silence(Placed):
    """Nothing passes any more and nobody is told: neither bytes nor the end of the connection.

    The peer looks alive, because the proxy's kernel acknowledges what its buffers still hold. Once
    the fault is cleared everything arrives, as after a partition that heals.
    """


@final
@dataclass(frozen=True, slots=True)
class HalfClose(Placed):
    """One direction ends (FIN) and what follows in it is dropped; the other direction goes on."""

    direction: Direction = field(default=Direction.DOWN, kw_only=True)

    @override
    def __post_init__(self) -> None:
        """Refuse both directions: that would be `Cut`."""
        Placed.__post_init__(self)
        if self.direction is Direction.BOTH:
            raise self._wrong("takes one direction, up or down; to end both use Cut")

    @override
    def _what(self) -> str:
        return "half-close"


@final
@dataclass(frozen=True, slots=True)
class Cut(Placed):
    """The connection is closed in order towards both sides, after what came before the place."""


@final
@dataclass(frozen=True, slots=True)
class Reset(Placed):
    """The connection is torn down (RST) towards both sides, after what came before the place."""


# All there are: `Fault` and `Placed` alone do nothing.
KINDS = (Refuse, Delay, Bandwidth, Silence, HalfClose, Cut, Reset)


def several(patterns: Patterns) -> tuple[bytes, ...]:
    """Return one pattern or several as several."""
    return (patterns,) if isinstance(patterns, bytes) else patterns


def _patterns_hold(patterns: object) -> bool:
    # A text, or an empty pattern, would silently never be found.
    each = patterns if isinstance(patterns, tuple) else (patterns,)
    return all(isinstance(pattern, bytes) and pattern for pattern in each)
