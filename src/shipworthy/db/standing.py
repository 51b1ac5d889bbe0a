"""How the databases of this process stand: numbers for a glance, holders for whoever asks.

Facts as mappings, because they leave this process. Not here: the numbers over time (`metrics`).
"""

from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING, Any

from shipworthy.context import RequestRecord
from shipworthy.db.install import protections_here

if TYPE_CHECKING:
    from shipworthy.db.guard import Protection
    from shipworthy.db.permits import Holding

# A heartbeat carries the numbers, so there is a bound on how many; nobody was seen with more.
SHOWN_DATABASES = 20
SHOWN_HOLDERS = 20


def pool_numbers() -> list[dict[str, Any]]:
    """Return what a glance needs of each database, the first 20 by name; never waits."""
    shown = ("name", "capacity", "in_use", "waiting", "breaker")
    every = (
        (asdict(protection.statistics()), protection.exceeds)
        for protection in protections_here()[:SHOWN_DATABASES]
    )
    return [
        {name: numbers[name] for name in shown} | {"exceeds": exceeds} for numbers, exceeds in every
    ]


def describe_databases() -> list[dict[str, Any]]:
    """Return all that is known of each database, with the 20 that hold a connection the longest.

    A holder has the line that took the connection, the line where it stands now, for how long,
    and the id of its request, empty where there is none. Never waits for a connection.
    """
    return [_described(protection) for protection in protections_here()]


def _described(protection: "Protection") -> dict[str, Any]:
    breaker = protection.breaking.breaker.statistics()
    holdings = sorted(_holdings(protection), key=lambda holding: holding.since)
    now = monotonic()
    return asdict(protection.statistics()) | {
        "because": breaker.because,
        "for_seconds": breaker.for_seconds,
        "retry_after_seconds": breaker.retry_after_seconds,
        "holders": [_holder(holding, now) for holding in holdings[:SHOWN_HOLDERS]],
    }


def _holder(holding: "Holding", now: float) -> dict[str, Any]:
    from shipworthy.db.pool import where_stands

    request = holding.request
    return {
        "taken_at": str(holding.place),
        "stands_at": where_stands(holding),
        "held_seconds": round(now - holding.since, 3),
        "request_id": request.request_id if isinstance(request, RequestRecord) else "",
    }


def _holdings(protection: "Protection") -> "list[Holding]":
    # Without the lock of the gates: a list of a dictionary is made in one step.
    return [holding for gate in protection.gates() for holding in list(gate.permits.holdings)]
