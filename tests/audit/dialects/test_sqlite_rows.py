"""SQLite: rows are put back, changed and read exactly."""

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from audit.dialects.sqlite_trail import captured, changes, table_of
from shipworthy.audit.cells import read_image, read_key
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT

# A text that is no UTF-8 is written as SQL writes it.
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.sampled_from(["1", "1.0", " 1 ", "1e3", "0x10", "-0.0", "inf", "a\0b", "", b"", b"\0"]),
)
COLUMNS = ("plain", "whole", "exact", "near", "words", "bytes_", "folded")
TABLE = """CREATE TABLE t (id INTEGER PRIMARY KEY, plain, whole BIGINT, exact NUMERIC(20,6),
    near DOUBLE, words VARCHAR(9), bytes_ BLOB, folded TEXT COLLATE NOCASE,
    twice AS (plain || 'x'))"""
EXACTLY = ",".join(f"typeof({one}), hex(CAST({one} AS BLOB)), hex(quote({one}))" for one in COLUMNS)


@pytest.fixture(scope="module")
def engine():
    """A captured table of all affinities, in memory; what a test writes is rolled back."""
    engine = captured("sqlite://", TABLE)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine):
    """A connection to it."""
    with engine.connect() as connection:
        yield connection


def exactly(connection):
    """Return every row with class, bytes, and what SQLite would write to make it again."""
    return connection.exec_driver_sql(f"SELECT id, {EXACTLY} FROM t ORDER BY id").all()


def floats(connection):
    """Return the reals by their bits, which no text of SQLite 3.40 tells."""
    rows = connection.exec_driver_sql(f"SELECT {','.join(COLUMNS)} FROM t ORDER BY id").all()
    return [[value.hex() if isinstance(value, float) else None for value in row] for row in rows]


