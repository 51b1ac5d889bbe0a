"""Moments survive every database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from shipworthy.demo.migrate import migrate
from shipworthy.demo.models import Client, Project, ProjectStatus

LISBON_SUMMER = timezone(timedelta(hours=1))


def test_a_moment_comes_back_as_it_went_in(engine: Engine):
    """To the microsecond, in UTC, and aware, whatever zone it was written in."""
    moment = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=LISBON_SUMMER)
    migrate(engine)

    with engine.begin() as connection:
        connection.execute(
            insert(Client).values(name="A", email="a@b", country="PT", created_at=moment)
        )
        back = connection.scalar(select(Client.created_at))

    assert back == moment
    assert back.tzinfo is UTC


def test_the_database_itself_refuses_what_is_wrong(engine: Engine):
    """Whoever writes past the service meets the constraints: words, amounts, parents."""
    migrate(engine)
    project = {
        "client_id": 1,
        "name": "P",
        "status": "active",
        "budget_cents": 1,
        "created_at": "2026-01-01 00:00:00",
    }
    wrong = [{"status": "lost"}, {"budget_cents": -1}, {"client_id": 99}, {"name": None}]
    sql = text(
        "INSERT INTO projects (client_id, name, status, budget_cents, created_at) "
        "VALUES (:client_id, :name, :status, :budget_cents, :created_at)"
    )
    with engine.begin() as connection:
        connection.execute(insert(Client).values(id=1, name="A", email="a@b", country="PT"))

    for change in wrong:
        with pytest.raises(DBAPIError), engine.begin() as connection:
            connection.execute(sql, project | change)

    with engine.begin() as connection:
        connection.execute(sql, project)
        assert connection.scalar(select(Project.status)) is ProjectStatus.ACTIVE
