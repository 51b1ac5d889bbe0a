"""A project tracker: clients, their projects, epics and tasks, as a REST service.

An ordinary FastAPI application written the ordinary way. It knows nothing of Shipworthy, and runs
as well without: `DATABASE_URL=... uvicorn shipworthy.demo.service:app`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from . import schemas
from .database import async_session, connect, session
from .models import (
    TASK_DEPTH,
    Client,
    Epic,
    Label,
    Model,
    Project,
    ProjectStatus,
    Task,
    TaskStatus,
    now,
)

CHANGES_POLL_SECONDS = 1.0
CHANGES_AT_ONCE = 500
# A transaction that began earlier may commit later; changes are looked for this far back.
CHANGES_OVERLAP = timedelta(seconds=2)

Database = Annotated[Session, Depends(session)]
AsyncDatabase = Annotated[AsyncSession, Depends(async_session)]
Found = TypeVar("Found", bound=Model)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": schemas.Problem, "description": "there is no such row"}
}
TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": schemas.Problem, "description": "the name is taken"}
}

router = APIRouter()


class Paging:
    """Which page of a list, and how long its pages are."""

    def __init__(
        self,
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
        size: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> None:
        self.page = page
        self.size = size

    def cut(self, query: Select[Any]) -> Select[Any]:
        return query.limit(self.size).offset((self.page - 1) * self.size)


Pages = Annotated[Paging, Depends()]


def found(database: Session, kind: type[Found], key: int) -> Found:
    row = database.get(kind, key)
    if row is None:
        raise HTTPException(404, f"there is no {kind.__name__.lower()} {key}")
    return row


@contextmanager
def unique(database: Session, detail: str) -> Iterator[None]:
    """Answer 409 with `detail` when the database refuses what the block writes."""
    try:
        yield
    except IntegrityError as error:
        database.rollback()
        raise HTTPException(409, detail) from error


def count(database: Session, query: Select[Any]) -> int:
    return database.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0


# Clients


@router.get("/clients", response_model=schemas.Page[schemas.ClientOut], tags=["clients"])
def list_clients(database: Database, pages: Pages, q: schemas.Part = "") -> Any:
    """List clients by name, or those with `q` in their name."""
    query = select(Client).order_by(Client.name)
    if q:
        query = query.where(Client.name.icontains(q, autoescape=True))
    return {
        "items": database.scalars(pages.cut(query)).all(),
        "total": count(database, query),
        "page": pages.page,
        "size": pages.size,
    }


@router.post(
    "/clients",
    response_model=schemas.ClientOut,
    status_code=201,
    responses=TAKEN,
    tags=["clients"],
)
def create_client(body: schemas.ClientIn, database: Database) -> Any:
    """Create a client. Names are unique."""
    client = Client(**body.model_dump())
    database.add(client)
    with unique(database, f"there is a client named '{body.name}' already"):
        database.commit()
    return client


@router.get(
    "/clients/{client_id}",
    response_model=schemas.ClientOut,
    responses=NOT_FOUND,
    tags=["clients"],
)
def read_client(client_id: schemas.Id, database: Database) -> Any:
    """Read one client."""
    return found(database, Client, client_id)


@router.put(
    "/clients/{client_id}",
    response_model=schemas.ClientOut,
    responses=NOT_FOUND | TAKEN,
    tags=["clients"],
)
def replace_client(client_id: schemas.Id, body: schemas.ClientIn, database: Database) -> Any:
    """Change a client."""
    client = found(database, Client, client_id)
    for field, value in body:
        setattr(client, field, value)
    with unique(database, f"there is a client named '{body.name}' already"):
        database.commit()
    return client


@router.delete("/clients/{client_id}", status_code=204, responses=NOT_FOUND, tags=["clients"])
def delete_client(client_id: schemas.Id, database: Database) -> None:
    """Delete a client with its projects, their epics and all their tasks."""
    database.delete(found(database, Client, client_id))
    database.commit()


# Projects


def project_rows() -> Select[Any]:
    """Each project with its client's name and its counts, in one query however long the page."""
    tasks = (
        select(func.count(Task.id))
        .join(Epic, Task.epic_id == Epic.id)
        .where(Epic.project_id == Project.id)
    )
    return select(
        Project,
        Client.name.label("client_name"),
        tasks.scalar_subquery().label("tasks"),
        tasks.where(Task.status == TaskStatus.DONE).scalar_subquery().label("tasks_done"),
    ).join(Client, Project.client_id == Client.id)


