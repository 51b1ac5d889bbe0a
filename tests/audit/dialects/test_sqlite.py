"""SQLite's dialect as the others use it: the horizon, retention, and rows as images."""

import pytest
import sqlalchemy as sa

from audit.dialects.sqlite_trail import captured, changes, table_of
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT
from shipworthy.audit.tables import ENTRIES, META

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"


@pytest.fixture
def engine(tmp_path):
    """A captured table in a file."""
    engine = captured(f"sqlite:///{tmp_path / 'a.db'}", NOTES)
    yield engine
    engine.dispose()


def test_the_horizon_is_after_the_last_entry(engine):
    """One writer at a time: whatever is seen is final."""
    with engine.connect() as connection:
        assert SQLITE_AUDIT.horizon(connection) == 1
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a'), ('b')")
    with engine.connect() as connection:
        assert SQLITE_AUDIT.horizon(connection) == 3


def test_entries_go_within_retention_and_stay_outside_of_it(engine):
    """The guards look for a mark, which no other transaction can see and which does not stay."""
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a'), ('b')")
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.execute(sa.delete(ENTRIES))
    with engine.begin() as connection:
        with SQLITE_AUDIT.retention(connection):
            connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 1))
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.delete(ENTRIES))
    with engine.connect() as connection:
        assert [one.key for one in changes(connection)] == ['["i2"]']
        assert connection.scalar(sa.select(sa.func.count()).select_from(META)) == 0


def test_rows_go_and_come_as_images(engine):
    """Inserted, changed, looked at and removed by what the log has of them; each is captured."""
    with engine.begin() as connection:
        notes = table_of(connection, "notes")
        image = {"id": "i7", "body": "ta"}
        assert SQLITE_AUDIT.insert_rows(connection, notes, ["id", "body"], [image]) == 1
        assert SQLITE_AUDIT.update_row(connection, notes, ["i7"], {"body": None}) == 1
        rows = SQLITE_AUDIT.select_rows(connection, notes, ["id"], [["i7"]])
        assert SQLITE_AUDIT.delete_rows(connection, notes, [["i7"]]) == 1
        assert rows == [{"id": "i7", "body": None}]
        assert [one.op for one in changes(connection)] == ["I", "U", "D"]


def test_values_become_cells_and_cells_values():
    """The first letter is how SQLite stores it."""
    assert SQLITE_AUDIT.cell(b"\x01", "BLOB") == "b01"
    assert SQLITE_AUDIT.value("i12", "INTEGER") == 12
    assert SQLITE_AUDIT.value(None, "TEXT") is None
