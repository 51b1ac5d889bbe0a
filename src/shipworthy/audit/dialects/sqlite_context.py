"""SQLite: how a connection of ours tells the log for whom it writes.

The capture triggers run in every client, so they may not call functions of ours: to another client
they would be unknown, and its writes would fail. What they ask is a function that SQLite has itself
and that knows nothing (`sqlite_triggers.ASKED_FUNCTION`); a connection of ours has another one of
that name and count of arguments, which reads a cell in this process. A temporary trigger on the
log, which no other connection sees, writes the context into its table where it is missing.

No statement is sent for it, and nothing of it outlives the connection.
"""

import json
from typing import Any, Final, final
from weakref import WeakValueDictionary

from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects.sqlite_cells import literal
from shipworthy.audit.dialects.sqlite_triggers import ASKED_ARGUMENTS, ASKED_FUNCTION
from shipworthy.audit.model import Context
from shipworthy.audit.tables import CONTEXTS, ENTRIES, PREFIX

_CELL: Final = "shipworthy_audit_cell"
_CONTEXT: Final = "shipworthy_audit_context"
_INTRODUCES: Final = "shipworthy_audit_introduces"


@final
class ContextCell(list[str | None]):
    """The one place from which the triggers of a connection read its context."""

    __slots__ = ("__weakref__", "_parsed", "_tx", "recursive")

    def __init__(self) -> None:
        super().__init__([None])
        self._parsed: str | None = None
        self._tx: str | None = None
        # Whether REPLACE was made to fire the triggers of deletes here.
        self.recursive = False

    def tx(self, *_asked: None) -> str | None:
        """Return the name of the context, None where there is nobody; asked for every row."""
        text = self[0]
        if text is not self._parsed:
            self._tx = None if text is None else json.loads(text)["tx"]
            self._parsed = text
        return self._tx

    def context(self) -> str | None:
        """Return the whole of it; asked once for a context.

        A name that is no UTF-8 must not make the write fail: SQLite takes no other text. And at a
        NUL it would be cut, so that it is somebody else's.
        """
        text = self[0]
        if text is None:
            return None
        return text.encode("utf-8", "replace").decode().replace("\\u0000", "\\ufffd")


# By what the connection itself tells: neither driver lets anything be put on a connection.
_cells: WeakValueDictionary[int, ContextCell] = WeakValueDictionary()


def attach(dbapi_connection: Any) -> ContextCell | None:
    """Give the connection its cell and what reads it; the same cell every time.

    Outside a transaction, and where the log is installed: the triggers stand on it. After a
    trigger of the application was made or dropped, attach again. None where the connection trusts
    no schema: triggers of the database may not call there what is not SQLite's own.
    """
    if not _run(dbapi_connection, "PRAGMA trusted_schema"):
        return None
    cell = _attached(dbapi_connection)
    if cell is None:
        cell = ContextCell()
        number = id(cell)
        _cells[number] = cell
        dbapi_connection.create_function(_CELL, 0, lambda: number)
        # Deterministic within a statement, which is all that SQLite takes the word for.
        dbapi_connection.create_function(
            ASKED_FUNCTION, ASKED_ARGUMENTS, cell.tx, deterministic=True
        )
        dbapi_connection.create_function(_CONTEXT, 0, cell.context)
    if not _run(dbapi_connection, _STANDING):
        _run(dbapi_connection, _INTRODUCTION)
        # A driver that is always in a transaction would take the triggers back with the next one.
        if getattr(dbapi_connection, "autocommit", None) is False:
            dbapi_connection.commit()
    # Then a row that REPLACE displaces is deleted for the triggers too. But a trigger of the
    # application that writes to its own table would run for ever.
    recursive = not _run(dbapi_connection, _APPLICATION_TRIGGERS)
    if recursive != cell.recursive:
        _run(dbapi_connection, f"PRAGMA recursive_triggers={'ON' if recursive else 'OFF'}")
        cell.recursive = recursive
    return cell


def _attached(dbapi_connection: Any) -> ContextCell | None:
    # A connection that has no such function would refuse to be asked for it.
    known = _run(
        dbapi_connection, f"SELECT 1 FROM pragma_function_list WHERE name={literal(_CELL)}"
    )
    return _cells[_run(dbapi_connection, f"SELECT {_CELL}()")] if known else None


def _run(dbapi_connection: Any, sql: str) -> Any:
    """Run a statement and return the first value of its first row, None where it has none."""
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute(sql)
        row = cursor.fetchone()
    finally:
        cursor.close()
    return row[0] if row else None


def _introduction() -> str:
    """Return the trigger that writes a context of which there is no row, or no longer."""
    told = json.loads(write_context(Context(tx="", at_microseconds=0)))
    facts = [column.name for column in CONTEXTS.columns if column.name in told]
    values = ",".join(f"json_extract(told,{literal(f'$.{fact}')})" for fact in facts)
    # Asked in WHEN, so that nothing is opened for writing for the entries that follow. And not
    # INSERT OR IGNORE: inside a trigger the policy of the statement that fired it would win.
    return (
        f"CREATE TEMP TRIGGER IF NOT EXISTS {_INTRODUCES} AFTER INSERT ON main.{ENTRIES.name} "
        f"FOR EACH ROW WHEN NEW.tx<'s' "
        f"AND NOT EXISTS (SELECT 1 FROM {CONTEXTS.name} WHERE tx=NEW.tx) BEGIN "
        f"INSERT INTO {CONTEXTS.name}({','.join(facts)}) "
        f"SELECT {values} FROM (SELECT {_CONTEXT}() AS told) WHERE told IS NOT NULL; END"
    )


_STANDING: Final = (
    f"SELECT 1 FROM temp.sqlite_temp_schema WHERE type='trigger' AND name={literal(_INTRODUCES)}"
)
_INTRODUCTION: Final = _introduction()
_APPLICATION_TRIGGERS: Final = (
    "SELECT count(*) FROM (SELECT name, type FROM main.sqlite_schema "
    "UNION ALL SELECT name, type FROM temp.sqlite_temp_schema) "
    f"WHERE type='trigger' AND name NOT LIKE '{PREFIX.replace('_', '!_')}%' ESCAPE '!'"
)
