"""One call through a transport of httpx, or of a library with its interface (httpx2)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, final

from shipworthy.context import current_deadline
from shipworthy.outbound.metrics import call_ended
from shipworthy.outbound.policy import Repeat, repeat_of
from shipworthy.outbound.steps import Attempted, note_attempt, span_of_attempt
from shipworthy.outbound.targets import AttemptFailed, Callee, Outbound, note_call, refusal_as
from shipworthy.resilience import BreakerOpen, DeadlinePassed

# In the extensions of a request that is guarded already: two layers of ours are one.
_MARK = "shipworthy"
_WAITS = ("connect", "read", "write", "pool")


def send(
    out: Outbound,
    library: ModuleType,
    transport: Any,
    request: Any,
    inner: Callable[[Any], Any],
) -> Any:
    """Send `request` by `inner(request)` under the policies of its target."""
    call = _Call.of(out, library, transport, request)
    if call is None:
        return inner(request)

    def attempt() -> Any:
        if call.before is not None:
            call.before.close()  # its connection goes back; its body is of no use any more
        call.begin()
        try:
            answer = inner(call.sent)
        except Exception as error:  # noqa: BLE001 - it is judged, and the app gets it in the end
            raise call.judge(error) from None
        call.check(answer)
        return answer

    ended: AttemptFailed | None = None
    try:
        if not out.enforces:
            with call.target.observed():
                return attempt()
        return call.finished(call.target.pipeline.call(attempt), call.kit.body)
    except AttemptFailed as failed:
        ended = failed
    except (BreakerOpen, DeadlinePassed) as error:
        raise call.translated(error) from None
    return call.finished(ended.result(), call.kit.body)


async def send_async(
    out: Outbound,
    library: ModuleType,
    transport: Any,
    request: Any,
    inner: Callable[[Any], Awaitable[Any]],
) -> Any:
    """Send `request` by `await inner(request)` under the policies of its target."""
    call = _Call.of(out, library, transport, request)
    if call is None or not _on_asyncio():
        return await inner(request)

    async def attempt() -> Any:
        if call.before is not None:
            await call.before.aclose()
        call.begin()
        try:
            answer = await inner(call.sent)
        except Exception as error:  # noqa: BLE001 - it is judged, and the app gets it in the end
            raise call.judge(error) from None
        call.check(answer)
        return answer

    ended: AttemptFailed | None = None
    try:
        if not out.enforces:
            with call.target.observed():
                return await attempt()
        return call.finished(await call.target.pipeline.call_async(attempt), call.kit.async_body)
    except AttemptFailed as failed:
        ended = failed
    except (BreakerOpen, DeadlinePassed) as error:
        raise call.translated(error) from None
    return call.finished(ended.result(), call.kit.async_body)


class _Call:
    """One call and its attempts."""

    __slots__ = (
        "before",
        "began",
        "kit",
        "out",
        "repeat",
        "request",
        "sent",
        "span_id",
        "target",
        "traced",
        "tries",
    )

    before: Any
    began: float
    kit: "_Kit"
    out: Outbound
    repeat: Repeat
    request: Any
    sent: Any
    span_id: str
    target: Callee
    traced: bool
    tries: int

    @classmethod
    def of(cls, out: Outbound, library: ModuleType, transport: Any, request: Any) -> "_Call | None":
        """Return the call, or None when it is to be left alone."""
        extensions = request.extensions
        url = request.url
        if _MARK in extensions:
            return None
        note_call(request.method)  # also of what is left alone
        target = out.target(url.scheme, url.host, url.port)
        if target is None:
            return None
        call = cls()
        call.out = out
        call.kit = kit = _kit_of(library)
        call.target = target
        call.request = request
        call.before = None
        call.span_id = ""
        call.tries = 0
        keyed = "idempotency-key" in request.headers
        call.repeat = repeat_of(
            request.method,
            keyed=keyed,
            replayable=isinstance(request.stream, kit.bytes_body),
            repeated_below=bool(getattr(getattr(transport, "_pool", None), "_retries", 0)),
        )
        added = out.headers(target, request.headers.keys())
        call.traced = any(name == "traceparent" for name, _ in added)
        if not (out.enforces or added):
            call.sent = request
            return call
        # The app's own request stays as it is: httpx copies it for a redirect to another host,
        # which may be one that is not to get our headers.
        call.sent = sent = object.__new__(type(request))
        vars(sent).update(vars(request))
        sent.extensions = {**extensions, _MARK: True}
        if added:
            sent.headers = request.headers.copy()
            for name, value in added:
                sent.headers[name] = value
        return call

    def begin(self) -> None:
        """Begin an attempt: no wait in it is longer than what is left of the deadline."""
        self.tries += 1
        if self.tries > 1:
            self.target.repeats(self.request.method, self.tries)
        if self.traced:
            self.span_id, parent = span_of_attempt()
            if parent:
                self.sent.headers["traceparent"] = parent
        self.began = self.out.now()
        left = self.out.left_seconds() if self.out.enforces else None
        if left is not None:
            own = self.request.extensions.get("timeout", {})
            self.sent.extensions["timeout"] = {
                name: left if own.get(name) is None else min(own[name], left) for name in _WAITS
            }

    def check(self, answer: Any) -> None:
        """Raise `AttemptFailed` for an answer that counts against the target."""
        self.before = answer
        self._measured(answer.status_code)
        self.target.check(
            answer, answer.status_code, answer.headers.get("retry-after"), self.repeat
        )

    def judge(self, error: Exception) -> AttemptFailed:
        """Return what to raise for an error of the library."""
        self.before = None
        self._measured(0, error)
        return self.target.judge(error, self.repeat, self.began)

    def _measured(self, status: int, error: Exception | None = None) -> None:
        ended, url = self.out.now(), self.request.url
        call_ended(url.host, self.request.method, status, ended - self.began)
        note_attempt(
            Attempted(self.request.method, url.host, url.port, status, self.tries),
            began=self.began,
            ended=ended,
            error=error,
            span_id=self.span_id,
        )

    def finished(self, answer: Any, bounded: type[Any]) -> Any:
        """Return the answer; under a deadline its body is not read beyond it."""
        deadline = current_deadline() if self.out.enforces else None
        if deadline is not None:
            answer.stream = bounded(answer.stream, deadline, self.out.now, self.kit.read_timeout)
        return answer

    def translated(self, error: BreakerOpen | DeadlinePassed) -> Exception:
        """Say what ours says as the library says it, which is what the app catches."""
        if isinstance(error, BreakerOpen):
            refused: Exception = self.kit.refused(error, self.request)
            return refused
        late = self.kit.read_timeout if self.tries else self.kit.connect_timeout
        return late(str(error))


@final
@dataclass(frozen=True, slots=True)
class _Kit:
    """What of a library's own types we need; the app knows no others."""

    refused: type[Any]
    body: type[Any]
    async_body: type[Any]
    bytes_body: type[Any]
    connect_timeout: type[Exception]
    read_timeout: type[Exception]