PROJECT_ORDERS: dict[str, Sequence[ColumnElement[Any]]] = {
    "name": (Project.name.asc(), Project.id.asc()),
    "-name": (Project.name.desc(), Project.id.desc()),
    "created_at": (Project.created_at.asc(), Project.id.asc()),
    "-created_at": (Project.created_at.desc(), Project.id.desc()),
    "budget": (Project.budget_cents.asc(), Project.id.asc()),
    "-budget": (Project.budget_cents.desc(), Project.id.desc()),
}


@router.get("/projects", response_model=schemas.Page[schemas.ProjectRow], tags=["projects"])
def list_projects(
    *,
    database: Database,
    pages: Pages,
    client_id: schemas.QueryId = None,
    status: ProjectStatus | None = None,
    q: schemas.Part = "",
    sort: Literal["name", "-name", "created_at", "-created_at", "budget", "-budget"] = "name",
) -> Any:
    """List projects and how far they are; `q` is a part of their own or their client's name."""
    wanted: list[ColumnElement[bool]] = []
    if client_id is not None:
        wanted.append(Project.client_id == client_id)
    if status is not None:
        wanted.append(Project.status == status)
    if q:
        wanted.append(
            Project.name.icontains(q, autoescape=True) | Client.name.icontains(q, autoescape=True)
        )
    rows = database.execute(
        pages.cut(project_rows().where(*wanted).order_by(*PROJECT_ORDERS[sort]))
    )
    total = select(func.count(Project.id)).join(Client, Project.client_id == Client.id)
    return {
        "items": [
            schemas.ProjectRow(
                **schemas.ProjectOut.model_validate(project).model_dump(),
                client_name=client_name,
                tasks=tasks,
                tasks_done=tasks_done,
            )
            for project, client_name, tasks, tasks_done in rows
        ],
        "total": database.scalar(total.where(*wanted)),
        "page": pages.page,
        "size": pages.size,
    }


@router.post(
    "/clients/{client_id}/projects",
    response_model=schemas.ProjectOut,
    status_code=201,
    responses=NOT_FOUND | TAKEN,
    tags=["projects"],
)
def create_project(client_id: schemas.Id, body: schemas.ProjectIn, database: Database) -> Any:
    """Create a project for a client. Names are unique within the client."""
    found(database, Client, client_id)
    project = Project(client_id=client_id, **body.model_dump())
    database.add(project)
    with unique(database, f"client {client_id} has a project named '{body.name}' already"):
        database.commit()
    return project


@router.get(
    "/projects/{project_id}",
    response_model=schemas.ProjectDetail,
    responses=NOT_FOUND,
    tags=["projects"],
)
def read_project(project_id: schemas.Id, database: Database) -> Any:
    """Read one project with its client and its epics."""
    return found(database, Project, project_id)


@router.put(
    "/projects/{project_id}",
    response_model=schemas.ProjectOut,
    responses=NOT_FOUND | TAKEN,
    tags=["projects"],
)
def replace_project(project_id: schemas.Id, body: schemas.ProjectIn, database: Database) -> Any:
    """Change a project."""
    project = found(database, Project, project_id)
    for field, value in body:
        setattr(project, field, value)
    with unique(database, f"its client has a project named '{body.name}' already"):
        database.commit()
    return project


@router.delete("/projects/{project_id}", status_code=204, responses=NOT_FOUND, tags=["projects"])
def delete_project(project_id: schemas.Id, database: Database) -> None:
    """Delete a project with its epics and all their tasks."""
    database.delete(found(database, Project, project_id))
    database.commit()


@router.get(
    "/projects/{project_id}/export",
    response_class=StreamingResponse,
    responses=NOT_FOUND
    | {200: {"content": {"application/x-ndjson": {}}, "description": "one task per line"}},
    tags=["projects"],
)
async def export_project(project_id: schemas.Id, database: AsyncDatabase) -> Any:
    """Stream all tasks of a project, one JSON object a line, without holding them in memory."""
    if await database.get(Project, project_id) is None:
        raise HTTPException(404, f"there is no project {project_id}")

    async def lines() -> AsyncIterator[str]:
        tasks = await database.stream_scalars(
            select(Task)
            .join(Epic, Task.epic_id == Epic.id)
            .where(Epic.project_id == project_id)
            .order_by(Task.id)
            .options(selectinload(Task.labels))
            .execution_options(yield_per=100)
        )
        async for task in tasks:
            yield schemas.TaskOut.model_validate(task).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


# Epics


@router.post(
    "/projects/{project_id}/epics",
    response_model=schemas.EpicOut,
    status_code=201,
    responses=NOT_FOUND | TAKEN,
    tags=["epics"],
)
def create_epic(project_id: schemas.Id, body: schemas.EpicIn, database: Database) -> Any:
    """Create an epic in a project. Names are unique within the project."""
    found(database, Project, project_id)
    epic = Epic(project_id=project_id, **body.model_dump())
    database.add(epic)
    with unique(database, f"project {project_id} has an epic named '{body.name}' already"):
        database.commit()
    return epic


