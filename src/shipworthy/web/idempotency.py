"""The guard of the Idempotency-Key: a request that comes twice is run once.

Not here: what a key means (`claim`), and where it is kept (`db`).
"""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, final

import orjson

from shipworthy.db import Attempt, Outcome, attempt_scope, classify
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.claim import (
    Ending,
    KeyAnswerLost,
    KeyInFlight,
    KeyMissing,
    KeyReused,
    KeyVerdict,
    ending_of,
    fingerprint_of,
    judge_claim,
    kept_headers,
    key_id,
    key_in,
)
from shipworthy.web.exchange import CopiedAnswer, KeptRequest
from shipworthy.web.line import App, Call, Receive, Scope, Send
from shipworthy.web.settings import IdempotencySettings

if TYPE_CHECKING:
    from shipworthy.db import KeyHeld, KeyRow, KeyStore

KEY: Final = b"idempotency-key"
REPLAYED: Final = (b"idempotency-replayed", b"true")
# Others may take a key over, and lose it, between our question and our statement.
_TRIES: Final = 3
# Most requests are over by then, however long a lease is.
_LONGEST_WAIT_SECONDS: Final = 2.0


@event(severity=Severity.INFO)
class KeySeenAgain(Event):
    """A request came with an Idempotency-Key that is known."""

    verdict: Annotated[str, Label]
    mode: Annotated[str, Label]


@event(severity=Severity.ERROR)
class KeysUnkept(Event):
    """The table of the Idempotency-Keys cannot be used."""

    what: Annotated[str, Label]
    because: str


@event(severity=Severity.WARNING)
class CommitUnfenced(Event):
    """A request with an Idempotency-Key committed in a database that is not the keys' (db.url)."""

    route: Annotated[str, Label]


@final
@dataclass(frozen=True, slots=True)
class _Stored:
    """An answer to be given once more."""

    row: "KeyRow"

    async def say(self, send: Send) -> None:
        row = self.row
        headers = [
            (n.encode("latin-1"), v.encode("latin-1"))
            for n, v in orjson.loads(row.headers or b"[]")
        ]
        headers.append(REPLAYED)
        await send({"type": "http.response.start", "status": row.status, "headers": headers})
        await send({"type": "http.response.body", "body": row.body or b""})


