"""SQLite: circles of rows that must all be there go in, since the check waits."""

import sqlalchemy as sa

from records.conftest import Prepare
from records.shop import run
from shipworthy.records import deletions, restore


def test_a_circle_without_optional_links_comes_back(sqlite: sa.Engine, prepare: Prepare) -> None:
    """SD-79: each row needs the other, so the database checks at the end."""
    for one, other in (("a", "b"), ("b", "a")):
        run(
            sqlite,
            f"CREATE TABLE {one} (id INTEGER PRIMARY KEY, other INTEGER NOT NULL"
            f" REFERENCES {other} DEFERRABLE INITIALLY DEFERRED)",
        )
    prepare(sqlite, sa.MetaData())
    run(sqlite, "INSERT INTO a VALUES (1, 2)", "INSERT INTO b VALUES (2, 1)")
    run(sqlite, "DELETE FROM a", "DELETE FROM b")
    (deletion,) = deletions(sqlite)
    assert deletion.rows == 2

    restore(sqlite, deletion.id)

    with sqlite.connect() as connection:
        pairs = connection.exec_driver_sql("SELECT * FROM a JOIN b ON a.other = b.id").all()
    assert pairs == [(1, 2, 2, 1)]
