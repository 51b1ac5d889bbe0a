"""Old entries leave the log: archived, checked, put on record, and only then taken away.

A run goes by whole batches, the oldest first. What is archived is read back from the disk before
anything is taken away; that it is to go is said in the header of a batch, signed by the sealer; the
roots of the batches stay for ever, so the log can be verified over what has left it. Every step can
be interrupted: the next run goes on where this one ended.

Entries go in short transactions of their own, so no writer waits for long. The table is not
partitioned by time: a partition ends at an hour and not with a batch, holds and the deeds of the
trail itself keep single entries back, and every look at a row's history would ask each partition.
The space is used again by new entries; it is not given back to the disk.

Not here: what may go (`retention_plan`), what an archive is (`archive`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.archive import (
    ArchiveManifest,
    check_archive,
    forget_openings,
    manifest_path,
    write_archive,
)
from shipworthy.audit.deeds import PRUNED, record
from shipworthy.audit.holds import held_entries, list_holds
from shipworthy.audit.ledger.asked import ask
from shipworthy.audit.ledger.batch import BatchHeader
from shipworthy.audit.ledger.keys import find_key, known_keys
from shipworthy.audit.ledger.note import PublicKey
from shipworthy.audit.ledger.reading import reader_for
from shipworthy.audit.ledger.seal import LEASE, Sealer
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.moment import time_of
from shipworthy.audit.reading import TrailReader
from shipworthy.audit.retention_plan import (
    ArchiveRange,
    RetentionLengths,
    RetentionPlan,
    plan_retention,
)
from shipworthy.audit.sealed import (
    ages,
    batches_of,
    head_of,
    headers_of,
    last_batch,
    lists_of,
    note_of,
    said_of,
    without_erased,
)
from shipworthy.audit.tables import ARCHIVES, BATCHES, CONTEXTS, ENTRIES, PERSONAL
from shipworthy.errors import ShipworthyError
from shipworthy.store import LeaseBusy, SqlLeases, hold_lease

ARCHIVE_ENTRIES: Final = 100_000
_AT_ONCE: Final = 500
_LEASE_SECONDS: Final = 30.0
# How long a run waits for the sealer of the service to say what is to go, and between two looks.
_SAID_WITHIN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.2
# Between two deletes, so that writers of an engine with one writer get their turn.
_PAUSE_SECONDS: Final = 0.005
_SECOND: Final = 1_000_000


@final
class RetentionStopped(ShipworthyError):
    """A run ended before its end; what it says was not done is done by the next one."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionReport:
    """What a run did. `kept` are entries of archived batches that stay because of holds or of
    the trash, or as deeds of the trail that are kept longer.
    """

    archives: tuple[str, ...]
    archived_entries: int
    dropped_entries: int
    kept_entries: int
    contexts: int
    archives_gone: int
    notes: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionWork:
    """How a run works: where archives go, who seals, for whom it is done.

    `kept` is true, in SQL, of entries that stay in the log because somebody else needs them still:
    `records.needed` says which those of the trash are.
    """

    folder: Path
    sealer: Sealer | None = None
    by: str = ""
    kept: sa.ColumnElement[bool] | None = None
    archive_entries: int = ARCHIVE_ENTRIES
    progress: Callable[[str], None] = print
    wait: Callable[[float], None] = time.sleep


def plan_of(
    engine: sa.Engine, lengths: RetentionLengths, *, archive_entries: int = ARCHIVE_ENTRIES
) -> RetentionPlan:
    """Return what a run would archive now; changes nothing."""
    with engine.connect() as connection:
        now = TrailReader(connection).past.now_microseconds(connection)
        return plan_retention(
            list(ages(connection)), lengths, now_microseconds=now, archive_entries=archive_entries
        )


