"""What is held stays, and is not erased."""

import pytest
import sqlalchemy as sa

from audit.sealed_people import erased
from shipworthy.audit.holds import add_hold, lift_hold, list_holds
from shipworthy.audit.personal import SubjectHeld
from shipworthy.audit.tables import ENTRIES, PERSONAL
from shipworthy.errors import Misuse


@pytest.mark.parametrize(("kind", "name"), [("subject", "1"), ("table", "people")])
def test_what_is_held_stays_until_the_hold_is_lifted(sealed_people, kind, name):
    """In the log, and in the hands of nobody who would erase it; then both go."""
    trail = sealed_people
    with trail.engine.begin() as connection:
        hold = add_hold(connection, kind, name, reason="case 7", by="eve")
        assert list_holds(connection) == [hold]
    done = trail.retain()
    held = 2 if kind == "subject" else 3
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) == held
    assert done.kept_entries == held
    assert trail.problems() == []
    with pytest.raises(SubjectHeld, match=r"nothing was erased: hold .* \(case 7\)"):
        erased(trail, "1")
    assert trail.count(PERSONAL, PERSONAL.c.subject == "1") == 3
    with trail.engine.begin() as connection:
        lift_hold(connection, hold.id, reason="closed", by="eve")
    assert trail.retain().dropped_entries == held
    assert erased(trail, "1").archived_values == 3
    assert trail.problems() == []


def test_a_transaction_can_be_held(sealed_people):
    """By its name in the log."""
    trail = sealed_people
    with trail.engine.begin() as connection:
        tx = connection.scalar(sa.select(ENTRIES.c.tx).where(ENTRIES.c.seq == 3))
        add_hold(connection, "transaction", tx, reason="case 8", by="eve")
    trail.retain()
    assert trail.count(ENTRIES, ENTRIES.c.seq == 3) == 1


def test_a_hold_says_what_on_and_why(sealed_people):
    """What cannot be is refused, and lifting one that is not there, too."""
    trail = sealed_people
    with trail.engine.connect() as connection:
        with pytest.raises(Misuse, match="a hold is on a subject, table, transaction"):
            add_hold(connection, "planet", "x", reason="y", by="z")
        with pytest.raises(Misuse, match="why"):
            add_hold(connection, "subject", "x", reason=" ", by="z")
        with pytest.raises(Misuse, match="has no trail"):
            add_hold(connection, "table", "nothing", reason="y", by="z")
        with pytest.raises(Misuse, match="there is no hold"):
            lift_hold(connection, "x", reason="y", by="z")
