"""A small business: a cascade, a tree, many-to-many, inheritance, links that are emptied."""

from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Model(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {str: sa.String(100)}


task_labels = sa.Table(
    "task_labels",
    Model.metadata,
    sa.Column("task_id", sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True),
)


class Client(Model):
    __tablename__ = "clients"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    projects: Mapped[list["Project"]] = relationship(cascade="all, delete-orphan")


class Project(Model):
    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(sa.ForeignKey("clients.id", ondelete="CASCADE"))
    name: Mapped[str]
    budget: Mapped[Any] = mapped_column(sa.Numeric(20, 6), default="0.100000")


class Task(Model):
    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(sa.ForeignKey("projects.id", ondelete="CASCADE"))
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tasks.id", ondelete="CASCADE"))
    title: Mapped[str]
    labels: Mapped[list["Label"]] = relationship(secondary=task_labels)


class Label(Model):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Note(Model):
    """Of a project, which may go without it."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("projects.id", ondelete="SET NULL")
    )
    text: Mapped[str]


class Document(Model):
    """Joined inheritance: a contract is a document with a row of its own."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    project_id: Mapped[int] = mapped_column(sa.ForeignKey("projects.id", ondelete="CASCADE"))
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "document",
    }


class Contract(Document):
    __tablename__ = "contracts"
    id: Mapped[int] = mapped_column(
        sa.ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True
    )
    signed_by: Mapped[str]
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "contract"}


def fill(connection: sa.Connection) -> None:
    """Two clients; the first with a project, a tree of tasks, labels, a note and a contract."""
    rows: list[tuple[str, list[dict[str, Any]]]] = [
        ("clients", [{"id": 1, "email": "ana@example.org"}, {"id": 2, "email": "bo@example.org"}]),
        (
            "projects",
            [
                {"id": 10, "client_id": 1, "name": "House", "budget": "12345678901234.000001"},
                {"id": 20, "client_id": 2, "name": "Ünï ☃ 'q'", "budget": "0.1"},
            ],
        ),
        (
            "tasks",
            [
                {"id": 100, "project_id": 10, "parent_id": None, "title": "walls"},
                {"id": 101, "project_id": 10, "parent_id": 100, "title": "bricks"},
                {"id": 102, "project_id": 10, "parent_id": 101, "title": "clay"},
                {"id": 200, "project_id": 20, "parent_id": None, "title": "other"},
            ],
        ),
        ("labels", [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]),
        (
            "task_labels",
            [
                {"task_id": 100, "label_id": 1},
                {"task_id": 102, "label_id": 2},
                {"task_id": 200, "label_id": 1},
            ],
        ),
        (
            "notes",
            [
                {"id": 1, "project_id": 10, "text": "call"},
                {"id": 2, "project_id": 20, "text": "write"},
            ],
        ),
        ("documents", [{"id": 1, "kind": "contract", "project_id": 10}]),
        ("contracts", [{"id": 1, "signed_by": "ana"}]),
    ]
    for name, values in rows:
        connection.execute(sa.insert(Model.metadata.tables[name]), values)


def everything(engine: sa.Engine, metadata: sa.MetaData = Model.metadata) -> dict[str, list[Any]]:
    """Return all rows of all tables, as the driver gives them, in an order of their own."""
    with engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def run(engine: sa.Engine, *statements: str) -> None:
    """Run statements as SQL in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def write_log(engine: sa.Engine, statement: str) -> None:
    """Write the log as nobody may who does not take its guards away."""
    with engine.begin() as connection:
        guards = connection.execute(
            sa.text(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                " AND tbl_name = 'shipworthy_audit_entries'"
            )
        ).all()
        for name, _ in guards:
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        connection.exec_driver_sql(statement)
        for _, sql in guards:
            connection.exec_driver_sql(sql)
