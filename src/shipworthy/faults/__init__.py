"""A TCP proxy that harms what passes through it, on purpose and the same way each time.

`FaultProxy` stands in front of a database or any other server. `Fault` and its kinds say as data
what is done to which bytes; `Plan` decides from them, and is pure; the proxy carries bytes and
keeps the times.

Not here: what an application does about a failure (`resilience`, `db`, `outbound`). No room that
runs in production imports this one; tests, the demo and `python -m shipworthy.faults` do.
"""

from shipworthy.faults.fault import (
    Bandwidth,
    Cut,
    Delay,
    Direction,
    Fault,
    FaultInvalid,
    HalfClose,
    Placed,
    Refuse,
    Reset,
    Silence,
)
from shipworthy.faults.patterns import (
    COMMIT,
    MARIADB_COMMIT,
    POSTGRES_COMMIT,
    POSTGRES_COMMIT_ANSWER,
    REDIS_EXEC,
)
from shipworthy.faults.plan import Charge, Fed, Pass, Plan, Struck
from shipworthy.faults.proxy import FaultProxy, Happening

__all__ = [
    "COMMIT",
    "MARIADB_COMMIT",
    "POSTGRES_COMMIT",
    "POSTGRES_COMMIT_ANSWER",
    "REDIS_EXEC",
    "Bandwidth",
    "Charge",
    "Cut",
    "Delay",
    "Direction",
    "Fault",
    "FaultInvalid",
    "FaultProxy",
    "Fed",
    "HalfClose",
    "Happening",
    "Pass",
    "Placed",
    "Plan",
    "Refuse",
    "Reset",
    "Silence",
    "Struck",
]
