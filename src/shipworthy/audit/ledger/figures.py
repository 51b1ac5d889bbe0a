"""What the sealer of this process counts, and the metrics of it; light, so anybody may ask."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from shipworthy.audit.model import OPERATIONS
from shipworthy.db import Outcome
from shipworthy.events import Metric, OneOf

# Why sealing failed, beside what a database may answer.
NO_KEY: Final = "no key"
BROKEN: Final = "broken"
OTHERWISE: Final = "other"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What is not sealed yet: how many entries (not counted beyond 100,000), how old the oldest."""

    entries: int = 0
    oldest_seconds: float = 0.0


@final
@dataclass(slots=True, kw_only=True)
class SealFigures:
    """What is counted; written by the sealer's thread, read from any."""

    sealing: bool = False
    unsealed: Unsealed = field(default_factory=Unsealed)
    # By what was done to the row, as `OPERATIONS` names it.
    entries: Counter[str] = field(default_factory=Counter)
    batches_total: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    rechecked_total: int = 0
    # How much of what is sealed is not as it was, when it was last looked over.
    tampered: int = 0


# Of this process: it has one sealer at most.
FIGURES: Final = SealFigures()

LAG: Final = Metric(
    "shipworthy_audit_seal_lag_seconds",
    "gauge",
    "Age of the oldest entry of the trail that is not sealed; of the worker that seals.",
    fold="max",
)
UNSEALED: Final = Metric(
    "shipworthy_audit_unsealed_entries",
    "gauge",
    "Entries of the trail that are not sealed.",
    fold="max",
)
SEALED: Final = Metric(
    "shipworthy_audit_sealed_entries_total",
    "counter",
    "Entries of the trail that were sealed, a row each, by what was done to it.",
    {"operation": OneOf(*OPERATIONS.values())},
)
BATCHES_SEALED: Final = Metric(
    "shipworthy_audit_sealed_batches_total", "counter", "Batches of the trail that were sealed."
)
FAILED: Final = Metric(
    "shipworthy_audit_seal_failures_total",
    "counter",
    "Times the trail could not be sealed, by why.",
    {"reason": OneOf(NO_KEY, BROKEN, *Outcome, OTHERWISE)},
)
RECHECKED: Final = Metric(
    "shipworthy_audit_rechecked_entries_total",
    "counter",
    "Sealed entries that were read again and compared with what was sealed.",
)
TAMPERED: Final = Metric(
    "shipworthy_audit_tampered",
    "gauge",
    "Entries and batches that were not as they were sealed when the trail was last looked over.",
    fold="max",
)
Reading = Callable[[], Mapping[tuple[str, ...], float]]


def ledger_metrics() -> tuple[tuple[Metric, Reading], ...]:
    """Return what the sealer of this process counts, with how to read it."""
    return (
        (LAG, lambda: _sealing(FIGURES.unsealed.oldest_seconds)),
        (UNSEALED, lambda: _sealing(FIGURES.unsealed.entries)),
        (SEALED, lambda: SEALED.zeros() | {(it,): n for it, n in FIGURES.entries.copy().items()}),
        (BATCHES_SEALED, lambda: {(): FIGURES.batches_total}),
        (FAILED, _failures),
        (RECHECKED, lambda: {(): FIGURES.rechecked_total}),
        (TAMPERED, lambda: _sealing(FIGURES.tampered)),
    )


def _failures() -> dict[tuple[str, ...], float]:
    return FAILED.zeros() | {(reason,): n for reason, n in FIGURES.failures.copy().items()}


def _sealing(number: float) -> dict[tuple[str, ...], float]:
    # The others know nothing of it, and theirs would be a wrong 0.
    return {(): number} if FIGURES.sealing else {}