@pytest.mark.slow
@given(rows=st.lists(st.tuples(*[VALUES] * len(COLUMNS)), min_size=1, max_size=3))
def test_a_row_that_was_deleted_comes_back_byte_by_byte(engine, rows):
    """Insert, delete, and insert what the log says of it: classes, bytes and bits are the same."""
    with engine.connect() as connection:
        marks = ",".join("?" * len(COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO t({','.join(COLUMNS)}) VALUES({marks})", rows)
        before, bits = exactly(connection), floats(connection)
        connection.exec_driver_sql("DELETE FROM t")
        table = table_of(connection, "t")
        log = changes(connection)
        deleted = [read_image(change.old) for change in log if change.op == "D"]

        count = SQLITE_AUDIT.insert_rows(
            connection, table, [column.name for column in table.columns], deleted
        )

        assert count == len(rows)
        assert exactly(connection) == before
        assert floats(connection) == bits
        assert [read_image(one.new) for one in changes(connection)[-count:]] == deleted
        assert SQLITE_AUDIT.select_rows(connection, table, (), ()) == deleted


@pytest.mark.slow
@given(old=st.tuples(*[VALUES] * len(COLUMNS)), new=st.tuples(*[VALUES] * len(COLUMNS)))
def test_an_update_that_is_taken_back_leaves_the_row_as_it_was(engine, old, new):
    """The old values of the log, set again, are the old values."""
    with engine.connect() as connection:
        marks = ",".join("?" * len(COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO t({','.join(COLUMNS)}) VALUES({marks})", old)
        before, bits = exactly(connection), floats(connection)
        connection.exec_driver_sql(f"UPDATE t SET {','.join(f'{c}=?' for c in COLUMNS)}", new)
        changed = [change for change in changes(connection) if change.op == "U"]

        for change in changed:
            SQLITE_AUDIT.update_row(
                connection, table_of(connection, "t"), read_key(change.key), read_image(change.old)
            )

        assert exactly(connection) == before
        assert floats(connection) == bits


def test_a_text_that_is_no_utf8_comes_back_as_it_was(connection):
    """A text with those bytes, not a blob; beside rows that need no such care."""
    connection.exec_driver_sql(
        "INSERT INTO t(words) VALUES ('a'), (CAST(x'FF00C3' AS TEXT)), ('b'), (NULL)"
    )
    before = exactly(connection)
    table = table_of(connection, "t")
    images = SQLITE_AUDIT.select_rows(connection, table, (), ())
    connection.exec_driver_sql("DELETE FROM t")

    assert SQLITE_AUDIT.insert_rows(connection, table, ("id", "words", "twice"), images) == 4
    assert exactly(connection) == before
    assert len(SQLITE_AUDIT.select_rows(connection, table, ("words",), [["t\udcff\0\udcc3"]])) == 1


def test_rows_are_found_by_what_their_columns_equal(connection):
    """By one column or several, NULL too, as the column's own collation has it; many at once."""
    connection.exec_driver_sql(
        "INSERT INTO t(id, whole, folded) VALUES (1, 1, 'A'), (2, 1, NULL), (3, 2, 'b')"
    )
    table = table_of(connection, "t")

    def found(columns, cells):
        images = SQLITE_AUDIT.select_rows(connection, table, columns, cells)
        return sorted(image["id"] for image in images)

    assert found(("whole",), [["i1"]]) == ["i1", "i2"]
    assert found(("whole", "folded"), [["i1", None], ["i2", "tB"]]) == ["i2", "i3"]
    assert found(("folded",), [["ta"]]) == ["i1"]
    assert found(("id",), [[f"i{number}"] for number in range(700)]) == ["i1", "i2", "i3"]
    assert found(("id",), [["i9"]]) == []
    assert found((), ()) == ["i1", "i2", "i3"]


def test_a_row_of_generated_columns_alone_is_inserted():
    """There is nothing to give, and still a row."""
    engine = captured("sqlite://", "CREATE TABLE g (a AS (1), b DEFAULT 3)")
    with engine.connect() as connection:
        table = table_of(connection, "g")

        assert SQLITE_AUDIT.insert_rows(connection, table, ("a",), [{"a": "i1"}] * 2) == 2
        assert SQLITE_AUDIT.select_rows(connection, table, (), ()) == [{"a": "i1", "b": "i3"}] * 2
        assert SQLITE_AUDIT.insert_rows(connection, table, ("b",), []) == 0
    engine.dispose()


def test_a_row_is_changed_by_its_whole_key_alone():
    """Nothing is changed by a part of it, nor where there is none, nor to nothing."""
    engine = captured("sqlite://", "CREATE TABLE k (a, b, c, PRIMARY KEY (b, a))")
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO k VALUES (1, 2, 3), (NULL, 2, 3)")
        table = table_of(connection, "k")

        assert SQLITE_AUDIT.update_row(connection, table, ["i2", "i1"], {"c": "tx"}) == 1
        assert SQLITE_AUDIT.update_row(connection, table, ["i2", None], {"c": "b00"}) == 1
        assert SQLITE_AUDIT.update_row(connection, table, ["i9", "i9"], {"c": None}) == 0
        assert SQLITE_AUDIT.update_row(connection, table, ["i2", "i1"], {}) == 0
        assert connection.exec_driver_sql("SELECT c FROM k ORDER BY a").scalars().all() == [
            b"\0",
            "x",
        ]
        with pytest.raises(ValueError, match=r"1 cells were given .* has 2 columns"):
            SQLITE_AUDIT.update_row(connection, table, ["i2"], {"c": None})
    engine.dispose()


def test_a_personal_value_is_not_inserted_as_true(connection):
    """Whoever restores has to open it first."""
    table = table_of(connection, "t")

    with pytest.raises(ValueError, match="personal"):
        SQLITE_AUDIT.insert_rows(connection, table, ("words",), [{"words": True}])


def test_values_of_the_driver_are_written_as_cells():
    """As a key is searched by."""
    assert SQLITE_AUDIT.cell(7, "INTEGER") == "i7"
    assert SQLITE_AUDIT.cell(True, "BOOLEAN") == "i1"
    assert SQLITE_AUDIT.cell(b"\x00\xff", "BLOB") == "b00FF"
    assert SQLITE_AUDIT.cell(None, "TEXT") is None
    assert SQLITE_AUDIT.value("i1", "BOOLEAN") is True


def test_the_wait_for_the_lock_is_bounded():
    """In milliseconds, as SQLite has it."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        [statement] = SQLITE_AUDIT.lock_limit(0.25)
        connection.exec_driver_sql(statement)
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 250
    engine.dispose()
