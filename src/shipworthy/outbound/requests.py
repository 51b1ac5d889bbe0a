"""Calls with requests: what its adapter sends, under the policies of the target."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast, final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import Timeout

from shipworthy.outbound.metrics import call_ended
from shipworthy.outbound.policy import repeat_of
from shipworthy.outbound.steps import Attempted, note_attempt, span_of_attempt
from shipworthy.outbound.targets import (
    AttemptFailed,
    Callee,
    Outbound,
    note_call,
    refusal_as,
    standing,
)
from shipworthy.resilience import BreakerOpen, DeadlinePassed

# On a request that is guarded already: two layers of ours are one.
_MARK = "_shipworthy"

_TargetRefused = refusal_as(requests.ConnectionError)


@final
class GuardedAdapter(HTTPAdapter):
    """Guard the calls of a session: `session.mount("https://", GuardedAdapter())`.

    It shares the targets of the process.
    """

    @override
    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        return send(
            standing(),
            self,
            request,
            partial(super().send, stream=stream, verify=verify, cert=cert, proxies=proxies),
            stream=stream,
            timeout=timeout,
        )


def send(
    out: Outbound,
    adapter: HTTPAdapter,
    request: requests.PreparedRequest,
    inner: Callable[..., requests.Response],
    *,
    stream: bool,
    timeout: Any,
) -> requests.Response:
    """Send `request` by `inner(request, timeout=...)` under the policies of its target."""
    if hasattr(request, _MARK):
        return inner(request, timeout=timeout)
    note_call(request.method or "")  # also of what is left alone
    target = _target(out, request.url or "")
    if target is None:
        return inner(request, timeout=timeout)
    call = _Call(out, target, adapter, request, inner)
    attempt = partial(call.attempt, timeout, stream=stream)
    ended: AttemptFailed | None = None
    try:
        if out.enforces:
            return target.pipeline.call(attempt)
        with target.observed():
            return attempt()
    except AttemptFailed as failed:
        ended = failed
    except BreakerOpen as refused:
        raise _TargetRefused(refused, request) from None
    except DeadlinePassed as passed:
        late = requests.ReadTimeout if call.tries else requests.ConnectTimeout
        raise late(str(passed), request=request) from None
    return cast("requests.Response", ended.result())


class _Call:
    """One call and its attempts."""

    def __init__(
        self,
        out: Outbound,
        target: Callee,
        adapter: HTTPAdapter,
        request: requests.PreparedRequest,
        inner: Callable[..., requests.Response],
    ) -> None:
        self.tries = 0
        self._out = out
        self._target = target
        self._request = self._sent = request
        self._inner = inner
        self._before: requests.Response | None = None
        keyed = "Idempotency-Key" in request.headers
        self._repeat = repeat_of(
            request.method or "",
            keyed=keyed,
            replayable=request.body is None or isinstance(request.body, (bytes, str)),
            repeated_below=adapter.max_retries.total != 0,
        )
        added = out.headers(target, request.headers)
        self._traced = any(name == "traceparent" for name, _ in added)
        self._span_id = ""
        if out.enforces or added:
            self._sent = _copied(request)
            self._sent.headers.update(added)

    def attempt(self, timeout: Any, *, stream: bool) -> requests.Response:
        """Send it once; raises `AttemptFailed` for whatever the pipeline has to judge."""
        self.tries += 1
        if self._before is not None:
            self._before.close()  # its connection goes back; its body is of no use any more
            self._before = None
        if self.tries > 1:
            self._target.repeats(self._request.method or "", self.tries)
        if self._traced:
            self._span_id, parent = span_of_attempt()
            if parent:
                self._sent.headers["traceparent"] = parent
        began = self._out.now()
        try:
            answer = self._inner(self._sent, timeout=_bounded(self._out, timeout, stream=stream))
        except Exception as error:  # noqa: BLE001 - it is judged, and the app gets it in the end
            if isinstance(error, requests.RequestException):
                error.request = self._request
            self._measured(0, began, error)
            raise self._target.judge(error, self._repeat, began) from None
        # The app's own, without our headers: a redirect to another host is made from it.
        answer.request = self._request
        self._measured(answer.status_code, began)
        self._before = answer
        self._target.check(
            answer, answer.status_code, answer.headers.get("Retry-After"), self._repeat
        )
        return answer

    def _measured(self, status: int, began: float, error: Exception | None = None) -> None:
        ended, to = self._out.now(), urlsplit(self._request.url or "")
        host, method = to.hostname or "", self._request.method or ""
        call_ended(host, method, status, ended - began)
        note_attempt(
            Attempted(method, host, to.port, status, self.tries),
            began=began,
            ended=ended,
            error=error,
            span_id=self._span_id,
        )


def _target(out: Outbound, url: str) -> Callee | None:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # for requests to complain about
        return None
    return out.target(parts.scheme, parts.hostname, port) if parts.hostname else None


def _copied(request: requests.PreparedRequest) -> requests.PreparedRequest:
    sent = object.__new__(type(request))
    vars(sent).update(vars(request))
    sent.headers = request.headers.copy()
    setattr(sent, _MARK, True)
    return sent


def _bounded(out: Outbound, timeout: Any, *, stream: bool) -> Any:
    """Return the timeout for an attempt: the app's own, or what is left where that is less."""
    if not out.enforces:
        return timeout
    silence = out.settings.silence_seconds
    if timeout is None and silence and not stream:
        timeout = Timeout(connect=silence, read=silence)
    left = out.left_seconds()
    if left is None:
        return timeout
    if isinstance(timeout, tuple):
        own = Timeout(connect=timeout[0], read=timeout[1])
    elif isinstance(timeout, Timeout):
        own = timeout.clone()
    else:
        own = Timeout(connect=timeout, read=timeout)
    own.total = min(own.total, left) if isinstance(own.total, (int, float)) else left
    return own
