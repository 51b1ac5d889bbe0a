"""The entries against their batches: which of them is not as it was, and what cannot be told."""

import pytest
import sqlalchemy as sa

from audit.ledger import tampering
from audit.ledger.trail import KEY
from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.reading import reader_for
from shipworthy.audit.ledger.verify_entries import verify_entries
from shipworthy.audit.ledger.verify_log import LogFacts, verify_log
from shipworthy.audit.tables import BATCHES, ENTRIES

pytestmark = pytest.mark.slow


def looked_at(trail, facts=None):
    """Return what the second pass finds; by the facts of the first, or by these."""
    report = VerifyReport()
    with trail.engine.connect() as connection:
        found = facts or verify_log(connection, VerifyReport(), trusted=[KEY.public], external=())
        verify_entries(connection, reader_for(connection), report, found)
    return report


def sealed(trail):
    """Seal six entries, by three."""
    trail.write(2)
    trail.seal(entries=3)
    trail.unguarded()
    return trail


def test_nothing_is_found_where_nothing_was_done_and_what_is_new_is_counted(trail):
    """Each entry is looked at once."""
    trail.write(2)
    trail.seal(entries=3)
    trail.write(1, first=10)
    report = looked_at(trail)
    assert (report.findings, report.rows, report.unsealed) == ([], 6, 3)


def test_an_entry_put_among_the_sealed_is_named_with_the_batches_it_stands_in(sqlite_trail):
    """Its number was free only because another is gone, which is named too."""
    sealed(sqlite_trail)
    with sqlite_trail.engine.begin() as connection:
        values = tampering.entry(connection, 2) | {"seq": 0}
        connection.execute(sa.insert(ENTRIES).values(**values))
        connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 2))
    assert [(it.kind, it.seq) for it in looked_at(sqlite_trail).findings] == [
        ("entry inserted", 0),
        ("entry removed", 2),
    ]


def test_without_its_list_a_batch_is_judged_as_a_whole(sqlite_trail):
    """The root still tells that something was changed, and the sentence says why not what."""
    sealed(sqlite_trail)
    sqlite_trail.execute(sa.update(BATCHES).where(BATCHES.c.number == 1).values(leaves="x"))
    sqlite_trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 1).values(op="D"))
    found = looked_at(sqlite_trail).findings
    assert [(it.kind, it.batch) for it in found] == [("batch changed", 1), ("entry changed", 1)]
    assert "which of them was changed cannot be told without its list" in found[1].because


def test_what_was_pruned_is_no_finding(sqlite_trail):
    """Where a signed header said so: the same entries missing elsewhere are."""
    sealed(sqlite_trail)
    sqlite_trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq <= 3))
    whole = looked_at(sqlite_trail)
    pruned = looked_at(sqlite_trail, LogFacts(batches=2, end=(6, 6), pruned_to=1))
    assert dict(whole.found) == {"entry removed": 3}
    assert (pruned.findings, pruned.pruned_batches) == ([], 1)
