"""Transactions become deletions, each once, by what they took in the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from records.conftest import ready_engine
from records.shop import Model, everything, fill, run, write_log
from shipworthy.audit import META, LogRowUnreadable
from shipworthy.records import (
    TrashSettings,
    deletions,
    needed,
    plan_restore,
    restore,
)


def test_a_deletion_that_goes_on_in_its_transaction_is_one(shop: sa.Engine) -> None:
    """Who looks within the transaction sees what there is so far, and all of it afterwards."""
    with Session(shop) as session:
        session.execute(sa.text("DELETE FROM projects WHERE id = 10"))
        (first,) = deletions(session)
        assert first.roots == (("projects", "10"),)
        session.execute(sa.text("DELETE FROM clients WHERE id = 1"))
        session.commit()
    (whole,) = deletions(shop)
    assert (whole.roots, whole.rows) == ((("clients", "1"),), 9)


def test_what_is_replaced_in_one_transaction_is_not_deleted(shop: sa.Engine) -> None:
    """SD-85: a delete and an insert of the same key is a change, not a deletion."""
    run(
        shop,
        "DELETE FROM labels WHERE id = 2",
        "INSERT INTO labels (id, name) VALUES (2, 'green')",
    )

    (deletion,) = deletions(shop)

    # What the cascade took along with it did go.
    assert deletion.tables == {"task_labels": 1}
    restore(shop, deletion.id)
    assert (102, 2) in everything(shop)["task_labels"]
    assert (2, "green") in everything(shop)["labels"]


def test_what_was_born_in_the_transaction_was_never_there(shop: sa.Engine) -> None:
    """An insert that is deleted again leaves nothing in the trash."""
    run(
        shop,
        "INSERT INTO labels (id, name) VALUES (9, 'x')",
        "UPDATE labels SET name = 'y' WHERE id = 9",
        "DELETE FROM labels WHERE id = 9",
    )
    assert deletions(shop) == []


def test_a_spoiled_entry_costs_its_transaction_and_says_so(shop: sa.Engine) -> None:
    """What cannot be read is no reason to hide the others, nor to restore by guesses."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (good,) = deletions(shop)
    run(shop, "DELETE FROM clients WHERE id = 2")
    write_log(
        shop,
        "UPDATE shipworthy_audit_entries SET old = '{\"id\"' WHERE seq ="
        " (SELECT max(seq) FROM shipworthy_audit_entries WHERE op = 'D')",
    )
    assert [one.id for one in deletions(shop)] == [good.id]
    write_log(shop, f"UPDATE shipworthy_audit_entries SET old = 'no' WHERE seq = {good.id}")
    with pytest.raises(LogRowUnreadable, match=f"entry {good.id} of the log cannot be read"):
        plan_restore(shop, good.id)


