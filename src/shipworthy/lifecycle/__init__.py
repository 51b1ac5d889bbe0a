"""Alive, ready, draining, gone: how the process starts, says how it is, and leaves in order.

`Drain` decides which phase comes next and when, `CheckStanding` what a row of answers means,
`levels` who starts before whom: all three are pure. `Lifecycle` is the one shell that calls the
hooks, asks the checks and keeps every time.

What an application may ask and say from anywhere are functions: `draining`, `until_draining`,
`on_drain`, `background`, `start_background`, `background_thread`. `refuse_commits` and its
neighbours are the commit fence, `Shutdown` gathers the report of the way out.

Not here: who listens on a socket and what a phase does to a connection (`serve`), how a probe is
answered over HTTP and how a request in flight is cancelled (`web`), and what is asked of a
database (`db`).
"""

from shipworthy.lifecycle.cancel import cancel_outside_commits
from shipworthy.lifecycle.cgroup import Limit
from shipworthy.lifecycle.checks import Check, CheckChanged, CheckStatus, check_of
from shipworthy.lifecycle.components import (
    Component,
    ComponentStarted,
    ComponentStopFailed,
    ComponentStopped,
)
from shipworthy.lifecycle.drain import Drain, DrainFacts, DrainRule, Phase
from shipworthy.lifecycle.exits import Exit
from shipworthy.lifecycle.fence import (
    CommitRefused,
    CommitUnderWay,
    begin_commit,
    commit_fence,
    commits_under_way,
    end_commit,
    forget,
    refuse_commits,
    work_scope,
)
from shipworthy.lifecycle.health import Answer, CheckReport, ComponentReport, HealthReport
from shipworthy.lifecycle.hooks import leave_behind, threads_at_work, where
from shipworthy.lifecycle.lifecycle import (
    Lifecycle,
    PhaseChanged,
    StopReport,
)
from shipworthy.lifecycle.limits import (
    DescriptorsRaised,
    Limits,
    cpu_count_allowed,
    raise_descriptors,
    read_limits,
)
from shipworthy.lifecycle.loop_watch import BLOCKED, LAG, LoopBlocked, LoopMoves, StandstillWatch
from shipworthy.lifecycle.metrics import lifecycle_metrics
from shipworthy.lifecycle.process import (
    BackgroundFailed,
    DrainHookFailed,
    background,
    background_thread,
    draining,
    on_drain,
    start_background,
    until_draining,
)
from shipworthy.lifecycle.report import (
    Holder,
    HookReport,
    PhaseReport,
    Shutdown,
    ShutdownReport,
    ThreadLeft,
)
from shipworthy.lifecycle.resource_settings import ResourceSettings
from shipworthy.lifecycle.resources import (
    ProcessResources,
    ResourceChanged,
    ResourceOverBudget,
    ResourceUnread,
    ServiceResources,
)
from shipworthy.lifecycle.settings import LifecycleSettings
from shipworthy.lifecycle.shown import LIFECYCLE_SHOWN
from shipworthy.lifecycle.signals import (
    Signal,
    also_on,
    heard_early,
    ignore_signals,
    is_ignored,
    signals_of,
)
from shipworthy.lifecycle.watermarks import (
    LeaveForRecycle,
    Level,
    Recycle,
    ResourceReport,
    WorkerUse,
)

__all__ = [
    "BLOCKED",
    "LAG",
    "LIFECYCLE_SHOWN",
    "Answer",
    "BackgroundFailed",
    "Check",
    "CheckChanged",
    "CheckReport",
    "CheckStatus",
    "CommitRefused",
    "CommitUnderWay",
    "Component",
    "ComponentReport",
    "ComponentStarted",
    "ComponentStopFailed",
    "ComponentStopped",
    "DescriptorsRaised",
    "Drain",
    "DrainFacts",
    "DrainHookFailed",
    "DrainRule",
    "Exit",
    "HealthReport",
    "Holder",
    "HookReport",
    "LeaveForRecycle",
    "Level",
    "Lifecycle",
    "LifecycleSettings",
    "Limit",
    "Limits",
    "LoopBlocked",
    "LoopMoves",
    "Phase",
    "PhaseChanged",
    "PhaseReport",
    "ProcessResources",
    "Recycle",
    "ResourceChanged",
    "ResourceOverBudget",
    "ResourceReport",
    "ResourceSettings",
    "ResourceUnread",
    "ServiceResources",
    "Shutdown",
    "ShutdownReport",
    "Signal",
    "StandstillWatch",
    "StopReport",
    "ThreadLeft",
    "WorkerUse",
    "also_on",
    "background",
    "background_thread",
    "begin_commit",
    "cancel_outside_commits",
    "check_of",
    "commit_fence",
    "commits_under_way",
    "cpu_count_allowed",
    "draining",
    "end_commit",
    "forget",
    "heard_early",
    "ignore_signals",
    "is_ignored",
    "leave_behind",
    "lifecycle_metrics",
    "on_drain",
    "raise_descriptors",
    "read_limits",
    "refuse_commits",
    "signals_of",
    "start_background",
    "threads_at_work",
    "until_draining",
    "where",
    "work_scope",
]
