"""The tracker as its users see it: what it stores, refuses, finds, streams and forgets."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from sqlalchemy import Engine, case, event, func, select

from shipworthy.demo import schemas, service
from shipworthy.demo.models import TASK_DEPTH, Client, Epic, Model, Project, Task, TaskStatus
from shipworthy.demo.service import create_app

if TYPE_CHECKING:
    from demo.conftest import Filled

ROUTES_BY_ID = [
    (method.upper(), path)
    for path, operations in create_app("sqlite:///unused").openapi()["paths"].items()
    for method in operations
    if "{" in path
]
NEW_CLIENT = {"name": "Quayside Ltd", "email": "q@quay.example", "country": "PT"}
BODIES: dict[str, Any] = {
    "/clients/{client_id}": NEW_CLIENT,
    "/clients/{client_id}/projects": {"name": "New"},
    "/projects/{project_id}": {"name": "New"},
    "/projects/{project_id}/epics": {"name": "New"},
    "/epics/{epic_id}/tasks": {"title": "New"},
    "/tasks/{task_id}": {"title": "New"},
}


# What a deletion takes with it.


@pytest.mark.parametrize("kind", [Client, Project, Epic, Task])
def test_a_deletion_takes_exactly_its_tree(client: TestClient, filled: "Filled", kind: type[Model]):
    """The row, what hangs under it and its label links go; every other row stays as it was."""
    victim = 3
    before = contents(filled.engine)
    if kind is Task:
        victim = max(row[2] for row in before["tasks"] if row[2] is not None)
    doomed = tree(filled.engine, kind, victim)
    expected = {
        table: {row for row in rows if row[0] in doomed.get(table, ())}
        for table, rows in before.items()
    }

    answer = client.delete(f"/{kind.__tablename__}/{victim}")

    after = contents(filled.engine)
    assert answer.status_code == 204
    assert answer.content == b""
    assert len(expected["tasks"]) > 1
    assert len(expected["task_labels"]) > 0
    assert after == {table: rows - expected[table] for table, rows in before.items()}


def test_the_deepest_tree_can_be_deleted(client: TestClient, filled: "Filled"):
    """Also the database with the shortest cascade follows it to the last task."""
    made = client.post("/clients", json=NEW_CLIENT).json()
    project = client.post(f"/clients/{made['id']}/projects", json={"name": "Deep"}).json()
    epic = client.post(f"/projects/{project['id']}/epics", json={"name": "Deep"}).json()
    before = contents(filled.engine)["tasks"]
    parent = None
    for depth in range(TASK_DEPTH):
        body = {"title": f"Level {depth}", "parent_id": parent, "labels": ["bug"]}
        parent = client.post(f"/epics/{epic['id']}/tasks", json=body).json()["id"]
    too_deep = client.post(
        f"/epics/{epic['id']}/tasks", json={"title": "Too deep", "parent_id": parent}
    )

    answer = client.delete(f"/clients/{made['id']}")

    assert too_deep.status_code == 422
    assert too_deep.json()["detail"] == "tasks can be nested 8 deep"
    assert answer.status_code == 204
    assert contents(filled.engine)["tasks"] == before


def test_a_deleted_label_leaves_its_tasks(client: TestClient, filled: "Filled"):
    """Links go, tasks stay."""
    before = contents(filled.engine)

    assert client.delete("/labels/2").status_code == 204

    after = contents(filled.engine)
    assert after["tasks"] == before["tasks"]
    assert before["task_labels"] - after["task_labels"] == {
        row for row in before["task_labels"] if row[1] == 2
    }


def test_a_key_is_never_used_again(client: TestClient):
    """The number of a deleted row does not come to mean another one."""
    first = client.post("/clients", json=NEW_CLIENT).json()["id"]
    client.delete(f"/clients/{first}")

    second = client.post("/clients", json=NEW_CLIENT).json()["id"]

    assert second > first


# Names.


def test_a_taken_name_is_a_conflict(client: TestClient, filled: "Filled"):
    """Creating under a taken name answers 409, says which name, and writes nothing."""
    with filled.engine.connect() as connection:
        taken = connection.scalar(select(Client.name).where(Client.id == 1))
        project = connection.scalar(select(Project.name).where(Project.client_id == 1))
        epic = connection.scalar(select(Epic.name).where(Epic.project_id == 1))
    before = contents(filled.engine)

    answers = [
        client.post("/clients", json={**NEW_CLIENT, "name": taken}),
        client.put("/clients/2", json={**NEW_CLIENT, "name": taken}),
        client.post("/clients/1/projects", json={"name": project}),
        client.post("/projects/1/epics", json={"name": epic}),
        client.post("/labels", json={"name": "bug", "colour": "#000000"}),
    ]

    assert [answer.status_code for answer in answers] == [409] * 5
    assert answers[0].json() == {"detail": f"there is a client named '{taken}' already"}
    assert contents(filled.engine) == before


def test_a_name_is_free_under_another_parent(client: TestClient, filled: "Filled"):
    """Projects of different clients may have the same name, epics of different projects too."""
    free = {"name": "Same"}

    answers = [
        client.post("/clients/1/projects", json=free),
        client.post("/clients/2/projects", json=free),
        client.post("/projects/1/epics", json=free),
        client.post("/projects/2/epics", json=free),
    ]

    assert [answer.status_code for answer in answers] == [201] * 4


def test_of_many_at_once_one_gets_the_name(client: TestClient):
    """The database decides who was first; the others are told, and nothing breaks."""
    with ThreadPoolExecutor(8) as pool:
        codes = list(
            pool.map(lambda _: client.post("/clients", json=NEW_CLIENT).status_code, range(8))
        )

    assert sorted(codes) == [201] + [409] * 7


# Lists.


def test_a_page_of_projects_costs_two_queries(reader: TestClient):
    """The list asks once for its rows and once for their number, however many rows there are."""
    with statements(reader) as few:
        reader.get("/projects?size=1")
    with statements(reader) as many:
        page = reader.get("/projects?size=20").json()

    assert len(page["items"]) == 20
    assert len(few) == len(many) == 2


@pytest.mark.parametrize("path", ["/tasks?size=50", "/epics/1", "/projects/1/export"])
def test_no_list_of_tasks_asks_once_per_task(reader: TestClient, path: str):
    """Labels are fetched together."""
    with statements(reader) as seen:
        assert reader.get(path).status_code == 200

    assert len(seen) <= 3


def test_projects_say_how_far_they_are(client: TestClient, filled: "Filled"):
    """Each row names its client and counts its tasks, all and done, as the tables have them."""
    listed = client.get("/projects?size=100").json()

    done = func.sum(case((Task.status == TaskStatus.DONE, 1), else_=0))
    with filled.engine.connect() as connection:
        expected = {
            key: (name, tasks, done)
            for key, name, tasks, done in connection.execute(
                select(Project.id, func.max(Client.name), func.count(Task.id), done)
                .join(Client, Project.client_id == Client.id)
                .join(Epic, Epic.project_id == Project.id)
                .join(Task, Task.epic_id == Epic.id)
                .group_by(Project.id)
            )
        }
    assert listed["total"] == 24
    assert expected == {
        row["id"]: (row["client_name"], row["tasks"], row["tasks_done"]) for row in listed["items"]
    }


def test_pages_show_every_project_once(client: TestClient):
    """The pages follow each other without a gap and without an overlap, and then there is none."""
    pages = [client.get(f"/projects?size=7&page={page}").json() for page in range(1, 6)]

    keys = [row["id"] for page in pages for row in page["items"]]
    assert [len(page["items"]) for page in pages] == [7, 7, 7, 3, 0]
    assert len(set(keys)) == len(keys) == 24
    assert {page["total"] for page in pages} == {24}


def test_filters_and_order_of_projects(client: TestClient):
    """A filter keeps what fits, its total counts that, and each order is one."""
    of_client = client.get("/projects?client_id=2").json()
    active = client.get("/projects?status=active&size=100").json()
    dearest = client.get("/projects?sort=-budget&size=100").json()["items"]
    oldest = client.get("/projects?sort=created_at&size=100").json()["items"]
    named = client.get("/projects?q=PORTAL&size=100").json()

    assert of_client["total"] == len(of_client["items"]) == 4
    assert {row["client_id"] for row in of_client["items"]} == {2}
    assert {row["status"] for row in active["items"]} == {"active"}
    assert 0 < active["total"] == len(active["items"]) < 24
    assert dearest == sorted(dearest, key=lambda row: (-row["budget_cents"], -row["id"]))
    assert oldest == sorted(oldest, key=lambda row: (row["created_at"], row["id"]))
    assert {row["name"] for row in named["items"]} == {"Berth booking portal"}


def test_wildcards_in_a_search_are_letters(client: TestClient):
    """A percent sign finds percent signs."""
    client.post("/clients", json={**NEW_CLIENT, "name": "100% Afloat_"})

    assert client.get("/clients?q=%25").json()["total"] == 1
    assert client.get("/clients?q=_").json()["total"] == 1
    assert client.get("/clients?q=afloat").json()["total"] == 1


def test_filters_of_tasks(client: TestClient):
    """Each filter of the task list keeps what fits."""
    some = client.get("/tasks?size=100").json()["items"]
    person = next(task["assignee"] for task in some if task["assignee"])

    mine = client.get("/tasks", params={"assignee": person, "size": 100}).json()
    bugs = client.get("/tasks?label=bug&size=100").json()
    done = client.get("/tasks?status=done&project_id=1&size=100").json()

    assert {task["assignee"] for task in mine["items"]} == {person}
    assert all("bug" in {label["name"] for label in task["labels"]} for task in bugs["items"])
    assert 0 < bugs["total"] < 391
    assert all(task["status"] == "done" for task in done["items"])
    assert some == sorted(some, key=lambda task: (task["priority"], task["id"]))


def test_the_summary_adds_up(client: TestClient):
    """Every status is counted, also those that nothing has."""
    summary = client.get("/summary").json()

    assert summary["clients"] == 6
    assert sum(summary["projects"].values()) == 24
    assert sum(summary["tasks"].values()) == 391
    assert set(summary["tasks"]) == {"todo", "doing", "blocked", "done"}


# One row.


def test_a_row_is_created_read_changed(client: TestClient):
    """What was sent is what is stored, on each of the four levels."""
    made = client.post("/clients", json=NEW_CLIENT).json()
    changed = client.put(f"/clients/{made['id']}", json={**NEW_CLIENT, "country": "BR"}).json()
    body = {"name": "Pier", "status": "active", "budget_cents": 5, "starts_on": "2026-02-03"}
    project = client.post(f"/clients/{made['id']}/projects", json=body).json()
    renamed = client.put(f"/projects/{project['id']}", json={**body, "name": "Pier 2"}).json()
    epic = client.post(f"/projects/{project['id']}/epics", json={"name": "Piles"}).json()

    detail = client.get(f"/projects/{project['id']}").json()

    assert client.get(f"/clients/{made['id']}").json() == changed == {**made, "country": "BR"}
    assert body.items() <= project.items()
    assert renamed == {**project, "name": "Pier 2"}
    assert detail == {**renamed, "client": changed, "epics": [epic]}
    assert made["created_at"].endswith("Z")


def test_a_change_of_a_task_leaves_the_rest(client: TestClient):
    """Only what is given changes; null clears what may be empty, and only that."""
    body = {
        "title": "Caulk",
        "notes": "the aft deck",
        "assignee": "Ana",
        "due_on": "2026-05-01",
        "labels": ["bug", "security"],
    }
    task = client.post("/epics/1/tasks", json=body).json()
    home = f"/tasks/{task['id']}"

    changed = client.patch(home, json={"status": "done", "due_on": None}).json()
    relabelled = client.patch(home, json={"labels": ["quick-win"]}).json()
    refused = client.patch(home, json={"title": None})
    unknown = client.patch(home, json={"labels": ["bug", "nonsense"]})

    assert changed == {
        **task,
        "status": "done",
        "due_on": None,
        "updated_at": changed["updated_at"],
    }
    assert changed["updated_at"] > task["updated_at"]
    assert [label["name"] for label in relabelled["labels"]] == ["quick-win"]
    assert relabelled["updated_at"] > changed["updated_at"]
    assert refused.status_code == 422
    assert unknown.status_code == 422
    assert unknown.json()["detail"] == "there is no label nonsense"
    assert client.get(home).json() == relabelled


def test_an_epic_shows_its_tree(client: TestClient):
    """Each task hangs under its parent, in the order in which they were made."""
    epic = client.post("/projects/1/epics", json={"name": "Tree"}).json()
    tasks = f"/epics/{epic['id']}/tasks"
    one = client.post(tasks, json={"title": "1"}).json()["id"]
    client.post(tasks, json={"title": "2"})
    part = client.post(tasks, json={"title": "1.1", "parent_id": one}).json()["id"]
    client.post(tasks, json={"title": "1.1.1", "parent_id": part})
    client.post(tasks, json={"title": "1.2", "parent_id": one})

    shown = client.get(f"/epics/{epic['id']}").json()

    assert titles(shown["tasks"]) == [("1", [("1.1", [("1.1.1", [])]), ("1.2", [])]), ("2", [])]


def test_a_parent_must_be_of_the_same_epic(client: TestClient):
    """A task of another epic, or none, cannot be the parent."""
    elsewhere = client.post("/epics/2/tasks", json={"title": "Elsewhere"}).json()["id"]

    answers = [
        client.post("/epics/1/tasks", json={"title": "Part", "parent_id": parent})
        for parent in (elsewhere, 2**31 - 1)
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json()["detail"] == f"epic 1 has no task {elsewhere} to be the parent"


@pytest.mark.parametrize(("method", "path"), ROUTES_BY_ID)
def test_what_is_not_there_is_not_found(reader: TestClient, method: str, path: str):
    """Every route with a key answers 404 with a sentence when nothing has that key."""
    missing = path.replace(path[path.index("{") : path.index("}") + 1], "999999")

    answer = reader.request(method, missing, json=BODIES.get(path))

    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("999999")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "/clients/99999999999999999999", None, id="a key no database holds"),
        pytest.param("GET", "/clients/0", None, id="a key nothing has"),
        pytest.param("GET", "/projects?client_id=99999999999", None, id="a filter beyond all keys"),
        pytest.param("GET", "/projects?size=101", None, id="a page too long"),
        pytest.param("GET", "/projects?page=0", None, id="no page"),
        pytest.param("GET", "/projects?sort=client_id;drop", None, id="an unknown order"),
        pytest.param("GET", "/clients?q=%00", None, id="NUL in a search"),
        pytest.param("POST", "/clients", {**NEW_CLIENT, "name": "a\0b"}, id="NUL in a name"),
        pytest.param("POST", "/clients", {**NEW_CLIENT, "name": "  "}, id="a name of blanks"),
        pytest.param("POST", "/clients", {**NEW_CLIENT, "name": "x" * 121}, id="a name too long"),
        pytest.param("POST", "/clients", {**NEW_CLIENT, "email": "nobody"}, id="no address"),
        pytest.param("POST", "/clients", {"name": "x"}, id="a field missing"),
        pytest.param("POST", "/clients/1/projects", {"name": "x", "budget_cents": -1}, id="debt"),
        pytest.param("POST", "/epics/1/tasks", {"title": "x", "priority": 6}, id="priority 6"),
        pytest.param("POST", "/epics/1/tasks", {"title": "x", "parent_id": 2**40}, id="parent"),
        pytest.param("PATCH", "/tasks/1", {"status": "lost"}, id="an unknown status"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    reader: TestClient, method: str, path: str, body: dict[str, Any] | None
):
    """Bad values are refused with 422 before they reach the database."""
    assert reader.request(method, path, json=body).status_code == 422


# Streams.


def test_an_export_has_every_task_of_its_project(client: TestClient, filled: "Filled"):
    """One JSON object a line, in order, complete, and nothing of other projects."""
    with filled.engine.connect() as connection:
        expected = connection.scalars(
            select(Task.id).join(Epic).where(Epic.project_id == 5).order_by(Task.id)
        ).all()

    answer = client.get("/projects/5/export")

    assert answer.headers["content-type"] == "application/x-ndjson"
    tasks = [schemas.TaskOut.model_validate_json(line) for line in answer.text.splitlines()]
    assert [task.id for task in tasks] == expected


@pytest.mark.anyio
async def test_changes_are_told_as_they_happen(
    client: TestClient, filled: "Filled", monkeypatch: pytest.MonkeyPatch
):
    """A listener hears of each change once, of what came before it never, and may leave."""
    monkeypatch.setattr(service, "CHANGES_POLL_SECONDS", 0.01)

    async with listening(create_app(filled.url)) as heard:
        first = await heard.get()
        await asyncio.to_thread(client.patch, "/tasks/7", json={"notes": "one"})
        second = await heard.get()
        await asyncio.to_thread(client.patch, "/tasks/8", json={"notes": "two"})
        third = await heard.get()
        await asyncio.to_thread(client.patch, "/tasks/7", json={"notes": "three"})
        fourth = await heard.get()

    assert first is None
    assert [second, third, fourth] == [(7, "one"), (8, "two"), (7, "three")]


@pytest.mark.anyio
async def test_more_changes_than_one_look_takes_are_all_told(
    sqlite_client: TestClient, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A burst is told in several parts, none of it twice."""
    monkeypatch.setattr(service, "CHANGES_POLL_SECONDS", 0.01)
    monkeypatch.setattr(service, "CHANGES_AT_ONCE", 3)

    async with listening(create_app(sqlite_url)) as heard:
        await heard.get()
        for key in range(1, 9):
            await asyncio.to_thread(sqlite_client.patch, f"/tasks/{key}", json={"notes": "x"})
        told = [await heard.get() for _ in range(8)]

    assert told == [(key, "x") for key in range(1, 9)]


