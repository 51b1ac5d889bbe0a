"""One migrator at a time, for each database: held until the end, and told who holds it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.db.dialects import dialect_named
from shipworthy.db.dialects.migration import MigrationDialect, file_of
from shipworthy.db.dialects.statements import number_of
from shipworthy.db.migrate.refused import MigratorBusy

LOCK_NAME: Final = "shipworthy.migrate"
POLL_SECONDS: Final = 0.2


@final
class MigratorLock:
    """The lock while it is held. Made by `only_migrator`; used by one thread."""

    def __init__(
        self, connection: Connection | None, holder: str | None, path: Path | None
    ) -> None:
        self._connection = connection
        self._holder = holder
        self._path = path

    def held(self) -> bool:
        """Say whether it is still ours: a session that is lost has lost it."""
        if self._connection is None:
            return True
        try:
            return self.seen_from(self._connection)
        except SQLAlchemyError:
            return False

    def seen_from(self, connection: Connection) -> bool:
        """Say whether `connection` speaks with the database that the lock is for."""
        if self._holder is not None:
            return connection.execute(text(self._holder), _key()).first() is not None
        if self._path is None:
            return True
        rows = connection.exec_driver_sql("PRAGMA database_list").all()
        return any(row[2] and Path(row[2]).resolve() == self._path.resolve() for row in rows)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for another migrator, how to wait, and to whom to say it."""

    seconds: float
    say: Callable[[str], None]
    wait: Callable[[float], None]
    clock: Clock = SYSTEM_CLOCK

    def until(self, take: Callable[[], bool], holder: Callable[[], str]) -> None:
        """Call `take` until it is true; raises `MigratorBusy` when the time is over."""
        give_up = self.clock.now() + self.seconds
        said = False
        while not take():
            if self.clock.now() >= give_up:
                sentence = (
                    f"another migrator works on this database: {holder()}; waited "
                    f"{self.seconds:g} s for it, let it end, or wait longer with --lock-wait"
                )
                raise MigratorBusy([sentence])
            if not said:
                self.say(f"waiting up to {self.seconds:g} s for another migrator: {holder()}")
                said = True
            self.wait(POLL_SECONDS)


@contextmanager
def only_migrator(
    engine: Engine, dialect: MigrationDialect, patience: Patience
) -> Iterator[MigratorLock]:
    """Hold the database's migrator lock for the length of the block.

    Waits for another migrator and says who that is; then raises `MigratorBusy`. The lock ends with
    the process, however that ends. A database in memory needs none.
    """
    found = dialect_named(engine.dialect.name)
    lock = None if found is None else found.advisory_lock(LOCK_NAME)
    if lock is None:
        path = file_of(engine.url)
        with _file_locked(path, patience):
            yield MigratorLock(None, None, path)
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            if dialect.name_session:
                connection.exec_driver_sql(dialect.name_session)
            take, release = ((text(sql), dict(values)) for sql, values in (lock.take, lock.release))
            patience.until(
                lambda: bool(connection.scalar(*take)), lambda: _holder_of(connection, dialect)
            )
            try:
                yield MigratorLock(connection, dialect.holder, None)
            finally:
                # Where the session is lost the lock is free already.
                with suppress(SQLAlchemyError):
                    connection.execute(*release)
        finally:
            connection.invalidate()  # nobody is to get it from the pool by that name


def _key() -> dict[str, Any]:
    return {"key": number_of(LOCK_NAME), "name": LOCK_NAME}


def _holder_of(connection: Connection, dialect: MigrationDialect) -> str:
    row = connection.execute(text(dialect.holder or ""), _key()).first()
    if row is None:
        return "it has just ended"
    pid, user, name, address, seconds = row
    return (
        f"process {pid} of user '{user}' ({name or 'without a name'}) from "
        f"{address or 'this machine'}, connected for {float(seconds):.0f} s"
    )


@contextmanager
def _file_locked(path: Path | None, patience: Patience) -> Iterator[None]:
    # Without its folder it cannot be opened either, and that is for whoever opens it to say.
    if path is None or not path.parent.is_dir():
        yield
        return
    beside = path.with_name(f"{path.name}-migrate")
    held: list[int] = []

    def take() -> bool:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(descriptor, beside):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        held.append(descriptor)
        return True

    def holder() -> str:
        with suppress(FileNotFoundError):
            return f"process {beside.read_text() or 'unknown'} on this machine"
        return "it has just ended"

    patience.until(take, holder)
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)
        os.close(held[0])


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before takes the file away: then this one is nobody's any more.
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
