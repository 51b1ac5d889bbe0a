"""The probes on the application's own port: alive, ready, started."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, final

from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.lifecycle import Answer, Lifecycle
from shipworthy.web.ask import Heard, Unanswered, ask
from shipworthy.web.line import App, Call, Receive, Scope, Send

ASK_SECONDS = 1.0

Question = Callable[[Lifecycle], Answer]

_TEXT = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


@event(severity=Severity.WARNING)
class ProbeRouteTaken(Event):
    """The application has a route where a probe would be; its own answer is given there."""

    path: Annotated[str, Label]


@final
class Probes:
    """Answer the probe paths, with two words and no reasons: those are on the operations port.

    A path the application answers itself stays the application's: one that has a route, by
    `owns`, and one whose answer says so. That is found out once, after its start-up or, where the
    server runs no lifespan, at the first probe, which then stands for the word that the service is
    up. The application is asked for `host`.
    """

    def __init__(
        self,
        app: App,
        questions: Mapping[str, Question],
        *,
        life: Callable[[], Lifecycle],
        owns: Callable[[str], bool],
        host: str,
    ) -> None:
        self._app = app
        self._life = life
        self._owns = owns
        self._host = host
        self._questions = {path: ask for path, ask in questions.items() if path}
        self._asked: asyncio.Task[None] | None = None

    def enter(self, call: Call) -> None:
        """Put the probe in the place of the application if the path is one."""
        scope = call.scope
        path = own_path(scope)
        if path in self._questions and scope.get("method") in ("GET", "HEAD"):
            call.probe = True
            call.record.route = path
            call.app = partial(self._serve, path)

    async def find_owned(self, state: dict[str, Any] | None = None) -> None:
        """Find out which probe paths the application answers itself, and leave those to it.

        It does when it has a route for the path alone, and when its answer differs from those to
        two paths that nobody can have meant: a catch-all route has the same words for all. The
        route is looked for as well, because a middleware that judges first (allowed hosts, logins)
        has the same words for all, too. Takes two seconds at the most; an application that does not
        answer in them keeps no path without a route. Whoever cancels this ends the questions.
        """
        await self._asking(state)

    def _asking(self, state: dict[str, Any] | None) -> asyncio.Task[None]:
        if self._asked is None or self._asked.cancelled():
            self._asked = asyncio.create_task(self._find_owned(state))
        return self._asked

    async def _find_owned(self, state: dict[str, Any] | None) -> None:
        for path in list(self._questions):
            if self._owns(path):
                self._leave_to_app(path)
        paths = list(self._questions)
        answers = await asyncio.gather(*(self._hear(path, state) for path in paths))
        if all(heard is None or heard.status == 404 for heard in answers):
            return  # nearly every application: it is not asked for nonsense, which it may log
        strange = [f"/{os.urandom(6).hex()}" for _ in range(2)]
        known = await asyncio.gather(*(self._hear(path, state) for path in strange))
        for path, heard in zip(paths, answers, strict=True):
            if _differs(heard, known):
                self._leave_to_app(path)

    def _leave_to_app(self, path: str) -> None:
        del self._questions[path]
        emit(ProbeRouteTaken, path=path)

    async def _hear(self, path: str, state: dict[str, Any] | None) -> Heard | None:
        try:
            heard = await ask(self._app, path, host=self._host, state=state, seconds=ASK_SECONDS)
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
            # Others may wait for the same answers.
            await asyncio.shield(self._asking(scope.get("state")))
        question = self._questions.get(path)
        if question is None:
            await self._app(scope, receive, send)
        else:
            await _say(question(self._life()).ok, scope, send)


def own_path(scope: Scope) -> str:
    """Return the path that is asked for, below where the server has mounted the application."""
    path: str = scope["path"]
    root = scope.get("root_path")
    return path.removeprefix(root) if root else path


async def _say(ok: bool, scope: Scope, send: Send) -> None:  # noqa: FBT001 - it is the answer
    body = b"ok\n" if ok else b"not ok\n"
    headers = [*_TEXT, (b"content-length", b"%d" % len(body))]
    if not ok:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": 200 if ok else 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _differs(heard: Heard | None, known: Sequence[Heard | None]) -> bool:
    if heard is None or heard.status == 404:
        return False
    if any(other is not None and other.status == heard.status for other in known):
        # Two strange paths with unlike pages: such pages tell nothing, so the status decides.
        return known[0] == known[1] and heard not in known
    return True
