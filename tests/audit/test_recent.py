"""The latest entries of the log."""

import datetime as dt

import pytest
import sqlalchemy as sa

from shipworthy.audit import AuditSettings, LogFilter, bind, install, recent_entries
from shipworthy.context import actor
from shipworthy.errors import Misuse


@pytest.fixture
def engine(tmp_path):
    """A database with a trail and some changes, the last by Ana."""
    made = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    statements = (
        "CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT, email TEXT)",
        "CREATE TABLE lines (client TEXT, number INTEGER, PRIMARY KEY (client, number))",
    )
    with made.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    install(made, AuditSettings(personal=("clients.email = id",)), say=lambda _: None)
    undo = bind(made, service="shop")
    with made.begin() as connection:
        connection.exec_driver_sql("INSERT INTO clients VALUES (7, 'ana', 'ana@example.org')")
        connection.exec_driver_sql("INSERT INTO lines VALUES ('7', 1), ('7', 2)")
    with actor("ana"), made.begin() as connection:
        connection.exec_driver_sql("UPDATE clients SET name = 'eva' WHERE id = 7")
    yield made
    undo()
    made.dispose()


def entries(engine, **wanted):
    with engine.connect() as connection:
        return recent_entries(connection, LogFilter(**wanted))


def test_the_newest_comes_first_with_who_did_it(engine):
    """Values are as people read them, whatever form the log has."""
    first, *rest = entries(engine)
    assert (first.actor, first.op, first.table, first.key) == ("ana", "update", "clients", [7])
    assert (first.old, first.new) == ({"name": "ana"}, {"name": "eva"})
    assert dt.datetime.fromisoformat(first.at).tzinfo is dt.UTC
    assert len(rest) == 3
    assert rest[-1].new["id"] == 7


def test_personal_values_are_shown_to_who_asks_and_to_nobody_else(engine):
    """What was erased is said to be."""
    assert "ana@example.org" not in str(entries(engine))
    assert entries(engine)[-1].new["email"] == "(personal)"
    assert entries(engine, personal=True)[-1].new["email"] == "ana@example.org"
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE shipworthy_audit_personal SET value = NULL, salt = NULL")
    assert entries(engine, personal=True)[-1].new["email"] == "(erased)"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"table": "clients"}, 2),
        ({"table": "clients", "key": ("7",)}, 2),
        ({"table": "clients", "key": ("8",)}, 0),
        ({"table": "lines", "key": ("7", "2")}, 1),
        ({"actor": "ana"}, 1),
        ({"actor": "nobody"}, 0),
        ({"limit": 2}, 2),
        ({"since_microseconds": 1}, 4),
        ({"since_microseconds": 2**52}, 0),
    ],
)
def test_filters_leave_what_was_asked_for(engine, wanted, count):
    """A key is given as text, whatever it is in the table."""
    assert len(entries(engine, **wanted)) == count


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"table": "client"}, "'client' was ever captured here; there is clients, lines"),
        ({"key": ("7",)}, "name it with --table"),
        ({"table": "lines", "key": ("7",)}, r"\(client, number\), of 2 parts, and 1 were given"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_misuse(engine, wanted, said):
    """One sentence that says what would work."""
    with pytest.raises(Misuse, match=said):
        entries(engine, **wanted)


def test_without_a_trail_it_says_how_to_make_one():
    """And does not fail on a table that is not there."""
    engine = sa.create_engine("sqlite://")
    with pytest.raises(Misuse, match="audit install"):
        entries(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("harm", "because"),
    [
        ("shape_id = 99", "KeyError: 99"),
        ("new = '{'", ""),
        ("at_microseconds = 9000000000000000000", ""),
        ("op = '?'", "KeyError: '?'"),
    ],
)
def test_a_damaged_entry_is_named_and_hides_no_other(engine, harm, because):
    """With what finds out more; nothing is guessed."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER shipworthy_audit_guard_update")
        connection.exec_driver_sql(f"UPDATE shipworthy_audit_entries SET {harm} WHERE seq = 2")
    found = entries(engine)

    assert [one.seq for one in found] == [4, 3, 2, 1]
    assert [bool(one.unreadable) for one in found] == [False, False, True, False]
    damaged = found[2]
    assert damaged.unreadable.startswith(f"entry 2 of the log cannot be read ({because}")
    assert "`shipworthy audit verify`" in damaged.unreadable
    assert (damaged.table, damaged.key, damaged.old, damaged.new) == ("", None, None, None)
