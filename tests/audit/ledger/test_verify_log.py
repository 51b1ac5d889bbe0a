"""The batches as a log: what the first pass tells the second, and what it finds by itself."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.reading import reader_for
from shipworthy.audit.ledger.verify_log import verify_log
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, ENTRIES

pytestmark = pytest.mark.slow


def looked_at(trail):
    """Return the facts of the log, and the report."""
    report = VerifyReport()
    with trail.engine.connect() as connection:
        return verify_log(connection, report, trusted=[KEY.public], external=()), report


def test_it_says_where_the_log_ends(trail):
    """Entries are not looked at."""
    trail.write(3)
    trail.seal(entries=4)
    facts, report = looked_at(trail)
    with trail.engine.connect() as connection:
        reader = reader_for(connection)
        last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq)))
        [row] = reader.by_numbers(connection, [last])
    assert (report.batches, report.checkpoints, report.rows) == (facts.batches, facts.batches, 0)
    assert facts.end == reader.place(row)
    assert report.findings == []


def test_a_batch_in_the_middle_that_is_not_there_is_named_once(sqlite_trail):
    """What comes after it cannot be told from the tree any more, and is not blamed."""
    sqlite_trail.write(4)
    sqlite_trail.seal(entries=3)
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.delete(BATCHES).where(BATCHES.c.number == 2))
    _, report = looked_at(sqlite_trail)
    assert [(it.kind, it.because) for it in report.findings] == [
        ("batch removed", "batch 2 is not there")
    ]


def test_a_column_that_is_not_what_the_header_has_is_named(sqlite_trail):
    """The header is what was signed."""
    sqlite_trail.write(2)
    sqlite_trail.seal(entries=3)
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.update(BATCHES).where(BATCHES.c.number == 1).values(entries=2))
    _, report = looked_at(sqlite_trail)
    assert [it.because for it in report.findings] == ["batch 1: entries is not what its header has"]


def test_a_last_checkpoint_that_was_removed_leaves_a_batch_unsigned(sqlite_trail):
    """Those before it are signed still."""
    sqlite_trail.write(2)
    sqlite_trail.seal(entries=3)
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.delete(CHECKPOINTS).where(CHECKPOINTS.c.size == 2))
    _, report = looked_at(sqlite_trail)
    assert dict(report.found) == {"batch unsigned": 1}
    assert "there are 2 batches and the last checkpoint is of 1" in report.findings[0].because
