"""Call code of others, for as long as it was given and no longer."""

import asyncio
import contextlib
import gc
import inspect
import sys
import sysconfig
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from shipworthy.clock import Clock
from shipworthy.errors import ShipworthyError
from shipworthy.redact import redact

# What a cancelled task gets to unwind before it is left behind; it is given on top of its time.
UNWIND_SECONDS = 0.1
# An exception's text is somebody else's, and may hold a whole SQL statement.
BECAUSE_CHARACTERS = 300

_OURS = str(Path(__file__).parents[1])
_LIBRARY = sysconfig.get_path("stdlib")
# What an asynchronous generator is awaited by, and has no attribute that leads to it.
_STEPS = frozenset({"async_generator_asend", "async_generator_athrow"})
# The threads of pools live in these; one without a line of the service's own waits for work.
_POOLS = (str(Path("concurrent/futures/thread.py")), str(Path("anyio/_backends/_asyncio.py")))


@dataclass(frozen=True, slots=True)
class HookOutcome:
    """How a call ended; `because` is empty when it did what it should."""

    because: str
    took_seconds: float
    error: BaseException | None = None
    late: bool = False


async def attempt(
    work: Callable[[], Awaitable[object]],
    *,
    seconds: float,
    clock: Clock,
    looked_at: Callable[[], "asyncio.Task[Any] | None"] | None = None,
) -> HookOutcome:
    """Call `work`, and return how it ended or, once its time is over, where it stands.

    Never waits longer than `seconds` plus the time to unwind: not for one that hangs, nor for one
    that swallows its cancellation. Not `asyncio.wait_for`, which waits until the cancelled task
    agrees. Even with no time left the work gets its first step.
    """
    began = clock.now()
    task = asyncio.create_task(_awaited(work))
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return _outcome(task, clock.now() - began)
        stands = where((looked_at and looked_at()) or task)
        await leave_behind(task)
        return HookOutcome(
            f"it was not done after {max(0.0, seconds):.1f} s and stands at {stands}",
            clock.now() - began,
            late=True,
        )
    except asyncio.CancelledError:
        await leave_behind(task)
        raise


async def leave_behind(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel `tasks` and wait a moment for them to unwind; what does not is left to itself."""
    for task in tasks:
        task.cancel()
        # Looked at once, so that the loop does not complain of it later as never retrieved.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    if tasks:
        await asyncio.wait(tasks, timeout=UNWIND_SECONDS)


def where(task: "asyncio.Task[Any]") -> str:
    """Return where `task` stands, as `app/db.py:41 in connect`.

    The innermost line of the service's own code; where there is none, that of a package, then
    that of the standard library. Only for tasks of the running loop, from its thread.
    """
    return line_of(list(_frames(task)))


def where_thread(ident: int) -> str:
    """Return where the thread with this `ident` stands, as `where` does; from any thread."""
    return line_of(_frames_of_thread(ident))


def threads_at_work(*, of_pools: bool = False) -> list[tuple[str, str]]:
    """Return name and line of the threads that keep the process from ending, or work for it.

    That is: each with a line of the service's own code, and each that is no daemon; not the
    calling one, not the main one, and none of a pool that waits for work. `of_pools` are only
    those of pools with a line of the service's own: requests may wait for them. From any thread.
    """
    found = []
    for thread in threading.enumerate():
        if thread in (threading.main_thread(), threading.current_thread()):
            continue
        frames = _frames_of_thread(thread.ident or 0)
        own = any(_distance(frame.f_code.co_filename) == 0 for frame in frames)
        pool = any(frame.f_code.co_filename.endswith(_POOLS) for frame in frames)
        if (own and pool) if of_pools else (own or not (thread.daemon or pool)):
            found.append((thread.name, line_of(frames)))
    return found


def _frames_of_thread(ident: int) -> list[FrameType]:
    frames = []
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - documented, the only way
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def line_of(frames: list[FrameType]) -> str:
    """Say the line of interest, by `where`'s rule, of frames from the outermost to the innermost.

    From any thread.
    """
    if not frames:
        return "no line of Python"
    frame = min(reversed(frames), key=lambda frame: _distance(frame.f_code.co_filename))
    path = Path(frame.f_code.co_filename)
    with contextlib.suppress(OSError, ValueError):  # the directory is gone; the file is elsewhere
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"


def explain(error: BaseException) -> str:
    """Say in one bounded line what an exception says, without the secrets in its text.

    Ours are sentences already; others need their class to be understood ("KeyError: 'url'").
    """
    text = redact(" ".join(str(error).split()))
    if not isinstance(error, ShipworthyError):
        text = f"{type(error).__name__}: {text}"
    return text[:BECAUSE_CHARACTERS].removesuffix(": ") or type(error).__name__


async def _awaited(work: Callable[[], Awaitable[object]]) -> object:
    return await work()


def _outcome(task: "asyncio.Task[Any]", took_seconds: float) -> HookOutcome:
    if task.cancelled():
        return HookOutcome("it was cancelled", took_seconds)
    error = task.exception()
    if error is not None:
        return HookOutcome(explain(error), took_seconds, error)
    return HookOutcome("", took_seconds)


def _frames(task: "asyncio.Task[Any]") -> Iterator[FrameType]:
    """Yield the frames of a task from the outermost to the innermost it waits in.

    `Task.get_stack` knows only the outermost.
    """
    ahead: object = task.get_coro()
    while ahead is not None:
        frame: FrameType | None
        if inspect.iscoroutine(ahead):
            frame, ahead = ahead.cr_frame, ahead.cr_await
        elif inspect.isgenerator(ahead):
            frame, ahead = ahead.gi_frame, ahead.gi_yieldfrom
        elif inspect.isasyncgen(ahead):
            frame, ahead = ahead.ag_frame, ahead.ag_await
        elif type(ahead).__name__ in _STEPS:
            frame, ahead = None, _generator_of(ahead)
        else:
            return
        if frame is not None:
            yield frame


def _generator_of(step: object) -> object:
    """Return the generator that a step of one belongs to: the collector alone can tell.

    A lifespan made by `asynccontextmanager` is entered by such a step, and hangs behind it.
    """
    return next((it for it in gc.get_referents(step) if inspect.isasyncgen(it)), None)


def _distance(path: str) -> int:
    """Say how far from the service's own code a file is: 0 is its own."""
    if "site-packages" in path or "dist-packages" in path or path.startswith(_OURS):
        return 1
    return 2 if path.startswith((_LIBRARY, "<")) else 0
