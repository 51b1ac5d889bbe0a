"""The drain gate: who is being served, and what is still let in while the process leaves."""

import asyncio
from collections.abc import Callable, Collection
from heapq import nsmallest
from typing import Any, final

from shipworthy.errors import Draining
from shipworthy.lifecycle import cancel_outside_commits, forget, where
from shipworthy.web.line import Call, Message

# A description must fit through the pipe to the supervisor, whatever clients send.
DESCRIBED = 1000
PATH_CHARACTERS = 256

_CLOSE = (b"connection", b"close")


@final
class InFlight:
    """The calls that are being served, each from its first guard until its background tasks end.

    Belongs to one event loop. Probes are not in it: they must not keep a process from leaving.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.calls: set[Call] = set()
        self._cancelled: set[Call] = set()
        self._now = now

    def __len__(self) -> int:
        return len(self.calls)

    def tasks(self) -> set["asyncio.Task[Any] | None"]:
        """Return the tasks the calls are served in."""
        return {call.task for call in self.calls}

    def describe(
        self, count: int = DESCRIBED, *, of: Collection[Call] | None = None
    ) -> list[dict[str, Any]]:
        """Return the calls as plain data, the oldest first, with the line each stands in.

        Those in flight, or those given as `of`. No more than `count`, the oldest, and of a path no
        more than 256 characters.
        """
        now = self._now()
        return [
            {
                "method": call.record.method,
                "route": call.route(),
                "path": call.record.path[:PATH_CHARACTERS],
                "age_seconds": round(now - call.started, 3),
                "request_id": call.record.request_id,
                "status": call.status,
                "task": where(call.task) if call.task is not None else "",
            }
            for call in nsmallest(count, self.calls if of is None else of, key=_age)
        ]

    def cancel(self) -> list[Call]:
        """Cancel each call once, but none whose COMMIT is under way; return those it broke off.

        To be called again and again while the process cancels: a COMMIT ends, a call comes late.
        It does not wait for calls to end, and a handler may swallow its cancellation. An event
        stream that has its proper end is cancelled too, and has lost nothing by it.
        """
        broken_off = []
        for call in self.calls - self._cancelled:
            if call.task is None or not cancel_outside_commits(call.task, call.record):
                continue
            self._cancelled.add(call)
            if not (call.stream and call.stream.over):
                broken_off.append(call)
        return broken_off

    def give_up(self, task: "asyncio.Task[Any]") -> bool:
        """Cancel `task`, whose client is gone; False while a COMMIT of its call is under way."""
        records = [call.record for call in self.calls if call.task is task]
        if not cancel_outside_commits(task, *records):
            return False
        # What its threads still do is done as for a client that has left by itself.
        task.add_done_callback(lambda _: forget(*records))
        return True

    def spared(self) -> list[str]:
        """Return the ids of the requests that were not cancelled, the oldest first, 1,000 at most.

        Once `cancel` was called, those are the ones inside a COMMIT, or just answered by one.
        """
        spared = nsmallest(DESCRIBED, self.calls - self._cancelled, key=_age)
        return [call.record.request_id for call in spared]

    def forget(self) -> None:
        """Keep nothing of the calls that were cancelled.

        Not when each is over: a thread of it may still be at work, and must not COMMIT.
        """
        forget(*(call.record for call in self._cancelled))
        self._cancelled.clear()


@final
class DrainGate:
    """Know what is in flight; while the process leaves, tell clients to go elsewhere.

    Answers over HTTP/1.1 then end their connection (in HTTP/2 the server says it, and the header
    is forbidden). Requests are still served: an instance that is leaving must not fail anybody. New
    websockets are too, as long as new clients are let in at all; once it is `draining`, they would
    outlive the drain and are refused with 503.
    """

    def __init__(self, in_flight: InFlight, *, draining: Callable[[], bool]) -> None:
        self.leaving = False
        self._calls = in_flight.calls
        self._draining = draining

    def leave_now(self) -> None:
        """Begin to turn clients away; there is no way back."""
        self.leaving = True

    def enter(self, call: Call) -> None:
        """Count the call in, or raise `Draining` for a websocket that comes too late."""
        if self.leaving and call.scope["type"] == "websocket" and self._draining():
            raise Draining
        if call.probe:
            return
        call.task = asyncio.current_task()
        self._calls.add(call)

    def starting(self, call: Call, message: Message) -> None:
        """Let the answer end its connection when the process leaves."""
        if self.leaving and call.scope["type"] == "http" and call.scope["http_version"] < "2":
            headers = [h for h in message.get("headers", ()) if h[0].lower() != b"connection"]
            message["headers"] = [*headers, _CLOSE]

    def leave(self, call: Call) -> None:
        """Count the call out."""
        self._calls.discard(call)


def _age(call: Call) -> float:
    return call.started
