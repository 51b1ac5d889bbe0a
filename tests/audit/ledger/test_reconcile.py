"""Writes past the triggers are found by comparing tables and log; all others are no finding."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import ORDERS, PEOPLE
from shipworthy.audit.ledger.reconcile import reconcile
from shipworthy.audit.reading import LogRowUnreadable
from shipworthy.audit.tables import ENTRIES, PERSONAL
from shipworthy.errors import Misuse

pytestmark = pytest.mark.slow


def found(trail, *tables):
    report = reconcile(trail.engine, tables)
    assert report.found == len(report.findings)
    return [(it.kind, it.table, it.key.replace('"i', '"')) for it in report.findings]


def test_what_the_triggers_saw_is_no_finding(trail):
    """Inserts, updates, keys that were changed and given again, deletes, nulls."""
    trail.write(4)
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 1).values(id=50, note=None))
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 50).values(total=None))
    trail.execute(sa.insert(ORDERS).values(id=1, person_id=1))
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 2).values(id=60))
    trail.execute(sa.delete(ORDERS).where(ORDERS.c.id == 3))
    trail.execute(sa.delete(PEOPLE).where(PEOPLE.c.id == 4))
    trail.execute(sa.update(PEOPLE).where(PEOPLE.c.id == 1).values(email=None))
    report = reconcile(trail.engine)
    assert report.findings == []
    assert (report.tables, report.rows, report.unknown) == (2, 7, 0)


def test_what_was_written_past_the_triggers_is_named_row_by_row(trail):
    """Changed, put in again, taken away, given another key: with the triggers away, then back."""
    trail.write(6)
    trail.execute(sa.delete(ORDERS).where(ORDERS.c.id == 6))
    reconcile(trail.engine)
    trail.uncaptured()
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 1).values(total=99))
    trail.execute(sa.update(PEOPLE).where(PEOPLE.c.id == 2).values(email="x@y.z"))
    trail.execute(sa.delete(ORDERS).where(ORDERS.c.id == 3))
    trail.execute(sa.insert(ORDERS).values(id=6, person_id=6))
    trail.execute(sa.insert(ORDERS).values(id=70, person_id=7))
    trail.captured()
    assert sorted(found(trail)) == [
        ("row changed", "orders", '["1"]'),
        ("row changed", "people", '["2"]'),
        ("row inserted", "orders", '["6"]'),
        ("row removed", "orders", '["3"]'),
        ("rows inserted", "orders", ""),
    ]


def test_rows_that_are_older_than_the_log_are_unknown_and_no_finding(trail):
    """Also when they are changed or deleted later: their number is still the same."""
    trail.uncaptured()
    trail.write(4)
    trail.captured()
    first = reconcile(trail.engine)
    assert (first.findings, first.unknown, first.rows) == ([], 8, 0)
    assert len(first.notes) == 2
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 1).values(note="new"))
    trail.execute(sa.delete(ORDERS).where(ORDERS.c.id == 2))
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 3).values(id=33))
    trail.execute(sa.insert(ORDERS).values(id=9, person_id=9))
    later = reconcile(trail.engine)
    assert (later.findings, later.notes) == ([], [])

    trail.uncaptured()
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 1).values(note="past it"))
    trail.execute(sa.update(ORDERS).where(ORDERS.c.id == 4).values(note="never seen"))
    trail.captured()
    assert found(trail) == [("row changed", "orders", '["1"]')]


def test_a_table_that_was_emptied_past_the_triggers_is_found_row_by_row(trail):
    trail.write(3)
    trail.uncaptured()
    trail.execute(sa.delete(ORDERS))
    trail.captured()
    assert found(trail, "orders") == [("row removed", "orders", f'["{it}"]') for it in (1, 2, 3)]
    assert found(trail, "people") == []


def test_a_personal_value_that_was_erased_is_no_finding(trail):
    trail.write(2)
    trail.seal()
    with trail.engine.begin() as connection:
        connection.execute(sa.update(PERSONAL).values(salt=None, value=None))
    assert found(trail) == []


def test_a_table_that_is_gone_is_said_and_one_that_never_was_is_refused(sqlite_trail):
    sqlite_trail.write(1)
    with sqlite_trail.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE orders")
    assert found(sqlite_trail) == [("table gone", "orders", "")]
    with pytest.raises(Misuse, match="not in the log: nothing; there is orders, people"):
        reconcile(sqlite_trail.engine, ["nothing"])


@pytest.mark.parametrize("op", ["I", "U"])
def test_an_entry_that_cannot_be_read_is_named(sqlite_trail, op):
    """What it said of its row is lost, so nobody can compare it."""
    trail = sqlite_trail
    trail.write(1)
    trail.execute(sa.update(ORDERS).values(total=7))
    trail.unguarded()
    of_kind = sa.select(sa.func.max(ENTRIES.c.seq)).where(ENTRIES.c.op == op)
    with trail.engine.connect() as connection:
        seq = connection.scalar(of_kind)
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == seq).values(new="no"))

    with pytest.raises(LogRowUnreadable, match=f"entry {seq} of the log cannot be read"):
        reconcile(trail.engine)


def test_many_rows_are_read_in_pages(sqlite_trail):
    """More than one page of the table, of the log and of keys that were changed."""
    with sqlite_trail.engine.begin() as connection:
        connection.execute(sa.insert(ORDERS), [{"id": it, "person_id": 1} for it in range(1, 1200)])
        connection.execute(sa.update(ORDERS).values(id=ORDERS.c.id + 5000))
    report = reconcile(sqlite_trail.engine)
    assert (report.findings, report.rows) == ([], 1199)
