"""End event streams when the process drains: between two events, and not all at once.

A `text/event-stream` has no end of its own, and its client comes back by itself, with the id of
the last event it has seen. So it is ended with a proper end, and goes elsewhere. What ends by
itself (a download, a report) is left to.

Not here: websockets (the server closes them), and when a process drains (`lifecycle`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, final

from shipworthy.lifecycle import cancel_outside_commits
from shipworthy.web.line import Call, Message, Send

# Clients that all come back at one moment are a wave: of the drain this much is used to spread
# them, and not more than this for each.
SPREAD_RATIO = 0.8
SPREAD_SECONDS = 0.01
# What an application gets to notice that its stream has ended, before it is cancelled.
NOTICE_SECONDS = 1.0
# How soon is looked again for one whose COMMIT is under way.
LOOK_SECONDS = 0.02

# Two ends of lines in a row: the blank line that ends an event (HTML standard, 9.2.6), in whatever
# way lines are ended. After "\n\r" one cannot know: "\n" may follow and belong to it.
_BOUNDARIES = (b"\n\n", b"\r\r", b"\n\r\n", b"\r\r\n")
_TAIL_BYTES = 4


def spread_seconds(count: int, *, drain_seconds: float) -> Iterator[float]:
    """Yield after how long each of `count` streams or websockets is to be ended, evenly."""
    window = min(SPREAD_RATIO * drain_seconds, count * SPREAD_SECONDS)
    return (window * place / count for place in range(count))


def is_event_stream(head: Message) -> bool:
    """Say whether an answer with this head is an event stream whose events can be seen.

    Of one that is encoded, or that says how long it is, nobody but its maker knows the end.
    """
    is_stream = False
    for name, value in head.get("headers", ()):
        match name.lower():
            case b"content-type":
                is_stream = value[:17].lower() == b"text/event-stream"
            case b"content-length" | b"content-encoding":
                return False
            case _:
                pass
    return is_stream


@final
class EventStream:
    """Decide when one stream may be ended, by what has been sent of it. Pure."""

    __slots__ = ("due", "over", "planned", "sending", "tail")

    def __init__(self) -> None:
        self.planned = False
        self.due = False
        self.over = False
        self.sending = 0
        self.tail = b""

    def begin(self) -> None:
        """Note that a part is being sent; as long as it is, nobody knows how it ends."""
        self.sending += 1

    def sent(self, part: bytes) -> None:
        """Note that a part was sent."""
        self.sending -= 1
        self.tail = (self.tail + part[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    @property
    def may_end(self) -> bool:
        """Say whether it is to be ended now: it is due, and an event has just ended."""
        between = not self.tail or self.tail.endswith(_BOUNDARIES)
        return self.due and between and not self.sending and not self.over


@final
class EventStreams:
    """The guard that sees the parts of event streams go by, and ends the streams in the drain.

    Belongs to one event loop. `calls` are those in flight, which somebody else keeps.
    """

    def __init__(self, calls: set[Call]) -> None:
        self._calls = calls
        self._drains = False

    def part(self, call: Call, message: Message) -> Awaitable[None] | None:
        """See a part of an answer that is not its last."""
        stream = call.stream
        if stream is None:
            stream = self._learn(call)
        return _pass_on(call, stream, message) if stream else None

    def end_all(self, *, drain_seconds: float) -> None:
        """End the streams of now, spread over a part of the drain, and later ones at once.

        To be called again and again while the process drains; with no time left all are ended.
        """
        streams = sorted(self._open(planned=not drain_seconds), key=_started)
        loop = asyncio.get_running_loop()
        after = spread_seconds(len(streams), drain_seconds=0.0 if self._drains else drain_seconds)
        for (call, stream), seconds in zip(streams, after, strict=True):
            stream.planned = True
            if drain_seconds:
                loop.call_later(seconds, _due, call, stream)
            else:
                _due(call, stream)
        self._drains = True

    def renew(self) -> None:
        """End no streams from now on."""
        self._drains = False

    def _open(self, *, planned: bool) -> Iterator[tuple[Call, EventStream]]:
        for call in self._calls:
            if call.status and not call.ended and call.scope["type"] == "http":
                stream = self._learn(call) if call.stream is None else call.stream
                if stream and (planned or not stream.planned):
                    yield call, stream

    def _learn(self, call: Call) -> EventStream | None:
        call.stream = EventStream() if is_event_stream(call.head) else False
        return call.stream or None


async def _pass_on(call: Call, stream: EventStream, message: Message) -> None:
    stream.begin()
    try:
        await call.pass_on(message)
    finally:
        stream.sent(message.get("body", b""))
    if stream.may_end:
        await _end(call, stream)


def _due(call: Call, stream: EventStream) -> None:
    stream.due = True
    if stream.may_end and not call.ended:
        ending = asyncio.get_running_loop().create_task(_end(call, stream))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)


# The loop keeps only weak references to its tasks.
_ending: set[asyncio.Task[None]] = set()


def _end(call: Call, stream: EventStream) -> Coroutine[Any, Any, None]:
    """Hang up on the application, at once, and return what ends the answer."""
    # Not a coroutine function: until it runs, the application might begin another event.
    stream.over = True
    return _say_the_end(call, call.hang_up())


async def _say_the_end(call: Call, send: Send) -> None:
    # A client that has left at this very moment is not missed.
    with contextlib.suppress(OSError):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    asyncio.get_running_loop().call_later(NOTICE_SECONDS, _let_go, call)


def _let_go(call: Call) -> None:
    """Cancel an application that has not noticed; one that has may finish what it has to do."""
    if call.task is None or call.task.done() or call.heard:
        return
    if not cancel_outside_commits(call.task, call.record):
        asyncio.get_running_loop().call_later(LOOK_SECONDS, _let_go, call)


def _started(found: tuple[Call, EventStream]) -> float:
    return found[0].started