@router.get(
    "/epics/{epic_id}", response_model=schemas.EpicDetail, responses=NOT_FOUND, tags=["epics"]
)
def read_epic(epic_id: schemas.Id, database: Database) -> Any:
    """Read one epic with the whole tree of its tasks."""
    epic = found(database, Epic, epic_id)
    tasks = database.scalars(
        select(Task)
        .where(Task.epic_id == epic_id)
        .order_by(Task.id)
        .options(selectinload(Task.labels))
    ).all()
    return {
        **schemas.EpicOut.model_validate(epic).model_dump(),
        "tasks": task_tree(tasks),
    }


@router.delete("/epics/{epic_id}", status_code=204, responses=NOT_FOUND, tags=["epics"])
def delete_epic(epic_id: schemas.Id, database: Database) -> None:
    """Delete an epic with all its tasks."""
    database.delete(found(database, Epic, epic_id))
    database.commit()


def task_tree(tasks: Sequence[Task]) -> list[schemas.TaskNode]:
    """Hang every task under its parent, in the order given; those without one are the roots."""
    nodes = {
        task.id: schemas.TaskNode(
            **schemas.TaskOut.model_validate(task).model_dump(),
            subtasks=[],
        )
        for task in tasks
    }
    children: dict[int | None, list[schemas.TaskNode]] = defaultdict(list)
    for node in nodes.values():
        children[node.parent_id].append(node)
    for node in nodes.values():
        node.subtasks = children[node.id]
    return children[None]


# Tasks


@router.get("/tasks", response_model=schemas.Page[schemas.TaskOut], tags=["tasks"])
def list_tasks(
    *,
    database: Database,
    pages: Pages,
    status: TaskStatus | None = None,
    assignee: schemas.Part = "",
    label: schemas.Part = "",
    project_id: schemas.QueryId = None,
) -> Any:
    """List tasks, the most urgent first."""
    query = select(Task).order_by(Task.priority, Task.id).options(selectinload(Task.labels))
    if status is not None:
        query = query.where(Task.status == status)
    if assignee:
        query = query.where(Task.assignee == assignee)
    if label:
        query = query.where(Task.labels.any(Label.name == label))
    if project_id is not None:
        query = query.where(Task.epic.has(Epic.project_id == project_id))
    return {
        "items": database.scalars(pages.cut(query)).all(),
        "total": count(database, query),
        "page": pages.page,
        "size": pages.size,
    }


@router.post(
    "/epics/{epic_id}/tasks",
    response_model=schemas.TaskOut,
    status_code=201,
    responses=NOT_FOUND | TAKEN,
    tags=["tasks"],
)
def create_task(epic_id: schemas.Id, body: schemas.TaskIn, database: Database) -> Any:
    """Create a task in an epic, on its own or as a part of another task of the same epic."""
    found(database, Epic, epic_id)
    check_parent(database, epic_id, body.parent_id)
    task = Task(epic_id=epic_id, **body.model_dump(exclude={"labels"}))
    task.labels = named_labels(database, body.labels)
    database.add(task)
    # Nothing of a task is unique: only a row it points at can have been deleted meanwhile.
    with unique(database, "the epic, the parent or a label was deleted meanwhile"):
        database.commit()
    return task


@router.get("/tasks/{task_id}", response_model=schemas.TaskOut, responses=NOT_FOUND, tags=["tasks"])
def read_task(task_id: schemas.Id, database: Database) -> Any:
    """Read one task."""
    return found(database, Task, task_id)


@router.patch(
    "/tasks/{task_id}", response_model=schemas.TaskOut, responses=NOT_FOUND | TAKEN, tags=["tasks"]
)
def change_task(task_id: schemas.Id, body: schemas.TaskPatch, database: Database) -> Any:
    """Change what is given of a task, and leave the rest."""
    task = found(database, Task, task_id)
    changes = body.model_dump(exclude_unset=True)
    if "labels" in changes:
        task.labels = named_labels(database, changes.pop("labels"))
        task.updated_at = now()
    for field, value in changes.items():
        setattr(task, field, value)
    with unique(database, "a label was deleted meanwhile"):
        database.commit()
    return task


@router.delete("/tasks/{task_id}", status_code=204, responses=NOT_FOUND, tags=["tasks"])
def delete_task(task_id: schemas.Id, database: Database) -> None:
    """Delete a task with all its subtasks."""
    database.delete(found(database, Task, task_id))
    database.commit()


