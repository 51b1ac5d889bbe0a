"""Seal the log: what is final and not sealed yet becomes the next batch, and its checkpoint.

Reading and hashing hold no lock. What is written is one short transaction: the lease is fenced, the
batch, the commitments of personal values and the checkpoint are inserted. So a sealer that dies has
left all of a batch or nothing of it, and one whose lease was taken writes nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import ENTRY_FIELDS
from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.asked import asked, said
from shipworthy.audit.ledger.batch import (
    BEGINNING,
    BatchHeader,
    BatchTree,
    LeavesInvalid,
    Place,
    gaps,
    next_header,
    without,
)
from shipworthy.audit.ledger.coverage import coverage_digest
from shipworthy.audit.ledger.figures import Unsealed
from shipworthy.audit.ledger.gaps import REMEMBERED_GAPS, recent_gaps
from shipworthy.audit.ledger.kept_tree import keep_tree, kept_tree
from shipworthy.audit.ledger.merkle import Frontier, leaf_hash
from shipworthy.audit.ledger.note import Checkpoint, Note, NoteInvalid, PrivateKey
from shipworthy.audit.ledger.patrol import Patrol, PatrolLook
from shipworthy.audit.ledger.reading import (
    PersonalCell,
    Row,
    bytes_of,
    leaf_of,
    personal_cells,
    reader_for,
)
from shipworthy.audit.ledger.shape_prints import shape_prints
from shipworthy.audit.model import OPERATIONS
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, ENTRIES, PERSONAL
from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import ShipworthyError
from shipworthy.events import OTHER
from shipworthy.store import Lease, SqlLeases

LEASE: Final = "audit.sealer"
_PAGE_ROWS: Final = 500
_OPERATION: Final = ENTRY_FIELDS.index("op")
_HEADERS_AT_ONCE: Final = 2000
# Not more is counted of what waits: it says "many" as well.
COUNTED_ENTRIES: Final = 100_000


@final
class LedgerBroken(ShipworthyError):
    """What was sealed is not any more what was signed, so nothing is sealed on top of it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SealLimits:
    """How large a batch may be, and how often the triggers are looked at."""

    entries: int = 5000
    bytes: int = 16 * 2**20
    coverage_seconds: float = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBatch:
    """A batch that was sealed: its header, that of the one before, the checkpoint with it.

    `operations` is how many of its entries tell of which, as `OPERATIONS` names it. `full`: it has
    as much as a batch may have, so more is waiting.
    """

    header: BatchHeader
    note: Note
    before: BatchHeader | None = None
    operations: Mapping[str, int] = field(default_factory=dict)
    full: bool = False


@dataclass(slots=True, kw_only=True)
class _Log:
    """The log as far as it is sealed, as whoever holds the lease knows it."""

    origin: str
    key: PrivateKey
    tree: Frontier
    header: BatchHeader | None = None
    note: Note | None = None
    gaps: Sequence[tuple[int, int]] = ()

    @property
    def place(self) -> Place:
        return BEGINNING if self.header is None else self.header.to


@dataclass(slots=True)
class _Gathered:
    tree: BatchTree = field(default_factory=BatchTree)
    operations: Counter[str] = field(default_factory=Counter)
    commitments: list[PersonalCell] = field(default_factory=list)
    late: int = 0
    full: bool = True
    to: Place | None = None
    gaps: list[tuple[int, int]] = field(default_factory=list)
    wanted: Mapping[str, Any] = field(default_factory=dict)