def retain(engine: sa.Engine, lengths: RetentionLengths, work: RetentionWork) -> RetentionReport:
    """Archive what is old enough and take it out of the log; blocks, in steps that are short.

    Raises `RetentionStopped` where an archive is not what was sealed, or nobody says in the ledger
    that entries are to go. Then they are still in the log.
    """
    run = _Run(engine, lengths, work)
    planned = plan_of(engine, lengths, archive_entries=work.archive_entries)
    for part in planned.ranges:
        run.archive(part)
    run.drop_archived()
    run.drop_left_over()
    run.drop_old()
    return run.report(planned.notes)


def sealer_of(engine: sa.Engine, settings: LedgerSettings) -> Sealer | None:
    """Return who signs here; None where there is no key, and the service that seals is asked."""
    path = Path(settings.key_path)
    key = find_key(settings.key.reveal(), path)
    return None if key is None else Sealer(engine, key, key_path=path)


def check_archives(
    connection: sa.Connection, folder: Path, *, trusted: Sequence[PublicKey] = ()
) -> list[str]:
    """Return a sentence for every archive that is missing or altered, and for what is in none.

    Without `trusted` keys those that the database names are believed.
    """
    keys = list(trusted) or [known.public for known in known_keys(connection).values()]
    problems: list[str] = []
    said = said_of(connection)
    reached = 0
    for row in connection.execute(sa.select(ARCHIVES).order_by(ARCHIVES.c.first_batch)):
        if row.first_batch != reached + 1:
            problems.append(f"no archive has the batches {reached + 1} to {row.first_batch - 1}")
        reached = row.last_batch
        if row.state == "gone":
            continue
        headers = headers_of(connection, row.first_batch, row.last_batch)
        problems += check_archive(folder, row.file, keys=keys, headers=headers)
        if row.state != "written" and said.get(row.last_batch) != row.digest:
            problems.append(f"{row.file} is not the archive that the ledger speaks of")
    if max(said, default=0) > reached:
        problems.append(f"no archive has the batches {reached + 1} to {max(said)}")
    return problems


