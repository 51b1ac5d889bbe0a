"""Carry who a transaction is for to the triggers that record it.

The database is told before the first write of a transaction, and again where the actor has changed
or a savepoint was rolled back: one round trip for each transaction that writes, none for one that
reads, and none at all for a database without a trail. What is told is read in the writer's own
context, so neither a pooled connection nor another task can bring a wrong name.

Not here: who that is (`context`, `web`), what is told (`attribution`), how each database carries it
(`dialects`).
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, final
from weakref import WeakKeyDictionary, ref

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool

from shipworthy.audit.attribution import Purpose, context_for
from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects import AuditDialect, audit_dialect
from shipworthy.audit.dialects.presence import presence_statement
from shipworthy.audit.dialects.writes import Does, what
from shipworthy.audit.model import Context
from shipworthy.audit.unattributed import Because, note_unattributed
from shipworthy.context import current_note, current_request, whose_work
from shipworthy.db import is_autocommit, watched

# Where a connection keeps what we know of it: `info` of SQLAlchemy's pool.
_KEPT: Final = "shipworthy_audit"
# How long the answer to "is there a trail" holds; another process may install one meanwhile.
LOOK_AGAIN_SECONDS: Final = 10.0
# What a question between two users of a connection may take, as a connect may.
_ASK_SECONDS: Final = 3.0
# Contexts that one transaction keeps to come back to; a job that names a new actor for each row
# would keep them all.
_REMEMBERED: Final = 64

_SELECT: Final = frozenset({"SELECT", "select"})

# Moves when this process has installed a trail or taken it away: all look again.
_generation = 0


def look_again() -> None:
    """Have every connection find out anew, at its next checkout, whether its database has a trail.

    For `install` and `uninstall`; other processes find out within `LOOK_AGAIN_SECONDS`.
    """
    global _generation  # noqa: PLW0603 - of the whole process, and so is this
    _generation += 1


def new_tx() -> str:
    """Return a name for a transaction: 32 hexadecimal characters, by time, unguessable."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


@final
class _Trail:
    """What is known of one database, as the engines that share an SQLAlchemy dialect reach it."""

    __slots__ = (
        "_parameters",
        "clear",
        "dialect",
        "generation",
        "present",
        "question",
        "statement",
        "until",
    )

    def __init__(self, dialect: Any) -> None:
        name = str(getattr(dialect, "name", ""))
        self.dialect: AuditDialect | None = audit_dialect(name)
        self.question = presence_statement(name)
        self.present = False
        self.generation = -1
        self.until = 0.0
        self.statement = self.clear = ""
        self._parameters: Callable[[str], Any] = _no_parameters
        if self.dialect is not None and self.dialect.context_statement:
            compiled = sa.text(self.dialect.context_statement).compile(dialect=dialect)
            self.statement = str(compiled)
            self.clear = self.dialect.clear_statement
            self._parameters = _one if compiled.positional else _named

    def parameters(self, text: str) -> Any:
        """Return what the driver is given with the statement."""
        return self._parameters(text)

    @property
    def ends_with_transaction(self) -> bool:
        """Whether the database itself forgets the context when the transaction ends."""
        return bool(self.statement) and not self.clear


@final
class _Bound:
    """What one pooled connection carries. Whoever has the connection has this, and nobody else."""

    __slots__ = (
        "alone",
        "carried",
        "cell",
        "contexts",
        "first",
        "fresh_until",
        "generation",
        "is_set",
        "trail",
        "transaction",
    )

    def __init__(self, trail: _Trail) -> None:
        self.trail = trail
        self.cell: list[str | None] | None = None
        self.fresh_until = 0.0
        self.generation = -1
        # Whether a clear statement is due when it goes back to its pool.
        self.is_set = False
        # Of the transaction that wrote last; by a weak reference, because it holds the connection.
        self.transaction: ref[Any] | None = None
        self.contexts: dict[Purpose, Context] = {}
        self.first: Context | None = None
        # The statement that was last without a transaction around it: it is one by itself.
        self.alone: ref[Any] | None = None
        # What the database has been told in this transaction, None where that is nothing any more.
        self.carried: Purpose | None = None

    def begin(self, transaction: Any) -> None:
        """Forget the transaction before: this one has told nothing yet."""
        self.transaction = None if transaction is None else ref(transaction)
        self.contexts = {}
        self.first = self.carried = None