@final
class Idempotency:
    """Run a request with an Idempotency-Key once, and give its answer to whoever sends it again.

    A key belongs to one client, by the headers of `identity`, and stands for one request:
    method, path, query and body. It is in flight until the application is done with its
    background work. A failed run without effect releases it; a cancelled one keeps it until its
    lease ends, because what it has begun in a thread may go on. Safe for any number of tasks of one
    event loop.
    """

    def __init__(
        self,
        settings: IdempotencySettings,
        store: "KeyStore",
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._enforces = settings.mode == "enforce"
        self._methods = frozenset(settings.methods)
        self._identity = tuple(name.encode() for name in settings.identity)
        self._store = store
        self._wall = wall

    async def start(self) -> None:
        """Say what is missing, where the table is; requests are taken all the same."""
        try:
            because = await self._store.missing()
        except Rejected as error:
            because = str(error)
        if because:
            emit(KeysUnkept, what="at start", because=because)

    async def stop(self) -> None:
        """End the connections to the table."""
        await self._store.close()

    def around(self, call: Call, app: App) -> App:
        """Stand around the application where the request has a key, or should have one."""
        if call.scope.get("method") not in self._methods or call.probe:
            return app
        if KEY in call.headers:
            return partial(self._serve, call, app)
        if self._enforces and _is_below(call.scope["path"], self._settings.required):
            return _refuse
        return app

    async def _serve(
        self, call: Call, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        key = key_in(_all(scope, KEY))
        request = KeptRequest(receive)
        body = await request.read()
        if request.gone:
            return
        held = await self._hold(call, key, body)
        if isinstance(held, _Stored):
            await held.say(send)
            return
        if held is None:
            await app(scope, request.receive, send)
            return
        call.keyed = self._enforces
        answer = CopiedAnswer(send)
        with attempt_scope() as attempt:
            try:
                with self._store.holding(held) if self._enforces else nullcontext():
                    await app(scope, request.receive, answer.send)
            except Exception:
                await self._end(call, held, attempt, answer, raised=True)
                raise
            await self._end(call, held, attempt, answer)

    async def _hold(self, call: Call, key: str, body: bytes) -> "KeyHeld | _Stored | None":
        """Hold the key of the request, or return its answer; None where it is run without one."""
        settings, scope = self._settings, call.scope
        now = self._wall()
        held = self._store.new(
            key_id(key, [b"".join(_all(scope, name)) for name in self._identity]),
            fingerprint_of(
                scope["method"],
                scope["path"],
                scope["query_string"],
                call.headers.get(b"content-length", b""),
                body,
            ),
            now=now,
            lease_seconds=settings.lease_seconds,
            keep_seconds=settings.keep_seconds,
        )
        try:
            return await self._claim(held, now)
        except Rejected as error:
            if isinstance(error, KeyInFlight) or (
                self._enforces and settings.without_table == "refuse"
            ):
                raise
            emit(KeysUnkept, what="a key", because=str(error))
            return None

    async def _claim(self, held: "KeyHeld", now: float) -> "KeyHeld | _Stored | None":
        for _ in range(_TRIES):
            there = await self._store.insert(held)
            if there is None:
                return held
            verdict = judge_claim(there, fingerprint=held.row.fingerprint, now=now)
            if verdict is not KeyVerdict.TAKE_OVER:
                return self._answer(verdict, there, now)
            if await self._store.take_over(there, held):
                return held
        raise KeyInFlight(retry_after_seconds=1.0)

    def _answer(self, verdict: KeyVerdict, there: "KeyRow", now: float) -> "_Stored | None":
        emit(KeySeenAgain, verdict=verdict.value, mode=self._settings.mode)
        if not self._enforces:
            return None
        match verdict:
            case KeyVerdict.OTHER_REQUEST:
                raise KeyReused
            case KeyVerdict.ANSWER_LOST:
                raise KeyAnswerLost
            case KeyVerdict.IN_FLIGHT:
                left_seconds = there.lease_until - now
                raise KeyInFlight(retry_after_seconds=min(left_seconds, _LONGEST_WAIT_SECONDS))
            case _:
                return _Stored(there)

    async def _end(
        self,
        call: Call,
        held: "KeyHeld",
        attempt: Attempt,
        answer: CopiedAnswer,
        *,
        raised: bool = False,
    ) -> None:
        """Write down how it ended; where that cannot be done, its lease ends by itself."""
        if held.elsewhere:
            emit(CommitUnfenced, route=call.route())
        # A framework's page for an exception that nobody handled is not what the service answers.
        status = 0 if raised and answer.status >= 500 else answer.status
        ending = ending_of(
            status=status,
            whole=answer.whole,
            took_effect=call.record.calls_out > 0 or _took_effect(held, attempt),
        )
        now = self._wall()
        try:
            if ending is Ending.ANSWER:
                kept = kept_headers(answer.headers)
                headers = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in kept]
                await self._store.answer(
                    held,
                    status=status,
                    headers=orjson.dumps(headers),
                    body=answer.body,
                    now=now,
                )
            elif ending is Ending.EFFECT:
                await self._store.applied(held, now=now)
            else:
                await self._store.release(held, now=now)
        except Rejected as error:
            emit(KeysUnkept, what="an answer", because=str(error))


def _took_effect(held: "KeyHeld", attempt: Attempt) -> bool:
    """Whether the databases of the request may have kept something of it.

    Of a COMMIT with our mark whose answer was lost, the row of the key tells: it is not asked here.
    """
    if attempt.commits:
        return True
    told = held.fenced and not held.elsewhere
    return not told and any(
        classify(error).outcome is Outcome.AMBIGUOUS for error in attempt.failures
    )


def _all(scope: Scope, header: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == header]


def _is_below(path: str, patterns: Iterable[str]) -> bool:
    return any(
        path == pattern or (pattern.endswith("/*") and path.startswith(pattern[:-1]))
        for pattern in patterns
    )


async def _refuse(*_: object) -> None:
    raise KeyMissing
