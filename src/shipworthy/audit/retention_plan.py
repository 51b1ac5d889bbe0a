"""What may leave the log: the oldest batches whose entries are old enough; pure.

Entries are sealed a batch at a time and whole, so a batch goes as a whole or not at all: to empty
an entry of its values, or to take one out, would break the root of its batch. Personal values are
what can be taken from the middle, because they are sealed as commitments (`personal`).

Not here: writing archives and taking entries away (`retention`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

_DAY: Final = 86_400
_SECOND: Final = 1_000_000
# PCI DSS 4.0, 10.5.1: a year of audit history, three months of it at hand.
_PCI_SECONDS: Final = 365 * _DAY
_PCI_AT_HAND_SECONDS: Final = 90 * _DAY


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLengths:
    """How long what is kept, in seconds; 0 is for ever.

    `payload`: entries with their values in the database. `metadata`: who did it and when, and the
    archives. `access`: entries about exports, erasures and holds.
    """

    payload_seconds: float
    metadata_seconds: float
    access_seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAge:
    """A sealed batch whose entries are in the log; `signed` if a checkpoint ends with it."""

    number: int
    entries: int
    at_microseconds: int
    signed: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRange:
    """Batches that follow one another and become one archive."""

    first_batch: int
    last_batch: int
    entries: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What a run would do, and what to know about the lengths it goes by."""

    ranges: tuple[ArchiveRange, ...]
    before_microseconds: int
    notes: tuple[str, ...]

    @property
    def entries(self) -> int:
        """How many entries would be archived."""
        return sum(part.entries for part in self.ranges)

    @property
    def batches(self) -> int:
        """How many batches would leave the log."""
        return sum(part.last_batch - part.first_batch + 1 for part in self.ranges)


def plan_retention(
    batches: Sequence[BatchAge],
    lengths: RetentionLengths,
    *,
    now_microseconds: int,
    archive_entries: int,
) -> RetentionPlan:
    """Return which of `batches`, the oldest first and without gaps, may leave the log.

    A range ends with a batch that a checkpoint was signed for, so that its archive can be checked
    by itself; it has about `archive_entries` entries, more where signatures are further apart.
    """
    notes = tuple(lint_lengths(lengths))
    if not lengths.payload_seconds:
        return RetentionPlan(ranges=(), before_microseconds=0, notes=notes)
    before = now_microseconds - int(lengths.payload_seconds * _SECOND)
    ranges: list[ArchiveRange] = []
    first, entries = None, 0
    signed: ArchiveRange | None = None
    for batch in batches:
        if batch.at_microseconds >= before:
            break
        first = batch.number if first is None else first
        entries += batch.entries
        if not batch.signed:
            continue
        signed = ArchiveRange(first_batch=first, last_batch=batch.number, entries=entries)
        if entries >= archive_entries:
            ranges.append(signed)
            first, entries, signed = None, 0, None
    if signed is not None:
        ranges.append(signed)
    return RetentionPlan(ranges=tuple(ranges), before_microseconds=before, notes=notes)


def lint_lengths(lengths: RetentionLengths) -> Iterator[str]:
    """Say in sentences what is odd about lengths."""
    payload, metadata = lengths.payload_seconds, lengths.metadata_seconds
    if metadata and payload and metadata < payload:
        yield (
            "audit.keep_metadata is shorter than audit.keep_payload: archives would be taken away "
            "as soon as they are written"
        )
    kept = payload if not payload else metadata
    if kept and kept < _PCI_SECONDS:
        yield "PCI DSS 10.5.1 asks for 12 months of audit history; this keeps less"
    if payload and payload < _PCI_AT_HAND_SECONDS:
        yield "PCI DSS 10.5.1 asks for 3 months of audit history at hand; this keeps less"
