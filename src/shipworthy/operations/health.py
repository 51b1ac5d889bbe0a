"""`/health` as `application/health+json`, computed from the facts at hand.

The media type comes from draft-inadarei-api-health-check, which expired as draft 06 in 2021; we
keep its form because tools read it, and promise no standard.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from shipworthy.lifecycle import Answer
from shipworthy.operations.facts import ServiceFacts, WorkerFacts
from shipworthy.redact import redact
from shipworthy.resilience import BreakerState

HEALTH_JSON = "application/health+json"

_REFUSING = frozenset({BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.ISOLATED})

Status = Literal["pass", "warn", "fail"]

HEALTH_SCHEMA = {
    "type": "object",
    "title": "Health",
    "properties": {
        "status": {"enum": ["pass", "warn", "fail"]},
        "serviceId": {"type": "string"},
        "description": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "output": {"type": "string"},
        "checks": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "object"}},
        },
    },
    "required": ["status"],
}


def judge_status(facts: ServiceFacts) -> Status:
    """Judge the whole: `fail` takes no traffic, `warn` takes it but something is wrong.

    A dependency that is down warns only, unless its check belongs to readiness: then the answer
    about readiness says so. A breaker that refuses calls to a database warns too.
    """
    if not (facts.live.ok and facts.ready.ok):
        return "fail"
    wrong = any(
        worker.blocked
        or any(check["status"] == "fail" for check in checks_of(worker))
        or any(standing(pool) == "warn" for pool in pools_of(worker))
        for worker in facts.workers
    )
    return "warn" if wrong else "pass"


def health_document(facts: ServiceFacts, *, now_wall: float, detailed: bool) -> dict[str, Any]:
    """Return the document; without `detailed` only the status: names tell how we are built."""
    status = judge_status(facts)
    if not detailed:
        return {"status": status}
    document: dict[str, Any] = {
        "status": status,
        "serviceId": facts.target,
        "description": f"{facts.target} in {facts.environment}, {facts.phase}",
        "notes": [
            f"served by Shipworthy {facts.version}",
            _said("live", facts.live),
            _said("ready", facts.ready),
            _said("started", facts.startup),
        ],
        "checks": _checks(facts, now_wall),
    }
    if status == "fail":
        document["output"] = redact((facts.ready if facts.live.ok else facts.live).because)
    return document


def checks_of(worker: WorkerFacts) -> Sequence[Mapping[str, Any]]:
    """Return the worker's check reports as it sent them; none before its first report."""
    checks: Sequence[Mapping[str, Any]] = worker.health.get("checks", ())
    return checks


def pools_of(worker: WorkerFacts) -> Sequence[Mapping[str, Any]]:
    """Return the numbers of the worker's databases as it sent them; none before its first."""
    pools: Sequence[Mapping[str, Any]] = worker.health.get("databases", ())
    return pools


def standing(pool: Mapping[str, Any]) -> Literal["pass", "warn"]:
    """Judge a database by its breaker: one that refuses, or tries whether it may, is a warning."""
    return "warn" if pool["breaker"] in _REFUSING else "pass"


def _said(question: str, answer: Answer) -> str:
    because = f", {redact(answer.because)}" if answer.because else ""
    return f"{question}: {'yes' if answer.ok else 'no'}{because}"


def _checks(facts: ServiceFacts, now_wall: float) -> dict[str, list[dict[str, Any]]]:
    """The draft's `component:measurement` keys, each with one entry for each worker."""
    found: dict[str, list[dict[str, Any]]] = {}
    for worker in facts.workers:
        heartbeat: dict[str, Any] = {
            "componentId": str(worker.pid),
            "componentType": "system",
            "status": "warn" if worker.blocked else "pass",
            "observedValue": round(worker.heartbeat_age_seconds, 3),
            "observedUnit": "s",
            "time": _instant(now_wall - worker.heartbeat_age_seconds),
        }
        if worker.blocked:
            heartbeat["output"] = redact(worker.blocked)
        found.setdefault("worker:heartbeatAge", []).append(heartbeat)
        for check in checks_of(worker):
            entry = {
                "componentId": str(worker.pid),
                "componentType": "component",
                # The draft knows no "unknown"; what was not asked yet is not called good.
                "status": "warn" if check["status"] == "unknown" else check["status"],
                "observedValue": round(check["took_seconds"], 6),
                "observedUnit": "s",
            }
            if check["age_seconds"] is not None:
                entry["time"] = _instant(now_wall - check["age_seconds"])
            if check["output"]:
                entry["output"] = redact(check["output"])
            found.setdefault(f"{check['name']}:responseTime", []).append(entry)
        for pool in pools_of(worker):
            key = f"database {pool['name']}:connectionsInUse"
            found.setdefault(key, []).append(
                {
                    "componentId": str(worker.pid),
                    "componentType": "datastore",
                    "status": standing(pool),
                    "observedValue": pool["in_use"],
                    "observedUnit": "connections",
                    # The draft lets a check carry more; null is a pool without a limit.
                    "capacity": pool["capacity"],
                    "waiting": pool["waiting"],
                    "breaker": pool["breaker"],
                }
            )
    return found


def _instant(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
