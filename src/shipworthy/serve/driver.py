"""Drives the lifespan of an ASGI app: start it, stop it, each within its time."""

import asyncio
from typing import Any

from shipworthy.errors import StartFailed


class LifespanDriver:
    """The server's half of the ASGI lifespan protocol for one app, in one task of its own.

    The app's half ends inside the task that began it: the shutdown event is delivered, never
    injected by cancellation, except when the time is over.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Run the app's start-up to its end. Raises `StartFailed` with the app's reason."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        self._task = asyncio.create_task(
            self._app(scope, self._inbox.get, self._said.put), name="lifespan"
        )
        answer = await self._exchange("startup")
        if answer["type"] != "lifespan.startup.complete":
            raise StartFailed(answer.get("message") or "the app's start-up failed")

    async def stop(self) -> str:
        """Run the app's shutdown to its end; returns why it failed, or ''. Bound from outside."""
        if self._task is None or self._task.done():
            return ""
        answer = await self._exchange("shutdown")
        if answer["type"] != "lifespan.shutdown.complete":
            return str(answer.get("message") or "the app's shutdown failed")
        return ""

    async def abandon(self, seconds: float) -> bool:
        """Cancel what is left and give it `seconds` to end; False when it did not."""
        if self._task is None or self._task.done():
            return True
        self._task.cancel("shutdown")
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return bool(done)

    async def _exchange(self, step: str) -> dict[str, Any]:
        task = self._task
        assert task is not None
        self._inbox.put_nowait({"type": f"lifespan.{step}"})
        said = asyncio.ensure_future(self._said.get())
        await asyncio.wait({said, task}, return_when=asyncio.FIRST_COMPLETED)
        if said.done():
            return said.result()
        said.cancel()
        error = None if task.cancelled() else task.exception()
        reason = f"{type(error).__name__}: {error}" if error else "its lifespan ended early"
        return {"type": f"lifespan.{step}.failed", "message": reason}
