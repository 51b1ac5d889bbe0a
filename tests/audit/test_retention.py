"""Old entries leave the log; what left it can still be verified."""

import pytest
import sqlalchemy as sa

from audit.past_database import a_moment_between, run
from audit.sealed_people import erased
from shipworthy.audit import archive, as_of
from shipworthy.audit.archive import archived_openings
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.ledger.verify_entries import verify_entries
from shipworthy.audit.moment import PastPruned, time_of
from shipworthy.audit.retention import (
    RetentionStopped,
    plan_of,
)
from shipworthy.audit.retention_plan import RetentionLengths
from shipworthy.audit.tables import ARCHIVES, BATCHES, CONTEXTS, ENTRIES, META, PERSONAL


def check_a_round(trail):
    """Archive, prune, write on, archive again: all of it verified."""
    entries = trail.count(ENTRIES)
    done = trail.retain()
    assert (done.archived_entries, done.dropped_entries) == (entries, entries)
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) == 0
    assert trail.count(PERSONAL) == 0
    assert trail.problems() == []
    run(trail.engine, "UPDATE people SET city = 'z'", "DELETE FROM people WHERE id = 2")
    trail.seal()
    assert trail.problems() == []
    again = trail.retain()
    assert len(again.archives) == 1
    assert again.kept_entries == 1  # that the first archive was written
    assert trail.problems() == []


def test_what_left_the_log_is_verified_on_sqlite(sealed_people):
    """The batches' roots stay; the archives give them."""
    trail = sealed_people
    check_a_round(trail)


@pytest.mark.slow
def test_what_left_the_log_is_verified_on_a_server(people_on_a_server):
    """As on SQLite, past the guards of the log."""
    check_a_round(people_on_a_server)


def test_a_log_that_was_changed_is_not_archived(sealed_people):
    """Nobody takes the proof of a change away; what was taken is said."""
    trail = sealed_people
    with trail.engine.begin() as connection:
        connection.execute(META.insert().values(name="retention", value="1"))
        connection.execute(ENTRIES.update().where(ENTRIES.c.seq == 1).values(op="D"))
        connection.execute(META.delete().where(META.c.name == "retention"))
    with pytest.raises(RetentionStopped, match="do not give its root"):
        trail.retain()
    assert trail.count(ENTRIES) > 0
    assert trail.count(ARCHIVES) == 0


def test_a_batch_without_an_entry_is_not_archived(sealed_people):
    """It cannot be: an archive has whole batches."""
    trail = sealed_people
    with trail.engine.begin() as connection:
        connection.execute(META.insert().values(name="retention", value="1"))
        connection.execute(ENTRIES.delete().where(ENTRIES.c.seq == 2))
        connection.execute(META.delete().where(META.c.name == "retention"))
    with pytest.raises(Exception, match="entry 2 of batch 1 is not in the log"):
        trail.retain()


def test_nothing_goes_before_it_is_on_record(sealed_people):
    """Nobody seals: the archive stands, the entries stay, and the next run goes on."""
    trail = sealed_people
    entries = trail.count(ENTRIES)
    with pytest.raises(RetentionStopped, match="nobody has sealed within"):
        trail.retain(sealer=False)
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) == entries
    assert trail.problems() == []
    done = trail.retain()
    assert (done.archives, done.dropped_entries) == ((), entries)
    assert trail.problems() == []


def test_the_service_that_seals_is_asked(sealed_people):
    """It holds the lease; what it is asked to say stands in its next batch."""
    trail = sealed_people
    done = trail.retain(sealer=False, wait=lambda seconds: trail.seal())
    assert done.dropped_entries > 0
    assert trail.problems() == []


def test_an_archive_that_was_lost_meanwhile_stops_the_run(sealed_people):
    """What is taken out of the log is in the file as it lies there now."""
    trail = sealed_people
    with pytest.raises(RetentionStopped):
        trail.retain(sealer=False)
    for path in trail.folder.glob("entries-*.gz"):
        path.unlink()
    with pytest.raises(RetentionStopped, match="put the archive back"):
        trail.retain()
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) > 0


def test_entries_without_an_archive_are_missed(sealed_people):
    """Whoever says that batches were pruned, and has no archive, is found."""
    trail = sealed_people
    trail.retain()
    with trail.engine.begin() as connection:
        connection.execute(ARCHIVES.delete())
    assert trail.problems() == ["no archive has the batches 1 to 1"]


def test_what_is_young_stays(sealed_people):
    """And so does everything where payload is kept for ever."""
    trail = sealed_people
    for seconds in (86_400, 0):
        lengths = RetentionLengths(payload_seconds=seconds, metadata_seconds=0, access_seconds=0)
        assert plan_of(trail.engine, lengths).ranges == ()
        assert trail.retain(lengths).dropped_entries == 0


def test_the_past_ends_where_the_log_was_pruned(sealed_people):
    """A clear answer instead of a wrong one; later times are known."""
    trail = sealed_people
    with trail.engine.connect() as connection:
        last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.at_microseconds)))
    trail.retain()
    with trail.engine.connect() as connection:
        with pytest.raises(PastPruned, match="no longer reaches back"):
            as_of(connection, time_of(last - 1), final_only=False)
        assert as_of(connection, time_of(last), final_only=False).get("people", 1)["city"] == "x"


def test_the_past_ends_where_a_run_was_interrupted(sealed_people):
    """What is half there is not looked back over: it would be a table that never was."""
    trail = sealed_people
    then = a_moment_between(trail.engine)
    run(trail.engine, "UPDATE people SET city = 'new' WHERE id = 1")
    trail.seal()
    run(trail.engine, "UPDATE people SET city = 'newer' WHERE id = 1")
    trail.seal()
    waits = []

    def stop(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trail.retain(wait=stop)
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) > 0
    with trail.engine.connect() as connection, pytest.raises(PastPruned):
        as_of(connection, then)
    trail.retain()
    assert trail.count(ENTRIES, ENTRIES.c.table_id != 0) == 0
    assert trail.problems() == []


def test_what_leaves_the_log_while_it_is_verified_is_no_finding(sealed_people, monkeypatch):
    """The batch that says so came after those that are being looked at."""
    trail = sealed_people

    def meanwhile(*given):
        assert trail.retain().dropped_entries > 0
        verify_entries(*given)

    monkeypatch.setattr("shipworthy.audit.ledger.verify.verify_entries", meanwhile)
    with trail.engine.connect() as connection:
        assert verify(connection, trusted=[trail.key.public]).findings == []


def test_who_is_erased_while_the_log_is_archived_is_not_in_the_archive(sealed_people, monkeypatch):
    """What had been read of the person before is written after, and taken away again."""
    trail = sealed_people
    write, done = archive._add_openings, []

    def later(folder, openings):
        if not done:
            done.append(erased(trail, "1"))
        return write(folder, openings)

    monkeypatch.setattr(archive, "_add_openings", later)
    trail.retain()
    assert done[0].values > 0
    assert list(archived_openings(trail.folder, "1")) == []
    assert list(archived_openings(trail.folder, "2")) != []
    assert trail.problems() == []


def test_metadata_goes_at_last(sealed_people):
    """Old archives, what opens them, and contexts without entries; the roots stay."""
    trail = sealed_people
    lengths = RetentionLengths(
        payload_seconds=0.000001, metadata_seconds=0.000001, access_seconds=0.000001
    )
    done = trail.retain(lengths)
    assert done.archives_gone == 1
    assert list(trail.folder.glob("entries-*")) == []
    assert list(archived_openings(trail.folder, "1")) == []
    with trail.engine.connect() as connection:
        left = connection.scalars(sa.select(CONTEXTS.c.tx)).all()
        kept = set(connection.scalars(sa.select(ENTRIES.c.tx)).all())
    assert set(left) <= kept
    assert trail.count(BATCHES) >= 2
    assert trail.problems() == []
