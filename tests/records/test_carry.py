"""Whatever is deleted from whatever schema comes back to the byte."""

import random
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from typing_extensions import override

from records.conftest import ready_engine
from records.generated import World, delete_some, drop_world, make_world
from shipworthy.audit import add_tables, bind, install
from shipworthy.records import (
    TABLES,
    Deletion,
    ObstacleKind,
    RestoreRefused,
    deletions,
    plan_restore,
    restore,
    undo_restore,
)


def delete_and_restore(world: World, draw: random.Random) -> int:
    """Delete in some transactions, restore the newest first; returns how many came back."""
    states = []
    for _ in range(draw.randrange(1, 4)):
        states.append(world.dump())
        delete_some(world, draw)
    restored = 0
    open_now = deletions(world.engine, limit=1000)
    for one in open_now:
        restored += restore(world.engine, one.id).rows
    assert world.dump() == states[0]
    assert deletions(world.engine) == []
    return restored


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_generated_schemas_come_back_on_sqlite(draw: random.Random) -> None:
    """Composite keys, cycles, many-to-many, joined inheritance, self-reference, all types."""
    engine = ready_engine("sqlite://")
    try:
        delete_and_restore(make_world(engine, draw), draw)
    finally:
        engine.dispose()


class _Repeating(random.Random):
    """Large numbers are all the same, as Hypothesis likes to draw them."""

    @override
    def getrandbits(self, k: int, /) -> int:
        return 0 if k == 40 else super().getrandbits(k)


