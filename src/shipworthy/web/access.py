"""The access line of a request, and its counting, from what the line of guards knows anyway.

The line is put together as text, because a log record would cost more than all guards together,
and in the log's thread, so that no request waits for it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import orjson

from shipworthy.context import RequestWork
from shipworthy.events import method_label
from shipworthy.redact import redact
from shipworthy.telemetry import AccessLog, Sampler, line, timestamp
from shipworthy.web.line import UNMATCHED, Call, Scope
from shipworthy.web.request_metrics import CLIENT_GONE, RequestMetrics, uncounted

# Answers that a router gives before it has met a route: a redirect to the right slash, and a method
# that none takes.
_BEFORE_A_ROUTE = frozenset((301, 302, 307, 308, 405))

_GONE = '"client_gone":true,'
# Of a path; what comes after this is of no use to a reader.
TEXT_CHARACTERS = 1024
# Of an actor, as the trail has it.
_ACTOR_CHARACTERS = 200
# Texts that are kept in their escaped form; a client that asks for ever new paths empties it.
_KEPT_TEXTS = 4096
_KEPT_CHARACTERS = 256

# What the facts of a line keep in memory beside the characters of path, client and actor: the
# sum of `sys.getsizeof` over their parts, with room for one id more.
_FACTS_BYTES = 576


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What calls of one method, route and status share; `fixed` is that part of their line."""

    count: Callable[[Call, float], None]
    method: str
    status: int
    fixed: str


# Wall time, kind, path, client, seconds, bytes sent, whether the client left, request and trace id,
# who made the request, and what was done for it.
_Facts = tuple[float, _Kind, str, str, float, int, bool, str, str, str, "_Done | None"]
# Statements, seconds in the database, seconds of waiting for it, and what was done again.
_Done = tuple[int, float, float, int]


