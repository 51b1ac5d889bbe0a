"""SQLite: every value of every storage class is a cell, and the cell is that value again."""

import math
import sqlite3
import struct

import pytest
from hypothesis import example, given, strategies as st

from shipworthy.audit.cells import write_key
from shipworthy.audit.dialects.sqlite_cells import (
    affinity,
    cell_sql,
    changed_sql,
    decode,
    encode,
    literal,
    name,
    quoted_cell_sql,
    readable,
)
from shipworthy.audit.model import CatalogColumn, CatalogTable, TableName

ANY = CatalogColumn(name="v", type="", number=1)
TABLE = CatalogTable(name=TableName(schema="", name="t"), columns=(ANY,), primary_key=())
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
DATABASE = sqlite3.connect(":memory:", check_same_thread=False)


def asked(sql, *values):
    return DATABASE.execute(sql, values).fetchone()


def bits(value):
    return struct.pack("<d", value + 0.0) if isinstance(value, float) else value


@pytest.mark.slow
@given(VALUES)
@example("\0")
@example("a\0b")
@example(2**63 - 1)
@example(-(2**63))
@example(math.inf)
@example(-math.inf)
@example(5e-324)
@example(1.7976931348623157e308)
@example(9007199254740993.0)
@example(-0.0)
def test_a_value_comes_back_as_it_was_stored(value):
    """Class and bits, through the SQL of the triggers and the driver."""
    stored, cell = asked(f"SELECT ?1, {cell_sql(TABLE, ANY, '?1')}", value)

    found = decode(cell)

    assert type(found) is type(stored)
    assert bits(found) == bits(stored)


@pytest.mark.slow
@given(VALUES)
@example(0.001)
@example(math.nextafter(0.001, 0))
@example(2.0**63 - 1024)
@example(2.0**52 - 0.5)
def test_sql_and_python_write_the_same_key(value):
    """So that a key is found by equality: byte by byte, whatever it holds."""
    [key] = asked(f"SELECT json_array({cell_sql(TABLE, ANY, '?1')})", value)

    assert key == write_key([encode(value)])


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (0.0, "r0+0"),
        (-0.0, "r0+0"),
        (2.5, "r2+2305843009213693952"),
        (-2.5, "r-2+-2305843009213693952"),
        (1e15, "r1000000000000000+0"),
        (2.0**63, "r4503599627370496p11"),
        (5e-324, "r576460752303423488p-1133"),
        (math.inf, "rInf"),
        (-math.inf, "r-Inf"),
    ],
)
def test_a_real_is_written_as_integers(value, cell):
    """Whose sum it is; no digit is printed that could be read as another number."""
    assert asked(f"SELECT {cell_sql(TABLE, ANY, '?1')}", value) == (cell,)
    assert encode(value) == cell


@pytest.mark.slow
@given(VALUES)
def test_a_quoted_cell_is_the_json_of_the_cell(value):
    """The short way, which an update takes, and the long way give the same text."""
    short, long = asked(
        f"SELECT {quoted_cell_sql(TABLE, ANY, '?1')}, json_quote({cell_sql(TABLE, ANY, '?1')})",
        value,
    )

    assert short == long


@pytest.mark.slow
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_names_and_texts_are_quoted(text):
    """Whatever is in them, SQL takes them for one name and one text."""
    cursor = DATABASE.execute(f"SELECT {literal(text)} AS {name(text)}")

    assert cursor.fetchone() == (text,)
    assert cursor.description[0][0] == text


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INTEGER", "INTEGER"),
        ("bigint", "INTEGER"),
        ("FLOATING POINT", "INTEGER"),
        ("VARCHAR(20)", "TEXT"),
        ("CHARINT", "INTEGER"),
        ("clob", "TEXT"),
        ("", "BLOB"),
        ("BLOB", "BLOB"),
        ("double precision", "REAL"),
        ("NUMERIC(10,2)", "NUMERIC"),
        ("DATETIME", "NUMERIC"),
        ("BOOLEAN", "NUMERIC"),
        ("JSON", "NUMERIC"),
        ("STRING", "NUMERIC"),
    ],
)
def test_an_affinity_is_what_sqlite_makes_of_the_type(declared, expected):
    """By the rules of its manual, and shown by what it stores."""
    assert affinity(declared) == expected
    DATABASE.execute(f"CREATE TEMP TABLE one (v {declared})")
    try:
        DATABASE.execute("INSERT INTO one VALUES ('12'), (12), (12.5)")
        stored = {kind for (kind,) in DATABASE.execute("SELECT typeof(v) FROM one")}
    finally:
        DATABASE.execute("DROP TABLE one")

    assert (
        stored
        == {
            "INTEGER": {"integer", "real"},
            "NUMERIC": {"integer", "real"},
            "REAL": {"real"},
            "TEXT": {"text"},
            "BLOB": {"text", "integer", "real"},
        }[expected]
    )


@pytest.mark.slow
@pytest.mark.parametrize("declared", ["", "INTEGER", "NUMERIC", "REAL", "TEXT", "BLOB"])
@given(old=VALUES, new=VALUES)
@example(old=1, new=1.0)
@example(old=-(2**63), new=-(2.0**63))
@example(old="a", new="A")
@example(old="a ", new="a")
@example(old=b"a", new="a")
@example(old=None, new=0)
def test_a_change_is_a_change_of_value_or_class(declared, old, new):
    """For every affinity and with a collation that thinks less of the difference."""
    column = CatalogColumn(name="v", type=declared, number=1)
    table = CatalogTable(name=TableName(schema="", name="t"), columns=(column,), primary_key=())
    seen = []
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.create_function("seen", 1, seen.append)
        database.execute(f"CREATE TABLE t (v {declared} COLLATE NOCASE)")
        database.execute(
            "CREATE TRIGGER c AFTER UPDATE ON t BEGIN "
            f"SELECT seen({changed_sql(table, column)}); END"
        )
        database.execute("INSERT INTO t VALUES (?)", (old,))
        [before] = database.execute("SELECT v FROM t")
        database.execute("UPDATE t SET v=?", (new,))
        [after] = database.execute("SELECT v FROM t")
    finally:
        database.close()

    changed = type(before[0]) is not type(after[0]) or bits(before[0]) != bits(after[0])

    assert bool(seen[0]) is changed


def test_people_see_values_and_json_takes_them():
    """Booleans by name, blobs as SQL writes them, infinity as a word, personal ones as they are."""
    assert readable("i1", "BOOLEAN") is True
    assert readable("i0", "boolean") is False
    assert readable("i7", "BOOLEAN") == 7
    assert readable("i1", "INTEGER") == 1
    assert readable("r2+2305843009213693952", "NUMERIC(5,1)") == 2.5
    assert readable("rInf", "REAL") == "Infinity"
    assert readable("r-Inf", "REAL") == "-Infinity"
    assert readable("tx", "TEXT") == "x"
    assert readable("t\udcff", "TEXT") == "\ufffd"
    assert readable("b00FF", "BLOB") == "X'00FF'"
    assert readable(None, "TEXT") is None
    assert readable(True, "TEXT") is True


@pytest.mark.parametrize("cell", [True, False, "", "q1", "i1.5", "bXY", "rabc", "r2.5", "r1p2p3"])
def test_what_is_no_cell_is_refused(cell):
    """A changed log, or a personal value that lies elsewhere, is never taken for a value."""
    with pytest.raises(ValueError):
        decode(cell)


def test_a_value_the_driver_would_not_store_is_refused():
    """With what it was, so that the caller converts it as his column does."""
    with pytest.raises(TypeError, match="no complex"):
        encode(1j)
