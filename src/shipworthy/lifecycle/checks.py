"""What the process asks itself about its health, and what a row of answers means."""

import asyncio
import contextvars
import inspect
import pkgutil
import threading
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, cast

from shipworthy.errors import SettingsInvalid
from shipworthy.events import Event, Label, Severity, event

Kind = Literal["live", "ready", "started"]


@dataclass(frozen=True, slots=True)
class Check:
    """A question about health, asked in the background and never on behalf of a request.

    `ask` returns None when all is well, or a sentence that says why not; an exception or no answer
    within `timeout_seconds` is a failure too. `kinds` are the questions that it decides: `live`
    (replace this process?) must never ask a dependency, `ready` (send it requests?), `started`
    (has it come up?). After `fall` failures in a row it fails, after `rise` successes it passes.
    """

    name: str
    ask: Callable[[], Awaitable[str | None]]
    _: KW_ONLY
    kinds: frozenset[Kind] = frozenset({"ready"})
    interval_seconds: float = 5.0
    timeout_seconds: float = 2.0
    fall: int = 2
    rise: int = 1


class CheckStatus(StrEnum):
    """What is known from a check."""

    UNKNOWN = "unknown"  # not asked yet
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"


@event(severity=Severity.WARNING)
class CheckChanged(Event):
    """A health check gives another answer than before."""

    check: Annotated[str, Label]
    status: Annotated[str, Label]
    because: str


class CheckStanding:
    """Decide what the answers of one check mean, slowly enough not to flap.

    The first answer decides at once, either way. `because` is why it fails, or what a single
    failure said that did not count yet. Pure: `answered` takes the time. Reading is safe from any
    thread.
    """

    __slots__ = ("_against", "answered_at", "because", "check", "since", "status", "took_seconds")

    def __init__(self, check: Check, now: float) -> None:
        self.check = check
        self.status = CheckStatus.UNKNOWN
        self.because = ""
        self.since = now
        self.answered_at: float | None = None
        self.took_seconds = 0.0
        self._against = 0

    def answered(self, because: str, *, now: float, took_seconds: float) -> bool:
        """Take an answer, empty for a success, and say whether the status it leads to is news.

        A first good answer is none: it is what everybody expects of a start.
        """
        self.answered_at = now
        self.took_seconds = took_seconds
        answer = CheckStatus.FAIL if because else CheckStatus.PASS
        if because or self.status is not CheckStatus.FAIL:
            self.because = because
        if answer is self.status:
            self._against = 0
            return False

        self._against += 1
        patience = self.check.fall if answer is CheckStatus.FAIL else self.check.rise
        if self.status is not CheckStatus.UNKNOWN and self._against < patience:
            return False
        expected = self.status is CheckStatus.UNKNOWN and answer is CheckStatus.PASS
        self.status = answer
        self.because = because
        self.since = now
        self._against = 0
        return not expected


def check_of(target: str, *, interval_seconds: float, timeout_seconds: float) -> Check:
    """Make a readiness check of `package.module:function`, sync or async.

    The function says that all is well with None or True, and that it is not with False, a sentence
    or an exception. It is called in a thread of its own, so that neither one that blocks nor a full
    thread pool holds up anything else. Raises `SettingsInvalid` where there is none.
    """
    return Check(
        target,
        partial(_asked, target, _function(target)),
        interval_seconds=interval_seconds,
        timeout_seconds=timeout_seconds,
    )


def _function(target: str) -> Callable[[], object]:
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise _refused(target, f"cannot be found: {error}") from error
    if not callable(found):
        raise _refused(target, f"is a {type(found).__name__}, not a function")
    return cast("Callable[[], object]", found)


def _refused(target: str, because: str) -> SettingsInvalid:
    return SettingsInvalid(
        [f"lifecycle.ready_check '{target}' {because}; write 'package.module:function'"]
    )


async def _asked(target: str, function: Callable[[], object]) -> str | None:
    # One that is async in whatever way only makes its coroutine there, which costs some 50 us.
    answer = await _in_thread(function, name=f"shipworthy check {target}")
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is None or answer is True:
        return None
    return answer if isinstance(answer, str) else f"it answered {answer}"


async def _in_thread(function: Callable[[], object], *, name: str) -> object:
    """Call `function` in a new daemon thread: one that hangs must not hold up the exit."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()

    def give(result: object, error: Exception | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def call() -> None:
        try:
            given = partial(give, context.run(function), None)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the answer
            given = partial(give, None, error)
        try:
            loop.call_soon_threadsafe(given)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    context = contextvars.copy_context()
    threading.Thread(target=call, name=name, daemon=True).start()
    return await answer
