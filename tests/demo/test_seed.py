"""The sample rows: readable, few, and the same every time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, func, select
from sqlalchemy.orm import Session

from shipworthy.demo.migrate import migrate
from shipworthy.demo.models import TASK_DEPTH, Client, Epic, Model, Project, Task
from shipworthy.demo.seed import CLIENTS, PROJECTS_EACH, seed


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[Engine]:
    """A filled SQLite file to compare with."""
    engine = create_engine(f"sqlite:///{tmp_path}/reference.sqlite3")
    migrate(engine)
    seed(engine)
    yield engine
    engine.dispose()


def test_every_database_gets_the_same_rows(engine: Engine, reference: Engine):
    """Two databases, also of different kinds, hold the same rows under the same keys."""
    migrate(engine)

    assert seed(engine)

    assert rows(engine) == rows(reference)


def test_a_few_hundred_rows(reference: Engine):
    """The sample is large enough for pages and small enough to look through."""
    sizes = {table: len(found) for table, found in rows(reference).items()}

    assert sizes["clients"] == CLIENTS
    assert sizes["projects"] == CLIENTS * PROJECTS_EACH
    assert sizes["epics"] == 3 * sizes["projects"]
    assert 300 <= sizes["tasks"] <= 500
    assert sizes["labels"] == 8
    assert 100 <= sizes["task_labels"] <= 500


def test_the_tree_has_subtasks_in_their_own_epic(reference: Engine):
    """Some tasks are parts of others, and no part belongs to another epic than its whole."""
    with Session(reference) as session:
        parts = session.scalars(select(Task).where(Task.parent_id.is_not(None))).all()
        pairs = [(part.epic_id, part.parent.epic_id) for part in parts if part.parent]

    assert len(pairs) == len(parts) > 50
    assert all(own == parents for own, parents in pairs)
    assert TASK_DEPTH >= 2


def test_names_differ_also_for_a_database_that_ignores_case(reference: Engine):
    """No unique name is taken by another that differs in case only."""
    with Session(reference) as session:
        clients = [name.casefold() for name in session.scalars(select(Client.name))]
        projects = [(row[0], row[1].casefold()) for row in session.execute(
            select(Project.client_id, Project.name)
        )]  # fmt: skip
        epics = [(row[0], row[1].casefold()) for row in session.execute(
            select(Epic.project_id, Epic.name)
        )]  # fmt: skip

    for names in (clients, projects, epics):
        assert len(set(names)) == len(names)


def test_a_second_run_adds_nothing(reference: Engine):
    """A filled database is left alone."""
    before = rows(reference)

    assert not seed(reference)

    assert rows(reference) == before


def test_what_was_deleted_stays_deleted(reference: Engine):
    """A client that somebody deleted does not come back with a restart."""
    with reference.begin() as connection:
        connection.execute(delete(Client).where(Client.id == 1))

    seed(reference)

    with reference.connect() as connection:
        assert connection.scalar(select(func.count(Client.id))) == CLIENTS - 1


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the tracker, ordered by key."""
    with engine.connect() as connection:
        return {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in Model.metadata.sorted_tables
        }
