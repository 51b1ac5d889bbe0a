"""What an application can ask of the life of its process, and tell it: the functions of the room.

They hold under `shipworthy run` and under `harden()`, and do no harm elsewhere: a process without
a life never drains, and its background work just runs.

The life of this process is the one that started last and has not stopped. A life within another
is not it: it leaves together with the one around it.
"""

import asyncio
import contextlib
import inspect
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Annotated, Any, Protocol, TypeVar
from weakref import ref

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import Misuse
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.lifecycle.fence import work_scope
from shipworthy.lifecycle.hooks import explain
from shipworthy.lifecycle.metrics import count_background_failure
from shipworthy.lifecycle.work import Work, Works
from shipworthy.redact import redact

T = TypeVar("T")
Callback = TypeVar("Callback", bound=Callable[[], object])

# Of a long stack the end is kept, where the error is.
STACK_CHARACTERS = 8192


@event(severity=Severity.ERROR)
class DrainHookFailed(Event):
    """A hook that should run when the drain begins has failed; the drain goes on."""

    hook: str
    because: str


@event(severity=Severity.ERROR)
class BackgroundFailed(Event):
    """Background work has raised."""

    work: Annotated[str, Label]
    because: str
    stack: str


class Life(Protocol):
    """What these functions need of a `Lifecycle`."""

    draining: bool
    works: Works

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Call `callback` when it begins to drain, or now if it has."""


_lives: list["ref[Life]"] = []
# Those that were registered before there was a life, as when the application is imported: they are
# for every life of the process.
_callbacks: list[Callable[[], object]] = []
_waiting: set["asyncio.Future[None]"] = set()
# The loop keeps only weak references to its tasks.
_kept: set["asyncio.Task[Any]"] = set()


def begin_life(life: Life) -> None:
    """Let `life` be the one of this process."""
    _lives.append(ref(life))


def end_life(life: Life) -> None:
    """Let the life before `life` be the one of this process again."""
    _lives[:] = [other for other in _lives if other() not in (None, life)]


def leave_life(life: Life) -> None:
    """Tell all who wait that `life` begins to drain, if it is the one of this process."""
    if _current() is not life:
        return
    for waiting in _waiting.copy():
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            waiting.get_loop().call_soon_threadsafe(_wake, waiting)
    for callback in _callbacks:
        call_drain_hook(callback)


def draining() -> bool:
    """Say whether this process has begun to leave; False where it has no lifecycle.

    From any thread, and cheap enough for a loop.
    """
    life = _current()
    return life is not None and life.draining


async def until_draining() -> None:
    """Wait until this process begins to leave; for ever where it has no lifecycle.

    For loops that have no end of their own: `wait` for this beside what they wait for.
    """
    waiting = asyncio.get_running_loop().create_future()
    # First: in the loop of another thread, the drain may begin right after the question.
    _waiting.add(waiting)
    try:
        if not draining():
            await waiting
    finally:
        _waiting.discard(waiting)


def on_drain(callback: Callback) -> Callback:
    """Call `callback` when this process begins to leave, or now if it has; also a decorator.

    It runs in the event loop and must not block. One that is async is background work from then
    on, and waited for as such. What it raises is stated as an event. Registered while a life is
    lived, as in an application's start-up, it goes with that life; before, it is for each.
    """
    life = _current()
    if life is None:
        _callbacks.append(callback)
    else:
        life.on_drain(callback)
    return callback


@contextlib.asynccontextmanager
async def background(name: str, *, seconds: float | None = None) -> AsyncIterator[None]:
    """Have the process wait for the block when it leaves, before components and pools stop.

    It counts as in flight in the drain and is cancelled with the requests, but not inside a
    COMMIT; `seconds` after the process has begun to leave it is cancelled though requests may
    still go on. A report of the shutdown names it with its line. Not for what ends only when the
    process does, unless it watches `until_draining`.
    """
    life = _current()
    if life is None:
        yield
        return
    work = Work(name, seconds=seconds, began=SYSTEM_CLOCK.now())
    work.task = asyncio.current_task()
    with _tracked(life, work):
        yield


@contextlib.contextmanager
def background_thread(name: str, *, seconds: float | None = None) -> Iterator[None]:
    """Do as `background`, for a block that runs in a thread, which nobody can cancel.

    When its time is over no COMMIT of it begins any more, and the report names it.
    """
    life = _current()
    if life is None:
        yield
        return
    with _tracked(life, Work(name, seconds=seconds, began=SYSTEM_CLOCK.now())):
        yield


def start_background(
    name: str, coroutine: Coroutine[Any, Any, T], *, seconds: float | None = None
) -> "asyncio.Task[T]":
    """Start background work, as `background` has it, in a task of its own, and return the task.

    Nobody needs to keep or await it: it is referred to until it ends, and what it raises is
    stated as an event. It outlives the request that started it, and is not cancelled with it.
    Raises `Misuse` where no event loop runs, as in a handler that is not async.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        coroutine.close()  # or Python would complain that nobody awaited it
        message = (
            f"background work '{name}' is started in a thread without an event loop, as that of a "
            f"handler that is not async; make the handler async, or do the work in the thread, "
            f"within background_thread('{name}')"
        )
        raise Misuse(message) from None
    work = Work(name, seconds=seconds, began=SYSTEM_CLOCK.now(), apart=True)
    task = loop.create_task(_stated(work, coroutine), name=f"background {name}")
    work.task = task
    life = _current()
    if life is not None:
        # Now, not with its first step: the drain might see an idle process in between.
        life.works.add(work)

    def over(task: "asyncio.Task[T]") -> None:
        _kept.discard(task)
        if life is not None:
            life.works.drop(work)
        if not task.cancelled():
            task.exception()  # stated already, so the loop need not complain of it

    _kept.add(task)
    task.add_done_callback(over)
    return task


def call_drain_hook(callback: Callable[[], object]) -> None:
    """Call a hook of the drain; what it raises is stated as an event."""
    name = getattr(callback, "__qualname__", repr(callback))
    try:
        begun = callback()
        if inspect.iscoroutine(begun):
            start_background(name, begun)
    except Exception as error:  # noqa: BLE001 - stated as an event; the drain must go on
        emit(DrainHookFailed, hook=name, because=explain(error))


async def _stated(work: Work, coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        with work_scope(work, apart=True):
            return await coroutine
    except Exception as error:
        count_background_failure(work.name)
        emit(
            BackgroundFailed,
            work=work.name,
            because=explain(error),
            stack=redact("".join(traceback.format_exception(error)))[-STACK_CHARACTERS:],
        )
        raise


@contextlib.contextmanager
def _tracked(life: Life, work: Work) -> Iterator[None]:
    life.works.add(work)
    try:
        with work_scope(work):
            yield
    finally:
        life.works.drop(work)


def _current() -> Life | None:
    for known in reversed(_lives):
        life = known()
        if life is not None:
            return life
    return None


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
