"""What verification may find, as facts."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

# Enough to see what happened; the counts are of all.
SHOWN_FINDINGS: Final = 1000

FindingKind = Literal[
    "entry changed",
    "entry removed",
    "entry inserted",
    "personal value changed",
    "batch changed",
    "batch removed",
    "batch unsigned",
    "checkpoint changed",
    "checkpoint of an unknown key",
    "log rewritten",
    "log cut",
    "time went back",
    "another log",
    "shape changed",
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFinding:
    """One thing that is not as it was sealed; `batch` and `seq` are 0 where it is about neither."""

    kind: FindingKind
    because: str
    batch: int = 0
    seq: int = 0


@final
@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was looked at and what was found.

    `findings` has at most 1,000 of them, `found` counts all by kind. `unsealed` entries cannot be
    verified yet, `erased` personal values not any more. `notes` are no findings, and whoever reads
    the report should know them.
    """

    rows: int = 0
    batches: int = 0
    checkpoints: int = 0
    unsealed: int = 0
    erased: int = 0
    pruned_batches: int = 0
    findings: list[LedgerFinding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    def add(self, kind: FindingKind, because: str, *, batch: int = 0, seq: int = 0) -> None:
        """Note a finding."""
        self.found[kind] += 1
        if len(self.findings) < SHOWN_FINDINGS:
            self.findings.append(LedgerFinding(kind=kind, because=because, batch=batch, seq=seq))

    def facts(self) -> dict[str, Any]:
        """Return it as `audit verify --json` prints it."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "batches": self.batches,
            "checkpoints": self.checkpoints,
            "unsealed": self.unsealed,
            "erased": self.erased,
            "pruned_batches": self.pruned_batches,
            "found": dict(self.found),
            "findings": [
                {"kind": it.kind, "batch": it.batch, "seq": it.seq, "because": it.because}
                for it in self.findings
            ],
            "notes": self.notes,
        }
