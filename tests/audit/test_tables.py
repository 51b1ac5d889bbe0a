"""The tables of the trail, as each database is told to make them."""

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from shipworthy.audit.tables import ENTRIES, METADATA, PREFIX


def statements(dialect):
    """Return what would be executed there, as text."""
    found = []

    def keep(sql, *_given, **_more):
        found.append(str(sql.compile(dialect=engine.dialect)))

    engine = sa.create_mock_engine(f"{dialect}://", keep)
    METADATA.create_all(engine, checkfirst=False)
    return found


def test_all_are_ours_by_name():
    """So that `uninstall` and the application's own migrations can tell them apart."""
    assert [name for name in METADATA.tables if not name.startswith(PREFIX)] == []


@pytest.mark.parametrize(
    ("name", "indexed"),
    [("sqlite", False), ("postgresql+psycopg", True), ("mariadb+pymysql", False)],
)
def test_an_index_of_positions_is_made_where_entries_have_any(name, indexed):
    """Elsewhere the number of an entry is its position, and each write would pay for nothing."""
    made = [one for one in statements(name) if "ix_shipworthy_audit_entries_position" in one]
    assert bool(made) == indexed


def test_ids_and_keys_are_told_apart_by_their_bytes():
    """A collation that thinks two of them alike would mix the rows of two people."""
    mariadb = str(CreateTable(ENTRIES).compile(dialect=mysql.dialect()))
    assert "COLLATE utf8mb4_bin" in mariadb
    assert 'key TEXT COLLATE "C"' in str(CreateTable(ENTRIES).compile(dialect=postgresql.dialect()))