@pytest.mark.slow
def test_a_generated_schema_takes_its_own_rows() -> None:
    """Whatever is drawn: else a failure says nothing about a restore."""
    for seed in range(8):
        engine = ready_engine("sqlite://")
        world = make_world(engine, _Repeating(seed))
        for table in world.tables:
            assert len(set(table.rows)) == len(table.rows)
            assert len(set(table.uniques)) == len(table.rows) or not table.is_unique
        engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_generated_schemas_come_back_on_servers(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A few of them: `evidence/restore_properties.py` has thousands."""
    url = request.getfixturevalue("postgres_url" if name == "postgresql" else "mariadb_url")
    engine = ready_engine(str(url))
    try:
        for seed in range(3):
            draw = random.Random(seed)
            world = make_world(engine, draw)
            delete_and_restore(world, draw)
            drop_world(world)
    finally:
        engine.dispose()


def _install(engine: sa.Engine) -> None:
    add_tables(TABLES)
    install(engine, say=lambda _: None)


def _run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


_COUNT = "UPDATE lists SET items = items + 1 WHERE id = NEW.list"
_COUNTING = {
    "sqlite": (f"CREATE TRIGGER more AFTER INSERT ON items BEGIN {_COUNT}; END",),
    "mariadb": (f"CREATE TRIGGER more AFTER INSERT ON items FOR EACH ROW {_COUNT}",),
    "postgresql": (
        f"""CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_COUNT}; RETURN NULL; END $$""",
        "CREATE TRIGGER more AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION more()",
    ),
}


def _lists(engine: sa.Engine, *more: str) -> Deletion:
    """A list that counts its items, deleted with the two that it has."""
    name = engine.dialect.name
    _run(
        engine,
        "CREATE TABLE lists (id INTEGER PRIMARY KEY, items INTEGER NOT NULL DEFAULT 0,"
        " version INTEGER NOT NULL DEFAULT 0)",
        "CREATE TABLE items (id INTEGER PRIMARY KEY, list INTEGER,"
        " FOREIGN KEY (list) REFERENCES lists (id) ON DELETE CASCADE)",
        *_COUNTING["mariadb" if name == "mysql" else name],
        *more,
    )
    _install(engine)
    end = bind(engine, service="shop")
    _run(engine, "INSERT INTO lists (id) VALUES (1)", "INSERT INTO items VALUES (1, 1), (2, 1)")
    _run(engine, "DELETE FROM lists")
    end()
    (found,) = deletions(engine)
    return found


def _value(engine: sa.Engine, column: str) -> int | None:
    with engine.connect() as connection:
        found: int | None = connection.scalar(sa.text(f"SELECT {column} FROM lists"))
        return found


@pytest.mark.slow
def test_a_count_that_the_children_move_is_set_to_what_it_was(engine: sa.Engine) -> None:
    """The parent went in as it was, and a trigger of the application counted its children again."""
    found = _lists(engine)

    assert plan_restore(engine, found.id).obstacles == ()
    assert restore(engine, found.id).rows == 3
    assert _value(engine, "items") == 2
    assert undo_restore(engine, found.id) == 3


def test_a_trigger_that_answers_to_the_correction_has_it_taken_back(sqlite: sa.Engine) -> None:
    """What it would change besides stays as it was; the loss is told, and has to be asked for."""
    found = _lists(
        sqlite,
        "CREATE TRIGGER versions AFTER UPDATE OF version ON lists BEGIN "
        "UPDATE lists SET version = version + 1 WHERE id = NEW.id; END",
    )

    (obstacle,) = plan_restore(sqlite, found.id).obstacles
    assert (obstacle.kind, obstacle.what) == (ObstacleKind.CHANGED, "items")
    with pytest.raises(RestoreRefused, match="would come back other than they were"):
        restore(sqlite, found.id)
    restore(sqlite, found.id, accept_losses=True)
    assert (_value(sqlite, "items"), _value(sqlite, "version")) == (4, 0)


def test_a_trigger_that_insists_on_its_value_is_told_of_once(sqlite: sa.Engine) -> None:
    """It changes the row again when it is corrected, and that is the end of it."""
    found = _lists(sqlite)
    _run(
        sqlite,
        "CREATE TRIGGER insists AFTER UPDATE ON lists WHEN NEW.items <> 7 BEGIN "
        "UPDATE lists SET items = 7 WHERE id = NEW.id; END",
    )

    (obstacle,) = plan_restore(sqlite, found.id).obstacles
    assert (obstacle.kind, obstacle.what) == (ObstacleKind.CHANGED, "items")
    restore(sqlite, found.id, accept_losses=True)
    assert _value(sqlite, "items") == 7


@pytest.mark.slow
def test_a_link_that_is_set_last_leaves_the_time_of_the_last_update(mariadb_url: str) -> None:
    """ON UPDATE CURRENT_TIMESTAMP would else date the rows of a circle to the restore."""
    engine = ready_engine(mariadb_url)
    _run(
        engine,
        "CREATE TABLE people (id INT PRIMARY KEY, boss INT, seen DATETIME "
        "DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, "
        "FOREIGN KEY (boss) REFERENCES people (id) ON DELETE CASCADE)",
    )
    _install(engine)
    _run(
        engine,
        "INSERT INTO people VALUES (1, NULL, '2020-01-01'), (2, 1, '2020-01-01')",
        "UPDATE people SET boss = 2, seen = '2020-01-01' WHERE id = 1",
    )
    _run(engine, "DELETE FROM people WHERE id = 1")
    (found,) = deletions(engine)
    restore(engine, found.id)

    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id, boss, YEAR(seen) FROM people ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, 2, 2020), (2, 1, 2020)]
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("goes_too", [False, True])
def test_two_links_of_one_row_to_one_parent_are_both_set_again(
    engine: sa.Engine, *, goes_too: bool
) -> None:
    """An engine empties each by an update of its own; also where the row itself goes after that."""
    _run(
        engine,
        "CREATE TABLE people (id INTEGER PRIMARY KEY)",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, author INTEGER, reader INTEGER, "
        "FOREIGN KEY (author) REFERENCES people (id) ON DELETE SET NULL, "
        "FOREIGN KEY (reader) REFERENCES people (id) ON DELETE SET NULL)",
    )
    _install(engine)
    end = bind(engine, service="shop")
    _run(engine, "INSERT INTO people VALUES (1)", "INSERT INTO notes VALUES (1, 1, 1), (2, 1, 1)")
    last = ("DELETE FROM notes WHERE id = 1",) if goes_too else ()
    _run(engine, "DELETE FROM people", *last)
    (found,) = deletions(engine)
    restore(engine, found.id)
    end()

    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id, author, reader FROM notes ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, 1, 1), (2, 1, 1)]


@pytest.mark.slow
def test_a_row_whose_value_was_too_long_for_the_log_does_not_come_back(mariadb_url: str) -> None:
    """It is refused with the column's name, and nothing is changed."""
    engine = ready_engine(mariadb_url)
    _run(engine, "CREATE TABLE files (id INT PRIMARY KEY, body LONGBLOB)")
    _install(engine)
    _run(engine, "INSERT INTO files VALUES (1, REPEAT('x', 9000000))")
    _run(engine, "DELETE FROM files")
    (found,) = deletions(engine)
    with pytest.raises(RestoreRefused, match="the value of body was too long for the log"):
        restore(engine, found.id)
    engine.dispose()
