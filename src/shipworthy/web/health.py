"""The probes on the application's own port: alive, ready, started."""

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, final

from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.lifecycle import Answer, Lifecycle
from shipworthy.web.ask import Heard, Unanswered, ask
from shipworthy.web.line import App, Call, Receive, Scope, Send

ASK_SECONDS = 2.0

Question = Callable[[Lifecycle], Answer]

_TEXT = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


@event(severity=Severity.WARNING)
class ProbeRouteTaken(Event):
    """The application has a route where a probe would be; its own answer is given there."""

    path: Annotated[str, Label]


@final
class Probes:
    """Answer the probe paths, with two words and no reasons: those are on the operations port.

    A path the application answers itself stays the application's. Whether it does is asked once,
    after its start-up or, where the server runs no lifespan, at the first probe, which then stands
    for the word that the service is up.
    """

    def __init__(
        self,
        app: App,
        questions: Mapping[str, Question],
        *,
        life: Callable[[], Lifecycle],
    ) -> None:
        self._app = app
        self._life = life
        self._questions = {path: ask for path, ask in questions.items() if path}
        self._asked: asyncio.Task[None] | None = None

    def enter(self, call: Call) -> None:
        """Put the probe in the place of the application if the path is one."""
        scope = call.scope
        path = scope["path"]
        root = scope.get("root_path")
        if root:
            path = path.removeprefix(root)
        if path in self._questions and scope.get("method") in ("GET", "HEAD"):
            call.probe = True
            call.record.route = path
            call.app = partial(self._serve, path)

    async def find_owned(self, state: dict[str, Any] | None = None) -> None:
        """Find out which probe paths the application answers itself, and leave those to it.

        It does when its answer differs from those to two paths that nobody can have meant: a
        catch-all route has the same words for all. Takes two seconds at the most; an application
        that does not answer in them keeps no path.
        """
        if self._asked is None:
            self._asked = asyncio.create_task(self._find_owned(state))
        await asyncio.shield(self._asked)

    async def _find_owned(self, state: dict[str, Any] | None) -> None:
        strange = [f"/{os.urandom(6).hex()}" for _ in range(2)]
        paths = [*strange, *self._questions]
        heard = dict(
            zip(
                paths,
                await asyncio.gather(*(self._hear(path, state) for path in paths)),
                strict=True,
            )
        )
        known = [heard[path] for path in strange]
        for path in list(self._questions):
            if _differs(heard[path], known):
                del self._questions[path]
                emit(ProbeRouteTaken, path=path)

    async def _hear(self, path: str, state: dict[str, Any] | None) -> Heard | None:
        try:
            heard = await ask(self._app, path, state=state, seconds=ASK_SECONDS)
        except Unanswered:
            return None
        # Pages and redirects that repeat the path they were asked for are the same page.
        name = path.strip("/").encode()
        place = dict(heard.headers).get(b"location", b"")
        return Heard(
            heard.status,
            [(b"location", place.replace(name, b""))],
            heard.body.replace(name, b""),
        )

    async def _serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if self._asked is None:
            self._life().started()
        if self._asked is None or not self._asked.done():
            await self.find_owned(scope.get("state"))
        question = self._questions.get(path)
        if question is None:
            await self._app(scope, receive, send)
        else:
            await _say(question(self._life()).ok, scope, send)


async def _say(ok: bool, scope: Scope, send: Send) -> None:  # noqa: FBT001 - it is the answer
    body = b"ok\n" if ok else b"not ok\n"
    headers = [*_TEXT, (b"content-length", b"%d" % len(body))]
    if not ok:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": 200 if ok else 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _differs(heard: Heard | None, known: list[Heard | None]) -> bool:
    if heard is None or heard.status == 404:
        return False
    if any(other is not None and other.status == heard.status for other in known):
        # Two strange paths with unlike pages: such pages tell nothing, so the status decides.
        return known[0] == known[1] and heard not in known
    return True