@cache
def _kit_of(library: ModuleType) -> _Kit:
    return _Kit(
        refused=refusal_as(library.ConnectError),
        body=type("Body", (_Body, library.SyncByteStream), {}),
        async_body=type("AsyncBody", (_AsyncBody, library.AsyncByteStream), {}),
        bytes_body=library.ByteStream,
        connect_timeout=library.ConnectTimeout,
        read_timeout=library.ReadTimeout,
    )


class _Bounded:
    """A body that is passed on as it comes, and ends with the library's error at the deadline."""

    def __init__(
        self, body: Any, deadline: float, now: Callable[[], float], late: Callable[[str], Exception]
    ) -> None:
        self._body = body
        self._deadline = deadline
        self._now = now
        self._late = late

    def _check(self) -> None:
        if self._now() >= self._deadline:
            raise self._late(_LATE)


class _Body(_Bounded):
    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._check()
            yield part

    def close(self) -> None:
        self._body.close()


class _AsyncBody(_Bounded):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._body)
        loop = asyncio.get_running_loop()
        while True:
            # Each wait alone, so that none goes on while the app works with what it has.
            try:
                async with asyncio.timeout_at(loop.time() + self._deadline - self._now()):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise self._late(_LATE) from None
            self._check()
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


_LATE = "the deadline passed while the answer's body was read"


def _on_asyncio() -> bool:
    """Tell whether asyncio runs us: the pipeline cannot wait on another loop (trio)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
