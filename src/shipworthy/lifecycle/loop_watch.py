"""See an event loop that stands still, from a thread beside it, with the line it stands at.

The loop says every 50 ms that it moves. The thread looks when that word is overdue, and finds
where the loop's thread is. A C call that holds the interpreter holds the thread too: then it comes
late and says so. It comes as late when the whole process was stopped, and then blames nobody; what
tells the two apart is that a thread which waits for the interpreter asks for it every 5 ms.
"""

import asyncio
import logging
import math
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, Final, final

from shipworthy.events import Event, Measure, Metric, Severity, emit, event
from shipworthy.lifecycle.hooks import line_of

_log = logging.getLogger("shipworthy.lifecycle")

# An idle loop with its watch takes 0.24 % of a core on uvloop and 0.29 % on asyncio, measured over
# 10 s on a machine that was busy; without, 0.002 %.
WORD_SECONDS: Final = 0.05
# How often a loop that stands is looked at, and how often it is told again.
_LOOK_SECONDS: Final = 0.05
TELL_SECONDS: Final = 1.0
# A thread that wakes this late was itself kept from running.
_STARVED_SECONDS: Final = 0.1
# One that waits for the interpreter sleeps and wakes once in each switch interval of 5 ms, on a
# busy machine less often; one that was stopped does it twice or thrice, however long it was.
_ASKED_AT_LEAST: Final = 5
_ASKED_RATIO: Final = 0.1
# At most one event a second: an app with one slow line in each request would fill the log.
_EVENTS_SECONDS: Final = 1.0

