"""The first pass of verification: the batches as a log, against all that was signed of it."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import merge
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.batch import BEGINNING, BatchHeader, LeavesInvalid, Place
from shipworthy.audit.ledger.believed import believed_keys, counts
from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.merkle import Frontier, leaf_hash
from shipworthy.audit.ledger.note import Checkpoint, Note, NoteInvalid, PublicKey
from shipworthy.audit.ledger.shape_prints import add_said, check_shapes
from shipworthy.audit.tables import BATCHES, CHECKPOINTS

_AT_ONCE: Final = 2000


@final
@dataclass(slots=True, kw_only=True)
class LogFacts:
    """What the second pass needs of the first: where the log ends, and who came late."""

    batches: int = 0
    end: Place = BEGINNING
    late_batches: list[int] = field(default_factory=list)
    pruned_to: int = 0
    shapes: dict[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class SignedLog:
    """A log that somebody signed: how many batches, their root, and `where` that was read."""

    size: int
    root: bytes
    where: str


def verify_log(
    connection: sa.Connection,
    report: VerifyReport,
    *,
    trusted: Sequence[PublicKey],
    external: Sequence[Note],
) -> LogFacts:
    """Compare headers, tree and checkpoints; a log that is sealed meanwhile is no finding."""
    origin = keys.origin_of(connection)
    # In one statement, so that a batch that is sealed meanwhile has its checkpoint or is not there.
    last = connection.execute(
        sa.select(
            sa.select(sa.func.max(BATCHES.c.number)).scalar_subquery().label("batches"),
            sa.select(sa.func.max(CHECKPOINTS.c.size)).scalar_subquery().label("signed"),
        )
    ).one()
    batches, signed = int(last.batches or 0), int(last.signed or 0)
    if origin is None:
        _nameless(report, external, batches=batches, signed=signed)
        return LogFacts()
    if signed < batches:
        report.add(
            "batch unsigned",
            f"there are {batches} batches and the last checkpoint is of {signed}: its checkpoint "
            f"was removed, or the batch was put in",
            batch=batches,
        )
    believed = believed_keys(connection, report, trusted, external)
    outside = sorted(_outside(report, external, believed, origin), key=lambda it: it.size)
    known = [one.public for one in keys.known_keys(connection).values()]
    inside = _inside(connection, report, believed, known, origin=origin, up_to=signed)
    walk = LogWalk(report)
    walk.along(_headers(connection, up_to=batches), _merged(inside, outside))
    check_shapes(connection, report, walk.facts.shapes)
    return walk.facts


def _nameless(report: VerifyReport, external: Sequence[Note], *, batches: int, signed: int) -> None:
    """Say what it means that the log has no name: nothing, or that it was taken away."""
    if not (batches or signed or external):
        report.notes.append("nothing was ever sealed here: the log has no name and no key")
        return
    report.add(
        "log cut",
        f"the log has no name any more, and {batches} batches, {signed} of them signed, and "
        f"{len(external)} checkpoints that were kept outside say that it had one: what "
        f"`{keys.ORIGIN}` in the table of facts said was removed",
    )


@final
class LogWalk:
    """Along the batches in their order, with the checkpoints of each size on the way.

    It may be gone in several steps, each of which begins after the last batch of the one before.
    """

    def __init__(self, report: VerifyReport) -> None:
        self.facts = LogFacts()
        self._report = report
        self._tree = Frontier()
        self._before: BatchHeader | None = None
        # From here on the tree cannot be known: a batch is not there, or not as it was.
        self._lost = False
        self._good = 0

    def along(self, rows: Iterable[sa.Row[Any]], signed: Iterable[SignedLog]) -> None:
        """Go on along these batches, and compare what was signed of the log up to each."""
        ahead = iter(signed)
        due = next(ahead, None)
        for row in rows:
            self._batch(row)
            while due is not None and due.size <= self._tree.size:
                self.signed(due)
                due = next(ahead, None)
        self.facts.batches = self._tree.size
        while due is not None:
            self.signed(due)
            due = next(ahead, None)

    def _batch(self, row: sa.Row[Any]) -> None:
        report, number = self._report, row.number
        missing = number - self._tree.size - 1
        if missing > 0:
            first = self._tree.size + 1
            which = f"batch {first} is" if missing == 1 else f"batches {first} to {number - 1} are"
            report.add("batch removed", f"{which} not there", batch=first)
            self._lost = True
            for _ in range(missing):
                self._tree.append(b"")
        root = self._tree.root().hex()
        self._tree.append(leaf_hash(row.header.encode("utf-8", "surrogatepass")))
        report.batches += 1
        try:
            header = BatchHeader.parse(row.header)
        except LeavesInvalid as error:
            self._changed(number, f"its header cannot be read: {error}")
            self._before = None
            return
        if header.previous != root and not self._lost:
            # Whoever changed the one before did not change this one, which names it.
            self._changed(max(1, number - 1), "the one after it names another log before itself")
        self._columns(row, header)
        self._follows(header)
        self._before = header
        self.facts.end = header.to
        if header.late:
            self.facts.late_batches.append(number)
        self.facts.pruned_to = max(self.facts.pruned_to, _pruned_to(header))
        add_said(self.facts.shapes, header.says)

    def _columns(self, row: sa.Row[Any], header: BatchHeader) -> None:
        said = {
            "number": (row.number, header.number),
            "after_position": (row.after_position, header.after[0]),
            "to_position": (row.to_position, header.to[0]),
            "entries": (row.entries, header.entries),
            "root": (row.root, header.root),
            "at_microseconds": (row.at_microseconds, header.at_microseconds),
        }
        other = [name for name, (column, fact) in said.items() if column != fact]
        if other:
            self._report.add(
                "batch changed",
                f"batch {row.number}: {', '.join(other)} is not what its header has",
                batch=row.number,
            )

    def _follows(self, header: BatchHeader) -> None:
        before = self._before
        if before is None or before.number != header.number - 1:
            return
        if header.at_microseconds < before.at_microseconds:
            self._report.add(
                "time went back",
                f"batch {header.number} is older than the one before it by "
                f"{(before.at_microseconds - header.at_microseconds) / 1_000_000:.3f} s",
                batch=header.number,
            )
        if header.after != before.to:
            self._report.add(
                "batch changed",
                f"batch {header.number} does not begin where the one before it ends",
                batch=header.number,
            )

    def _changed(self, number: int, because: str) -> None:
        self._report.add("batch changed", f"batch {number}: {because}", batch=number)
        self._lost = True

    def signed(self, due: SignedLog) -> None:
        """Compare the log so far with one that was signed, of as many batches."""
        report, size = self._report, due.size
        report.checkpoints += 1
        if size > self._tree.size:
            report.add(
                "log cut",
                f"the checkpoint {due.where} is of {size} batches and there are "
                f"{self._tree.size}: the others were removed, or an older copy of the database "
                f"was put in its place",
                batch=self._tree.size + 1,
            )
        elif self._lost:
            return  # said already, and the root of what is not there cannot be told
        elif due.root != self._tree.root():
            which = (
                f"batch {size} was"
                if size == self._good + 1
                else (f"one of the batches {self._good + 1} to {size} was")
            )
            report.add(
                "log rewritten",
                f"the checkpoint {due.where} of {size} batches names another root than they give: "
                f"{which} changed or sealed again after it was signed",
                batch=size,
            )
            self._lost = True
        else:
            self._good = size


def pruned_after(connection: sa.Connection, number: int) -> int:
    """Return up to which batch those after `number` say that entries are to go; 0 for none."""
    found = 0
    for row in _headers(connection, after=number):
        with suppress(LeavesInvalid):  # named by the next verification, which reads it in its turn
            found = max(found, _pruned_to(BatchHeader.parse(row.header)))
    return found


def _pruned_to(header: BatchHeader) -> int:
    said = header.says.get("pruned_to_batch", 0)
    return min(said, header.number) if isinstance(said, int) else 0


def _headers(
    connection: sa.Connection, *, after: int = 0, up_to: int = sys.maxsize
) -> Iterator[sa.Row[Any]]:
    number = after
    while True:
        rows: Sequence[Any] = connection.execute(
            sa.select(
                BATCHES.c.number,
                BATCHES.c.after_position,
                BATCHES.c.to_position,
                BATCHES.c.entries,
                BATCHES.c.root,
                BATCHES.c.header,
                BATCHES.c.at_microseconds,
            )
            .where(BATCHES.c.number > number, BATCHES.c.number <= up_to)
            .order_by(BATCHES.c.number)
            .limit(_AT_ONCE)
        ).all()
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        number = rows[-1].number


def _inside(
    connection: sa.Connection,
    report: VerifyReport,
    believed: Mapping[PublicKey, int],
    known: Sequence[PublicKey],
    *,
    origin: str,
    up_to: int,
) -> Iterator[SignedLog]:
    """Yield the checkpoints of the database that are what they say, and name the others.

    One that is signed by a key that only the database names counts where a later one, of a key
    that is trusted, covers it: such a key is left behind when it was lost.
    """
    size, covered, only_named = 0, 0, list[int]()
    while True:
        rows = connection.execute(
            sa.select(CHECKPOINTS.c.size, CHECKPOINTS.c.root, CHECKPOINTS.c.note)
            .where(CHECKPOINTS.c.size > size, CHECKPOINTS.c.size <= up_to)
            .order_by(CHECKPOINTS.c.size)
            .limit(_AT_ONCE)
        ).all()
        for row in rows:
            size = row.size
            try:
                note = Note.parse(row.note)
                checkpoint = Checkpoint.of(note)
            except NoteInvalid as error:
                said = f"the checkpoint of {size} batches cannot be read: {error}"
                report.add("checkpoint changed", said, batch=size)
                continue
            if (checkpoint.origin, checkpoint.size, checkpoint.root.hex()) != (
                origin,
                size,
                row.root,
            ):
                said = f"the checkpoint of {size} batches has a note that says something else"
                report.add("checkpoint changed", said, batch=size)
                continue
            if counts(note, size, believed):
                covered += len(only_named)
                only_named.clear()
            elif any(key.signed(note) for key in known):
                only_named.append(size)
            else:
                _unknown(report, size, "in the database")
                continue
            yield SignedLog(size=size, root=checkpoint.root, where="in the database")
        if len(rows) < _AT_ONCE:
            break
    for size in only_named:
        _unknown(report, size, "in the database")
    if covered:
        report.notes.append(
            f"{covered} checkpoints are signed by a key that only the database names; a later one "
            f"of a key that is trusted covers them"
        )


def _outside(
    report: VerifyReport, notes: Sequence[Note], believed: Mapping[PublicKey, int], origin: str
) -> Iterator[SignedLog]:
    for note in notes:
        try:
            checkpoint = Checkpoint.of(note)
        except NoteInvalid as error:
            said = f"a checkpoint that was kept outside cannot be read: {error}"
            report.add("checkpoint changed", said)
            continue
        if checkpoint.origin != origin:
            report.add(
                "another log",
                f"a checkpoint that was kept outside is of the log '{checkpoint.origin}', and "
                f"this one is '{origin}'",
                batch=checkpoint.size,
            )
        elif not counts(note, checkpoint.size, believed):
            _unknown(report, checkpoint.size, "that was kept outside")
        else:
            yield SignedLog(
                size=checkpoint.size, root=checkpoint.root, where="that was kept outside"
            )


def _unknown(report: VerifyReport, size: int, where: str) -> None:
    report.add(
        "checkpoint of an unknown key",
        f"the checkpoint {where} of {size} batches is signed by no key that is trusted here: it "
        f"was changed, or the log was sealed again with another key",
        batch=size,
    )


def _merged(inside: Iterator[SignedLog], outside: Sequence[SignedLog]) -> Iterator[SignedLog]:
    """Yield both in the order of their sizes, without having all of the first at once."""
    return merge(inside, outside, key=lambda it: it.size)
