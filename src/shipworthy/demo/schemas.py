"""What goes over the wire: the shapes of requests and answers."""

from datetime import date, datetime
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .models import ProjectStatus, TaskStatus

# PostgreSQL stores no NUL in a text, and no key beyond four bytes.
NO_NUL = r"^[^\x00]*$"
LAST_ID = 2**31 - 1
Id = Annotated[int, Path(ge=1, le=LAST_ID)]
QueryId = Annotated[int | None, Query(ge=1, le=LAST_ID)]
Part = Annotated[str, Query(max_length=120, pattern=NO_NUL)]

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=120, pattern=NO_NUL),
]
Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL),
]
Person = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=NO_NUL),
]
Notes = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_NUL)]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$"),
]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
Cents = Annotated[int, Field(ge=0, le=2_000_000_000)]
Minutes = Annotated[int, Field(ge=1, le=100_000)]
Priority = Annotated[int, Field(ge=1, le=5, description="1 is the most urgent")]

Item = TypeVar("Item")


class Row(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    total: int = Field(description="how many there are on all pages")
    page: int
    size: int


class Problem(BaseModel):
    detail: str


class ClientIn(BaseModel):
    name: Name = Field(examples=["Northwind Harbour Ltd"])
    email: Email = Field(examples=["office@northwind.example"])
    country: Country = Field(examples=["PT"])


class ClientOut(Row):
    id: int
    name: str = Field(examples=["Northwind Harbour Ltd"])
    email: str = Field(examples=["office@northwind.example"])
    country: str = Field(examples=["PT"])
    created_at: datetime


class ProjectIn(BaseModel):
    name: Name = Field(examples=["Ferry timetable"])
    status: ProjectStatus = ProjectStatus.PLANNED
    budget_cents: Cents = Field(0, examples=[4_500_000])
    starts_on: date | None = Field(None, examples=["2026-03-02"])


class ProjectOut(Row):
    id: int
    client_id: int
    name: str = Field(examples=["Berth booking portal"])
    status: ProjectStatus
    budget_cents: int = Field(examples=[4_500_000])
    starts_on: date | None = Field(examples=["2026-03-02"])
    created_at: datetime


class ProjectRow(ProjectOut):
    client_name: str = Field(examples=["Northwind Harbour Ltd"])
    tasks: int = Field(description="how many tasks its epics hold", examples=[15])
    tasks_done: int = Field(examples=[4])


class EpicIn(BaseModel):
    name: Name = Field(examples=["Public calendar"])


class EpicOut(Row):
    id: int
    project_id: int
    name: str = Field(examples=["Public calendar"])
    created_at: datetime


class ProjectDetail(ProjectOut):
    client: ClientOut
    epics: list[EpicOut]


class LabelIn(BaseModel):
    name: LabelName = Field(examples=["regulation"])
    colour: Colour = Field(examples=["#2a7f62"])


class LabelOut(Row):
    id: int
    name: str = Field(examples=["customer-visible"])
    colour: str = Field(examples=["#2a7f62"])


class TaskIn(BaseModel):
    title: Title = Field(examples=["Draw the month view"])
    notes: Notes = ""
    status: TaskStatus = TaskStatus.TODO
    priority: Priority = 3
    assignee: Person | None = Field(None, examples=["Ana Ribeiro"])
    estimate_minutes: Minutes | None = Field(None, examples=[240])
    due_on: date | None = Field(None, examples=["2026-03-20"])
    parent_id: int | None = Field(
        None, ge=1, le=LAST_ID, description="the task of the same epic that this is a part of"
    )
    labels: list[LabelName] = Field([], max_length=20, examples=[["customer-visible"]])


class TaskPatch(BaseModel):
    """What is left out stays as it is.

    The factories make fields that may be left out but not be null, and are never used otherwise.
    """

    title: Title = Field(default_factory=str)
    notes: Notes = Field(default_factory=str)
    status: TaskStatus = Field(default_factory=lambda: TaskStatus.TODO, examples=["doing"])
    priority: Priority = Field(default_factory=int)
    assignee: Person | None = Field(None, examples=["Ana Ribeiro"])
    estimate_minutes: Minutes | None = Field(None, examples=[240])
    due_on: date | None = Field(None, examples=["2026-03-20"])
    labels: list[LabelName] = Field(default_factory=list, max_length=20)


class TaskOut(Row):
    id: int
    epic_id: int
    parent_id: int | None
    title: str = Field(examples=["Draw the month view"])
    notes: str
    status: TaskStatus
    priority: int
    assignee: str | None = Field(examples=["Ana Ribeiro"])
    estimate_minutes: int | None
    due_on: date | None
    created_at: datetime
    updated_at: datetime
    labels: list[LabelOut]


class TaskNode(TaskOut):
    subtasks: list["TaskNode"]


class EpicDetail(EpicOut):
    tasks: list[TaskNode] = Field(description="the tasks without a parent, each with its subtasks")


class Summary(BaseModel):
    clients: int
    projects: dict[ProjectStatus, int]
    tasks: dict[TaskStatus, int]


class Health(BaseModel):
    status: Literal["ok", "unavailable"]
    detail: str = Field(examples=["the database answers"])
