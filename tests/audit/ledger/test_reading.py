"""The log in the order of sealing: the same entries, in the same order, for whoever reads."""

import pytest
import sqlalchemy as sa

from shipworthy.audit.cells import CONTEXT_FIELDS, ENTRY_FIELDS, commitment
from shipworthy.audit.ledger.batch import BEGINNING
from shipworthy.audit.ledger.reading import (
    PersonalCell,
    bytes_of,
    leaf_of,
    personal_cells,
    preimage,
    reader_for,
)
from shipworthy.audit.tables import CONTEXTS, ENTRIES
from shipworthy.errors import Misuse

pytestmark = pytest.mark.slow


def test_pages_follow_one_another_without_a_gap(trail):
    """Bounded by a place, a position, or how many; by number they are the same entries."""
    trail.write(2)
    with trail.engine.connect() as connection:
        reader = reader_for(connection)
        everything = reader.page(connection, BEGINNING, limit=100)
        first = reader.page(connection, BEGINNING, limit=4)
        rest = reader.page(connection, reader.place(first[-1]), limit=100)
        up_to = reader.page(connection, BEGINNING, limit=100, up_to=reader.place(first[-1]))
        below = reader.page(connection, BEGINNING, limit=100, below=reader.place(everything[0])[0])
        numbers = [row[0] for row in everything]
        by_number = reader.by_numbers(connection, numbers)
        runs = [(numbers[0], numbers[1]), (numbers[3], numbers[3])]
        in_runs = reader.in_runs(connection, runs, up_to=reader.place(everything[-1]))
    assert len(everything) == 6
    assert [*first, *rest] == everything
    assert (up_to, below) == (first, [])
    assert sorted(by_number) == sorted(everything)
    assert [row[0] for row in in_runs] == [*numbers[:2], numbers[3]]


def test_an_entry_is_read_with_its_context_and_its_leaf_covers_it(sqlite_trail):
    """Who changed the context afterwards changed the leaf."""
    sqlite_trail.write(1)

    def first():
        with sqlite_trail.engine.connect() as connection:
            return reader_for(connection).page(connection, BEGINNING, limit=1)[0]

    before = first()
    sqlite_trail.execute(
        sa.insert(CONTEXTS).values(tx=before[3], at_microseconds=1, actor="ana", actor_kind="user")
    )
    after = first()
    context = dict(zip(CONTEXT_FIELDS, after[len(ENTRY_FIELDS) :], strict=True))
    assert set(before[len(ENTRY_FIELDS) :]) == {None}
    assert after[: len(ENTRY_FIELDS)] == before[: len(ENTRY_FIELDS)]
    assert (context["actor"], context["actor_kind"]) == ("ana", "user")
    assert leaf_of(after) != leaf_of(before)


def test_personal_values_are_covered_by_what_they_were_and_are_read_by_entry(sqlite_trail):
    """An erased one keeps its commitment, so the leaf stays what it was."""
    sqlite_trail.write(1)
    sqlite_trail.seal()
    with sqlite_trail.engine.connect() as connection:
        rows = reader_for(connection).page(connection, BEGINNING, limit=10)
        cells = personal_cells(connection, rows)
    row = next(row for row in rows if row[0] in cells)
    [cell, *_] = cells[row[0]]
    assert cell.opening == cell.commitment == cell.covered == commitment(cell.salt, cell.value)
    erased = PersonalCell(
        seq=cell.seq, side=cell.side, name=cell.name, salt=None, value=None,
        commitment=cell.commitment,
    )  # fmt: skip
    assert erased.opening is None
    assert leaf_of(row, [erased]) == leaf_of(row, [cell]) != leaf_of(row)
    assert cell.value.encode() not in preimage(row, [cell])


def test_an_entry_is_about_as_large_as_its_images(sqlite_trail):
    """So that a batch can be bounded by what it takes in memory."""
    sqlite_trail.write(1)
    with sqlite_trail.engine.connect() as connection:
        row = reader_for(connection).page(connection, BEGINNING, limit=1)[0]
        images = connection.execute(
            sa.select(ENTRIES.c.old, ENTRIES.c.new).where(ENTRIES.c.seq == row[0])
        ).one()
    assert bytes_of(row) == 500 + sum(len(image or "") for image in images)


def test_a_database_without_a_trail_is_refused_by_its_name():
    """With those that have one."""
    engine = sa.create_mock_engine("oracle+oracledb://", lambda *_: None)
    with pytest.raises(Misuse, match="oracle is not known here; the trail is kept on"):
        reader_for(engine)
