"""How a revision's statements wait for locks, whichever engine its `env.py` made.

A change of a table waits for everybody who uses it, and everybody who comes later waits behind the
change. So no statement waits long: it gives up, lets the others through, and tries again.
"""

import random
import re
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final, Self, final

from sqlalchemy import Connection, Engine, event as sa_event

from shipworthy.db.classify import classify
from shipworthy.db.dialects.migration import MigrationDialect
from shipworthy.db.migrate.statements import SqlStatement, read_statements
from shipworthy.resilience import Backoff

# What strong practice waits at most for a lock on a live table, and how often it asks again.
LOCK_TIMEOUT_SECONDS: Final = 2.0
TRIES: Final = 10
# Longer than for a request: whoever holds the lock is to end meanwhile.
BACKOFF: Final = Backoff(base_seconds=0.5, factor=2.0, cap_seconds=10.0)

_READS = re.compile(r"(SELECT|SHOW|EXPLAIN|DESCRIBE|PRAGMA|SET|SAVEPOINT|RELEASE)\b")
_DDL = re.compile(r"(ALTER|CREATE|DROP|RENAME|TRUNCATE|OPTIMIZE)\b")
_BUILDS_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?(\S+) ON\b")


@final
class CarefulSteps:
    """While it is entered, statements of every engine in this process are bounded in their waits.

    A statement that stands alone (outside a transaction, or one that ends it) is tried again where
    it is. In a transaction the lock timeout is raised: the whole revision must be run again, and
    may be while `committed` is 0. For a process that migrates and does nothing else.
    """

    def __init__(
        self,
        dialect: MigrationDialect,
        *,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
        tries: int = TRIES,
        say: Callable[[str], None],
        wait: Callable[[float], None],
    ) -> None:
        self.committed = 0
        self._dialect = dialect
        self._seconds = lock_timeout_seconds
        self._tries = tries
        self._say = say
        self._wait = wait
        # The revision sets a lock timeout of its own; from there on it stands.
        self._own = False
        self._changed = False
        self._hooks: tuple[tuple[str, Any], ...] = (
            ("do_execute", self._execute),
            ("do_executemany", self._executemany),
            ("do_execute_no_params", self._execute_no_params),
            ("commit", self._commit),
            ("rollback", self._rollback),
        )

    def __enter__(self) -> Self:
        for name, hook in self._hooks:
            sa_event.listen(Engine, name, hook)
        return self

    def __exit__(self, *_: object) -> None:
        for name, hook in self._hooks:
            sa_event.remove(Engine, name, hook)

    def begin_revision(self) -> None:
        """Forget what the revision before did."""
        self.committed = 0
        self._own = self._changed = False

    def is_lock_timeout(self, error: BaseException) -> bool:
        """Say whether `error` means that a lock was not to be had in time."""
        found = classify(error)
        return bool(self._dialect.lock_codes & {found.sqlstate, found.code})

    def pause(self, attempt: int) -> None:
        """Wait after the failed attempt number `attempt`, evenly between 0 and its ceiling."""
        self._wait(random.uniform(0.0, BACKOFF.ceiling(attempt)))  # noqa: S311 - no secret

    def _execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        run = partial(context.dialect.do_execute, cursor, statement, parameters, context)
        return self._careful(statement, context, run)

    def _executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        run = partial(context.dialect.do_executemany, cursor, statement, parameters, context)
        return self._careful(statement, context, run)

    def _execute_no_params(self, cursor: Any, statement: str, context: Any) -> bool:
        run = partial(context.dialect.do_execute_no_params, cursor, statement, context)
        return self._careful(statement, context, run)

    def _careful(self, statement: str, context: Any, run: Callable[[], None]) -> bool:
        read = read_statements(statement)
        normal = " ; ".join(one.normal for one in read)
        if re.search(self._dialect.own_timeout, normal):
            self._own = True
        connection: Connection = context.root_connection
        may_try_again = self._dialect.keeps_transaction or _stands_alone(connection)
        for attempt in count(1):
            # In a transaction that has failed nothing else may be sent before it.
            if not self._own and not normal.startswith("ROLLBACK"):
                self._send(connection, self._dialect.wait_for_locks(normal, self._seconds))
            self._clear_broken(connection, normal)
            try:
                run()
                break
            except Exception as error:
                again = may_try_again and attempt < self._tries and self.is_lock_timeout(error)
                if not again:
                    raise
                self._say(
                    f"no lock within {self._seconds:g} s (try {attempt} of {self._tries}): "
                    f"{' '.join(statement.split())[:80]}"
                )
                self.pause(attempt)
        self._note(connection, read)
        return True

    def _note(self, connection: Connection, statements: tuple[SqlStatement, ...]) -> None:
        changes = [
            one.normal
            for one in statements
            # Alembic's own table is made in a transaction of its own, and making it again is none.
            if not _READS.match(one.normal) and "VERSION_NUM" not in one.normal
        ]
        if not changes:
            return
        ends = self._dialect.ddl_commits and any(_DDL.match(normal) for normal in changes)
        if ends or _stands_alone(connection):
            self.committed += 1
        else:
            self._changed = True

    def _commit(self, connection: Connection) -> None:
        del connection
        self.committed += self._changed
        self._changed = False

    def _rollback(self, connection: Connection) -> None:
        del connection
        self._changed = False

    def _clear_broken(self, connection: Connection, normal: str) -> None:
        """Drop what an index build of this name left behind, or the next one would fail on it."""
        build = _BUILDS_INDEX.match(normal)
        if build is None or self._dialect.broken is None or not _stands_alone(connection):
            return
        name = build[1].replace('"', "").rpartition(".")[2]
        for schema, left in self._send(connection, self._dialect.broken) or ():
            if left.upper() == name:
                self._say(f"dropping the invalid index {schema}.{left}, which a build left behind")
                self._send(connection, self._dialect.drop_broken.format(schema=schema, name=left))

    def _send(self, connection: Connection, statement: str) -> list[Any] | None:
        """Send beside SQLAlchemy, whose events led here."""
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else None
        finally:
            cursor.close()


def _stands_alone(connection: Connection) -> bool:
    """Say whether a statement is its own transaction on `connection`, as it stands now."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    raw = connection.connection.driver_connection
    return level == "AUTOCOMMIT" or getattr(raw, "in_transaction", True) is False
