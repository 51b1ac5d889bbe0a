"""A table in pages: more rows than one page has, touched and untouched."""

from audit.past_database import a_moment_between, copy_of, installed, ordered, run, sqlite_engine
from shipworthy.audit import as_of

ROWS = (
    "INSERT INTO berths WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "WHERE i < 1200) SELECT i, 'x' FROM n"
)


def test_rows_of_many_pages_come_once_each(tmp_path):
    """Whatever page they are on, and whether they are still there."""
    table = "CREATE TABLE berths (id INTEGER PRIMARY KEY, name TEXT)"
    with sqlite_engine(tmp_path / "b.db", table, ROWS) as engine:
        installed(engine)
        copy, when = copy_of(engine, "berths"), a_moment_between(engine)
        run(
            engine,
            "UPDATE berths SET name = 'y' WHERE id % 2",
            "DELETE FROM berths WHERE id % 3 = 0",
        )
        run(engine, "INSERT INTO berths VALUES (3, 'again'), (9999, 'new')")
        with engine.connect() as connection:
            rows = list(as_of(connection, when).rows("berths"))
        assert len(rows) == 1200
        assert ordered(row.cells for row in rows) == copy


def test_a_table_whose_rows_have_no_rowid_is_read_in_pages(tmp_path):
    """In the order of its key."""
    table = "CREATE TABLE berths (id INTEGER, name TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID"
    with sqlite_engine(tmp_path / "b.db", table, ROWS) as engine:
        installed(engine)
        copy, when = copy_of(engine, "berths"), a_moment_between(engine)
        run(engine, "UPDATE berths SET name = 'y' WHERE id = 7")
        with engine.connect() as connection:
            past = as_of(connection, when)
            assert ordered(row.cells for row in past.rows("berths")) == copy
            assert past.get("berths", ("x", 7))["id"] == 7
