"""Where a deletion stands, and that only the whole of one is restored."""

import threading

import pytest
import sqlalchemy as sa

from records.shop import everything, run, write_log
from shipworthy.context import actor
from shipworthy.records import (
    DeletionHalfVisible,
    DeletionNotOpen,
    deletions,
    plan_restore,
    restore,
)


def test_half_of_a_deletion_is_not_restored(shop: sa.Engine) -> None:
    """Where retention took some of its images, the rest is no unit any more."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (deletion,) = deletions(shop)
    write_log(shop, f"DELETE FROM shipworthy_audit_entries WHERE seq = {deletion.id}")

    with pytest.raises(DeletionHalfVisible, match="removed 9 rows, and the log has 8"):
        plan_restore(shop, deletion.id)


@pytest.mark.slow
def test_of_two_who_restore_at_once_one_is_told_of_the_other(shop_anywhere: sa.Engine) -> None:
    """SD-82: one success, one clear sentence, and each row once."""
    shop = shop_anywhere
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    (deletion,) = deletions(shop)
    barrier = threading.Barrier(2)
    said: list[str] = []

    def work(name: str) -> None:
        barrier.wait(timeout=20)
        with actor(name):
            try:
                said.append(f"{restore(shop, deletion.id).rows} rows")
            except DeletionNotOpen as error:
                said.append(str(error).split(" at ")[0])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ana", "bo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=40)

    said.sort()
    assert said[0] == "9 rows"
    assert said[1] in {
        f"deletion {deletion.id} was already restored by {name}" for name in ("ana", "bo")
    }
    assert everything(shop) == before
