"""The guard of the Content-Security-Policy: a nonce for each page, and reports to learn from.

Not here: what a policy means (`csp_policy`), and what reports say (`csp_reports`).
"""

import asyncio
import base64
import os
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Final, Literal, final
from urllib.parse import quote

import orjson

from shipworthy.context import RequestRecord, current_request
from shipworthy.errors import Misuse, Rejected, RequestInvalid
from shipworthy.events import Event, Label, Metric, OneOf, emit, event
from shipworthy.telemetry import Registry
from shipworthy.web.blocked import Blocked
from shipworthy.web.browser_settings import CspSettings
from shipworthy.web.content import Content, content_of
from shipworthy.web.csp_policy import DATA_POLICY, NONCE_MARK, propose
from shipworthy.web.csp_reports import Learned, Outcome, read_reports
from shipworthy.web.csrf import own_origin
from shipworthy.web.health import ProbeRouteTaken, own_path
from shipworthy.web.line import Call, Headers, Message, Receive, Scope, Send

NONCE_BYTES: Final = 16
# A browser gathers up to a minute's reports in one body of the newer form.
REPORT_BYTES_MAX: Final = 64 * 1024
REPORT_SECONDS: Final = 5.0
# A page has many reports at once, and is one piece of news.
SETTLE_SECONDS: Final = 10.0
_TYPES: Final = frozenset({b"application/csp-report", b"application/reports+json"})
_ENFORCED: Final = b"content-security-policy"
_REPORTED: Final = b"content-security-policy-report-only"
_LENGTHS: Final = frozenset({len(_ENFORCED), len(_REPORTED)})

REPORTS: Final = Metric(
    "shipworthy_csp_reports_total",
    "counter",
    "Reports of browsers about what the policy would forbid, by what became of them.",
    {"outcome": OneOf("new", "known", "noise", "unreadable")},
)


@event()
class PolicyProposed(Event):
    """Browsers reported what the Content-Security-Policy would forbid; with it, this one would do.

    It is made from what anybody may send, and never applied by itself.
    """

    mode: Annotated[str, Label]
    policy: str
    added: str
    advice: str
    reports: int


@final
class ReportsTooMany(Rejected):
    """More reports came than are read in a second."""

    status = 429
    told = True

    def __init__(self, per_second: int) -> None:
        super().__init__(
            f"more than {per_second} reports in a second; send the rest later, or never",
            retry_after_seconds=1.0,
        )


@final
class ReportUnreadable(RequestInvalid):
    """What was sent as a report is none."""

    told = True


