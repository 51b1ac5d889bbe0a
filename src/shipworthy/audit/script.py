"""The SQL of an installation as text: what is run is what can be read and printed before."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, DropTable
from sqlalchemy.sql.elements import ClauseElement

from shipworthy.audit.dialects.positions import has_positions
from shipworthy.audit.shapes import NotedShape, dump_shape
from shipworthy.audit.tables import ENTRIES, META, SHAPES, VERSION_FACT, our_tables


def text_of(statement: ClauseElement, dialect: sa.Dialect) -> str:
    """Return a statement with its values in it, as a database's own shell takes it."""
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).strip()
    # A driver that is given no parameters does not halve them again.
    doubled = dialect.identifier_preparer._double_percents  # noqa: SLF001 - nothing else says it
    return text.replace("%%", "%") if doubled else text


def run_text(connection: sa.Connection, statement: str) -> None:
    """Run a statement as it is written: a `%` or `:` in it stands for itself."""
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def make_tables(missing: Iterable[str], dialect: sa.Dialect) -> list[str]:
    """Return what makes our tables, and columns of them (`table.column`), that are missing."""
    names = set(missing)
    made: list[str] = []
    for table in our_tables():
        if table.name in names:
            made.append(text_of(CreateTable(table, if_not_exists=True), dialect))
            made += [
                text_of(CreateIndex(index, if_not_exists=True), dialect)
                for index in sorted(table.indexes, key=lambda index: str(index.name))
                # `ddl_if` speaks to `create_all` only, and each write pays for an index.
                if has_positions(dialect=dialect) or ENTRIES.c.position not in [*index.columns]
            ]
        made += [
            f"ALTER TABLE {_quoted(table, dialect)} ADD COLUMN "
            f"{text_of(CreateColumn(column), dialect)}"
            for column in table.columns
            if f"{table.name}.{column.name}" in names
        ]
    return made


def drop_tables(there: Iterable[str], dialect: sa.Dialect) -> list[str]:
    """Return what drops those of our tables that are there, with all that is in them."""
    names = set(there)
    return [
        text_of(DropTable(table, if_exists=True), dialect)
        for table in reversed(our_tables())
        if table.name in names
    ]


def note_fact(name: str, value: str, dialect: sa.Dialect) -> list[str]:
    """Return what puts a fact into our table of facts."""
    return [
        text_of(sa.delete(META).where(META.c.name == name), dialect),
        text_of(sa.insert(META).values(name=name, value=value), dialect),
    ]


def note_shape(noted: NotedShape, at_microseconds: int, dialect: sa.Dialect) -> str:
    """Return what notes a shape; nothing where it is noted already, an error where its id is not
    its own.
    """
    shape = noted.shape
    values: dict[str, Any] = {
        "id": shape.id,
        "table_id": shape.table_id,
        "table_schema": shape.table.name.schema,
        "table_name": shape.table.name.name,
        "facts": dump_shape(shape),
        "digest": noted.digest,
        "at_microseconds": at_microseconds,
    }
    again = SHAPES.alias("noted")
    wanted = (
        sa.select(*(sa.literal(value) for value in values.values()))
        # Some want a table before WHERE; this one has a row by then.
        .select_from(META)
        .where(
            META.c.name == VERSION_FACT,
            ~sa.exists().where(again.c.id == shape.id, again.c.digest == noted.digest),
        )
    )
    return text_of(sa.insert(SHAPES).from_select(list(values), wanted), dialect)


def as_lines(statements: Sequence[str], *, delimiter: str = "") -> list[str]:
    """Return statements with what ends each in a shell; `delimiter` where `;` is not enough."""
    if not delimiter:
        return [f"{statement.rstrip().removesuffix(';')};" for statement in statements]
    return [
        f"DELIMITER {delimiter}",
        *(f"{statement.rstrip()}\n{delimiter}" for statement in statements),
        "DELIMITER ;",
    ]


def _quoted(table: sa.Table, dialect: sa.Dialect) -> str:
    return dialect.identifier_preparer.format_table(table)
