"""Alive, ready, draining, gone: how the process starts, says how it is, and leaves in order.

`Drain` decides which phase comes next and when, `CheckStanding` what a row of answers means,
`levels` who starts before whom: all three are pure. `Lifecycle` is the one shell that calls the
hooks, asks the checks and keeps every time.

Not here: who listens on a socket and what a phase does to a connection (`serve`), how a probe is
answered over HTTP and how a request in flight is cancelled (`web`), and what is asked of a
database (`db`).
"""

from shipworthy.lifecycle.checks import Check, CheckChanged, CheckStatus, check_of
from shipworthy.lifecycle.components import (
    Component,
    ComponentStarted,
    ComponentStopFailed,
    ComponentStopped,
)
from shipworthy.lifecycle.drain import Drain, DrainFacts, DrainRule, Phase
from shipworthy.lifecycle.exits import Exit
from shipworthy.lifecycle.health import Answer, CheckReport, ComponentReport, HealthReport
from shipworthy.lifecycle.hooks import where
from shipworthy.lifecycle.lifecycle import (
    DrainHookFailed,
    HookReport,
    Lifecycle,
    PhaseChanged,
    StopReport,
)
from shipworthy.lifecycle.settings import LifecycleSettings
from shipworthy.lifecycle.signals import (
    Signal,
    also_on,
    heard_early,
    ignore_signals,
    is_ignored,
    signals_of,
)

__all__ = [
    "Answer",
    "Check",
    "CheckChanged",
    "CheckReport",
    "CheckStatus",
    "Component",
    "ComponentReport",
    "ComponentStarted",
    "ComponentStopFailed",
    "ComponentStopped",
    "Drain",
    "DrainFacts",
    "DrainHookFailed",
    "DrainRule",
    "Exit",
    "HealthReport",
    "HookReport",
    "Lifecycle",
    "LifecycleSettings",
    "Phase",
    "PhaseChanged",
    "Signal",
    "StopReport",
    "also_on",
    "check_of",
    "heard_early",
    "ignore_signals",
    "is_ignored",
    "signals_of",
    "where",
]
