"""What the process says of itself, as data."""

from dataclasses import asdict, dataclass
from typing import Any

from shipworthy.lifecycle.checks import CheckStatus, Kind
from shipworthy.lifecycle.drain import Phase


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a probe; `because` says why not, and is empty when `ok`."""

    ok: bool
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What is known from one check; `age_seconds` is None before its first answer."""

    name: str
    kinds: tuple[Kind, ...]
    status: CheckStatus
    status_seconds: float
    age_seconds: float | None
    took_seconds: float
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReport:
    """Whether a component is up, and how long it took to start; None when it has not started."""

    name: str
    requires: tuple[str, ...]
    up: bool
    start_took_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The state of one process at one moment; `since` and `transitions` are Unix seconds."""

    phase: Phase
    since: float
    transitions: tuple[tuple[Phase, float], ...]
    live: Answer
    ready: Answer
    startup: Answer
    checks: tuple[CheckReport, ...]
    components: tuple[ComponentReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can carry it, the enums as their texts."""
        return asdict(self)
