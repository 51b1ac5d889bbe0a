"""`/health` as `application/health+json`, computed from the facts at hand.

The media type comes from draft-inadarei-api-health-check, which expired as draft 06 in 2021; we
keep its form because tools read it, and promise no standard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from shipworthy.lifecycle import Answer, Level
from shipworthy.operations.facts import ServiceFacts, WorkerFacts
from shipworthy.redact import redact
from shipworthy.resilience import BreakerState

HEALTH_JSON = "application/health+json"

_ENDED_SHOWN = 3
_LEVELS: dict[str, Literal["pass", "warn", "fail"]] = {
    Level.OK: "pass",
    Level.WARN: "warn",
    Level.ACT: "fail",
    Level.EMERGENCY: "fail",
}
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
    about readiness says so. A breaker that refuses calls to a database warns too, and so do fewer
    workers than are wanted and a resource near to its limit.
    """
    if not (facts.live.ok and facts.ready.ok):
        return "fail"
    wrong = facts.serving < facts.wanted or any(
        worker.blocked
        or any(check["status"] == "fail" for check in checks_of(worker))
        or any(standing(pool) == "warn" for pool in pools_of(worker))
        or any(report["level"] != Level.OK for report in resources_of(worker))
        for worker in facts.workers
    )
    wrong = wrong or any(report.level is not Level.OK for report in facts.resources)
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
            *_replaced(facts, now_wall),
            *(f"listens at {address}" for address in facts.listens),
            *facts.limits,
            *_remarks(facts),
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


def resources_of(worker: WorkerFacts) -> Sequence[Mapping[str, Any]]:
    """Return the resources of the worker's own as it sent them; none before its first report."""
    resources: Sequence[Mapping[str, Any]] = worker.health.get("resources", ())
    return resources


def standing(pool: Mapping[str, Any]) -> Literal["pass", "warn"]:
    """Judge a database: a breaker that refuses or tries whether it may is a warning, and so are
    pools that may ask for more connections than the server has."""
    return "warn" if pool["breaker"] in _REFUSING or pool.get("exceeds") else "pass"


def _remarks(facts: ServiceFacts) -> list[str]:
    """What workers have to say that is no check; each sentence once."""
    said = (remark for worker in facts.workers for remark in worker.health.get("remarks", ()))
    return [redact(remark) for remark in dict.fromkeys(said)]


def _said(question: str, answer: Answer) -> str:
    because = f", {redact(answer.because)}" if answer.because else ""
    return f"{question}: {'yes' if answer.ok else 'no'}{because}"


def _replaced(facts: ServiceFacts, now_wall: float) -> list[str]:
    """Say in notes which workers go and why the last ones went."""
    notes = [
        f"worker {ended.pid} ended {now_wall - ended.ended_wall:.0f} s ago, {ended.end}: "
        f"{redact(ended.because)}"
        for ended in facts.ended[:_ENDED_SHOWN]
    ]
    if facts.replacing:
        notes.insert(0, f"workers still to be replaced: {facts.replacing}")
    return notes


def _checks(facts: ServiceFacts, now_wall: float) -> dict[str, list[dict[str, Any]]]:
    """The draft's `component:measurement` keys, each with one entry for each worker."""
    found: dict[str, list[dict[str, Any]]] = {
        "workers:serving": [
            {
                "componentType": "system",
                "status": "warn" if facts.serving < facts.wanted else "pass",
                "observedValue": facts.serving,
                "observedUnit": "workers",
                "wanted": facts.wanted,
            }
        ]
    }
    for report in facts.resources:
        _add_resource(found, asdict(report))
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
        for of_worker in resources_of(worker):
            _add_resource(found, of_worker, worker.pid)
        for pool in pools_of(worker):
            key = f"database {pool['name']}:connectionsInUse"
            said = {"output": pool["exceeds"]} if pool.get("exceeds") else {}
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
                    **said,
                }
            )
    return found


def _add_resource(
    found: dict[str, list[dict[str, Any]]], report: Mapping[str, Any], pid: int | None = None
) -> None:
    """Add how near to its limit a resource is, where that is known."""
    if report["ratio"] is None:
        return
    entry: dict[str, Any] = {
        "componentType": "system",
        "status": _LEVELS[report["level"]],
        "observedValue": round(report["ratio"], 4),
        "observedUnit": "ratio",
        # The draft lets a check carry more: what the ratio is made of.
        "used": report["used"],
        "limit": report["limit"],
        "unit": report["unit"],
    }
    if pid is not None:
        entry["componentId"] = str(pid)
    if report["because"]:
        entry["output"] = redact(report["because"])
    found.setdefault(f"{report['resource']}:usedRatio", []).append(entry)


def _instant(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
