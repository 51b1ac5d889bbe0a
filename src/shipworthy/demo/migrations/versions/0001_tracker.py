"""The tracker: clients, projects, epics, tasks, labels."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001_tracker"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Create the five tables and the links between tasks and labels, parents first."""
    op.create_table(
        "clients",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("email", sa.String(200), nullable=False),
        sa.Column("country", sa.String(2), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clients"),
        sa.UniqueConstraint("name", name="uq_clients_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("client_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("budget_cents", sa.Integer, nullable=False),
        sa.Column("starts_on", sa.Date, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name="fk_projects_client_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("client_id", "name", name="uq_projects_client_id_name"),
        sa.CheckConstraint("budget_cents >= 0", name="ck_projects_budget"),
        sa.CheckConstraint(
            "status in ('planned', 'active', 'on_hold', 'done')", name="ck_projects_project_status"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_projects_name", "projects", ["name"])
    op.create_table(
        "epics",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_epics"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_epics_project_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("project_id", "name", name="uq_epics_project_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("epic_id", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.Integer, nullable=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("assignee", sa.String(80), nullable=True),
        sa.Column("estimate_minutes", sa.Integer, nullable=True),
        sa.Column("due_on", sa.Date, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.ForeignKeyConstraint(
            ["epic_id"], ["epics.id"], name="fk_tasks_epic_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["tasks.id"], name="fk_tasks_parent_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("priority between 1 and 5", name="ck_tasks_priority"),
        sa.CheckConstraint(
            "status in ('todo', 'doing', 'blocked', 'done')", name="ck_tasks_task_status"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tasks_epic_id", "tasks", ["epic_id"])
    op.create_index("ix_tasks_parent_id", "tasks", ["parent_id"])
    op.create_index("ix_tasks_assignee", "tasks", ["assignee"])
    op.create_index("ix_tasks_updated_at", "tasks", ["updated_at"])
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("colour", sa.String(7), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
        sa.UniqueConstraint("name", name="uq_labels_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "task_labels",
        sa.Column("task_id", sa.Integer, nullable=False),
        sa.Column("label_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "label_id", name="pk_task_labels"),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name="fk_task_labels_task_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["label_id"], ["labels.id"], name="fk_task_labels_label_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_task_labels_label_id", "task_labels", ["label_id"])


def downgrade() -> None:
    """Drop everything, children first."""
    for table in ("task_labels", "labels", "tasks", "epics", "projects", "clients"):
        op.drop_table(table)