def check_parent(database: Session, epic_id: schemas.Id, parent_id: int | None) -> None:
    """Refuse (422) a parent that is missing, belongs to another epic, or is too deep already."""
    depth = 1
    while parent_id is not None:
        parent = database.get(Task, parent_id)
        depth += 1
        if parent is None or parent.epic_id != epic_id:
            raise HTTPException(422, f"epic {epic_id} has no task {parent_id} to be the parent")
        if depth > TASK_DEPTH:
            raise HTTPException(422, f"tasks can be nested {TASK_DEPTH} deep")
        parent_id = parent.parent_id


def named_labels(database: Session, names: Sequence[str]) -> list[Label]:
    """Return the labels of these names; refuse (422) names that are none."""
    labels = list(database.scalars(select(Label).where(Label.name.in_(names))))
    missing = sorted(set(names) - {label.name for label in labels})
    if missing:
        raise HTTPException(422, f"there is no label {', '.join(missing)}")
    return labels


# Labels


@router.get("/labels", response_model=list[schemas.LabelOut], tags=["labels"])
async def list_labels(database: AsyncDatabase) -> Any:
    """List the labels, at most a thousand."""
    return (await database.scalars(select(Label).order_by(Label.name).limit(1000))).all()


@router.post(
    "/labels",
    response_model=schemas.LabelOut,
    status_code=201,
    responses=TAKEN,
    tags=["labels"],
)
def create_label(body: schemas.LabelIn, database: Database) -> Any:
    """Create a label. Names are unique."""
    label = Label(**body.model_dump())
    database.add(label)
    with unique(database, f"there is a label named '{body.name}' already"):
        database.commit()
    return label


@router.delete("/labels/{label_id}", status_code=204, responses=NOT_FOUND, tags=["labels"])
def delete_label(label_id: schemas.Id, database: Database) -> None:
    """Delete a label; the tasks that had it stay."""
    database.delete(found(database, Label, label_id))
    database.commit()


# The whole


@router.get("/summary", response_model=schemas.Summary, tags=["whole"])
async def read_summary(database: AsyncDatabase) -> Any:
    """Count clients, and projects and tasks by status."""
    projects = await database.execute(select(Project.status, func.count()).group_by(Project.status))
    tasks = await database.execute(select(Task.status, func.count()).group_by(Task.status))
    return {
        "clients": await database.scalar(select(func.count(Client.id))),
        "projects": dict.fromkeys(ProjectStatus, 0) | {row[0]: row[1] for row in projects},
        "tasks": dict.fromkeys(TaskStatus, 0) | {row[0]: row[1] for row in tasks},
    }


@router.get(
    "/changes",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "server-sent events"}},
    tags=["whole"],
)
async def watch_changes(request: Request) -> Any:
    """Send every task that is created or changed from now on, as server-sent events."""

    async def changes() -> AsyncIterator[str]:
        since = now()
        sent: dict[int, Any] = {}
        while True:
            async with AsyncSession(request.app.state.database.async_engine) as own:
                tasks = (
                    await own.scalars(
                        select(Task)
                        .where(Task.updated_at > since)
                        .order_by(Task.updated_at)
                        .limit(CHANGES_AT_ONCE)
                        .options(selectinload(Task.labels))
                    )
                ).all()
            fresh = [task for task in tasks if sent.get(task.id) != task.updated_at]
            for task in fresh:
                body = schemas.TaskOut.model_validate(task).model_dump_json()
                yield f"event: task\ndata: {body}\n\n"
            if tasks:
                last = tasks[-1].updated_at
                full = len(tasks) == CHANGES_AT_ONCE
                since = last if full else max(since, last - CHANGES_OVERLAP)
            sent = {task.id: task.updated_at for task in tasks}
            if not fresh:
                # Also how the server learns that the client has left.
                yield ": nothing new\n\n"
            await asyncio.sleep(CHANGES_POLL_SECONDS)

    return StreamingResponse(changes(), media_type="text/event-stream")


@router.get(
    "/health",
    response_model=schemas.Health,
    responses={503: {"model": schemas.Health, "description": "the database does not answer"}},
    tags=["whole"],
)
def read_health(database: Database, response: Response) -> Any:
    """Ask the database whether it answers."""
    try:
        database.scalar(select(literal(1)))
    except SQLAlchemyError:
        response.status_code = 503
        return {"status": "unavailable", "detail": "the database does not answer"}
    return {"status": "ok", "detail": "the database answers"}


def create_app(database_url: str | None = None) -> FastAPI:
    """Make the application for `database_url`, else for the environment's DATABASE_URL."""
    database = connect(database_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(
        title="Project tracker",
        version="1.0.0",
        description="Clients have projects, projects have epics, epics have a tree of tasks.",
        lifespan=lifespan,
    )
    app.state.database = database
    app.include_router(router)
    return app


app = create_app()
