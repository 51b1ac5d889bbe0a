"""What tables were like is sealed, and a shape that was changed or taken away is named."""

import pytest
import sqlalchemy as sa

from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.shape_prints import add_said, check_shapes, shape_prints
from shipworthy.audit.tables import SHAPES


def shape(number, table_id, facts):
    """Return a row of the table of shapes."""
    return {
        "id": number,
        "table_id": table_id,
        "table_schema": "",
        "table_name": f"table {table_id}",
        "facts": facts,
        "digest": "",
        "at_microseconds": 1,
    }


@pytest.fixture
def connection():
    """A database that has two shapes, and nothing else."""
    engine = sa.create_engine("sqlite://")
    SHAPES.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(SHAPES), [shape(1, 7, '["id"]'), shape(2, 8, '["id"]')])
        yield connection
    engine.dispose()


def found_in(connection, said):
    """Return what a look at the shapes has found: the kinds, and the reasons."""
    report = VerifyReport()
    check_shapes(connection, report, said)
    return dict(report.found), [one.because for one in report.findings]


def test_each_shape_has_a_digest_of_its_own_that_stays(connection):
    """By its number, as text: that is how a header says it."""
    prints = shape_prints(connection)

    assert list(prints) == ["1", "2"]
    assert prints["1"] != prints["2"]
    assert shape_prints(connection) == prints


def test_shapes_that_are_as_they_were_sealed_are_no_finding(connection):
    """Nor is one that came since: it is not sealed yet."""
    said = {"1": shape_prints(connection)["1"]}

    assert found_in(connection, said) == ({}, [])


@pytest.mark.parametrize("change", [{"facts": "{}"}, {"table_id": 9}])
def test_a_shape_that_was_changed_is_named(connection, change):
    """Its columns, or the table that it is of."""
    said = shape_prints(connection)
    connection.execute(sa.update(SHAPES).where(SHAPES.c.id == 2).values(change))

    kinds, [because] = found_in(connection, said)

    assert kinds == {"shape changed": 1}
    assert because.startswith("shape 2 is not as it was sealed: ")


def test_a_shape_that_was_taken_away_is_named(connection):
    """Entries would have a number that says nothing."""
    said = shape_prints(connection)
    connection.execute(sa.delete(SHAPES).where(SHAPES.c.id == 1))

    kinds, [because] = found_in(connection, said)

    assert kinds == {"shape changed": 1}
    assert because.startswith("shape 1 is not there: ")


def test_what_was_said_of_a_shape_first_stays():
    """A later header that says otherwise would make the change good."""
    said: dict[str, str] = {}

    add_said(said, {"shapes": {"1": "a", "2": "b"}})
    add_said(said, {"shapes": {"1": "other", "3": "c"}})

    assert said == {"1": "a", "2": "b", "3": "c"}


@pytest.mark.parametrize("says", [{}, {"shapes": None}, {"shapes": ["1"]}, {"key": "k"}])
def test_a_header_that_says_nothing_of_shapes_adds_none(says):
    """Most of them do not: a shape is said once, when it is new."""
    said = {"1": "a"}

    add_said(said, says)

    assert said == {"1": "a"}
