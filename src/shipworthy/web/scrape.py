"""The metrics of all workers on the application's own port, under a server that is not ours.

Not here: the operations port of `run`, which has them too (`operations`).
"""

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Final, final

from shipworthy.telemetry import SharedCounts, exposition, negotiated
from shipworthy.web.health import own_path
from shipworthy.web.line import Call, Headers, Receive, Scope, Send

SAY_SECONDS: Final = 1.0

_log = logging.getLogger("shipworthy.web")


@final
class Scrape:
    """Answer one path with what all workers have counted, to who has the token.

    Whichever worker is asked, the answer is the same: of what is only read, as gauges are, the
    others say at most a second old. `elsewhere` says whether a supervisor of ours shows it.
    """

    def __init__(
        self, counts: SharedCounts, *, path: str, token: str, elsewhere: Callable[[], bool]
    ) -> None:
        self._counts = counts
        self._path = path
        self._right = f"Bearer {token}".encode()
        self._elsewhere = elsewhere
        self._saying: asyncio.Task[None] | None = None
        self._sayable = True

    def enter(self, call: Call) -> None:
        """Put the metrics in the place of the application if they are asked for."""
        scope = call.scope
        if (
            own_path(scope) == self._path
            and scope.get("method") in ("GET", "HEAD")
            and not self._elsewhere()
        ):
            call.probe = True
            call.record.route = self._path
            call.app = self._serve

    async def start(self) -> None:
        """Count with the others from now on. Raises `SettingsInvalid` where that cannot be."""
        self._counts.begin()
        self._saying = asyncio.create_task(self._say_again(), name="metrics")

    async def stop(self) -> None:
        """Say all for the last time; what is counted later counts, and is told of as well."""
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        self._say(asked=True)

    async def _say_again(self) -> None:
        while True:
            self._say(asked=False)
            await asyncio.sleep(SAY_SECONDS)

    def _say(self, *, asked: bool) -> None:
        try:
            self._counts.say(asked=asked)
            self._sayable = True
        except OSError:
            if self._sayable:
                _log.exception("gauges could not be written; what was written last stands")
            self._sayable = False

    async def _serve(self, scope: Scope, _: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._right):
            challenge = [(b"www-authenticate", b"Bearer")]
            await _answer(send, 401, challenge, b"this needs the token of metrics.token\n")
            return
        if self._saying is None:
            why = b"this server runs no lifespan, so its workers do not count together\n"
            await _answer(send, 503, [], why)
            return
        self._say(asked=True)
        try:
            snapshots = await asyncio.to_thread(self._counts.told)
        except OSError as error:
            _log.warning("the metrics of the workers cannot be read: %s", error)
            await _answer(send, 503, [], b"the metrics cannot be read; the log says why\n")
            return
        form = negotiated(headers.get(b"accept", b"").decode("latin-1"))
        kind = (b"content-type", form.value.encode())
        body = exposition(snapshots, form)
        await _answer(send, 200, [kind, (b"vary", b"accept")], body, head=scope["method"] == "HEAD")


async def _answer(
    send: Send, status: int, headers: Headers, body: bytes, *, head: bool = False
) -> None:
    every = [*headers, (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": b"" if head else body})
