"""An alert as it is written for Prometheus, whether it came from the catalogue or is about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from shipworthy.deploy.promql import Recording
from shipworthy.events import Urgency


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Series over time, and at which seconds of it which label sets of the alert fire.

    A series is its name with labels in PromQL, and its values in promtool's notation, so many
    seconds apart; rules are evaluated each `evaluation_seconds`.
    """

    about: str
    interval_seconds: float
    evaluation_seconds: float
    series: tuple[tuple[str, str], ...]
    checks: tuple[tuple[float, tuple[Mapping[str, str], ...]], ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """One rule that calls somebody, with its runbook and its proof.

    `group` names the file it stands in; `urgency` is also the label `severity`; `labels` are the
    others. `recordings` are what its expression relies on; `drill` says what makes it fire, and
    `scenarios` show that it does, does not, and recovers.
    """

    name: str
    group: str
    expr: str
    for_seconds: float
    keep_seconds: float
    urgency: Urgency
    summary: str
    cause: str
    look: str
    act: str
    drill: str
    scenarios: tuple[Scenario, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    recordings: tuple[Recording, ...] = ()
