"""A restore, a delete and a purge at the same time: one of them waits, and is told what came of it.

On the servers, where two write at once; on SQLite the second one waits at its first write.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from records.conftest import prepared, ready_engine
from records.shop import Model, everything, fill, run
from shipworthy.records import (
    DeletionNotOpen,
    ObstacleKind,
    RestoreRefused,
    deletions,
    plan_restore,
    purge,
    restore,
)

pytestmark = pytest.mark.slow

_PATIENCE_SECONDS = 15.0
# MariaDB tells anew only who has not asked within a tenth of a second.
_LOOK_SECONDS = 0.12
# How many of this database wait for a lock.
_WAITING = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ),
    "mariadb": (
        "SELECT count(*) FROM information_schema.innodb_trx t"
        " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        " WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()"
    ),
}


@pytest.fixture(params=["postgresql", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """The business on each server."""
    name = "postgres_url" if request.param == "postgresql" else "mariadb_url"
    engine = ready_engine(str(request.getfixturevalue(name)))
    with prepared(engine, Model.metadata):
        with engine.begin() as connection:
            fill(connection)
        yield engine
    engine.dispose()


@contextmanager
def waiting(engine: sa.Engine, act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Have `act` run until it waits for a lock, do the block, and give what it came to.

    That is what it returned or raised, there when the block is over.
    """
    came: list[Any] = []

    def work() -> None:
        try:
            came.append(act())
        except Exception as error:  # it is what is looked at
            came.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until = time.monotonic() + _PATIENCE_SECONDS
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.scalar(sa.text(_WAITING[engine.dialect.name])):
                assert not came, f"it waited for nobody: {came}"
                assert time.monotonic() < until, "nobody waits for a lock"
                time.sleep(_LOOK_SECONDS)
        yield came
    finally:
        thread.join(_PATIENCE_SECONDS)


def test_a_restore_waits_for_who_deletes_its_parent(shop: sa.Engine) -> None:
    """SD-83: the parent goes, so nothing comes back, and the plan knows from then on why."""
    run(shop, "DELETE FROM tasks WHERE id = 102")
    (child,) = deletions(shop)

    with shop.connect() as deleting:
        deleting.exec_driver_sql("DELETE FROM clients WHERE id = 1")
        with waiting(shop, lambda: restore(shop, child.id)) as came:
            deleting.commit()

    (refused,) = came
    assert isinstance(refused, RestoreRefused), refused
    assert {one.kind for one in refused.plan.obstacles} >= {ObstacleKind.REJECTED}
    parent = deletions(shop)[0]
    assert plan_restore(shop, child.id).needs == (parent.id,)


def test_a_restore_goes_on_where_its_parent_stays_after_all(shop: sa.Engine) -> None:
    """SD-83: the delete was taken back."""
    before = everything(shop)
    run(shop, "DELETE FROM tasks WHERE id = 102")
    (child,) = deletions(shop)

    with shop.connect() as deleting:
        deleting.exec_driver_sql("DELETE FROM clients WHERE id = 1")
        with waiting(shop, lambda: restore(shop, child.id)) as came:
            deleting.rollback()

    assert [one.rows for one in came] == [2]
    assert everything(shop) == before


def test_a_child_that_comes_while_its_parent_goes_is_refused_by_the_database(
    shop: sa.Engine,
) -> None:
    """SD-84: the answer is the database's own, and what went comes back whole."""
    before = everything(shop)
    insert = "INSERT INTO projects (id, client_id, name, budget) VALUES (11, 1, 'late', 0)"

    with shop.connect() as deleting:
        deleting.exec_driver_sql("DELETE FROM clients WHERE id = 1")
        with waiting(shop, lambda: run(shop, insert)) as came:
            deleting.commit()

    assert [type(one) for one in came] == [sa.exc.IntegrityError]
    (deletion,) = deletions(shop)
    restore(shop, deletion.id)
    assert everything(shop) == before


def test_a_child_that_came_just_before_goes_and_comes_back_with_its_parent(
    shop: sa.Engine,
) -> None:
    """SD-84: the delete waits for the insert, and takes the new row along."""
    with shop.connect() as inserting:
        inserting.exec_driver_sql(
            "INSERT INTO projects (id, client_id, name, budget) VALUES (11, 1, 'late', 0)"
        )
        delete = "DELETE FROM clients WHERE id = 1"
        with waiting(shop, lambda: run(shop, delete)) as came:
            inserting.commit()

    assert came == [None]
    (deletion,) = deletions(shop)
    assert deletion.tables["projects"] == 2
    restore(shop, deletion.id)
    assert sorted(row[0] for row in everything(shop)["projects"]) == [10, 11, 20]


def test_a_purge_waits_for_a_restore_and_finds_nothing_to_purge(shop: sa.Engine) -> None:
    """SD-99: what came back is not purged."""
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    (deletion,) = deletions(shop)

    with shop.connect() as restoring:
        restore(restoring, deletion.id)
        with waiting(shop, lambda: purge(shop, deletion.id)) as came:
            restoring.commit()

    assert [type(one) for one in came] == [DeletionNotOpen]
    assert "already restored" in str(came[0])
    assert everything(shop) == before


def test_a_restore_waits_for_a_purge_and_brings_nothing_back(shop: sa.Engine) -> None:
    """SD-99: what was purged does not come back, however close it was."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (deletion,) = deletions(shop)
    before = everything(shop)

    with shop.connect() as purging:
        purge(purging, deletion.id)
        with waiting(shop, lambda: restore(shop, deletion.id)) as came:
            purging.commit()

    assert [type(one) for one in came] == [DeletionNotOpen]
    assert "already purged" in str(came[0])
    assert everything(shop) == before


def test_a_link_that_somebody_is_about_to_set_is_waited_for_and_kept(shop: sa.Engine) -> None:
    """SD-76: the row is locked before it is compared."""
    run(shop, "DELETE FROM projects WHERE id = 10")
    (deletion,) = deletions(shop)

    with shop.connect() as linking:
        linking.exec_driver_sql("UPDATE notes SET project_id = 20 WHERE id = 1")
        with waiting(shop, lambda: restore(shop, deletion.id)) as came:
            linking.commit()

    (done,) = came
    assert (done.relinks, done.left) == (0, 0), done
    assert [one.kind for one in done.obstacles] == [ObstacleKind.LINK_KEPT]
    assert (1, 20, "call") in everything(shop)["notes"]