@pytest.mark.parametrize(
    ("what", "of"),
    [("key = '[\"zz\"]'", "clients"), ("old = replace(old, 'tother', 'zz')", "tasks")],
)
def test_a_cell_that_is_none_costs_its_transaction_and_no_other(
    shop: sa.Engine, what: str, of: str
) -> None:
    """It is JSON, and its meaning is lost: the entry is named, and nothing is changed."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    run(shop, "DELETE FROM clients WHERE id = 2")
    write_log(
        shop,
        f"UPDATE shipworthy_audit_entries SET {what} WHERE op = 'D' AND seq ="
        " (SELECT max(seq) FROM shipworthy_audit_entries WHERE op = 'D' AND table_id ="
        f" (SELECT table_id FROM shipworthy_audit_shapes WHERE table_name = '{of}'))",
    )
    after = everything(shop)
    listed = deletions(shop)
    assert [one.title for one in listed][-1] == "clients 1, with 8 rows of 5 other tables"
    for spoiled in listed[:-1]:
        for attempt in (plan_restore, restore):
            with pytest.raises(LogRowUnreadable, match=r"entry \d+ .* \(no storage class"):
                attempt(shop, spoiled.id)
    assert everything(shop) == after
    assert restore(shop, listed[-1].id).rows == 9


def test_tables_that_are_not_kept_are_not_listed(shop: sa.Engine) -> None:
    """What goes along with a row that is kept is kept with it."""
    settings = TrashSettings(tables=("client*",))
    run(shop, "DELETE FROM clients WHERE id = 1")
    run(shop, "DELETE FROM labels WHERE id = 1")
    (only,) = deletions(shop, settings=settings)
    assert (only.roots, only.tables["projects"]) == ((("clients", "1"),), 1)


def test_changed_keys_are_followed(shop: sa.Engine) -> None:
    """SD-98: a row comes back under the key that it was deleted with."""
    run(shop, "UPDATE notes SET id = 7 WHERE id = 1", "DELETE FROM notes WHERE id = 7")
    (deletion,) = deletions(shop)
    assert deletion.roots == (("notes", "7"),)
    restore(shop, deletion.id)
    assert (7, 10, "call") in everything(shop)["notes"]


@contextmanager
def impatient(shop: sa.Engine) -> Iterator[sa.Engine]:
    """Another client of the same database, which does not wait for a lock."""
    url = shop.url
    if shop.dialect.name == "sqlite":
        url = url.update_query_dict({"timeout": "0.05"})
    elif shop.dialect.name == "postgresql":
        url = url.update_query_dict({"options": "-c lock_timeout=50ms"})
    made = ready_engine(url.render_as_string(hide_password=False))
    yield made
    made.dispose()


@contextmanager
def writes_of(engine: sa.Engine) -> Iterator[list[str]]:
    """Give the statements of the block that are no reading; of SQLite."""
    found: list[str] = []

    def note(*args: Any) -> None:
        if not args[2].startswith(("SELECT", "PRAGMA")):
            found.append(args[2])

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def test_who_looks_where_nothing_is_new_writes_nothing(shop: sa.Engine) -> None:
    """So no look waits for a writer, nor a writer for a look."""
    run(shop, "DELETE FROM projects WHERE id = 10")
    run(shop, "INSERT INTO labels (id, name) VALUES (9, 'x')", "DELETE FROM labels WHERE id = 9")
    with writes_of(shop) as first:
        (known,) = deletions(shop)
    assert first
    with writes_of(shop) as writes, Session(shop) as session:
        assert [one.id for one in deletions(session)] == [known.id]
    assert writes == []


@pytest.mark.slow
def test_a_look_within_a_transaction_keeps_nobody_else_from_looking(
    shop_anywhere: sa.Engine,
) -> None:
    """The other one lists what was known before, at once; and all when the first one is through."""
    run(shop_anywhere, "DELETE FROM projects WHERE id = 20")
    (known,) = deletions(shop_anywhere)
    with impatient(shop_anywhere) as other, Session(shop_anywhere) as session:
        session.execute(sa.text("DELETE FROM clients WHERE id = 1"))
        assert len(deletions(session)) == 2
        assert [one.id for one in deletions(other)] == [known.id]
        with Session(other) as second:
            assert [one.id for one in deletions(second)] == [known.id]
        session.commit()
        assert len(deletions(other)) == 2


def test_the_trash_is_listed_while_the_database_takes_no_writes(shop: sa.Engine) -> None:
    """Somebody writes, or nobody may: what is known is there, and the rest when it is over."""
    run(shop, "DELETE FROM projects WHERE id = 20")
    (known,) = deletions(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    with impatient(shop) as other:
        with shop.connect() as writing:
            writing.exec_driver_sql("BEGIN IMMEDIATE")
            assert [one.id for one in deletions(other)] == [known.id]
        with other.connect() as replica:
            replica.exec_driver_sql("PRAGMA query_only = ON")
            assert [one.id for one in deletions(replica)] == [known.id]
        other.dispose()
        assert len(deletions(other)) == 2


def test_retention_is_told_of_all_deletions_or_fails(shop: sa.Engine) -> None:
    """What is not known yet would lose its entries, so this one does not go on without."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    with impatient(shop) as other, shop.connect() as writing:
        writing.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            needed(other)


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["", " 0", " {last}"])
def test_a_copy_in_a_server_that_counts_from_lower_shows_its_deletions(
    postgres_url: str, prepare: Any, seen: str
) -> None:
    """A dump goes into a new cluster: what was written down is a position of the old one."""
    shop = ready_engine(postgres_url)
    prepare(shop, Model.metadata)
    with shop.begin() as connection:
        fill(connection)
    run(shop, "DELETE FROM projects WHERE id = 20")
    assert len(deletions(shop)) == 1
    with shop.begin() as connection:
        last = connection.scalar(sa.text("SELECT max(seq) FROM shipworthy_audit_entries"))
        value = "999999999" + seen.format(last=last)
        connection.execute(sa.update(META).where(META.c.name == "trash_since").values(value=value))
    run(shop, "DELETE FROM clients WHERE id = 1")
    assert len(deletions(shop)) == 2
    run(shop, "DELETE FROM clients WHERE id = 2")
    assert len(deletions(shop)) == 3
    shop.dispose()
