"""What happened to one row, under all its keys."""

import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from audit.past_database import installed, run, sqlite_engine
from shipworthy.audit import ERASED, TrailMissing, bind, history, history_async
from shipworthy.audit.tables import CONTEXTS, ENTRIES
from shipworthy.context import actor
from shipworthy.errors import Misuse

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text VARCHAR(20), size NUMERIC(9, 3))"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    number: Mapped[int] = mapped_column("id", primary_key=True)
    text: Mapped[str]
    size: Mapped[float | None]


@pytest.fixture
def engine(tmp_path):
    """SQLite with a table of notes, one in it since before the install."""
    with sqlite_engine(
        tmp_path / "n.db", NOTES, "INSERT INTO notes VALUES (1, 'old', 1)"
    ) as engine:
        installed(engine)
        yield engine


def told(engine, key, **options):
    with engine.connect() as connection:
        return [(one.op, one.old, one.new) for one in history(connection, "notes", key, **options)]


def test_writes_are_told_newest_first_with_what_changed(engine):
    """All of an insert and of a delete, what changed of an update; another life of the key, too."""
    run(
        engine, "INSERT INTO notes VALUES (2, 'a', 2.5)", "UPDATE notes SET text = 'b' WHERE id = 2"
    )
    run(engine, "DELETE FROM notes WHERE id = 2", "INSERT INTO notes VALUES (2, 'again', NULL)")
    expected = [
        ("insert", {}, {"id": 2, "text": "again", "size": None}),
        ("delete", {"id": 2, "text": "b", "size": 2.5}, {}),
        ("update", {"text": "a"}, {"text": "b"}),
        ("insert", {}, {"id": 2, "text": "a", "size": 2.5}),
    ]
    assert told(engine, 2) == expected
    assert told(engine, 2, limit=2) == expected[:2]
    assert told(engine, 3) == []


def test_who_when_and_in_which_request_is_told(engine):
    """By our connection: the actor. By another client: nobody we know."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    end = bind(engine, service="tests")
    with actor("ana"):
        run(engine, "UPDATE notes SET text = 'x' WHERE id = 1")
    end()
    engine.dispose()
    run(engine, "UPDATE notes SET text = 'y' WHERE id = 1")
    with engine.connect() as connection:
        other, ours = history(connection, "notes", 1)
    assert (ours.actor, ours.context.actor_kind, ours.key, ours.table) == (
        "ana",
        "user",
        (1,),
        "notes",
    )
    assert before < ours.at < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    assert (other.actor, other.context.actor_kind, other.correlation_id) == ("", "database", "")
    assert ours.old_cells == {"text": "told"}


def test_a_row_is_followed_under_every_key(engine):
    """Asked for by any of them: what it was called before, and is called since."""
    run(engine, "UPDATE notes SET text = 'x' WHERE id = 1", "UPDATE notes SET id = 5 WHERE id = 1")
    run(engine, "UPDATE notes SET id = 7 WHERE id = 5", "UPDATE notes SET text = 'y' WHERE id = 7")
    whole = ["update"] * 4
    for key in (1, 5, 7):
        assert [op for op, _, _ in told(engine, key)] == whole
    with engine.connect() as connection:
        versions = history(connection, "notes", 7)
    assert [one.notes for one in versions if one.notes] == [
        ('changed the key from ["i5"] to ["i7"]',),
        ('changed the key from ["i1"] to ["i5"]',),
    ]


def test_a_row_that_took_the_key_of_another_is_not_it(engine):
    """Both are told of the key, what the other did under its own key later is not."""
    run(engine, "INSERT INTO notes VALUES (2, 'two', 0)", "UPDATE notes SET id = 9 WHERE id = 1")
    run(engine, "UPDATE notes SET id = 1 WHERE id = 2", "UPDATE notes SET text = 'z' WHERE id = 1")
    run(engine, "INSERT INTO notes VALUES (2, 'other', 0)")
    assert [op for op, _, _ in told(engine, 1)] == ["update", "update", "update", "insert"]
    assert [op for op, _, _ in told(engine, 9)] == ["update"]
    assert [op for op, _, _ in told(engine, 2)] == ["insert", "update", "update", "insert"]


def test_an_object_tells_its_own_history(engine):
    """By the attributes of its class; a column is told by the name it had then."""
    run(engine, "UPDATE notes SET text = 'x' WHERE id = 1")
    with Session(engine) as session:
        [version] = history(session, session.get(Note, 1))
        assert (version.old, version.new) == ({"text": "old"}, {"text": "x"})
        session.delete(session.get(Note, 1))
        session.commit()
        [gone, _] = history(session, Note, 1)
    assert gone.old == {"number": 1, "text": "x", "size": 1}
    run(engine, "ALTER TABLE notes RENAME COLUMN text TO body")
    installed(engine)
    run(engine, "INSERT INTO notes VALUES (1, 'back', 0)")
    assert [sorted(new or old) for _, old, new in told(engine, 1)] == [
        ["body", "id", "size"],
        ["id", "size", "text"],
        ["text"],
    ]


def test_what_restored_a_row_is_noted(engine):
    """By the note of its transaction; other notes are no restores."""
    run(engine, "INSERT INTO notes VALUES (4, 'x', 0)", "UPDATE notes SET text = 'y' WHERE id = 4")
    with engine.begin() as connection:
        for seq, note in ((1, '{"restores": 31}'), (2, "not JSON")):
            tx = f"tx{seq}"
            connection.execute(
                sa.text("INSERT INTO shipworthy_audit_meta VALUES ('retention', '1')")
            )
            connection.execute(ENTRIES.update().where(ENTRIES.c.seq == seq).values(tx=tx))
            connection.execute(sa.text("DELETE FROM shipworthy_audit_meta WHERE name='retention'"))
            connection.execute(CONTEXTS.insert().values(tx=tx, at_microseconds=0, note=note))
    with engine.connect() as connection:
        assert [one.notes for one in history(connection, "notes", 4)] == [
            (),
            ("put back deletion 31",),
        ]


def test_personal_values_are_told_until_they_are_erased(tmp_path):
    """They come from beside the log; then that they were erased is what is told."""
    people = "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT)"
    with sqlite_engine(tmp_path / "p.db", people) as engine:
        installed(engine, personal=("people.email = id",))
        run(engine, "INSERT INTO people VALUES (1, 'a@x')")
        with engine.connect() as connection:
            [version] = history(connection, "people", 1)
        assert (version.new["email"], version.personal) == ("a@x", {"email"})
        run(engine, "UPDATE shipworthy_audit_personal SET salt = NULL, value = NULL")
        with engine.connect() as connection:
            [version] = history(connection, "people", 1)
        assert version.new["email"] is ERASED
        assert version.notes == ("personal values of it were erased since",)


def test_a_question_that_names_no_row_is_refused(engine):
    """Without a key, with half of one, of a table nobody captured."""
    with engine.connect() as connection:
        with pytest.raises(Misuse, match="which row of notes"):
            history(connection, "notes")
        with pytest.raises(Misuse, match="2 values were given"):
            history(connection, "notes", (1, 2))
        with pytest.raises(TrailMissing):
            history(connection, "nothing", 1)


@pytest.mark.anyio
async def test_an_async_session_can_ask_for_a_history(tmp_path):
    """The same answer."""
    with sqlite_engine(tmp_path / "a.db", NOTES) as sync:
        installed(sync)
        run(sync, "INSERT INTO notes VALUES (1, 'x', 0)")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    async with engine.connect() as connection:
        assert [one.op for one in await history_async(connection, "notes", 1)] == ["insert"]
    await engine.dispose()