@final
class _Run:
    def __init__(self, engine: sa.Engine, lengths: RetentionLengths, work: RetentionWork) -> None:
        self._engine = engine
        self._lengths = lengths
        self._work = work
        self._sealed = reader_for(engine)
        self._archives: list[str] = []
        self._archived = self._dropped = self._kept = self._contexts = self._gone = 0

    def report(self, notes: tuple[str, ...]) -> RetentionReport:
        """Return what was done."""
        return RetentionReport(
            archives=tuple(self._archives),
            archived_entries=self._archived,
            dropped_entries=self._dropped,
            kept_entries=self._kept,
            contexts=self._contexts,
            archives_gone=self._gone,
            notes=notes,
        )

    def archive(self, part: ArchiveRange) -> None:
        """Write the archive of a range, read it back, and note that it is there."""
        folder = self._work.folder
        with self._engine.connect() as connection:
            manifest = write_archive(
                folder,
                head_of(connection, part.first_batch),
                without_erased(self._engine, folder, batches_of(connection, part)),
                checkpoint=note_of(connection, part.last_batch),
            )
            headers = headers_of(connection, part.first_batch, part.last_batch)
            keys = [known.public for known in known_keys(connection).values()]
        problems = check_archive(folder, manifest.file, keys=keys, headers=headers)
        if problems:
            raise RetentionStopped(
                f"an archive is not what was sealed, so nothing was taken out of the log: "
                f"{problems[0]}; `shipworthy audit verify` tells what was changed"
            )
        with self._engine.begin() as connection:
            self._note_archive(connection, manifest)
        self._archives.append(manifest.file)
        self._archived += manifest.entries
        self._work.progress(f"archived {manifest.entries} entries to {manifest.file}")

    def drop_archived(self) -> None:
        """Take the entries of written archives out of the log, once that is on record."""
        with self._engine.connect() as connection:
            written = connection.execute(
                sa.select(ARCHIVES)
                .where(ARCHIVES.c.state.in_(("written", "dropping")))
                .order_by(ARCHIVES.c.first_batch)
            ).all()
        for row in written:
            self._check_again(row)
            self._put_on_record(row)
            # Before the first of them goes: nobody is to look back over what is half there.
            self._mark(row, "dropping")
            for number in range(row.first_batch, row.last_batch + 1):
                self._drop_batch(number)
            self._mark(row, "dropped")
            self._work.progress(f"took the entries of {row.file} out of the log")

    def drop_left_over(self) -> None:
        """Take out what was held, or kept longer, when its batch left the log."""
        with self._engine.connect() as connection:
            last = connection.execute(
                sa.select(sa.func.max(ARCHIVES.c.last_batch)).where(ARCHIVES.c.state != "written")
            ).scalar()
            if last is None:
                return
            text = connection.execute(
                sa.select(BATCHES.c.header).where(BATCHES.c.number == last)
            ).scalar_one()
            before = self._sealed.up_to(BatchHeader.parse(text).to)
            found = set(connection.execute(sa.select(ENTRIES.c.seq).where(before)).scalars())
            # What came late has a small number too, and may be of a batch that is still here.
            archived = set[int]()
            if found:
                archived = {seq for one in lists_of(connection, 1, last) for seq in one.seqs}
        # Once more, with all that was held before: what stays is counted here.
        self._kept = 0
        self._drop(sorted(found & archived))

    def drop_old(self) -> None:
        """Take away contexts without entries, and archives, older than metadata is kept."""
        if not self._lengths.metadata_seconds:
            return
        with self._engine.connect() as connection:
            now = TrailReader(connection).past.now_microseconds(connection)
        before = now - int(self._lengths.metadata_seconds * _SECOND)
        self._drop_contexts(before)
        with self._engine.connect() as connection:
            old = connection.execute(
                sa.select(ARCHIVES).where(
                    ARCHIVES.c.state == "dropped", ARCHIVES.c.written_microseconds < before
                )
            ).all()
        for row in old:
            self._drop_archive(row)

    def _note_archive(self, connection: sa.Connection, manifest: ArchiveManifest) -> None:
        past = TrailReader(connection).past
        connection.execute(
            ARCHIVES.insert().values(
                first_batch=manifest.first_batch,
                last_batch=manifest.last_batch,
                entries=manifest.entries,
                written_microseconds=manifest.written_microseconds,
                state="written",
                file=manifest.file,
                digest=manifest.digest,
                bytes=manifest.bytes,
                at_microseconds=past.now_microseconds(connection),
            )
        )
        facts = {"archive": manifest.file, "digest": manifest.digest, "entries": manifest.entries}
        record(connection, past, PRUNED, facts, by=self._work.by, kind="job")

    def _mark(self, row: Any, state: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                ARCHIVES.update()
                .where(ARCHIVES.c.first_batch == row.first_batch)
                .values(state=state)
            )

    def _check_again(self, row: Any) -> None:
        """What is taken away is in the file as it lies there now, not as it lay there once."""
        with self._engine.connect() as connection:
            headers = headers_of(connection, row.first_batch, row.last_batch)
            keys = [known.public for known in known_keys(connection).values()]
        problems = check_archive(self._work.folder, row.file, keys=keys, headers=headers)
        if problems:
            raise RetentionStopped(
                f"nothing was taken out of the log: {problems[0]}; put the archive back into "
                f"{self._work.folder}"
            )

    def _put_on_record(self, row: Any) -> None:
        """Have a batch say that the entries are to go, before they do."""
        facts = {"pruned_to_batch": row.last_batch, "archive": row.digest}
        with self._engine.connect() as connection:
            # It was said after the last of them, and what is asked now is said in one to come.
            newest = last_batch(connection)
            if said_of(connection, after=row.last_batch).get(row.last_batch) == row.digest:
                return
        if self._work.sealer is not None and self._say(self._work.sealer, facts):
            return
        with self._engine.begin() as connection:
            ask(connection, facts)
        waited = 0.0
        while waited < _SAID_WITHIN_SECONDS:
            self._work.wait(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
            with self._engine.connect() as connection:
                if said_of(connection, after=newest).get(row.last_batch) == row.digest:
                    return
        raise RetentionStopped(
            f"nobody has sealed within {_SAID_WITHIN_SECONDS:g} s that the entries of {row.file} "
            "are to go, so they are still in the log; start the service that seals, or give this "
            "command the key (ledger.key_path), and run it again"
        )

    def _say(self, sealer: Sealer, facts: Mapping[str, Any]) -> bool:
        try:
            with hold_lease(SqlLeases(self._engine), LEASE, seconds=_LEASE_SECONDS) as held:
                sealer.forget()
                sealer.seal(held.lease, says=facts)
        except LeaseBusy:
            return False  # the service seals: it is asked
        return True

    def _drop_batch(self, number: int) -> None:
        with self._engine.connect() as connection:
            leaves = next(lists_of(connection, number, number))
        self._drop(leaves.seqs)

    def _drop(self, seqs: Sequence[int]) -> None:
        for start in range(0, len(seqs), _AT_ONCE):
            some = seqs[start : start + _AT_ONCE]
            with self._engine.begin() as connection:
                stays = self._staying(connection, some)
                goes = [seq for seq in some if seq not in stays]
                self._kept += len(stays)
                if not goes:
                    continue
                with self._opened(connection):
                    connection.execute(PERSONAL.delete().where(PERSONAL.c.seq.in_(goes)))
                    gone = connection.execute(ENTRIES.delete().where(ENTRIES.c.seq.in_(goes)))
                    self._dropped += gone.rowcount
            self._work.wait(_PAUSE_SECONDS)

    def _staying(self, connection: sa.Connection, seqs: Sequence[int]) -> set[int]:
        """Return which entries stay: on hold, needed by others, and deeds that are kept longer."""
        stays = [] if self._work.kept is None else [self._work.kept]
        held = held_entries(connection, list_holds(connection))
        if held is not None:
            stays.append(held)
        access = ENTRIES.c.table_id == 0
        if self._lengths.access_seconds:
            now = TrailReader(connection).past.now_microseconds(connection)
            young = now - int(self._lengths.access_seconds * _SECOND)
            access = sa.and_(access, ENTRIES.c.at_microseconds >= young)
        stays.append(access)
        return set(
            connection.execute(
                sa.select(ENTRIES.c.seq).where(ENTRIES.c.seq.in_(seqs), sa.or_(*stays))
            ).scalars()
        )

    def _drop_contexts(self, before: int) -> None:
        while True:
            with self._engine.begin() as connection:
                without = ~sa.exists().where(ENTRIES.c.tx == CONTEXTS.c.tx)
                found = list(
                    connection.execute(
                        sa.select(CONTEXTS.c.tx)
                        .where(CONTEXTS.c.at_microseconds < before, without)
                        .limit(_AT_ONCE)
                    ).scalars()
                )
                if not found:
                    return
                with self._opened(connection):
                    connection.execute(CONTEXTS.delete().where(CONTEXTS.c.tx.in_(found)))
            self._contexts += len(found)
            self._work.wait(_PAUSE_SECONDS)

    def _drop_archive(self, row: Any) -> None:
        folder = self._work.folder
        with self._engine.connect() as connection:
            seqs = {
                seq
                for one in lists_of(connection, row.first_batch, row.last_batch)
                for seq in one.seqs
            }
        forget_openings(folder, seqs)
        (folder / row.file).unlink(missing_ok=True)
        manifest_path(folder, row.file).unlink(missing_ok=True)
        self._mark(row, "gone")
        self._gone += 1
        until = time_of(row.written_microseconds).date().isoformat()
        self._work.progress(f"removed {row.file}: its newest entry is of {until}")

    def _opened(self, connection: sa.Connection) -> AbstractContextManager[None]:
        return self._sealed.dialect.retention(connection)