# Health and description.


def test_health_asks_the_database(client: TestClient):
    """The service is healthy when its database answers."""
    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "detail": "the database answers"}


def test_health_says_when_the_database_is_away(tmp_path: Path):
    """Without its database the service is unwell, and does not tell where that should be."""
    with TestClient(create_app(f"sqlite:///{tmp_path}/nowhere/at/all")) as lost:
        answer = lost.get("/health")

    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "detail": "the database does not answer"}


def test_the_description_is_valid(reader: TestClient):
    """The OpenAPI document holds, every operation is explained, and names are unique."""
    document = reader.get("/openapi.json").json()

    validate(document)
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    assert all(operation["description"].endswith(".") for operation in operations)
    assert reader.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/clients", "ClientIn"),
        ("/clients/1/projects", "ProjectIn"),
        ("/projects/1/epics", "EpicIn"),
        ("/epics/1/tasks", "TaskIn"),
        ("/labels", "LabelIn"),
    ],
)
def test_the_examples_work(sqlite_client: TestClient, path: str, shape: str):
    """What the API page offers to send is accepted as it stands."""
    fields = sqlite_client.get("/openapi.json").json()["components"]["schemas"][shape]
    body = {
        name: field["examples"][0]
        for name, field in fields["properties"].items()
        if "examples" in field
    }

    assert sqlite_client.post(path, json=body).status_code == 201