@final
class CspGuard:
    """Send a policy with each page, and learn from the reports which one the service needs.

    In mode report browsers forbid nothing; they are told where to send their reports, and those are
    taken at `report_path`, unless the application has a route there. What an answer holds of a
    policy already stays alone. Belongs to one event loop at a time.
    """

    def __init__(
        self,
        settings: CspSettings,
        blocked: Blocked,
        registry: Registry,
        *,
        mode: Literal["report", "enforce"],
        owns: Callable[[str], bool],
        route_of: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._mode: Literal["report", "enforce"] = mode
        self._policy = settings.policy
        self._name = _ENFORCED if mode == "enforce" else _REPORTED
        self._parts = settings.policy.encode().split(NONCE_MARK.encode())
        self._data = (_ENFORCED, DATA_POLICY.encode()) if mode == "enforce" else None
        # What is forbidden already is no news, and needs no endpoint that anybody may call.
        self._path = settings.report_path if mode == "report" else ""
        self._owned: bool | None = None
        self._owns = owns
        self._blocked = blocked
        self._per_second = settings.reports_per_second
        self._now = now
        self._second, self._in_second = now(), 0
        self._learned = Learned(kept=settings.sources_kept, route_of=route_of)
        self._said = propose(self._policy, ())
        self._timer: asyncio.TimerHandle | None = None
        counted = registry.counter(REPORTS)
        outcomes: tuple[Outcome, ...] = ("new", "known", "noise", "unreadable")
        self._cells = {outcome: counted.cell(outcome) for outcome in outcomes}
        if self._path:
            blocked.expect("csp", "too-many-reports", "enforce")
            blocked.expect("csp", "unreadable-report", "enforce")

    def enter(self, call: Call) -> None:
        """Put the endpoint of reports in the place of the application where it is asked for."""
        scope = call.scope
        if (
            self._path
            and scope.get("method") == "POST"
            and own_path(scope) == self._path
            and not self._is_owned()
        ):
            # As a probe: no work of the application, and no news in the metrics of its requests.
            call.probe = True
            call.record.route = self._path
            call.app = partial(self._take, call)

    def starting(self, call: Call, message: Message) -> None:
        """Add the policy to a page, and in mode enforce what forbids everything to other data."""
        headers = message.get("headers", ())
        kind = content_of(headers)
        if kind is Content.PAGE:
            if not _has_policy(headers):
                message["headers"] = [*headers, (self._name, self._value(call))]
        elif kind is Content.DATA and self._data is not None and not _has_policy(headers):
            message["headers"] = [*headers, self._data]

    def describe(self) -> Mapping[str, Any]:
        """Return what is learned so far, as plain data."""
        return {
            "mode": self._mode,
            "policy": self._policy,
            "seen": [asdict(one) for one in self._learned.sightings()],
            "forgotten": self._learned.forgotten,
        }

    def _value(self, call: Call) -> bytes:
        """Return the policy for one page; only the nonce, and where reports go, are its own."""
        value = self._parts[0]
        if len(self._parts) > 1:
            value = b"'nonce-" + _nonce_of(call.record).encode() + b"'"
            value = value.join(self._parts)
        if self._path and not self._is_owned():
            root = call.scope.get("root_path")
            value += b"; report-uri "
            value += (quote(root) + self._path if root else self._path).encode()
        return value

    def _is_owned(self) -> bool:
        """Whether the application has a route of its own there; found out once, by its table."""
        if self._owned is None:
            self._owned = self._owns(self._path)
            if self._owned:
                emit(ProbeRouteTaken, path=self._path)
        return self._owned

    async def _take(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._now()
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        if self._in_second >= self._per_second:
            self._tell(call, "too-many-reports", f"more than {self._per_second} in a second")
            raise ReportsTooMany(self._per_second)
        try:
            await self._read(call, scope, receive)
        except ReportUnreadable as error:
            self._in_second += 1
            self._cells["unreadable"].add(1)
            self._tell(call, "unreadable-report", str(error))
            raise
        headers: Headers = [(b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> None:
        kind = call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in _TYPES:
            raise ReportUnreadable("a report is application/csp-report or application/reports+json")
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            raise ReportUnreadable(f"the report did not come within {REPORT_SECONDS:g} s") from None
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ReportUnreadable("the report is not JSON") from None
        host = call.headers.get(b"host", b"").decode("latin-1")
        self._hear(
            document, own=own_origin(scope.get("scheme", "http"), host), client=call.record.client
        )

    def _hear(self, document: Any, *, own: str, client: str) -> None:
        news = False
        for found in read_reports(document, own=own):
            outcome: Outcome = (
                found if isinstance(found, str) else self._learned.learn(found, hash(client))
            )
            self._cells[outcome].add(1)
            self._in_second += 1
            news = news or outcome == "new"
        if news and self._timer is None:
            loop = asyncio.get_running_loop()
            # It is of no request, so it is not said in the name of the one that was the last.
            self._timer = loop.call_later(SETTLE_SECONDS, self._say, context=Context())

    def _say(self) -> None:
        """State what is proposed, once for all that came together, where it has changed."""
        self._timer = None
        seen = self._learned.sightings()
        proposal = propose(self._policy, seen)
        if (proposal.policy, len(proposal.advice)) == (self._said.policy, len(self._said.advice)):
            return
        self._said = proposal
        emit(
            PolicyProposed,
            mode=self._mode,
            policy=proposal.policy,
            added="; ".join(proposal.added),
            advice="; ".join(proposal.advice),
            reports=sum(one.reports for one in seen),
        )

    def _tell(self, call: Call, rule: str, because: str) -> None:
        self._blocked.tell(
            "csp", rule, "enforce", because, client=call.record.client, route=self._path
        )


def csp_nonce() -> str:
    """Return the nonce of the page that is being made, for its own `<script>` and `<style>`.

    One for each answer, 128 random bits: `<script nonce="...">`. The policy in its head has the
    same, where it says `{nonce}`. Raises `Misuse` outside of a request.
    """
    record = current_request()
    if record is None:
        raise Misuse("there is no page here: call csp_nonce() while a request is served")
    return _nonce_of(record)


def _nonce_of(record: RequestRecord) -> str:
    if not record.nonce:
        nonce = base64.b64encode(os.urandom(NONCE_BYTES)).decode()
        # No call between look and store, so no other thread comes between them.
        if not record.nonce:
            record.nonce = nonce
    return record.nonce


def _has_policy(headers: Headers) -> bool:
    for name, _ in headers:
        # The length first: it is cheap and tells nearly all others apart.
        if len(name) in _LENGTHS and name.lower() in {_ENFORCED, _REPORTED}:
            return True
    return False


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ReportUnreadable("the client left before its report was whole")
        body += message.get("body", b"")
        if len(body) > REPORT_BYTES_MAX:
            raise ReportUnreadable(f"the report is longer than {REPORT_BYTES_MAX} bytes")
        if not message.get("more_body", False):
            return bytes(body)
