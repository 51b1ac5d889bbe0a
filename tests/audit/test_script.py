"""The SQL of an installation as text."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from shipworthy.audit.model import CatalogColumn, CatalogTable, Shape, TableName
from shipworthy.audit.script import (
    as_lines,
    drop_tables,
    make_tables,
    note_fact,
    note_shape,
    run_text,
    text_of,
)
from shipworthy.audit.shapes import NotedShape, read_noted
from shipworthy.audit.tables import META, TABLES, VERSION_FACT
from shipworthy.db import read_statements

DIALECTS = (sqlite.dialect(), postgresql.psycopg.dialect(), mysql.pymysql.dialect())
ALL = [table.name for table in TABLES]
ODD = 'it\'s "100%" of :a and \\ ü'


def test_what_is_missing_is_made_and_nothing_else():
    """A table with its indexes, or a column of one that is there."""
    for dialect in DIALECTS:
        made = make_tables(["shipworthy_audit_shapes", "shipworthy_audit_batches.header"], dialect)
        assert len(made) == 3
        assert "CREATE TABLE IF NOT EXISTS shipworthy_audit_shapes" in made[0]
        assert made[1].startswith("CREATE INDEX IF NOT EXISTS")
        assert made[2].startswith("ALTER TABLE shipworthy_audit_batches ADD COLUMN header ")


def test_an_index_of_positions_is_made_where_entries_have_any():
    """Elsewhere all of them are 0: it would find nothing, and each write would pay for it."""
    for dialect in DIALECTS:
        made = [one for one in make_tables(ALL, dialect) if "entries_position" in one]
        assert len(made) == (dialect.name == "postgresql")


def test_a_value_is_written_as_it_is():
    """A percent sign is not doubled: no driver will halve it."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        for statement in make_tables(ALL, engine.dialect):
            run_text(connection, statement)
        for statement in note_fact("odd", ODD, engine.dialect):
            run_text(connection, statement)
        assert connection.scalar(sa.select(META.c.value)) == ODD
    engine.dispose()
    for dialect in DIALECTS:
        assert '100%"' in text_of(sa.select(sa.literal(ODD)), dialect)


def test_a_shape_is_noted_once():
    """The same again is nothing, so that a revision can run where install has been."""
    engine = sa.create_engine("sqlite://")
    shape = Shape(
        id=4,
        table_id=2,
        table=CatalogTable(
            name=TableName(schema="", name=ODD),
            columns=(CatalogColumn(name=ODD, type="TEXT", number=1, default=ODD),),
            primary_key=(ODD,),
        ),
    )
    noted = NotedShape(shape=shape, digest="d")
    with engine.begin() as connection:
        for statement in [
            *make_tables(ALL, engine.dialect),
            *note_fact(VERSION_FACT, "1", engine.dialect),
            *[note_shape(noted, 7, engine.dialect)] * 2,
        ]:
            run_text(connection, statement)
        assert read_noted(connection) == [noted]
    engine.dispose()


def test_what_is_there_is_dropped_and_nothing_else():
    """The other way round than it was made."""
    for dialect in DIALECTS:
        dropped = drop_tables(["shipworthy_audit_meta", "shipworthy_audit_shapes"], dialect)
        assert [text.split()[-1] for text in dropped] == [
            "shipworthy_audit_shapes",
            "shipworthy_audit_meta",
        ]


def test_a_shell_finds_the_end_of_each_statement():
    """Also where the body of a trigger has semicolons of its own."""
    trigger = "CREATE TRIGGER t BEGIN SELECT 1; END"
    assert as_lines(["SELECT 1;", "SELECT 2"]) == ["SELECT 1;", "SELECT 2;"]
    lines = as_lines([trigger], delimiter="//")
    assert lines == ["DELIMITER //", f"{trigger}\n//", "DELIMITER ;"]
    assert len(read_statements("\n".join(as_lines(["SELECT 1", "SELECT 2"])))) == 2
