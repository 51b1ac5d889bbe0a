"""The application's lifespan, as a component beside ours, and ours towards the server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, final

from shipworthy.errors import ShipworthyError, StartFailed
from shipworthy.events import Event, Severity, emit, event
from shipworthy.lifecycle import Lifecycle
from shipworthy.web.line import App, Message, Receive, Scope, Send

# What an application's task gets to return after its last word, and again to unwind.
LAST_STEPS_SECONDS = 0.2


class AppStopFailed(ShipworthyError):
    """The application's shutdown failed; the text says why."""


@event(severity=Severity.INFO)
class LifespanUnsupported(Event):
    """The application does not speak the lifespan protocol; it is served without it."""

    because: str


@final
class AppLifespan:
    """The server's half of the lifespan protocol towards the application, in one task of its own.

    The application's half must end in the task that began it, so the shutdown is delivered as a
    message; its task is cancelled only when `start` or `stop` is, because their time is over.
    """

    def __init__(self, app: App) -> None:
        # The mapping the server hands on to requests, None where it has none.
        self.state: dict[str, Any] | None = None
        self.supported = False
        self._app = app
        self._inbox: asyncio.Queue[Message]
        self._said: asyncio.Queue[Message]
        self._task: asyncio.Task[None] | None = None
        self._received = False

    def task(self) -> asyncio.Task[None] | None:
        """Return the task the application's lifespan runs in."""
        return self._task

    async def start(self) -> None:
        """Run the application's start-up to its end.

        An application that raises before it has read the first message, or that returns without a
        word, does not know the protocol (Django raises a `ValueError`) and is served without it.
        Raises `StartFailed` for one that does know it and fails.
        """
        self._inbox, self._said = asyncio.Queue(), asyncio.Queue()
        self._received = False
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if self.state is not None:
            scope["state"] = self.state
        self._task = asyncio.create_task(self._run(scope), name="lifespan of the application")
        said, why = await self._exchange("lifespan.startup")
        self.supported = said == "lifespan.startup.complete"
        if self.supported:
            return
        await self._end()
        if said == "lifespan.startup.failed" or (not said and why and self._received):
            raise StartFailed(why or "the app's start-up failed")
        # Anything else it said was meant for HTTP: it does not look at what it is asked.
        emit(LifespanUnsupported, because=why or "it answered without a word of the protocol")

    async def stop(self) -> None:
        """Run the application's shutdown to its end; raises `AppStopFailed` with its reason."""
        if not self.supported or self._task is None:
            return
        said, why = await self._exchange("lifespan.shutdown")
        await self._end()
        if said != "lifespan.shutdown.complete" and (said or why):
            raise AppStopFailed(why or "the app's shutdown failed")

    async def _run(self, scope: Scope) -> None:
        await self._app(scope, self._receive, self._said.put)

    async def _receive(self) -> Message:
        self._received = True
        return await self._inbox.get()

    async def _exchange(self, kind: str) -> tuple[str, str]:
        """Deliver a message and return the word of the application and its reason.

        The word is empty when its task ended without one, maybe long ago; the reason then is its
        exception, if there was one.
        """
        task = self._task
        assert task is not None
        self._inbox.put_nowait({"type": kind})
        hearing = asyncio.create_task(self._said.get())
        try:
            await asyncio.wait({hearing, task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel("shutdown")
            raise
        finally:
            hearing.cancel()
        if hearing.done():
            # Starlette gives a whole traceback; its last line says what happened.
            reason = str(hearing.result().get("message") or "").strip().rpartition("\n")[2]
            return hearing.result()["type"], reason
        error = None if task.cancelled() else task.exception()
        return "", f"{type(error).__name__}: {error}" if error else ""

    async def _end(self) -> None:
        """Let the application's task end after its last word, or end it."""
        task = self._task
        assert task is not None
        await asyncio.wait({task}, timeout=LAST_STEPS_SECONDS)
        if not task.done():
            task.cancel("shutdown")
            await asyncio.wait({task}, timeout=LAST_STEPS_SECONDS)
        if task.done() and not task.cancelled():
            task.exception()  # looked at, so that nobody complains of it later


async def speak_lifespan(
    lifecycle: Lifecycle,
    receive: Receive,
    send: Send,
    *,
    before_ready: Callable[[], Awaitable[None]],
    before_stop: Callable[[], Awaitable[None]],
) -> None:
    """Speak the application's half of the lifespan protocol towards the server, for `lifecycle`.

    `before_ready` is called when everything has started and nothing is served yet, `before_stop`
    when the server has said shutdown and nothing is stopped yet.
    """
    await receive()
    try:
        await lifecycle.start()
        try:
            await before_ready()
        except BaseException:
            await lifecycle.stop()
            raise
    except ShipworthyError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    lifecycle.started()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await before_stop()
    report = await lifecycle.stop()
    if report.clean:
        await send({"type": "lifespan.shutdown.complete"})
    else:
        left = "; ".join(f"{hook.name}: {hook.because}" for hook in report.left_behind)
        await send({"type": "lifespan.shutdown.failed", "message": left})
