"""The guard of the Idempotency-Key: a request that comes twice is run once.

Not here: what a key means (`claim`), and where it is kept (`db`).
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, final

import orjson

from shipworthy.db import Attempt, Outcome, attempt_scope, classify, strays
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.below import is_below, paths_of
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

    A key belongs to one client of one host, by the headers of `identity`, or its cookies where it
    sends none of them, and stands for one request: method, path, query and body. It is in flight
    until the application is done with its background work. A failed run without effect releases it;
    a cancelled one keeps it until its lease ends, because what it has begun in a thread may go on,
    and is not run again where it is known to have had an effect. Safe for any number of tasks of
    one event loop.
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
        if self._enforces and any(
            is_below(path, self._settings.required) for path in paths_of(call.scope)
        ):
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
            work = _Work(held, attempt, strays())
            try:
                with self._store.holding(held) if self._enforces else nullcontext():
                    await app(scope, request.receive, answer.send)
            except Exception:
                await self._end(call, work, answer, raised=True)
                raise
            except asyncio.CancelledError:
                if held.elsewhere or work.took_effect(call):
                    with suppress(Rejected):
                        await self._store.applied(held, now=self._wall())
                raise
            else:
                await self._end(call, work, answer)
            finally:
                # They hold frames that hold this attempt: without this, a cycle for each.
                attempt.failures.clear()

    async def _hold(self, call: Call, key: str, body: bytes) -> "KeyHeld | _Stored | None":
        """Hold the key of the request, or return its answer; None where it is run without one."""
        settings, scope = self._settings, call.scope
        now = self._wall()
        held = self._store.new(
            key_id(key, [b"".join(_all(scope, b"host")), *self._client(scope)]),
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

    def _client(self, scope: Scope) -> list[bytes]:
        """Return what tells the client of a request from others."""
        told = [b"".join(_all(scope, name)) for name in self._identity]
        return told if any(told) else [b"; ".join(_all(scope, b"cookie"))]

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
        work: "_Work",
        answer: CopiedAnswer,
        *,
        raised: bool = False,
    ) -> None:
        """Write down how it ended; where that cannot be done, its lease ends by itself."""
        held = work.held
        if held.elsewhere:
            emit(CommitUnfenced, route=call.route())
        # A framework's page for an exception that nobody handled is not what the service answers.
        status = 0 if raised and answer.status >= 500 else answer.status
        ending = ending_of(
            status=status,
            whole=answer.whole,
            took_effect=work.took_effect(call),
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


class _Work(NamedTuple):
    """One request with a key that is worked on; `strays` were there before it."""

    held: "KeyHeld"
    attempt: Attempt
    strays: int

    def took_effect(self, call: Call) -> bool:
        """Say whether something of the request may have been kept, here or elsewhere.

        A commit that nobody answers for may be its own. Of a COMMIT with our mark whose answer was
        lost, the row of the key tells: it is not asked here.
        """
        if call.record.calls_out or self.attempt.commits or strays() != self.strays:
            return True
        told = self.held.fenced and not self.held.elsewhere
        return not told and any(
            classify(error).outcome is Outcome.AMBIGUOUS for error in self.attempt.failures
        )


def _all(scope: Scope, header: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == header]


async def _refuse(*_: object) -> None:
    raise KeyMissing
