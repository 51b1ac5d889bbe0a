"""Calls to other services: under the deadline of the request they are made for, with a breaker and
a retry budget for each target, and with the trace sent on.

`install()` reaches the clients of httpx and requests that the app has, and is what `run` does.
`GuardedTransport`, `AsyncGuardedTransport` and `GuardedAdapter` are the same for one client. The
decisions are in `policy`: what may be sent again, and what is a failure.

Not here: breaker, budget and the retrying itself (`resilience`), the deadline and the ids of the
request (`context`, `web`), and calls to a database (`db`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shipworthy.outbound.install import (
    CallsGuarded,
    CallsUnguarded,
    Installed,
    install,
    not_reached,
    sees_calls,
    tell_not_reached,
    uninstall,
)
from shipworthy.outbound.metrics import CALL_SECONDS, observe_calls
from shipworthy.outbound.settings import OutboundSettings
from shipworthy.outbound.shown import OUTBOUND_SHOWN
from shipworthy.outbound.targets import CallRepeated, Outbound, TargetForgotten, TargetStatistics

if TYPE_CHECKING:
    from shipworthy.outbound.httpx import AsyncGuardedTransport, GuardedTransport
    from shipworthy.outbound.requests import GuardedAdapter

__all__ = [
    "CALL_SECONDS",
    "OUTBOUND_SHOWN",
    "AsyncGuardedTransport",
    "CallRepeated",
    "CallsGuarded",
    "CallsUnguarded",
    "GuardedAdapter",
    "GuardedTransport",
    "Installed",
    "Outbound",
    "OutboundSettings",
    "TargetForgotten",
    "TargetStatistics",
    "install",
    "not_reached",
    "observe_calls",
    "sees_calls",
    "tell_not_reached",
    "uninstall",
]

# They are classes of libraries that need not be installed.
_HOMES = {
    "AsyncGuardedTransport": "shipworthy.outbound.httpx",
    "GuardedAdapter": "shipworthy.outbound.requests",
    "GuardedTransport": "shipworthy.outbound.httpx",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'shipworthy.outbound' has no attribute {name!r}")
    return getattr(import_module(home), name)