BLOCKED = Metric(
    "shipworthy_loop_blocked_seconds_total",
    "counter",
    "Seconds in which the event loop did nothing else, of blocks longer than resources.blocked.",
)
LAG = Metric(
    "shipworthy_loop_lag_seconds",
    "histogram",
    "How much later than asked for the event loop came to a timer, every 50 ms.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


@event(severity=Severity.WARNING)
class LoopBlocked(Event):
    """The event loop stands still; nobody else is served meanwhile.

    `where` is the line it stands at, in the service's own code where it can be found, and
    `untold` how many blocks before it were not told, since there is one event a second at most. One
    that begins too soon after another is told when it has lasted for a second more.
    """

    blocked_seconds: Annotated[float, Measure]
    where: str
    request_id: str
    route: str
    because: str
    untold: int


@event(severity=Severity.INFO)
class LoopMoves(Event):
    """The event loop that stood still moves again."""

    blocked_seconds: Annotated[float, Measure]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSeen:
    """What the thread saw when it looked: all times are monotonic seconds.

    `word_at` is when the loop last said that it moves, `due_at` when the thread wanted to look,
    `asked` how often it slept until it could (None where nobody counts), and `block` the last two
    words between which the loop stood for too long.
    """

    word_at: float
    due_at: float
    now: float
    asked: int | None = None
    block: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class BlockBegan:
    """The loop stands; `held` when the thread that looks could not have the interpreter either."""

    seconds: float
    held: bool


@dataclass(frozen=True, slots=True)
class BlockLasts:
    """The loop still stands, and it is time to tell it again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BlockEnded:
    """The loop moves again, after so long."""

    seconds: float


@final
class BlockJudge:
    """Decide whether a loop stands, from when it last spoke; pure, for one loop.

    A block has one `BlockBegan`, a `BlockLasts` each second, and one `BlockEnded`.
    """

    __slots__ = ("_blocked_seconds", "_not_before", "_since", "_switch_seconds", "_told_at")

    def __init__(self, blocked_seconds: float, *, switch_seconds: float = 0.005) -> None:
        self._blocked_seconds = blocked_seconds
        self._switch_seconds = switch_seconds
        self._since: float | None = None
        self._told_at = 0.0
        self._not_before = 0.0

    def look(self, seen: LoopSeen) -> "BlockBegan | BlockLasts | BlockEnded | None":
        """Take what was seen and return what is new."""
        if self._since is not None:
            if seen.word_at != self._since:
                since, self._since = self._since, None
                return BlockEnded(max(seen.block) - since)
            if seen.now - self._told_at >= TELL_SECONDS:
                self._told_at = seen.now
                return BlockLasts(seen.now - seen.word_at)
            return None
        seconds = seen.now - max(seen.word_at, self._not_before)
        if seconds < self._blocked_seconds:
            return None
        late = seen.now - seen.due_at
        held = late > _STARVED_SECONDS
        if held and seen.asked is not None:
            expected = late / self._switch_seconds
            if seen.asked < max(_ASKED_AT_LEAST, expected * _ASKED_RATIO):
                self.forgive(seen.now)  # the process was stopped, or the machine gave it no turn
                return None
        self._since = seen.word_at
        self._told_at = seen.now
        return BlockBegan(seconds, held=held)

    def forgive(self, now: float) -> None:
        """Hold nothing against the loop that was before `now`, also not what was named just now."""
        self._since = None
        self._not_before = now

    def next_look(self, word_at: float, now: float) -> float:
        """Return when to look again: when the next word is overdue, or soon while one is."""
        if self._since is not None:
            return now + _LOOK_SECONDS
        return max(max(word_at, self._not_before) + self._blocked_seconds, now + 0.001)


@final
class BlockTelling:
    """Decide which blocks become an event: one a second at most, the others are counted; pure.

    One that comes too soon after an event is told when it lasts. `began` and `lasts` return how
    many were not told before this one, or None when this one is not told now.
    """

    __slots__ = ("_event_at", "_told", "_untold")

    def __init__(self) -> None:
        self._told = False
        self._event_at = -math.inf
        self._untold = 0

    def began(self, now: float) -> int | None:
        """Take that a block began."""
        self._told = now - self._event_at >= _EVENTS_SECONDS
        if self._told:
            return self._tell(now)
        self._untold += 1
        return None

    def lasts(self, now: float) -> int | None:
        """Take that it lasts for a second more; by then the event before is a second old, too."""
        if self._told:
            return None
        self._told = True
        self._untold -= 1  # it was counted when it began
        return self._tell(now)

    def ended(self) -> bool:
        """Say whether its end is to be told, since its beginning was."""
        return self._told

    def _tell(self, now: float) -> int:
        untold, self._untold = self._untold, 0
        self._event_at = now
        return untold


Request = tuple[str, str]
NO_REQUEST: Final[Request] = ("", "")


@final
class StandstillWatch:
    """Watch the running event loop from a daemon thread, from `start` to `stop`.

    `request_of` finds the id and the route of the request a task works for, and is called in the
    thread; `say` is given each finding as plain data, and must not block; `observe` is given each
    lateness of the loop, in its own thread. `start` and `stop` belong to the loop.
    """

    def __init__(
        self,
        *,
        blocked_seconds: float,
        request_of: Callable[["asyncio.Task[Any]"], Request] = lambda _: NO_REQUEST,
        say: Callable[[dict[str, Any]], object] = lambda _: None,
        observe: Callable[[float], object] = lambda _: None,
    ) -> None:
        self.blocked_seconds_total = 0.0
        self._blocked_seconds = blocked_seconds
        self._request_of = request_of
        self._say = say
        self._observe = observe
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._thread_of_loop = 0
        self._ended = threading.Event()
        self._timer: asyncio.Handle | None = None
        self._word_at = 0.0
        self._due_at = 0.0
        self._block = (0.0, 0.0)
        self._lag_seconds: float | None = None
        # How many frames of the loop's thread are below what runs in the loop.
        self._floor = 0

    def start(self) -> None:
        """Begin to watch the running loop; without effect when `blocked_seconds` is 0."""
        self._loop = asyncio.get_running_loop()
        self._thread_of_loop = threading.get_ident()
        self._word_at = time.monotonic()
        self._due_at = self._word_at + WORD_SECONDS
        self._timer = self._loop.call_soon(self._settle)
        if self._blocked_seconds:
            self._thread = threading.Thread(
                target=self._watch, name="shipworthy loop watch", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the watch; its thread ends at once by itself."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def take_lag(self) -> float | None:
        """Return the most the loop was late since this was asked last; None when it has not run."""
        lag, self._lag_seconds = self._lag_seconds, None
        return lag

    # In the loop.

    def _settle(self) -> None:
        """Note on which frames everything in this loop stands, and begin to say that it moves."""
        frames = _frames_of(sys._getframe())[:-1]  # noqa: SLF001
        while frames and _module(frames[-1]) in _LOOP_CODE:
            frames.pop()
        self._floor = len(frames)
        self._word()

    def _word(self) -> None:
        now = time.monotonic()
        lag = max(0.0, now - self._due_at)
        self._observe(lag)
        if self._lag_seconds is None or lag > self._lag_seconds:
            self._lag_seconds = lag
        stood = now - self._word_at
        if 0 < self._blocked_seconds <= stood:
            self.blocked_seconds_total += stood
            self._block = (self._word_at, now)
        self._word_at = now
        self._due_at = now + WORD_SECONDS
        self._timer = self._loop.call_later(WORD_SECONDS, self._word)

    # In the thread.

    def _watch(self) -> None:
        judge = BlockJudge(self._blocked_seconds, switch_seconds=sys.getswitchinterval())
        telling = BlockTelling()
        where, held = "", False
        while True:
            now = time.monotonic()
            due_at = judge.next_look(self._word_at, now)
            slept = _sleeps()
            if self._ended.wait(due_at - now):
                return
            seen = LoopSeen(
                word_at=self._word_at,
                due_at=due_at,
                now=time.monotonic(),
                asked=None if slept is None else (_sleeps() or 0) - slept,
                block=self._block,
            )
            match judge.look(seen):
                case BlockBegan(seconds=seconds, held=held):
                    frames = self._at_work()
                    if not frames:
                        # The loop waits for work: another thread, or the machine, gives it no turn.
                        judge.forgive(seen.now)
                        continue
                    where = line_of(frames)
                    self._tell(seconds, where, held=held, untold=telling.began(seen.now))
                case BlockLasts(seconds=seconds):
                    where = line_of(self._at_work())
                    self._tell(seconds, where, held=held, untold=telling.lasts(seen.now))
                case BlockEnded(seconds=seconds):
                    self._say({"blocked_seconds": 0})
                    if telling.ended():
                        emit(LoopMoves, blocked_seconds=round(seconds, 3), where=where)

    def _tell(self, seconds: float, where: str, *, held: bool, untold: int | None) -> None:
        """Say it to whoever is given each finding, and as an event where `untold` is known."""
        request_id, route = self._request()
        facts: dict[str, Any] = {
            "blocked_seconds": round(seconds, 3),
            "where": where,
            "request_id": request_id,
            "route": route,
        }
        self._say(facts)
        if untold is not None:
            emit(LoopBlocked, **facts, because=_BECAUSE[held], untold=untold)

    def _at_work(self) -> list[FrameType]:
        """Return the frames of what runs in the loop, the outermost first; none while it waits."""
        frames = _frames_of(sys._current_frames().get(self._thread_of_loop))  # noqa: SLF001
        return [frame for frame in frames[self._floor :] if _module(frame) not in _WAITING_CODE]

    def _request(self) -> Request:
        try:
            task = asyncio.current_task(self._loop)
            return NO_REQUEST if task is None else self._request_of(task)
        except Exception:  # noqa: BLE001 - that thread goes on meanwhile, and the line must be told
            _log.warning("the request of a blocked loop could not be found", exc_info=True)
            return NO_REQUEST


_BECAUSE = {
    False: "what runs there gives the loop no turn; await it, or give it to a thread",
    True: "the interpreter stood still meanwhile: a C call held it, which is over at this line, or "
    "the machine was busy",
}
# A loop that waits stands in these; what it runs stands above `asyncio.events`, also a C function.
_WAITING_CODE: Final = frozenset({"asyncio.base_events", "asyncio.runners", "selectors"})
_LOOP_CODE: Final = _WAITING_CODE | {"asyncio.events"}


def _sleeps() -> int | None:
    """Return how often this thread has slept so far; None where the system does not count."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return None
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _frames_of(frame: FrameType | None) -> list[FrameType]:
    """Return a thread's frames, the outermost first."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
