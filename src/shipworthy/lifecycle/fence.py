"""The commit fence: nothing of ours cancels work while its COMMIT is under way.

A process that leaves cancels what is late. A COMMIT that is cancelled is neither applied nor not
applied for all that its caller knows, so who cancels asks here first: while a COMMIT of that work
is under way the answer is no, and once the answer was yes no further COMMIT of it begins.

Not here: who cancels and when (`web`, `serve`), and the COMMIT itself (`db`).
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import RequestRecord, current_request
from shipworthy.errors import Rejected


class CommitRefused(Rejected):
    """A transaction was not applied: its work was cancelled before its COMMIT, which was not sent.

    `in_part` says that the request may have taken effect all the same: it had committed before,
    or made a call to another service that must not be made twice.
    """

    def __init__(self, *, in_part: bool = False) -> None:
        self.in_part = in_part
        what_next = (
            "what the request did before it may have taken effect: look before you send it again"
            if in_part
            else "send it again"
        )
        super().__init__(
            "the process is leaving and this work was cancelled before its COMMIT, which was not "
            f"sent: nothing of this transaction was applied; {what_next}",
            retry_after_seconds=1.0,
        )


# A request whose COMMIT has just been answered has its own answer on the way: from a worker thread
# to its event loop, and from there to the client.
ANSWER_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitUnderWay:
    """One COMMIT that has been sent and not been answered.

    `request_id` is '' outside a request, `work` outside background work.
    """

    request_id: str
    for_seconds: float
    work: str = ""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The background work that runs here, and the request it has nothing to do with any more."""

    works: tuple[Hashable, ...] = ()
    apart_from: RequestRecord | None = None


_NONE = _Scope()
_scope: ContextVar[_Scope] = ContextVar("shipworthy_work", default=_NONE)
# No lock: the garbage collector may end a COMMIT in the middle of another, in the same thread, and
# a fork may come at any time. Who begins writes itself down and then looks, and so does who
# refuses: one of the two always sees the other.
_under_way: dict[int, tuple[tuple[Hashable, ...], str, float]] = {}
_refused: set[Hashable] = set()
_numbers = iter(range(1, 2**63))


@contextmanager
def work_scope(work: Hashable, *, apart: bool = False) -> Iterator[None]:
    """Let what runs in the block, in this task and those started from it, be known as `work` too.

    Its COMMITs belong to `work` as well as to the request and the work around it; `apart` from
    those, when it goes on after they are over.
    """
    outer = _scope.get()
    scope = (
        _Scope((work,), current_request()) if apart else replace(outer, works=(*outer.works, work))
    )
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def commit_fence() -> Iterator[None]:
    """Hold the fence around a COMMIT; raises `CommitRefused` when its work was cancelled before.

    From any thread or task. It belongs to the request that is being served here and to the
    background work that runs here; a COMMIT of neither is only counted.
    """
    number = begin_commit()
    try:
        yield
    finally:
        end_commit(number)


def begin_commit(*, decided: bool = False) -> int:
    """Do as `commit_fence` does at its beginning; `end_commit` must follow with the number.

    One that is `decided` is not refused: others have committed their part of it already.
    """
    record, scope = current_request(), _scope.get()
    works = scope.works
    if record is not None and record is not scope.apart_from:
        works = (record, *works)
    number = next_number()
    _under_way[number] = (works, record.request_id if record else "", SYSTEM_CLOCK.now())
    if not decided and not _refused.isdisjoint(works):
        del _under_way[number]
        raise CommitRefused(in_part=isinstance(works[0], RequestRecord) and _did_some(works[0]))
    return number


def end_commit(number: int) -> None:
    """Say that a COMMIT is over, however it ended; twice is once."""
    found = _under_way.get(number)
    if found is None:
        return
    works = found[0]
    if works and isinstance(works[0], RequestRecord):
        works[0].commit_ended = (number, SYSTEM_CLOCK.now())
    _under_way.pop(number, None)


def refuse_commits(*works: Hashable) -> bool:
    """Let no further COMMIT of `works` begin; False, and nothing changes, while one is under way.

    After True they may be cancelled: whatever they do until then, no COMMIT is cut in two. For a
    request it is False for `ANSWER_SECONDS` more after a COMMIT that had begun before this was
    asked for the first time, so that a client whose change was applied hears of it.
    """
    asked = frozenset(works) - _refused
    for record in asked:
        if isinstance(record, RequestRecord) and not record.commits_asked:
            record.commits_asked = next_number()
    _refused.update(asked)
    if any(not asked.isdisjoint(of) for of, _, _ in list(_under_way.values())) or any(
        _answered_just_now(work, work.commits_asked)
        for work in asked
        if isinstance(work, RequestRecord)
    ):
        _refused.difference_update(asked)
        return False
    return True


def answers(record: RequestRecord, *, asked: int) -> bool:
    """Say whether a COMMIT of `record` is under way, or its answer; nothing is refused by asking.

    Its answer is for `ANSWER_SECONDS`, if the COMMIT began before the number `asked` was drawn
    (`next_number`). For who cancels a part of a request that may go on.
    """
    return any(record in of for of, _, _ in list(_under_way.values())) or _answered_just_now(
        record, asked
    )


def next_number() -> int:
    """Draw a number: COMMITs that begin later have a greater one."""
    return next(_numbers)


def forget(*works: Hashable) -> None:
    """Keep nothing of works that are over, with all their threads."""
    _refused.difference_update(works)


def commits_under_way() -> list[CommitUnderWay]:
    """Return the COMMITs that have not been answered, the oldest first."""
    now = SYSTEM_CLOCK.now()
    found = sorted(_under_way.values(), key=lambda commit: commit[2])
    return [
        CommitUnderWay(
            request_id=request_id,
            for_seconds=now - at,
            work=", ".join(str(work) for work in works if not isinstance(work, RequestRecord)),
        )
        for works, request_id, at in found
    ]


def _did_some(record: RequestRecord) -> bool:
    """Say whether a request may have taken effect; a COMMIT of what it only read counts too."""
    return (
        record.commit_ended is not None
        or record.calls_out > 0
        or any(record in of for of, _, _ in list(_under_way.values()))
    )


def _answered_just_now(record: RequestRecord, asked: int) -> bool:
    ended = record.commit_ended
    if ended is None:
        return False
    number, at = ended
    # One that began later gets no time: work that commits in a loop would never end.
    return number < asked and SYSTEM_CLOCK.now() - at < ANSWER_SECONDS
