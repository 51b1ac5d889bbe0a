"""What foreign keys do to rows in MariaDB is in the log, though no trigger of those rows fires."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings, strategies as st
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from audit.dialects.mariadb_trail import catalog_of, entries, install, script
from shipworthy.audit.cells import write_key
from shipworthy.audit.dialects.mariadb import MARIADB_AUDIT
from shipworthy.audit.model import CatalogTable
from shipworthy.demo.models import TASK_DEPTH, Client, Epic, Label, Model, Project, Task

_NUMBERS = count()
# What the engine refuses without us as well: a link, a key that is there, a cascade too deep.
_REFUSED = frozenset({1451, 1452, 1062, 1296, 1761})


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(mariadb_url)
    yield engine
    engine.dispose()


@dataclass(frozen=True)
class Link:
    """A foreign key of a generated table; it points to the key, or to the unique column."""

    target: int
    on_delete: str
    on_update: str
    nullable: bool
    to_unique: bool


@dataclass(frozen=True)
class Plan:
    """A generated table: how its primary key is made, and where it points."""

    key: str  # id | pair (id, k) | owned (id, the first link) | none
    links: tuple[Link, ...]

    def target_columns(self) -> tuple[str, ...]:
        return {"pair": ("id", "k"), "owned": ("id", "f0_0")}.get(self.key, ("id",))


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    size = draw(st.integers(2, 4))
    keys = [draw(st.sampled_from(["id", "id", "pair", "owned", "none"])) for _ in range(size)]
    keys[0] = "id"
    found = []
    for key in keys:
        links = []
        for place in range(draw(st.integers(1 if key == "owned" else 0, 2))):
            owns = key == "owned" and place == 0
            pointed_to = {"id"} if owns else {"id", "pair", "owned"}
            targets = [it for it in range(size) if keys[it] in pointed_to]
            target = draw(st.sampled_from(targets))
            nullable = not owns and draw(st.booleans())
            deletes = ["cascade", "cascade", "cascade", "restrict"]
            links.append(
                Link(
                    target=target,
                    on_delete=draw(st.sampled_from(deletes + ["set null"] * 2 * nullable)),
                    on_update=draw(st.sampled_from(["cascade", "restrict"])),
                    nullable=nullable,
                    to_unique=not owns and draw(st.integers(0, 4)) == 0,
                )
            )
        found.append(Plan(key=key, links=tuple(links)))
    return found


def _columns(tables: list[Plan], link: Link, place: int) -> list[tuple[str, str]]:
    targets = ("u",) if link.to_unique else tables[link.target].target_columns()
    return [(f"f{place}_{part}", target) for part, target in enumerate(targets)]


def _create(engine: sa.Engine, tables: list[Plan], prefix: str) -> None:
    keys = {"id": "id", "pair": "id,k", "owned": "id,f0_0"}
    first, then = [], []
    for number, plan in enumerate(tables):
        columns = ["id int not null", "k int not null", "u int unique", "v varchar(20)"]
        for place, link in enumerate(plan.links):
            pairs = _columns(tables, link, place)
            columns += [f"{it} int {'null' if link.nullable else 'not null'}" for it, _ in pairs]
            own, others = (",".join(names) for names in zip(*pairs, strict=True))
            then.append(
                f"ALTER TABLE {prefix}{number} ADD CONSTRAINT {prefix}{number}_{place} FOREIGN KEY "
                f"({own}) REFERENCES {prefix}{link.target} ({others}) "
                f"ON DELETE {link.on_delete} ON UPDATE {link.on_update}"
            )
        if plan.key in keys:
            columns.append(f"PRIMARY KEY ({keys[plan.key]})")
        first.append(f"CREATE TABLE {prefix}{number} ({','.join(columns)})")
    script(engine, *first, *then)


@st.composite
def contents(draw: st.DrawFn, tables: list[Plan]) -> list[list[dict[str, int | None]]]:
    """Rows of each table, whose links point to rows there are."""
    rows = [
        [{"id": n, "k": n * 10, "u": n * 100} for n in range(1, draw(st.integers(1, 5)) + 1)]
        for _ in tables
    ]
    # The first link of an owned table is part of its key, so it is chosen before it is pointed to.
    for first in (True, False):
        for number, plan in enumerate(tables):
            for place, link in enumerate(plan.links):
                if first != (plan.key == "owned" and place == 0):
                    continue
                for row in rows[number]:
                    other = draw(st.sampled_from(rows[link.target]))
                    lost = link.nullable and draw(st.integers(0, 3)) == 0
                    for column, target in _columns(tables, link, place):
                        row[column] = None if lost else other[target]
    return rows


def _state(connection: sa.Connection, tables: list[CatalogTable]) -> dict[str, Counter[str]]:
    """Return every row there is, as the image that the log would have."""
    return {
        table.name.name: Counter(
            json.dumps(image) for image in MARIADB_AUDIT.select_rows(connection, table, [], [])
        )
        for table in tables
    }


def _replay(state: dict[str, Counter[str]], log: list[dict], tables: list[CatalogTable]) -> None:
    """Do to `state` what the log says; each old image must be what is there."""
    keys = {table.name.name: table.primary_key for table in tables}
    for entry in log:
        rows, key = state[entry["table_name"]], keys[entry["table_name"]]
        if entry["op"] == "I":
            rows.update([json.dumps(entry["new"])])
            continue
        if entry["op"] == "D":
            found = json.dumps(entry["old"])
        else:
            found = next(
                row
                for row, number in rows.items()
                if number > 0
                and entry["old"].items() <= json.loads(row).items()
                and (not key or write_key([json.loads(row)[it] for it in key]) == entry["key"])
            )
        assert rows[found] > 0, f"{entry['op']} of a row that is not there: {found}"
        rows.subtract([found])
        if entry["op"] == "U":
            rows.update([json.dumps({**json.loads(found), **entry["new"]})])
    for table, rows in state.items():
        state[table] = +rows


@st.composite
def writes(draw: st.DrawFn, tables: list[Plan]) -> list[str]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(tables) - 1))
        some = ",".join(map(str, draw(st.sets(st.integers(1, 5), min_size=1))))
        found.append(
            draw(
                st.sampled_from(
                    [
                        f"DELETE FROM {{p}}{number} WHERE id IN ({some})",
                        f"DELETE FROM {{p}}{number} ORDER BY id DESC",
                        f"UPDATE {{p}}{number} SET id=id+50,k=k+5 WHERE id={some[0]}",
                        f"UPDATE {{p}}{number} SET u=u+7,v='x' WHERE id IN ({some})",
                        f"REPLACE {{p}}{number} SELECT * FROM {{p}}{number} WHERE id={some[0]}",
                    ]
                )
            )
        )
    return found


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Plan], list[list[dict[str, int | None]]], list[str]]:
    tables = draw(plans())
    return tables, draw(contents(tables)), draw(writes(tables))


@pytest.mark.slow
@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories())
def test_the_log_says_what_became_of_every_row(
    engine: sa.Engine, story: tuple[list[Plan], list[list[dict[str, int | None]]], list[str]]
) -> None:
    """Replayed upon the rows before, the log gives the rows after, whatever the foreign keys."""
    tables, rows, statements = story
    prefix = f"t{next(_NUMBERS)}_"
    try:
        _create(engine, tables, prefix)
    except DBAPIError:
        event("the engine refuses these tables")
        return
    try:
        shapes = install(engine)
        there = [shape.table for shape in shapes.values()]
        with engine.connect() as connection:
            connection.exec_driver_sql("SET foreign_key_checks=0")
            for number, found in enumerate(rows):
                for row in found:
                    connection.execute(
                        sa.text(
                            f"INSERT INTO {prefix}{number} ({','.join(row)}) "
                            f"VALUES ({','.join(f':{it}' for it in row)})"
                        ),
                        row,
                    )
            connection.exec_driver_sql("SET foreign_key_checks=1")
            connection.commit()
            seen = len(entries(connection))
            state = _state(connection, there)
            connection.commit()
            for statement in statements:
                try:
                    connection.exec_driver_sql(statement.format(p=prefix))
                except DBAPIError as error:
                    number = error.orig.args[0] if error.orig else 0
                    if number not in _REFUSED:
                        raise
                    event(f"refused: {number}")
            log = entries(connection)[seen:]
            after = _state(connection, there)
            connection.rollback()
        event(f"{sum(entry['op'] == 'D' for entry in log)} deleted")
        _replay(state, log, there)
        assert state == after
    finally:
        names = ",".join(f"{prefix}{number}" for number in range(len(tables)))
        script(engine, "SET foreign_key_checks=0", f"DROP TABLE {names}")


@pytest.mark.slow
def test_deleting_a_client_of_the_demo_captures_every_row(engine: sa.Engine) -> None:
    """Its projects, epics, tree of tasks and their labels: what a SELECT saw before, no more."""
    Model.metadata.create_all(engine)
    shapes = install(engine)
    with Session(engine) as session:
        label = Label(name="urgent", colour="#f00000")
        for number in range(2):
            client = Client(name=f"c{number}", email="x@x", country="de")
            for place in range(2):
                project = Project(name=f"p{place}")
                client.projects.append(project)
                epic = Epic(name="e")
                project.epics.append(epic)
                parent = None
                for depth in range(TASK_DEPTH):
                    task = Task(title=f"t{depth}", parent=parent, labels=[label])
                    epic.tasks += [task, Task(title="leaf", parent=parent)]
                    parent = task
            session.add(client)
        session.commit()
        tables = [it.table for it in shapes.values()]
        with engine.connect() as connection:
            before = _state(connection, tables)
            seen = len(entries(connection))
            connection.rollback()
            session.delete(session.scalars(sa.select(Client).where(Client.name == "c0")).one())
            session.commit()
            after = _state(connection, tables)
            log = entries(connection)[seen:]
    assert {entry["op"] for entry in log} == {"D"}
    gone = {table: before[table] - after[table] for table in before}
    logged: dict[str, Counter[str]] = {table: Counter() for table in before}
    for entry in log:
        logged[entry["table_name"]].update([json.dumps(entry["old"])])
    assert logged == gone
    assert gone["tasks"].total() == 2 * 2 * TASK_DEPTH
    assert len({entry["tx"] for entry in log}) == 1


def _tree(engine: sa.Engine) -> None:
    script(
        engine,
        "CREATE TABLE parents (id int primary key)",
        "CREATE TABLE children (id int primary key, parent int, "
        "FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE)",
    )
    install(engine)
    script(
        engine,
        "INSERT INTO parents VALUES (1),(2),(3)",
        "INSERT INTO children VALUES (10,1),(11,1),(20,2)",
    )


def _touched(connection: sa.Connection, statement: str) -> list[tuple[str, str, str]]:
    seen = len(entries(connection))
    connection.exec_driver_sql(statement)
    return sorted((it["op"], it["table_name"], it["key"]) for it in entries(connection)[seen:])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM parents WHERE id IN (SELECT parent FROM children WHERE id<20)",
        "DELETE p FROM parents p JOIN children c ON c.parent=p.id WHERE p.id=1",
        "DELETE p, c FROM parents p JOIN children c ON c.parent=p.id WHERE p.id=1",
        "DELETE c, p FROM parents p JOIN children c ON c.parent=p.id WHERE p.id=1",
        "REPLACE INTO parents VALUES (1)",
    ],
)
def test_a_statement_that_reads_the_children_still_works(engine: sa.Engine, statement: str) -> None:
    """A trigger that wrote them would make it fail; ours only reads."""
    _tree(engine)
    with engine.connect() as connection:
        found = _touched(connection, statement)
    assert [it for it in found if it[0] == "D"] == [
        ("D", "children", '["10"]'),
        ("D", "children", '["11"]'),
        ("D", "parents", '["1"]'),
    ]


def test_no_cascade_is_written_where_the_session_has_none(engine: sa.Engine) -> None:
    """With foreign_key_checks off the children stay, and so says the log."""
    _tree(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET foreign_key_checks=0")
        deleted = _touched(connection, "DELETE FROM parents WHERE id=1")
        updated = _touched(connection, "UPDATE parents SET id=9 WHERE id=2")
    assert deleted == [("D", "parents", '["1"]')]
    assert updated == [("U", "parents", '["2"]')]


def test_an_old_snapshot_does_not_hide_what_goes(engine: sa.Engine) -> None:
    """A child that came after the transaction began to read goes with its parent, captured."""
    _tree(engine)
    with engine.connect() as old, engine.connect() as other:
        old.exec_driver_sql("SELECT * FROM children").all()
        other.exec_driver_sql("INSERT INTO children VALUES (30,3)")
        other.commit()
        assert _touched(old, "DELETE FROM parents WHERE id=3")[:1] == [("D", "children", '["30"]')]


def test_what_is_not_captured_is_said(engine: sa.Engine) -> None:
    """Of ON UPDATE SET NULL the coverage says that it is not, and of MyISAM what it means."""
    script(
        engine,
        "CREATE TABLE parents (id int primary key, k int unique)",
        "CREATE TABLE children (id int primary key, k int, "
        "FOREIGN KEY (k) REFERENCES parents (k) ON UPDATE SET NULL)",
        "CREATE TABLE old (id int primary key) ENGINE=MyISAM",
    )
    shapes, catalog = install(engine), catalog_of(engine)
    refused = {name: MARIADB_AUDIT.capture(it, catalog).refused for name, it in shapes.items()}
    assert "ON UPDATE SET NULL of 'children." in refused["parents"]
    assert refused["children"] == ""
    assert "MyISAM has no transactions" in refused["old"]


def test_what_no_trigger_sees_is_said(engine: sa.Engine) -> None:
    """TRUNCATE of every table, and DELETE IGNORE where a reference may keep rows."""
    _tree(engine)
    script(engine, "CREATE TABLE visits (id int primary key, child int references children (id))")
    shapes, catalog = install(engine), catalog_of(engine)
    silent = {name: MARIADB_AUDIT.capture(it, catalog).silent for name, it in shapes.items()}
    assert all("TRUNCATE fires no trigger" in it for it in silent.values())
    assert "DELETE IGNORE that 'visits." in silent["parents"]
    assert "DELETE IGNORE" not in silent["visits"]