@final
class TrailBinding:
    """Listens to engines and tells their databases who writes. Made by `bind` and `bind_all`.

    `service` is the actor of what nobody is named for. `bind_reads` tells before a SELECT too, for
    applications whose functions write.
    """

    def __init__(
        self, *, service: str, bind_reads: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._bind_reads = bind_reads
        self._now = now

    def listen(self, engines: Any, pools: Any) -> Callable[[], None]:
        """Listen to an engine and its pool, or to the classes of them; return what ends it."""
        listened = (
            (engines, "do_execute", self._executing),
            (engines, "do_executemany", self._executing),
            (engines, "do_execute_no_params", self._executing_without),
            (engines, "handle_error", self._failed),
            (engines, "commit", self._ended),
            (engines, "rollback", self._ended),
            (pools, "checkout", self._checked_out),
            (pools, "checkin", self._checked_in),
        )
        for target, name, function in listened:
            sa_event.listen(target, name, function)

        def end() -> None:
            for target, name, function in listened:
                sa_event.remove(target, name, function)

        return end

    # -- what SQLAlchemy tells --

    def _executing(self, _cursor: Any, statement: str, _parameters: Any, context: Any) -> None:
        # Most statements are reads: they must cost nothing but this.
        if statement[:6] not in _SELECT or self._bind_reads:
            self._before(statement, context)

    def _executing_without(self, _cursor: Any, statement: str, context: Any) -> None:
        if statement[:6] not in _SELECT or self._bind_reads:
            self._before(statement, context)

    def _failed(self, context: Any) -> None:
        """Tell it again: with a statement that failed goes what its triggers had written."""
        bound = None if context.connection is None else _bound_of(context.connection)
        if bound is not None:
            bound.carried = None

    def _ended(self, connection: Any) -> None:
        """Name nobody for what the driver is told past SQLAlchemy from here on."""
        bound = _bound_of(connection)
        if bound is not None and bound.cell is not None:
            bound.cell[0] = bound.carried = None

    def _checked_out(self, connection: Any, record: Any, fairy: Any) -> None:
        bound: _Bound | None = record.info.get(_KEPT)
        if bound is None or bound.generation != _generation or self._now() >= bound.fresh_until:
            self._refresh(bound, connection, record, fairy._pool._dialect)  # noqa: SLF001

    def _checked_in(self, connection: Any, record: Any) -> None:
        bound: _Bound | None = record.info.get(_KEPT)
        if bound is None or connection is None:
            return
        bound.begin(None)
        if bound.cell is not None:
            bound.cell[0] = None
        elif bound.is_set:
            try:
                watched(record, _ASK_SECONDS, partial(_run, connection, bound.trail.clear))
                bound.is_set = False
            except Exception as error:  # noqa: BLE001 - whatever the driver raises
                # The next user must not write under this name.
                record.invalidate(e=error)

    # -- whether there is a trail --

    def _refresh(self, bound: _Bound | None, connection: Any, record: Any, dialect: Any) -> None:
        """Find out whether the database has a trail, and ready the connection for it."""
        if bound is None:
            bound = record.info[_KEPT] = _Bound(_trail_of(dialect))
        trail, now, generation = bound.trail, self._now(), _generation
        if trail.dialect is None:
            bound.generation, bound.fresh_until = generation, float("inf")
            return
        # A database that does not answer will tell whoever wanted to use it, in its own words.
        with suppress(dialect.loaded_dbapi.Error, OSError):
            if trail.generation != generation or now >= trail.until:
                trail.present = watched(record, _ASK_SECONDS, partial(_ask, connection, trail))
                trail.generation, trail.until = generation, now + LOOK_AGAIN_SECONDS
            # Again and again: what a connection needs goes away with the tables of the trail.
            bound.cell = (
                watched(record, _ASK_SECONDS, partial(trail.dialect.attach, connection))
                if trail.present
                else None
            )
            bound.generation, bound.fresh_until = generation, now + LOOK_AGAIN_SECONDS

    # -- carrying --

    def _before(self, statement: str, context: Any) -> None:
        """Have the database know who writes, before `statement` does."""
        connection = context.root_connection
        bound = _bound_of(connection)
        if bound is None or not bound.trail.present:
            return
        match what(statement):
            case Does.WRITE:
                self._carry(bound, connection, context)
            case Does.UNDO:
                bound.carried = None
            case Does.END:
                bound.begin(None)
            case Does.NOTHING if self._bind_reads:
                self._carry(bound, connection, context)

    def _carry(self, bound: _Bound, connection: Any, context: Any) -> None:
        alone = is_autocommit(connection)
        if alone:
            if bound.alone is not None and bound.alone() is context:
                return
            bound.begin(None)
            bound.alone = ref(context)
        else:
            transaction, held = connection.get_transaction(), bound.transaction
            if held is None or held() is not transaction:
                bound.begin(transaction)
        who, request, note = whose_work(), current_request(), current_note()
        told = bound.carried
        if (
            told is not None
            and told.request is request
            and told.note == note
            and (told.actor is who or told.actor == who)
        ):
            return
        purpose = Purpose(actor=who, request=request, note=note)
        trail = bound.trail
        if alone and trail.ends_with_transaction:
            # Set for the transaction that setting it is, and gone before the write.
            note_unattributed(Because.AUTOCOMMIT, request.where() if request else "")
            return
        if bound.cell is None and not trail.statement:
            note_unattributed(Because.CONNECTION, request.where() if request else "")
            return
        text = write_context(self._context(bound, purpose))
        if bound.cell is not None:
            bound.cell[0] = text
        else:
            cursor = connection.connection.cursor()
            try:
                # By way of the dialect: so it has the deadline of any other statement.
                connection.dialect.do_execute(
                    cursor, trail.statement, trail.parameters(text), context
                )
            finally:
                cursor.close()
            bound.is_set = bool(trail.clear)
        bound.carried = purpose

    def _context(self, bound: _Bound, purpose: Purpose) -> Context:
        """Return the context for `purpose` in this transaction: the same for the same."""
        found = bound.contexts.get(purpose)
        if found is None:
            first = bound.first
            found = context_for(
                purpose,
                service=self._service,
                tx=new_tx(),
                at_microseconds=time.time_ns() // 1000,
                continues="" if first is None else first.tx,
            )
            bound.first = first or found
            if len(bound.contexts) < _REMEMBERED:
                bound.contexts[purpose] = found
            if purpose.actor is None:
                note_unattributed(
                    Because.ELSEWHERE if purpose.request is None else Because.REQUEST, found.route
                )
        return found


def bind(
    engine: Engine | AsyncEngine, *, service: str, bind_reads: bool = False
) -> Callable[[], None]:
    """Carry the actor to the triggers of one engine's database; return what ends it.

    With `bind_all` in force it adds nothing: what has been told is not told again.
    """
    sync = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    return TrailBinding(service=service, bind_reads=bind_reads).listen(sync, sync)


def bind_all(*, service: str, bind_reads: bool = False) -> Callable[[], None]:
    """Do so for every engine of this process, whenever it was or will be made.

    A second time it changes nothing while the first is in force.
    """
    if _bound_all:
        return _nothing
    end = TrailBinding(service=service, bind_reads=bind_reads).listen(Engine, Pool)
    _bound_all.append(end)

    def undo() -> None:
        if end in _bound_all:
            _bound_all.remove(end)
            end()

    return undo


_bound_all: Final[list[Callable[[], None]]] = []
_trails: Final[WeakKeyDictionary[Any, _Trail]] = WeakKeyDictionary()


def _trail_of(dialect: Any) -> _Trail:
    found = _trails.get(dialect)
    if found is None:
        # Two threads may make one each: both learn the same.
        found = _trails[dialect] = _Trail(dialect)
    return found


def _bound_of(connection: Any) -> _Bound | None:
    try:
        found: _Bound | None = connection.info.get(_KEPT)
    except (NotImplementedError, InvalidRequestError):
        # SQLAlchemy itself asks, on a connection it has just made; or it has lost the connection.
        return None
    return found


def _ask(connection: Any, trail: _Trail) -> bool:
    cursor = connection.cursor()
    try:
        cursor.execute(trail.question)
        return bool(cursor.fetchone()[0])
    finally:
        cursor.close()
        if trail.statement:
            # The driver has begun a transaction for the question. Where none is begun the
            # connection may be one that several share, and a transaction of theirs be open.
            connection.rollback()


def _run(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()


def _one(text: str) -> Any:
    return (text,)


def _named(text: str) -> Any:
    return {"context": text}


def _no_parameters(text: str) -> Any:
    raise AssertionError(f"nothing is sent here: {len(text)} characters")


def _nothing() -> None:
    return None
