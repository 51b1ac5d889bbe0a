"""What is purged does not come back, and what is held is not purged."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from records.shop import run
from shipworthy.audit import (
    ENTRIES,
    LedgerSettings,
    RetentionLengths,
    RetentionWork,
    begin_ledger,
    retain,
    sealer_of,
)
from shipworthy.audit.ledger.seal import LEASE
from shipworthy.clock import ManualClock
from shipworthy.context import actor
from shipworthy.records import (
    DeletionHeld,
    DeletionNotOpen,
    DeletionState,
    TrashSettings,
    deletions,
    hold,
    needed,
    plan_restore,
    purge,
    purge_expired,
    restore,
)
from shipworthy.store import SqlLeases


def test_what_is_purged_is_told_with_who_and_when(shop: sa.Engine) -> None:
    """A tombstone stays: its line, and that it was purged."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (deletion,) = deletions(shop)
    with actor("ana"):
        purge(shop, deletion.id)
    with pytest.raises(DeletionNotOpen, match=r"already purged by ana at .* does not come back"):
        restore(shop, deletion.id)
    (tombstone,) = deletions(shop, states=[DeletionState.PURGED])
    assert (tombstone.title, tombstone.rows) == (deletion.title, 9)


def test_what_is_old_and_not_held_is_purged(shop: sa.Engine) -> None:
    """`trash.keep` counts from the delete."""
    run(shop, "DELETE FROM clients WHERE id = 1", "DELETE FROM clients WHERE id = 2")
    two, one = deletions(shop)
    hold(shop, one.id, "case 12")
    settings = TrashSettings(keep_seconds=60)
    written = one.at_microseconds / 1_000_000
    clock = ManualClock(wall=written + 59)
    assert purge_expired(shop, settings=settings, clock=clock) == []
    clock.advance(2)
    assert purge_expired(shop, settings=settings, clock=clock) == [two.id]
    with pytest.raises(DeletionHeld, match="case 12"):
        purge(shop, one.id)
    hold(shop, one.id, "")
    assert purge_expired(shop, settings=settings, clock=clock) == [one.id]


def test_what_somebody_restores_meanwhile_is_left_to_them(shop: sa.Engine) -> None:
    """Between the look and the purge; the others are purged all the same."""
    run(shop, "DELETE FROM clients WHERE id = 1", "DELETE FROM clients WHERE id = 2")
    two, one = deletions(shop)
    other = sa.create_engine(shop.url)
    pending = [one.id]

    def look(_: sa.Connection, __: object, statement: str, *___: object) -> None:
        # The first write after the look, before it takes the lock.
        if statement.startswith("UPDATE shipworthy_deletions") and pending:
            restore(other, pending.pop())

    sa.event.listen(shop, "before_cursor_execute", look)
    clock = ManualClock(wall=two.at_microseconds / 1_000_000 + 61)
    purged = purge_expired(shop, settings=TrashSettings(keep_seconds=60), clock=clock)
    other.dispose()

    assert purged == [two.id]
    assert [it.id for it in deletions(shop, states=[DeletionState.RESTORED])] == [one.id]


def test_retention_leaves_what_can_be_put_back(shop: sa.Engine, tmp_path: Path) -> None:
    """A deletion younger than `trash.keep`, or on hold, has its entries in the log as long."""
    run(shop, "DELETE FROM clients WHERE id = 1", "DELETE FROM clients WHERE id = 2")
    two, one = deletions(shop)
    hold(shop, one.id, "case 12")
    ledger = LedgerSettings(key_path=str(tmp_path / "seal.key"))
    begin_ledger(shop, ledger)
    sealer = sealer_of(shop, ledger)
    assert sealer is not None
    lease = SqlLeases(shop).take(LEASE, holder="test", seconds=60)
    assert lease is not None
    while sealer.unsealed().entries:
        sealer.seal(lease)
    SqlLeases(shop).give_back(lease)
    lengths = RetentionLengths(payload_seconds=1e-6, metadata_seconds=0, access_seconds=86_400)

    def retained(clock: ManualClock) -> None:
        retain(
            shop,
            lengths,
            RetentionWork(
                folder=tmp_path / "archive",
                sealer=sealer,
                kept=needed(shop, settings=TrashSettings(keep_seconds=60), clock=clock),
                progress=lambda _: None,
                wait=lambda _: None,
            ),
        )

    clock = ManualClock(wall=two.at_microseconds / 1_000_000 + 30)
    retained(clock)
    assert plan_restore(shop, two.id).offers == ("all",)
    clock.advance(60)
    retained(clock)
    with shop.connect() as connection:
        left = set(connection.scalars(sa.select(ENTRIES.c.tx).where(ENTRIES.c.table_id != 0)))
    assert left == {one.tx}
    assert restore(shop, one.id).rows == one.rows
