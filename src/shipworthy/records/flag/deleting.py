"""Turn a DELETE of a flagged table into the UPDATE that flags its rows.

A flush and a Core DELETE are rewritten where the connection executes them, so a session treats the
objects as deleted, with every rule it has for that. A DELETE by an ORM query is rewritten in the
session, which must find the objects that it is about. Rows that the database would have removed
with them (ON DELETE CASCADE) are flagged with them where their table is flagged too.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, object_mapper
from sqlalchemy.sql import visitors

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.records.flag.marks import FlaggedTable, cascades
from shipworthy.records.flag.scope import removes

_FLAGGING: Final = "shipworthy_flagging"
_PARAMETER: Final = "shipworthy_"
# Tables that hold a part of rows which are being flagged in this flush: joined inheritance.
_parts: Final[ContextVar[frozenset[sa.Table]]] = ContextVar(
    "shipworthy_parts_of_flagged", default=frozenset()
)


def new_deletion_id(clock: Clock = SYSTEM_CLOCK) -> str:
    """Return the id of a deletion: 32 hexadecimal characters, by time, unguessable."""
    return f"{int(clock.wall() * 1000):012x}{os.urandom(10).hex()}"


@final
class FlagWriter:
    """Listens to connections and sessions. One transaction is one deletion."""

    def __init__(self, flagged: Mapping[str, FlaggedTable], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._flagged = flagged
        self._clock = clock
        self._ids: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    # -- a connection --

    def before_execute(
        self,
        connection: sa.Connection,
        statement: Any,
        multiparams: Any,
        params: Any,
        _execution_options: Any,
    ) -> tuple[Any, Any, Any]:
        """Return the statement to run in place of a DELETE."""
        if isinstance(statement, sa.Delete) and not removes():
            rewritten = self._rewritten(connection, statement)
            if rewritten is not statement:
                return rewritten, [_renamed(one) for one in multiparams], _renamed(params)
        return statement, multiparams, params

    def after_execute(self, connection: sa.Connection, statement: Any, *_: Any) -> None:
        """Flag what goes along with rows that were flagged."""
        if isinstance(statement, sa.Update):
            id = statement.get_execution_options().get(_FLAGGING)  # noqa: A001
            if id is not None and isinstance(statement.table, sa.Table):
                # The ORM's is a copy with annotations.
                table = statement.table.metadata.tables[statement.table.fullname]
                self._cascade(connection, table, id)

    def _rewritten(self, connection: sa.Connection, statement: sa.Delete) -> Any:
        table = statement.table
        if not isinstance(table, sa.Table):
            return statement
        found = self._flagged.get(table.fullname)
        if found is None:
            return _touch(table, statement) if table in _parts.get() else statement
        id = self._id(connection)  # noqa: A001
        values = found.values(table, at=self._clock.wall(), id=id)
        update = sa.update(table).where(found.time(table).is_(None))
        if statement.whereclause is not None:
            update = update.where(_with_renamed_parameters(statement.whereclause))
        if statement._returning:  # noqa: SLF001 - no public name gives them
            update = update.returning(*statement._returning)  # noqa: SLF001
        return update.values(values).execution_options(
            **statement.get_execution_options(), **{_FLAGGING: id}
        )

    def _cascade(self, connection: sa.Connection, table: sa.Table, id: str) -> None:  # noqa: A002
        for key in cascades(table, self._flagged):
            child = key.table
            found = self._flagged[child.fullname]
            parent = table.alias("parent")
            columns = [element.parent for element in key.elements]
            same = [
                column == parent.c[element.column.key]
                for column, element in zip(columns, key.elements, strict=True)
            ]
            gone = parent.c[self._flagged[table.fullname].id(table).key] == id
            # Of itself: one update a level. MariaDB reads no table that it updates but from a copy.
            ids = sa.select(*(parent.c[e.column.key] for e in key.elements)).where(gone).subquery()
            wanted = sa.tuple_(*columns).in_(sa.select(*ids.c)) if child is table else None
            condition = wanted if wanted is not None else sa.exists().where(gone, *same)
            update = (
                sa.update(child)
                .where(found.time(child).is_(None), condition)
                .values(found.values(child, at=self._clock.wall(), id=id))
            )
            if connection.execute(update).rowcount:
                self._cascade(connection, child, id)

    def _id(self, connection: sa.Connection) -> str:
        transaction = connection.get_transaction()
        if transaction is None:
            return new_deletion_id(self._clock)
        return self._ids.setdefault(transaction, new_deletion_id(self._clock))

    # -- a session --

    def before_flush(self, session: Session, _context: Any, _instances: Any) -> None:
        """Note which tables hold parts of rows that this flush flags."""
        _parts.set(
            frozenset(table for it in session.deleted for table in self._parts(object_mapper(it)))
        )

    def flushed(self, _session: Session, _context: Any) -> None:
        """Forget them."""
        _parts.set(frozenset())

    def do_orm_execute(self, state: ORMExecuteState) -> Any:
        """Run a DELETE by an ORM query as an update, and have its objects leave the session."""
        mapper = state.bind_mapper
        if not state.is_delete or not state.is_orm_statement or mapper is None or removes():
            return None
        table: Any = mapper.local_table
        found = self._flagged.get(getattr(table, "fullname", ""))
        if found is None:
            return None
        connection = state.session.connection(bind_arguments=state.bind_arguments)
        id = self._id(connection)  # noqa: A001
        values = found.values(table, at=self._clock.wall(), id=id)
        keys = {column: mapper.get_property_by_column(column).key for column in values}
        statement: Any = state.statement
        update = sa.update(mapper.class_).where(
            getattr(mapper.class_, keys[found.time(table)]).is_(None)
        )
        if statement.whereclause is not None:
            update = update.where(statement.whereclause)
        if statement._returning:  # noqa: SLF001
            update = update.returning(*statement._returning)  # noqa: SLF001
        update = update.values({keys[column]: value for column, value in values.items()})
        result = state.invoke_statement(statement=update.execution_options(**{_FLAGGING: id}))
        _forget(state.session, mapper, keys[found.id(table)], id)
        return result

    def _parts(self, mapper: Mapper[Any]) -> list[sa.Table]:
        tables = [table for table in mapper.tables if isinstance(table, sa.Table)]
        if not any(table.fullname in self._flagged for table in tables):
            return []
        return [table for table in tables if table.fullname not in self._flagged]


def _touch(table: sa.Table, statement: sa.Delete) -> sa.Update:
    """Return an update of the same rows that changes nothing: the count of rows is looked at."""
    column = next(iter(table.primary_key))
    update = sa.update(table).values({column: column})
    if statement.whereclause is None:
        return update
    return update.where(_with_renamed_parameters(statement.whereclause))


def _renamed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{_PARAMETER}{name}": value for name, value in parameters.items()}


def _with_renamed_parameters(clause: Any) -> Any:
    """Return the clause with other names for what is bound by name at execution.

    A flush names them as the columns of the key, and such a name in an UPDATE is what to set.
    """

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, sa.BindParameter) and element.required:
            return sa.bindparam(f"{_PARAMETER}{element.key}", type_=element.type)
        return None

    return visitors.replacement_traverse(clause, {}, replace)


def _forget(session: Session, mapper: Mapper[Any], attribute: str, id: str) -> None:  # noqa: A002
    """Have the objects that the update has just flagged leave the session, as deleted ones do."""
    gone = [
        state
        for state in session.identity_map.all_states()
        if state.mapper.isa(mapper) and state.dict.get(attribute) == id
    ]
    if gone:
        session._remove_newly_deleted(gone)  # noqa: SLF001 - what a DELETE by a query ends with