@final
class Access:
    """Write one line for each call and count it, once its answer is over.

    Probes are nobody's requests, so they are not counted, and write a line only when they fail.
    `meant` tells from a scope which route was asked for, where the router itself has answered.
    `sampler` says which lines are left out: never those of errors, and of what took
    `slow_seconds`. Safe to share between threads and tasks.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        log: AccessLog | None,
        *,
        meant: Callable[[Scope], str],
        now: Callable[[], float],
        wall: Callable[[], float] = time.time,
        asks_always: bool = False,
        sampler: Sampler | None = None,
        slow_seconds: float = 0.0,
    ) -> None:
        self._log = log
        self._asks_always = asks_always
        self._sampler = sampler
        self._slow_seconds = slow_seconds
        self._line_of = self._for_people if log and log.human else self._for_programs
        self._now = now
        self._wall = wall
        self._metrics = metrics
        self._meant = meant
        self.accepted = metrics.accepted
        self._known: dict[tuple[str, str, int], _Kind] = {}
        # Of the log's thread alone.
        self._texts: dict[str, str] = {}

    def ended(self, call: Call) -> None:
        """Count the call and have its line written."""
        seconds = self._now() - call.started
        record = call.record
        status = call.status or (CLIENT_GONE if call.gone else 500)
        route = record.route or call.route()
        if status in _BEFORE_A_ROUTE and route == UNMATCHED:
            route = record.route = self._meant(call.scope)
        kind = self._known.get((record.method, route, status)) or self._learn(call, route, status)
        kind.count(call, seconds)
        actor = self._actor(call)
        log = self._log
        if log is None or (call.probe and status < 400):
            return
        path, client = record.path[:TEXT_CHARACTERS], record.client[:TEXT_CHARACTERS]
        facts: _Facts = (
            self._wall(),
            kind,
            path,
            client,
            seconds,
            call.sent_bytes,
            call.gone,
            record.request_id,
            record.trace_id,
            actor,
            record.work and _done(record.work),
        )
        log.write_later(self._make, facts, _FACTS_BYTES + len(path) + len(client) + len(actor))

    def _actor(self, call: Call) -> str:
        """Return who made the request, as far as the application or a key of ours vouches for it.

        Asked for here at the latest: what goes on after the answer is done for the same actor.
        """
        record, scope = call.record, call.scope
        if record.named is None:
            if not (self._asks_always or "user" in scope or "user" in _state(scope)):
                return ""
            record.who()
        named = record.named
        # A name that nobody verified proves nothing of a request that may have been refused.
        if named is None or named.kind == "claimed":
            return ""
        return named.name[:_ACTOR_CHARACTERS]

    def _learn(self, call: Call, route: str, status: int) -> _Kind:
        """Return the cells, and the part of the line, that calls of this kind share."""
        method = call.record.method[:TEXT_CHARACTERS]
        label = method if method == "WEBSOCKET" else method_label(method)
        text = _escaped(route)
        kind = _Kind(
            count=uncounted if call.probe else self._metrics.of(label, route, status),
            method=method,
            status=status,
            fixed=f'"level":"{_level(status)}","logger":"shipworthy.access",'
            f'"message":"{label} {text} {status}",'
            f'"method":"{label}","route":"{text}","status":{status},',
        )
        if label == method and len(self._known) < _KEPT_TEXTS:
            self._known[method, route, status] = kind
        return kind

    def _make(self, facts: _Facts) -> bytes:
        """Return the line, nothing where it is left out of a flood; in the log's thread."""
        stands_for = 1
        if self._sampler is not None:
            wall, kind, _, _, seconds = facts[:5]
            if kind.status < 500 and seconds < self._slow_seconds:
                stands_for = self._sampler.weight(wall)
        return self._line_of(facts, stands_for) if stands_for else b""

    def _for_programs(self, facts: _Facts, stands_for: int) -> bytes:
        wall, kind, path, client, seconds, sent_bytes = facts[:6]
        gone, request_id, trace_id, actor, done = facts[6:]
        texts = self._texts
        return (
            f'{{"ts":"{timestamp(wall)}",{kind.fixed}'
            f'"path":"{texts.get(path) or self._escape(path)}",'
            f'"client":"{texts.get(client) or self._escape(client)}",'
            f'"duration_ms":{seconds * 1000:.3f},"sent_bytes":{sent_bytes},'
            f"{_GONE if gone else ''}"
            f"{self._named(actor) if actor else ''}"
            f"{_of_work(done) if done else ''}"
            f"{_of_others(stands_for) if stands_for > 1 else ''}"
            f'"request_id":"{request_id}","trace_id":"{trace_id}"}}\n'
        ).encode()

    def _for_people(self, facts: _Facts, stands_for: int) -> bytes:
        wall, kind, path, _, seconds, _, _, request_id, _, actor, done = facts
        fields: dict[str, Any] = {
            "ts": timestamp(wall),
            "level": _level(kind.status),
            "logger": "shipworthy.access",
            "message": redact(f"{kind.method} {path} {kind.status}"),
            "ms": f"{seconds * 1000:.1f}",
            "request_id": request_id,
        }
        if actor:
            fields["actor"] = redact(actor)
        if done:
            calls, db_seconds, wait_seconds, retries = done
            if calls or wait_seconds:
                fields["db_calls"] = calls
                fields["db_ms"] = f"{(db_seconds + wait_seconds) * 1000:.1f}"
            if retries:
                fields["retries"] = retries
        if stands_for > 1:
            fields["sampled_of"] = stands_for
        return line(fields, human=True)

    def _named(self, actor: str) -> str:
        return f'"actor":"{self._texts.get(actor) or self._escape(actor)}",'

    def _escape(self, text: str) -> str:
        """Return `text` escaped, and keep it where it is short: most paths come again."""
        escaped = _escaped(text)
        if len(text) <= _KEPT_CHARACTERS:
            if len(self._texts) >= _KEPT_TEXTS:
                self._texts.clear()
            self._texts[text] = escaped
        return escaped


def _escaped(text: str) -> str:
    """Return `text` redacted, cut and as it stands between the quotes of a JSON string."""
    clean = redact(text[:TEXT_CHARACTERS]).encode("utf-8", "backslashreplace").decode()
    return orjson.dumps(clean)[1:-1].decode()


def _done(work: RequestWork) -> _Done:
    """Return what was done by now: work in the background goes on."""
    return work.db_calls, work.db_seconds, work.db_wait_seconds, work.retries


def _of_work(done: _Done) -> str:
    calls, db_seconds, wait_seconds, retries = done
    text = ""
    if calls or wait_seconds:
        text = (
            f'"db_calls":{calls},"db_ms":{db_seconds * 1000:.3f},'
            f'"db_wait_ms":{wait_seconds * 1000:.3f},'
        )
    return f'{text}"retries":{retries},' if retries else text


def _of_others(stands_for: int) -> str:
    return f'"sampled_of":{stands_for},'


def _state(scope: Scope) -> Mapping[str, Any]:
    state = scope.get("state")
    return state if isinstance(state, dict) else _NO_STATE


_NO_STATE: Mapping[str, Any] = {}


def _level(status: int) -> str:
    return "info" if status < 500 else "error"
