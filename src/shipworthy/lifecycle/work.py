"""Background work that the process waits for before it stops what the work uses.

Not here: how an application says that something is such work (`process`).
"""

import asyncio
import threading
from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

from typing_extensions import override

from shipworthy.context import RequestRecord, current_request
from shipworthy.lifecycle.cancel import cancel_outside_commits
from shipworthy.lifecycle.fence import answers, forget, next_number, refuse_commits
from shipworthy.lifecycle.hooks import where, where_thread


@final
class Work:
    """One piece of background work: in a task, or in the thread that made this.

    `record` is that of the request it is a part of, None where it goes on after its request.
    `seconds` is how long it may go on once the process leaves, None as long as requests may.
    """

    __slots__ = ("asked", "began", "name", "record", "seconds", "task", "thread")

    def __init__(
        self, name: str, *, seconds: float | None, began: float, apart: bool = False
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.began = began
        self.record: RequestRecord | None = None if apart else current_request()
        self.task: asyncio.Task[Any] | None = None
        self.thread = threading.get_ident()
        # Of the commit fence: when it was to be cancelled for the first time, 0 before.
        self.asked = 0

    @override
    def __str__(self) -> str:
        return self.name

    def stands(self) -> str:
        """Return the line it stands in; to be called in the thread of its event loop."""
        return where_thread(self.thread) if self.task is None else where(self.task)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUnderWay:
    """Background work as a report names it."""

    name: str
    for_seconds: float
    stands: str


@final
class Works:
    """The background work of one life. Adding and dropping are safe from any thread."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        # A dict keeps their order; its single operations are atomic.
        self._under_way: dict[Work, None] = {}
        self._cancelled: set[Work] = set()
        # Those that were cancelled because of a time of their own, while their request goes on.
        self._late: set[Work] = set()
        self._leaving_since: float | None = None

    def __len__(self) -> int:
        return len(self._under_way)

    def add(self, work: Work) -> None:
        """Count `work` in."""
        self._under_way[work] = None

    def drop(self, work: Work) -> None:
        """Count `work` out: it is over."""
        self._under_way.pop(work, None)

    def under_way(self, *, but: Container[Work] = ()) -> list[Work]:
        """Return what has been counted in and not out, the oldest first."""
        return [work for work in self._under_way.copy() if work not in but]

    def ended(self, *, but: Container[Work] = ()) -> bool:
        """Say whether nothing is under way."""
        return not self.under_way(but=but)

    def leave(self) -> None:
        """Let the time of those that have one of their own begin."""
        self._leaving_since = self._now()

    def cancel_late(self, *, spared: Container["asyncio.Task[Any] | None"] = ()) -> None:
        """Cancel those whose own time is over; call it again and again.

        The request that one is a part of may go on: its COMMITs are not refused, and while one is
        under way nothing is cancelled, for the task may be that of the request itself.
        """
        since = self._leaving_since
        if since is None:
            return
        late = self._now() - since
        for work in self._under_way.copy():
            if work.seconds is None or work.seconds > late or work in self._late:
                continue
            if self._cancel_alone(work, spared):
                self._late.add(work)

    def cancel(self, *, spared: Container["asyncio.Task[Any] | None"] = ()) -> None:
        """Cancel each once, when no COMMIT of it is under way; call it again and again.

        The tasks in `spared` have more to do than such work. A thread cannot be cancelled, but no
        COMMIT of its work begins any more, nor one of the request that it is a part of.
        """
        for work in self._under_way.copy():
            owners = (work,) if work.record is None else (work, work.record)
            if work not in self._cancelled and _cancel(work, owners, spared):
                self._cancelled.add(work)

    def describe(self, count: int | None = None) -> list[WorkUnderWay]:
        """Return what is under way, the oldest first, `count` of it where that is given.

        In the thread of the event loop. A line takes some 20 us to find: ask for no more than are
        shown.
        """
        now = self._now()
        return [
            WorkUnderWay(name=work.name, for_seconds=now - work.began, stands=work.stands())
            for work in islice(self._under_way.copy(), count)
        ]

    def forget(self) -> None:
        """Keep nothing of what was cancelled."""
        forget(*self._late, *self._cancelled, *(work.record for work in self._cancelled))
        self._late.clear()
        self._cancelled.clear()

    def _cancel_alone(self, work: Work, spared: Container["asyncio.Task[Any] | None"]) -> bool:
        if work.record is not None and work.task is not None:
            work.asked = work.asked or next_number()
            if answers(work.record, asked=work.asked):
                return False
        return _cancel(work, (work,), spared)


def _cancel(
    work: Work, owners: tuple[Hashable, ...], spared: Container["asyncio.Task[Any] | None"]
) -> bool:
    if work.task is None or work.task in spared:
        return refuse_commits(*owners)
    return cancel_outside_commits(work.task, *owners)
