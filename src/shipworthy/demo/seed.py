"""Fill an empty database with a few hundred readable rows, the same ones every time."""

from datetime import UTC, date, datetime, timedelta
from random import Random

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from .models import Client, Epic, Label, Project, ProjectStatus, Task, TaskStatus

# Everything is drawn from this one number, and dated from this one day.
SEED = 20260105
FIRST_DAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

CLIENTS = 6
PROJECTS_EACH = 4

LABELS = {
    "accessibility": "#8a4fbf",
    "bug": "#c0392b",
    "customer-visible": "#2a7f62",
    "data-import": "#1f6f9f",
    "documentation": "#6b7280",
    "performance": "#b7791f",
    "quick-win": "#3b8f3b",
    "security": "#7b1e3a",
}
PROJECTS = (
    "Berth booking portal",
    "Cargo manifest import",
    "Crane maintenance planner",
    "Customer invoices",
    "Dock lighting control",
    "Fuel price feed",
    "Guest network for crews",
    "Harbour map on phones",
    "Pilot rota",
    "Quay camera archive",
    "Tide and weather board",
    "Warehouse stock count",
)
EPICS = {
    "First version": (
        "Agree on what the first version leaves out",
        "Draw the three main pages",
        "Write the import for last year's data",
        "Let two friendly users try it",
    ),
    "Accounts and access": (
        "Sign in with the company account",
        "Roles for staff and guests",
        "Show who changed what",
        "Lock an account after ten wrong tries",
    ),
    "Reports": (
        "Monthly totals by customer",
        "Export to a spreadsheet",
        "Send the report on the first working day",
    ),
    "Moving from the old system": (
        "List what the old system does",
        "Run both side by side for a month",
        "Compare the totals every night",
        "Switch the old system off",
    ),
    "Speed on slow lines": (
        "Measure the slowest ten pages",
        "Load pictures only when seen",
        "Keep working without a connection",
    ),
}
STEPS = (
    "Ask the people who will use it",
    "Write it down on one page",
    "Make a rough version",
    "Try it with real data",
    "Clean up and document",
)


def seed(engine: Engine) -> bool:
    """Fill the database in one transaction and return True, or return False if it has rows.

    Whoever deleted a client finds it deleted after a restart: only a database that holds neither
    clients nor labels is filled.
    """
    with Session(engine) as session, session.begin():
        if session.scalar(select(Client.id).limit(1)) or session.scalar(select(Label.id).limit(1)):
            return False
        labels = [Label(name=name, colour=colour) for name, colour in LABELS.items()]
        session.add_all(labels)
        session.add_all(_clients(labels))
        return True


def _clients(labels: list[Label]) -> list[Client]:
    # A quarter of a second to import, which a database that is filled already does not spend.
    from faker import Faker

    faker = Faker(["en_GB", "pt_BR"])
    faker.seed_instance(SEED)
    draw = Random(SEED)  # noqa: S311 - sample data

    people = [faker.unique.name() for _ in range(12)]
    clients = []
    for number in range(CLIENTS):
        name = faker.unique.company()
        client = Client(
            name=name,
            email=f"office@{faker.unique.domain_word()}.example",
            country=draw.choice(("BR", "DE", "GB", "NL", "PT")),
            created_at=FIRST_DAY + timedelta(days=number),
        )
        for title in sorted(draw.sample(PROJECTS, PROJECTS_EACH)):
            client.projects.append(_project(title, client.created_at, people, labels, draw))
        clients.append(client)
    return clients


def _project(
    name: str, since: datetime, people: list[str], labels: list[Label], draw: Random
) -> Project:
    created = since + timedelta(days=draw.randrange(1, 30))
    status = draw.choice(tuple(ProjectStatus))
    project = Project(
        name=name,
        status=status,
        budget_cents=draw.randrange(10, 400) * 50_000,
        starts_on=(created + timedelta(days=14)).date(),
        created_at=created,
    )
    for title in draw.sample(tuple(EPICS), 3):
        epic = Epic(name=title, created_at=created)
        for task_title in EPICS[title]:
            task = _task(task_title, created, people, labels, draw)
            epic.tasks.append(task)
            for step in draw.sample(STEPS, draw.choice((0, 0, 0, 2))):
                part = _task(step, created, people, labels, draw)
                part.parent = task
                epic.tasks.append(part)
        project.epics.append(epic)
    if status is ProjectStatus.DONE:
        for task in (task for epic in project.epics for task in epic.tasks):
            task.status = TaskStatus.DONE
    return project


def _task(
    title: str, created: datetime, people: list[str], labels: list[Label], draw: Random
) -> Task:
    touched = created + timedelta(hours=draw.randrange(1, 400))
    due: date = (created + timedelta(days=draw.randrange(20, 120))).date()
    return Task(
        title=title,
        notes="",
        status=draw.choice(tuple(TaskStatus)),
        priority=draw.choice((1, 2, 3, 3, 3, 4, 5)),
        assignee=draw.choice((*people, None)),
        estimate_minutes=draw.choice((None, 30, 60, 120, 240, 480)),
        due_on=draw.choice((due, due, None)),
        created_at=created,
        updated_at=touched,
        labels=draw.sample(labels, draw.choice((0, 0, 1, 1, 2))),
    )
