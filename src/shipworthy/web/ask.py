"""Ask an application in-process: no socket, no guards, no trace of who asks in the context."""

import asyncio
from contextvars import Context
from dataclasses import dataclass
from typing import Any, final

from shipworthy.web.line import App, Headers, Message

# An answer is judged and compared, never passed on: what comes after this does not matter.
BODY_BYTES = 64 * 1024
# What a cancelled application gets to unwind before it is left behind.
UNWIND_SECONDS = 0.1


class Unanswered(Exception):
    """The application gave no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an application answered; of the body the first 64 KiB."""

    status: int
    headers: Headers
    body: bytes


async def ask(
    app: App,
    path: str,
    *,
    host: str = "localhost",
    state: dict[str, Any] | None = None,
    seconds: float = 2.0,
) -> Heard:
    """Return what `app` answers to `GET path`, after at most `seconds` and a moment to unwind.

    It is asked for `host` and as over https: an application that redirects all else to https must
    answer itself. `state` is what its lifespan has left for requests. Raises `Unanswered` when it
    raises, ends without an answer or takes longer.
    """
    ear = _Ear()
    task = asyncio.create_task(
        _call(app, _scope(path, host, state), ear), name=f"ask {path}", context=Context()
    )
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=UNWIND_SECONDS)
    error = task.exception() if task.done() and not task.cancelled() else None
    if ear.whole.is_set():
        return Heard(ear.status, ear.headers, bytes(ear.body))
    if error is not None:
        raise Unanswered(f"GET {path} raised {type(error).__name__}") from error
    if task.cancelled() or not task.done():
        raise Unanswered(f"GET {path} was not answered within {seconds:.1f} s")
    raise Unanswered(f"GET {path} ended without an answer")


@final
class _Ear:
    """The server's side of one call: gives the empty request, takes the answer."""

    def __init__(self) -> None:
        self.whole = asyncio.Event()
        self.status = 0
        self.headers: Headers = []
        self.body = bytearray()
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.whole.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(n), bytes(v)) for n, v in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")[: BODY_BYTES - len(self.body)]
            if not message.get("more_body", False):
                self.whole.set()


async def _call(app: App, scope: dict[str, Any], ear: _Ear) -> None:
    await app(scope, ear.receive, ear.send)


def _scope(path: str, host: str, state: dict[str, Any] | None) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", host.encode()), (b"user-agent", b"shipworthy")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 443),
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope
