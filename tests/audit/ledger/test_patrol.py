"""What is sealed is looked over a little at a time, and what was changed is found by that."""

import pytest
import sqlalchemy as sa

from audit.ledger.tampering import CHANGED, REMOVED, WAYS
from audit.ledger.trail import Trail
from shipworthy.audit.ledger.merkle import Frontier
from shipworthy.audit.ledger.patrol import Patrol, PatrolLook
from shipworthy.audit.ledger.reading import reader_for
from shipworthy.audit.ledger.seal import _signed
from shipworthy.audit.tables import ARCHIVES, BATCHES, CHECKPOINTS, ENTRIES

pytestmark = pytest.mark.slow

# What only the whole log shows; see `Patrol`.
ONLY_THE_WHOLE = {
    "entry inserted", "batch unsigned", "checkpoint changed", "checkpoint of an unknown key",
}  # fmt: skip


def signed_tree(trail: Trail) -> Frontier:
    """The log as it was signed: what a sealer has in its memory."""
    with trail.engine.connect() as connection:
        return _signed(connection, "shipworthy.audit/test")[0]


def looked(trail: Trail, patrol: Patrol, tree: Frontier, *, most: int = 1000) -> PatrolLook:
    with trail.engine.connect() as connection:
        return patrol.look(connection, tree, most=most)


def test_a_whole_log_is_gone_along_in_steps_and_then_anew(trail):
    """Each step has a bound, and every entry is looked at once in a round."""
    trail.write(5)
    trail.seal(entries=4)
    tree, patrol = signed_tree(trail), Patrol(reader_for(trail.engine))
    looks = [looked(trail, patrol, tree, most=4) for _ in range(8)]

    assert [look.entries for look in looks] == [4, 4, 4, 3] * 2
    assert [look.read for look in looks] == [5, 5, 5, 4] * 2
    assert [look.found for look in looks] == [0] * 8


def test_every_way_to_change_or_remove_what_was_sealed_is_found(trail):
    """But for what only `verify` sees, which looks at the whole."""
    trail.write(5)
    trail.seal(entries=4)
    tree = signed_tree(trail)
    trail.unguarded()
    missed = {}
    for name, (tamper, expected) in WAYS.items():
        patrol = Patrol(reader_for(trail.engine))
        with trail.engine.connect() as connection:
            tamper(connection)
            looks = [patrol.look(connection, tree, most=1000) for _ in range(2)]
            connection.rollback()
        if not any(look.found for look in looks):
            missed[name] = expected

    assert {name: it for name, it in missed.items() if not it <= ONLY_THE_WHOLE} == {}
    assert {kind for it in missed.values() for kind in it} & (CHANGED | REMOVED) == set()


def test_what_was_found_is_told_once_and_stays_found_until_a_round_finds_nothing(sqlite_trail):
    """An alert on it must not end because the next stretch of the log is well."""
    trail = sqlite_trail
    trail.write(4)
    trail.seal(entries=4)
    tree, patrol = signed_tree(trail), Patrol(reader_for(trail.engine))
    trail.unguarded()
    was = trail.engine.connect().scalar(sa.select(ENTRIES.c.op).where(ENTRIES.c.seq == 6))
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 6).values(op="D"))
    first = [looked(trail, patrol, tree, most=4) for _ in range(3)]
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 6).values(op=was))
    second = [looked(trail, patrol, tree, most=4) for _ in range(3)]

    assert [look.found for look in first] == [0, 1, 1]
    assert [(one.kind, one.batch, one.seq) for look in first for one in look.findings] == [
        ("entry changed", 2, 6)
    ]
    assert [look.found for look in second] == [1, 1, 0]


def test_who_seals_all_of_it_again_is_found_by_the_log_that_was_signed_here(sqlite_trail):
    """Batches, entries and checkpoints agree with each other then, and not with this process."""
    trail = sqlite_trail
    trail.write(2)
    trail.seal()
    tree, patrol = signed_tree(trail), Patrol(reader_for(trail.engine))
    trail.unguarded()
    for table in (BATCHES, CHECKPOINTS):
        trail.execute(sa.delete(table))
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 2).values(op="D"))
    trail.clock.advance(1.0)
    trail.seal(entries=6)

    assert {one.kind for one in looked(trail, patrol, tree).findings} & {
        "log rewritten", "log cut",
    }  # fmt: skip


def test_what_has_left_the_log_for_an_archive_is_not_missed(sqlite_trail):
    """Whoever archives says so before the first entry goes."""
    trail = sqlite_trail
    trail.write(2)
    trail.seal(entries=3)
    tree, patrol = signed_tree(trail), Patrol(reader_for(trail.engine))
    trail.unguarded()
    trail.execute(
        sa.insert(ARCHIVES).values(
            first_batch=1, last_batch=1, entries=3, written_microseconds=1, state="dropping",
            file="a", digest="d", bytes=1, at_microseconds=1,
        )
    )  # fmt: skip
    trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq <= 3))
    assert looked(trail, patrol, tree).found == 0

    trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 5))
    assert looked(trail, patrol, tree).found == 1


def test_new_batches_meanwhile_and_a_log_without_any_are_no_finding(sqlite_trail):
    """Sealing goes on between two steps, and a log begins with nothing."""
    trail = sqlite_trail
    patrol = Patrol(reader_for(trail.engine))
    assert looked(trail, patrol, Frontier()) == PatrolLook(
        entries=0, read=0, findings=(), found=0, whole=True
    )
    for number in range(1, 4):
        trail.write(1, first=10 * number)
        trail.seal()
        assert looked(trail, patrol, signed_tree(trail), most=3).found == 0