@pytest.mark.slow
def test_the_service_is_a_stranger():
    """Importing the service brings nothing of Shipworthy but the folder it lies in."""
    code = (
        "import sys, shipworthy.demo.service\n"
        "print(*sorted(n for n in sys.modules if n.startswith('shipworthy')))"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    allowed = {"shipworthy", "shipworthy.errors"}
    assert [name for name in found if name not in allowed and ".demo" not in name] == []


# Words used above.


def tree(engine: Engine, kind: type[Model], key: int) -> dict[str, set[int]]:
    """Return the keys that a deletion must take, by table, found by walking down from the row."""
    found: dict[str, set[int]] = {"labels": set(), kind.__tablename__: {key}}
    with engine.connect() as connection:
        for parent, child, link in (
            ("clients", Project, Project.client_id),
            ("projects", Epic, Epic.project_id),
            ("epics", Task, Task.epic_id),
        ):
            below = connection.scalars(
                select(child.id).where(link.in_(found.setdefault(parent, set())))
            )
            found.setdefault(child.__tablename__, set()).update(below)
        ahead = found["tasks"]
        while ahead:
            below = connection.scalars(select(Task.id).where(Task.parent_id.in_(ahead)))
            ahead = set(below) - found["tasks"]
            found["tasks"] |= ahead
    # A link goes with its task, whose key is its first column.
    return {**found, "task_labels": found["tasks"]}


def contents(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """Return all rows of all tables; the key, or the task of a link, comes first."""
    with engine.connect() as connection:
        return {
            table.name: {tuple(row) for row in connection.execute(select(table))}
            for table in Model.metadata.sorted_tables
        }


def titles(nodes: list[dict[str, Any]]) -> list[Any]:
    """Return a tree of tasks as titles only."""
    return [(node["title"], titles(node["subtasks"])) for node in nodes]


@contextmanager
def statements(client: TestClient) -> Iterator[list[str]]:
    """Collect the queries that the service sends inside the block."""
    database = client.app.state.database
    seen: list[str] = []

    def note(_connection, _cursor, statement, *_):
        seen.append(statement)

    engines = (database.engine, database.async_engine.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[asyncio.Queue[tuple[int, str] | None]]:
    """Listen to `/changes`: first None, once it listens, and then a task's key and notes each."""
    heard: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("data: "):
                task = json.loads(line.removeprefix("data: "))
                heard.put_nowait((task["id"], task["notes"]))
            elif line.startswith(":") and not started.is_set():
                started.set()
                heard.put_nowait(None)

    started = asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/changes",
        "raw_path": b"/changes",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    serving = asyncio.create_task(app(scope, receive, send))
    try:
        async with asyncio.timeout(20):
            yield heard
    finally:
        gone.set()
        await asyncio.wait_for(serving, 5)
        await app.state.database.close()
