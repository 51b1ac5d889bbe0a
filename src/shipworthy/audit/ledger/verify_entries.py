"""The second pass of verification: the entries, against the batches that have them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit.ledger.batch import (
    BEGINNING,
    BatchHeader,
    Leaves,
    LeavesInvalid,
    print_of,
)
from shipworthy.audit.ledger.findings import SHOWN_FINDINGS, VerifyReport
from shipworthy.audit.ledger.gaps import recent_gaps
from shipworthy.audit.ledger.merkle import root_of
from shipworthy.audit.ledger.reading import PersonalCell, Row, SealReader, leaf_of, personal_cells
from shipworthy.audit.ledger.verify_log import LogFacts, pruned_after
from shipworthy.audit.tables import BATCHES, ENTRIES

_CHUNK_ENTRIES: Final = 10_000
_CHUNK_BATCHES: Final = 500
_PAGE_ROWS: Final = 5000
_LATE_AT_ONCE: Final = 500


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """A batch whose entries are looked at; `leaves` is None where its list is of no use."""

    header: BatchHeader
    leaves: Leaves | None


def verify_entries(
    connection: sa.Connection, reader: SealReader, report: VerifyReport, facts: LogFacts
) -> None:
    """Compare each entry with the print and the root that were sealed of it, in chunks."""
    run = _Entries(
        connection, reader, report, facts, lambda: pruned_after(connection, facts.batches)
    )
    run.before_the_first()
    for chunk in run.chunks():
        run.check(chunk)
    report.pruned_batches = facts.pruned_to
    report.unsealed += int(
        connection.scalar(
            sa.select(sa.func.count()).select_from(ENTRIES).where(reader.after(facts.end))
        )
        or 0
    )


def verify_batches(
    connection: sa.Connection,
    reader: SealReader,
    report: VerifyReport,
    numbers: Sequence[int],
    *,
    pruned: Callable[[], int],
) -> None:
    """Compare the entries of some batches that are known to be in the log, and look at no others.

    `pruned` returns up to which batch entries may have been archived.
    """
    run = _Entries(connection, reader, report, LogFacts(pruned_to=pruned()), pruned)
    for batch in run.numbered(numbers):
        run.check_listed(batch)


@final
class _Entries:
    def __init__(
        self,
        connection: sa.Connection,
        reader: SealReader,
        report: VerifyReport,
        facts: LogFacts,
        pruned: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._report = report
        self._facts = facts
        self._pruned_now = pruned

    @cached_property
    def _late(self) -> set[int]:
        return self._came_late()

    @cached_property
    def _open(self) -> Sequence[tuple[int, int]]:
        """Where one may still come, and is sealed as late then."""
        by_seq = self._reader.by_seq
        return recent_gaps(self._connection, self._facts.batches) if by_seq else []

    def before_the_first(self) -> None:
        """Name entries that stand where none can: no sealer would ever come there."""
        rows = self._connection.execute(
            sa.select(ENTRIES.c.seq).where(self._reader.up_to(BEGINNING)).limit(SHOWN_FINDINGS)
        )
        for (seq,) in rows:
            self._report.add(
                "entry inserted", f"entry {seq} stands before the first that there can be", seq=seq
            )

    def chunks(self) -> Iterator[list[_Batch]]:
        """Yield batches that follow one another, or one alone whose list is of no use."""
        chunk: list[_Batch] = []
        entries = 0
        for batch in self._batches():
            apart = batch.leaves is None
            if chunk and (
                apart
                or entries + batch.header.entries > _CHUNK_ENTRIES
                or batch.header.number != chunk[-1].header.number + 1
            ):
                yield chunk
                chunk, entries = [], 0
            if apart:
                yield [batch]
            else:
                chunk.append(batch)
                entries += batch.header.entries
        if chunk:
            yield chunk

    def check(self, chunk: Sequence[_Batch]) -> None:
        """Compare the entries of a chunk."""
        if chunk[0].leaves is None:
            self._check_unlisted(chunk[0].header)
            return
        wanted = {
            seq: batch.header.number
            for batch in chunk
            if batch.leaves is not None
            for seq in batch.leaves.seqs
        }
        found: dict[int, bytes] = {}
        gone: set[int] = set()
        for page in self._pages(chunk[0].header, chunk[-1].header):
            for row, leaf in self._hashed(page):
                if row[0] in wanted:
                    found[row[0]] = leaf
                    if _lost_context(row):
                        gone.add(row[0])
                elif row[0] not in self._late:
                    self._strange(row[0], chunk)
        # What came late stands elsewhere, and so does what was moved.
        elsewhere = [seq for seq in wanted if seq not in found]
        found.update(
            (row[0], leaf)
            for row, leaf in self._hashed(self._reader.by_numbers(self._connection, elsewhere))
        )
        for batch in chunk:
            self._compare(batch, found, gone)

    def check_listed(self, batch: _Batch) -> None:
        """Compare the entries that a batch names, and none that stands among them."""
        if batch.leaves is None:
            return
        found: dict[int, bytes] = {}
        gone: set[int] = set()
        for row, leaf in self._hashed(self._reader.by_numbers(self._connection, batch.leaves.seqs)):
            found[row[0]] = leaf
            if _lost_context(row):
                gone.add(row[0])
        self._compare(batch, found, gone)

    def _compare(self, batch: _Batch, found: Mapping[int, bytes], gone: set[int]) -> None:
        header, leaves, report = batch.header, batch.leaves, self._report
        if leaves is None:
            return
        number, whole = header.number, True
        sealed_as = dict(zip(leaves.seqs, leaves.prints, strict=True))
        odd = [seq for seq in leaves.seqs if print_of(found.get(seq, b"")) != sealed_as[seq]]
        pruned = bool(odd) and self._pruned(number)
        left = set(self._still_there(odd)) if pruned else set(odd)
        for seq in odd:
            whole = False
            leaf = found.get(seq)
            if leaf is None:
                if not pruned:
                    because = f"entry {seq} of batch {number} is not there"
                    report.add("entry removed", because, batch=number, seq=seq)
            elif seq in left:
                what = (
                    "has lost its context: who made it is not known any more"
                    if seq in gone
                    else "is not as it was sealed: its row, its context or a commitment changed"
                )
                because = f"entry {seq} of batch {number} {what}"
                report.add("entry changed", because, batch=number, seq=seq)
        if whole and root_of([found[seq] for seq in leaves.seqs]).hex() != header.root:
            because = f"batch {number}: its entries do not give its root"
            report.add("batch changed", because, batch=number)

    def _pruned(self, number: int) -> bool:
        """Say whether retention may have taken entries of the batch, also while this was read."""
        if number > self._facts.pruned_to:
            self._facts.pruned_to = max(self._facts.pruned_to, self._pruned_now())
        return number <= self._facts.pruned_to

    def _still_there(self, seqs: Sequence[int]) -> list[int]:
        return [row[0] for row in self._reader.by_numbers(self._connection, seqs)]

    def _check_unlisted(self, header: BatchHeader) -> None:
        """Compare a batch as a whole: which of its entries was changed cannot be told."""
        if header.number <= self._facts.pruned_to:
            return
        leaves = [
            leaf
            for page in self._pages(header, header)
            for row, leaf in self._hashed(page)
            if row[0] not in self._late
        ]
        if root_of(leaves).hex() != header.root and not header.late:
            because = (
                f"batch {header.number}: its {len(leaves)} entries do not give its root, and "
                f"which of them was changed cannot be told without its list"
            )
            self._report.add("entry changed", because, batch=header.number)

    def _strange(self, seq: int, chunk: Sequence[_Batch]) -> None:
        if any(first <= seq <= last for first, last in self._open):
            self._report.unsealed += 1
            return
        first, last = chunk[0].header.number, chunk[-1].header.number
        among = f"batch {first}" if first == last else f"batches {first} to {last}"
        because = f"entry {seq} stands among those of {among}, and none of them has it"
        self._report.add("entry inserted", because, batch=first, seq=seq)

    def _pages(self, first: BatchHeader, last: BatchHeader) -> Iterator[Sequence[Row]]:
        place = first.after
        while True:
            rows = self._reader.page(self._connection, place, limit=_PAGE_ROWS, up_to=last.to)
            yield rows
            if len(rows) < _PAGE_ROWS:
                return
            place = self._reader.place(rows[-1])

    def _hashed(self, rows: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
        """Yield each entry with the hash of its leaf; look at its personal values on the way."""
        personal = personal_cells(self._connection, rows)
        self._report.rows += len(rows)
        for row in rows:
            cells = personal.get(row[0], ())
            for cell in cells:
                self._personal(cell)
            yield row, leaf_of(row, cells)

    def _personal(self, cell: PersonalCell) -> None:
        opening = cell.opening
        if opening is None:
            self._report.erased += 1
        other = opening is not None and opening != cell.commitment
        if cell.commitment is None or other or cell.odd:
            side = "before" if cell.side == "o" else "after"
            lost = "" if cell.commitment else " has lost its commitment, or"
            self._report.add(
                "personal value changed",
                f"the value of '{cell.name}' {side} the change of entry {cell.seq}{lost} is not "
                f"the one that was sealed",
                seq=cell.seq,
            )

    def _came_late(self) -> set[int]:
        """Return the entries that a later batch has than the one whose place they are at."""
        numbers, found = self._facts.late_batches, set[int]()
        for at in range(0, len(numbers), _LATE_AT_ONCE):
            rows = self._connection.execute(
                sa.select(BATCHES.c.header, BATCHES.c.leaves).where(
                    BATCHES.c.number.in_(numbers[at : at + _LATE_AT_ONCE])
                )
            )
            for text, leaves in rows:
                try:
                    late = BatchHeader.parse(text).late
                    found.update(Leaves.parse(leaves or "").seqs[-late:])
                except LeavesInvalid:  # named when the batch has its turn
                    continue
        return found

    def _batches(self) -> Iterator[_Batch]:
        number = 0
        while True:
            rows = self._connection.execute(
                sa.select(BATCHES.c.number, BATCHES.c.header, BATCHES.c.leaves)
                .where(BATCHES.c.number > number, BATCHES.c.number <= self._facts.batches)
                .order_by(BATCHES.c.number)
                .limit(_CHUNK_BATCHES)
            ).all()
            for row in rows:
                batch = self._batch(row.header, row.leaves)
                if batch is not None:
                    yield batch
            if len(rows) < _CHUNK_BATCHES:
                return
            number = rows[-1].number

    def numbered(self, numbers: Sequence[int]) -> Iterator[_Batch]:
        """Yield the batches of these numbers that can be read."""
        rows = self._connection.execute(
            sa.select(BATCHES.c.header, BATCHES.c.leaves).where(BATCHES.c.number.in_(numbers))
        ).all()
        for row in rows:
            batch = self._batch(row.header, row.leaves)
            if batch is not None:
                yield batch

    def _batch(self, text: str, listed: str | None) -> _Batch | None:
        try:
            header = BatchHeader.parse(text)
        except LeavesInvalid:  # named by the first pass
            return None
        if listed is None and self._pruned(header.number):
            return _Batch(header=header, leaves=None)
        try:
            leaves = Leaves.parse(listed or "")
            if leaves.digest == header.leaves:
                return _Batch(header=header, leaves=leaves)
            because = "its list of entries is not the one that was sealed"
        except LeavesInvalid as error:
            because = f"its list of entries cannot be read: {error}"
        self._report.add("batch changed", f"batch {header.number}: {because}", batch=header.number)
        return _Batch(header=header, leaves=None)


def _lost_context(row: Row) -> bool:
    return row[10] is None and not row[3].startswith("s")