@final
class Sealer:
    """Seals the log of one database, a batch at a time; one thread uses it, under the lease.

    `key` is the signing key as the settings have it, `key_path` where it was looked for.
    """

    def __init__(
        self,
        engine: sa.Engine,
        key: PrivateKey | None,
        *,
        key_path: Path | None = None,
        limits: SealLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._engine = engine
        self._reader = reader_for(engine)
        self._key = key
        self._key_path = key_path
        self._limits = limits or SealLimits()
        self._clock = clock
        self._patrol = Patrol(self._reader)
        self._log: _Log | None = None
        self._coverage = ""
        self._coverage_at = float("-inf")

    def forget(self) -> None:
        """Read the log anew before the next batch: after a failure, or when another one sealed."""
        self._log = None

    def seal(
        self,
        lease: Lease,
        *,
        beat: bool = False,
        says: Mapping[str, Any] | None = None,
        also: Sequence[PrivateKey] = (),
    ) -> SealedBatch | None:
        """Seal the next batch under `lease`; None where there is nothing to seal.

        With `beat` a batch is sealed though no entry is there, so that an end that was cut off
        shows by its time. `says` goes into the header, beside what others ask for (`asked`), and
        `also` signs the checkpoint too.

        Raises `LeaseLost`, `SigningKeyMissing`, `LedgerBroken` and what the database raises; then
        nothing of the batch is there, and `seal` may be called again.
        """
        try:
            log = self._log or self._resumed()
            with self._engine.connect() as connection:
                coverage = self._covered(connection)
                changed = log.header is None or coverage != log.header.coverage
                shapes = {"shapes": shape_prints(connection)} if changed else {}
                wanted = asked(connection)
                gathered = self._gather(connection, log)
                gathered.wanted = wanted
            if not (gathered.tree or beat or says or wanted or changed):
                return None
            header = next_header(
                before=log.header,
                log_root=log.tree.root(),
                to=gathered.to,
                tree=gathered.tree,
                late=gathered.late,
                now_microseconds=int(self._clock.wall() * 1_000_000),
                coverage=coverage,
                token=lease.token,
                says={**wanted, **(says or {}), **shapes},
            )
            return self._write(lease, log, gathered, header, also)
        except BaseException:
            # What became of the transaction may be unknown: the database knows.
            self.forget()
            raise

    def unsealed(self) -> Unsealed:
        """Return what is not sealed yet, as it is now."""
        log = self._log or self._resumed()
        reader = self._reader
        with self._engine.connect() as connection:
            waits = reader.after(log.place)
            oldest = connection.scalar(
                sa.select(ENTRIES.c.at_microseconds).where(waits).order_by(ENTRIES.c.seq).limit(1)
            )
            if oldest is None:
                return Unsealed()
            some = sa.select(ENTRIES.c.seq).where(waits).limit(COUNTED_ENTRIES).subquery()
            count = connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
        now = self._clock.wall() * 1_000_000
        return Unsealed(entries=int(count), oldest_seconds=max(0.0, (now - oldest) / 1_000_000))

    def recheck(self, *, most: int) -> PatrolLook:
        """Compare some more of what is sealed with the log as it was signed; see `Patrol`."""
        log = self._log or self._resumed()
        with self._engine.connect() as connection:
            return self._patrol.look(connection, log.tree, most=most)

    def _resumed(self) -> _Log:
        """Read the log as far as it is sealed, and check that it is what was signed."""
        with self._engine.connect() as connection:
            key = keys.check_signs(connection, self._key, path=self._key_path)
            origin = keys.origin_of(connection) or ""
            tree, header, note = _signed(connection, origin)
            remembered = recent_gaps(connection, tree.size) if self._reader.by_seq else []
        self._log = log = _Log(
            origin=origin, key=key, tree=tree, header=header, note=note, gaps=remembered
        )
        return log

    def _covered(self, connection: sa.Connection) -> str:
        now = self._clock.now()
        if now - self._coverage_at >= self._limits.coverage_seconds:
            self._coverage = coverage_digest(connection, self._reader.dialect)
            self._coverage_at = now
            connection.rollback()
        return self._coverage

    def _gather(self, connection: sa.Connection, log: _Log) -> _Gathered:
        """Hash what is final and not sealed, no more of it than a batch may have."""
        found, reader, limits = _Gathered(), self._reader, self._limits
        horizon = reader.dialect.horizon(connection)
        # Some databases read in one transaction what was there at its beginning.
        connection.rollback()
        if not reader.by_seq and horizon < log.place[0]:
            raise _broken(
                f"position {log.place[0]} is sealed, and transactions here have numbers from "
                f"{horizon} on: the database was moved to another server, where what is written "
                f"now stands before the end of the log and is never sealed; see 'Moving to another "
                f"server' in docs/explanation/what-tampering-shows.md"
            )
        place, size, seqs = log.place, 0, list[int]()
        while len(found.tree) < limits.entries and size < limits.bytes:
            limit = min(_PAGE_ROWS, limits.entries - len(found.tree))
            rows = reader.page(connection, place, below=horizon, limit=limit)
            for row in self._hash(connection, rows, found):
                size += bytes_of(row)
                seqs.append(row[0])
                place = found.to = reader.place(row)
                if size >= limits.bytes:
                    break
            if len(rows) < limit:
                found.full = size >= limits.bytes
                break
        late = reader.in_runs(connection, log.gaps, up_to=log.place) if log.gaps else []
        found.late = sum(1 for _ in self._hash(connection, late, found))
        new = gaps(log.place[1], seqs) if reader.by_seq else []
        left = without(log.gaps, (row[0] for row in late))
        found.gaps = [*left, *new][-REMEMBERED_GAPS:]
        connection.rollback()
        return found

    @staticmethod
    def _hash(connection: sa.Connection, rows: Sequence[Row], found: _Gathered) -> Iterator[Row]:
        personal = personal_cells(connection, rows)
        for row in rows:
            cells = personal.get(row[0], ())
            found.tree.add(row[0], leaf_of(row, cells))
            # One that nobody of us writes is sealed like all others, and so shows.
            found.operations[OPERATIONS.get(row[_OPERATION], OTHER)] += 1
            found.commitments += [cell for cell in cells if cell.commitment is None]
            yield row

    def _write(
        self,
        lease: Lease,
        log: _Log,
        gathered: _Gathered,
        header: BatchHeader,
        also: Sequence[PrivateKey],
    ) -> SealedBatch:
        tree = log.tree.copy()
        tree.append(header.leaf)
        checkpoint = Checkpoint(origin=log.origin, size=header.number, root=tree.root())
        note = checkpoint.signed_by([log.key, *also])
        with self._engine.begin() as connection:
            SqlLeases.fence(connection, lease)
            # The key may have been replaced since it was read.
            keys.check_signs(connection, log.key, path=self._key_path)
            connection.execute(
                sa.insert(BATCHES).values(
                    number=header.number,
                    after_position=header.after[0],
                    to_position=header.to[0],
                    entries=header.entries,
                    root=header.root,
                    header=header.text,
                    leaves=gathered.tree.leaves().text,
                    at_microseconds=header.at_microseconds,
                )
            )
            keep_tree(connection, log.tree)
            if gathered.wanted:
                said(connection, gathered.wanted)
            _commit_to(connection, gathered.commitments)
            connection.execute(
                sa.insert(CHECKPOINTS).values(
                    size=checkpoint.size,
                    root=checkpoint.root.hex(),
                    note=str(note),
                    at_microseconds=header.at_microseconds,
                )
            )
        self._log = _Log(
            origin=log.origin,
            key=log.key,
            tree=tree,
            header=header,
            note=note,
            gaps=gathered.gaps,
        )
        return SealedBatch(
            header=header,
            note=note,
            before=log.header,
            operations=gathered.operations,
            full=gathered.full,
        )


def _commit_to(connection: sa.Connection, cells: Sequence[PersonalCell]) -> None:
    """Write the commitments that were sealed; what was erased meanwhile has its own already."""
    written = [
        {"of_seq": cell.seq, "of_side": cell.side, "of_name": cell.name, "made": cell.covered}
        for cell in cells
        if cell.covered
    ]
    if written:
        connection.execute(
            sa.update(PERSONAL)
            .where(
                PERSONAL.c.seq == sa.bindparam("of_seq"),
                PERSONAL.c.side == sa.bindparam("of_side"),
                PERSONAL.c.name == sa.bindparam("of_name"),
                PERSONAL.c.commitment.is_(None),
            )
            .values(commitment=sa.bindparam("made")),
            written,
        )


def _signed(
    connection: sa.Connection, origin: str
) -> tuple[Frontier, BatchHeader | None, Note | None]:
    """Return the log as it was signed: from what was kept, and where that is wrong from all."""
    kept = kept_tree(connection)
    if kept.size:
        with suppress(LedgerBroken):
            tree, header = _sealed(connection, kept)
            return tree, header, _last_note(connection, tree, origin)
    tree, header = _sealed(connection, Frontier())
    return tree, header, _last_note(connection, tree, origin)


def _sealed(connection: sa.Connection, tree: Frontier) -> tuple[Frontier, BatchHeader | None]:
    """Return `tree` with the batches after it, and the last of them."""
    text, number = None, tree.size
    while True:
        rows = connection.execute(
            sa.select(BATCHES.c.number, BATCHES.c.header)
            .where(BATCHES.c.number > number)
            .order_by(BATCHES.c.number)
            .limit(_HEADERS_AT_ONCE)
        ).all()
        for number, text in rows:  # noqa: B007 - the last ones are used
            tree.append(leaf_hash(text.encode()))
        if len(rows) < _HEADERS_AT_ONCE:
            break
    try:
        return tree, None if text is None else BatchHeader.parse(text)
    except LeavesInvalid as error:
        raise _broken(f"the header of batch {number} cannot be read: {error}") from None


def _last_note(connection: sa.Connection, tree: Frontier, origin: str) -> Note | None:
    row = connection.execute(
        sa.select(CHECKPOINTS.c.size, CHECKPOINTS.c.note)
        .order_by(CHECKPOINTS.c.size.desc())
        .limit(1)
    ).first()
    if row is None and tree.size == 0:
        return None
    if row is None or row.size != tree.size:
        signed = "none is signed" if row is None else f"{row.size} are signed"
        raise _broken(f"there are {tree.size} batches and {signed}")
    try:
        note = Note.parse(row.note)
        checkpoint = Checkpoint.of(note)
    except NoteInvalid as error:
        raise _broken(f"the checkpoint of {row.size} batches cannot be read: {error}") from None
    if checkpoint != Checkpoint(origin=origin, size=tree.size, root=tree.root()):
        raise _broken(f"the {tree.size} batches are not those that their checkpoint names")
    known = keys.known_keys(connection)
    if not any(one.public.signed(note) for one in known.values()):
        raise _broken(f"the checkpoint of {row.size} batches is signed by no key of this log")
    return note


def _broken(because: str) -> LedgerBroken:
    return LedgerBroken(
        f"the ledger is not as it was signed, so nothing is sealed on top of it: {because}; "
        f"`shipworthy audit verify` names what was changed"
    )
