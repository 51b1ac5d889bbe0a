"""The tables: clients have projects, projects have epics, epics have a tree of tasks."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from typing_extensions import override

# MariaDB follows a cascade through at most 15 tables or levels; four are spent on the way down
# from a client to a task, so a tree of this depth can always be deleted.
TASK_DEPTH = 8


class ProjectStatus(StrEnum):
    PLANNED = "planned"
    ACTIVE = "active"
    ON_HOLD = "on_hold"
    DONE = "done"


class TaskStatus(StrEnum):
    TODO = "todo"
    DOING = "doing"
    BLOCKED = "blocked"
    DONE = "done"


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond; aware also where the database forgets the zone."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    return datetime.now(UTC)


def _word(kind: type[StrEnum]) -> Enum:
    """Store the word, guarded by a check constraint: a native enum is a chore to extend."""
    return Enum(
        kind,
        name=kind.__name__.removesuffix("Status").lower() + "_status",
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda words: [word.value for word in words],
    )


class Model(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: Instant(),
        ProjectStatus: _word(ProjectStatus),
        TaskStatus: _word(TaskStatus),
    }


# SQLite hands the number of a deleted last row to the next one unless told not to; links and
# bookmarks must not come to mean something else.
NEVER_REUSE = {"sqlite_autoincrement": True}

task_labels = Table(
    "task_labels",
    Model.metadata,
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class Client(Model):
    __tablename__ = "clients"
    __table_args__ = (NEVER_REUSE,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    email: Mapped[str] = mapped_column(String(200))
    country: Mapped[str] = mapped_column(String(2))
    created_at: Mapped[datetime] = mapped_column(default=now)

    # passive_deletes: the database cascades, so deleting a client reads none of its thousand rows.
    projects: Mapped[list["Project"]] = relationship(
        back_populates="client", cascade="all, delete-orphan", passive_deletes=True
    )


class Project(Model):
    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("client_id", "name"),
        CheckConstraint("budget_cents >= 0", name="budget"),
        NEVER_REUSE,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(120), index=True)
    status: Mapped[ProjectStatus] = mapped_column(default=ProjectStatus.PLANNED)
    budget_cents: Mapped[int] = mapped_column(default=0)
    starts_on: Mapped[date | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    client: Mapped[Client] = relationship(back_populates="projects")
    epics: Mapped[list["Epic"]] = relationship(
        back_populates="project",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Epic.id",
    )


class Epic(Model):
    __tablename__ = "epics"
    __table_args__ = (UniqueConstraint("project_id", "name"), NEVER_REUSE)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(default=now)

    project: Mapped[Project] = relationship(back_populates="epics")
    tasks: Mapped[list["Task"]] = relationship(
        back_populates="epic",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Task.id",
    )


class Task(Model):
    __tablename__ = "tasks"
    __table_args__ = (CheckConstraint("priority between 1 and 5", name="priority"), NEVER_REUSE)

    id: Mapped[int] = mapped_column(primary_key=True)
    epic_id: Mapped[int] = mapped_column(ForeignKey("epics.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), index=True
    )
    title: Mapped[str] = mapped_column(String(200))
    notes: Mapped[str] = mapped_column(Text, default="")
    status: Mapped[TaskStatus] = mapped_column(default=TaskStatus.TODO)
    priority: Mapped[int] = mapped_column(default=3)
    assignee: Mapped[str | None] = mapped_column(String(80), index=True)
    estimate_minutes: Mapped[int | None]
    due_on: Mapped[date | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now, index=True)

    epic: Mapped[Epic] = relationship(back_populates="tasks")
    parent: Mapped["Task | None"] = relationship(back_populates="subtasks", remote_side="Task.id")
    subtasks: Mapped[list["Task"]] = relationship(
        back_populates="parent", passive_deletes="all", order_by="Task.id"
    )
    labels: Mapped[list["Label"]] = relationship(
        secondary=task_labels, back_populates="tasks", passive_deletes=True, order_by="Label.name"
    )


class Label(Model):
    __tablename__ = "labels"
    __table_args__ = (NEVER_REUSE,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    colour: Mapped[str] = mapped_column(String(7))

    tasks: Mapped[list[Task]] = relationship(
        secondary=task_labels, back_populates="labels", passive_deletes=True
    )
