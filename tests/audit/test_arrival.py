"""Engines are listened to when SQLAlchemy is there, by who asked first, until it is taken back."""

import subprocess
import sys

import pytest
import sqlalchemy as sa

from audit.conftest import NOTES
from shipworthy.audit import AuditSettings, arrival, bind_engines, binding
from shipworthy.audit.arrival import WritesUnbound, program_name
from shipworthy.context import actor
from shipworthy.events import listen


@pytest.fixture(autouse=True)
def nobody_before_us(monkeypatch):
    """Applications that were hardened in this process stay listened to; here we begin anew."""
    monkeypatch.setattr(arrival, "_in_force", set())
    monkeypatch.setattr(binding, "_bound_all", [])


def test_every_engine_carries_the_actor_whenever_it_was_made(trail_database):
    """Before and after; and no more once it is taken back."""
    database = trail_database("sqlite")
    before = database.engine(bound=False)
    end = bind_engines(service="shop")
    after = database.engine(bound=False)

    with actor("ana"):
        for number, engine in enumerate((before, after), start=1):
            with engine.begin() as connection:
                connection.execute(sa.insert(NOTES).values(id=number, text="a"))
    end()
    end()

    assert database.actors() == ["ana", "ana"]
    assert binding._bound_all == []


def test_a_second_time_changes_nothing():
    """As when a hardened application is served by `run`."""
    first = bind_engines(service="shop")
    (listening,) = binding._bound_all

    second = bind_engines(service="other")
    second()

    assert binding._bound_all == [listening]
    first()


def test_where_the_trail_is_off_nobody_listens():
    """The mode `off`."""
    bind_engines(AuditSettings(mode="off"))()

    assert arrival._in_force == set()


def test_an_sqlalchemy_that_is_not_as_we_know_it_is_left_alone_and_that_is_said(monkeypatch):
    """The import of the application does not fail for us."""

    def fails(**_):
        raise AttributeError("no such event")

    monkeypatch.setattr(binding, "bind_all", fails)
    heard = []
    stop = listen(heard.append)
    try:
        bind_engines(service="shop")()
    finally:
        stop()

    (said,) = [fact for fact in heard if isinstance(fact, WritesUnbound)]
    assert "no such event" in said.what


def test_who_has_no_sqlalchemy_does_not_get_it_from_us():
    """A service without a database pays nothing."""
    code = (
        "import sys; from shipworthy.audit import bind_engines; bind_engines(service='x'); "
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("called", "name"),
    [("/usr/bin/celery", "celery"), ("report.py", "report.py"),
     ("/site/shop/__main__.py", "shop"), ("", "python")],
)  # fmt: skip
def test_a_program_is_called_as_it_was_started(called, name, monkeypatch):
    """Without its path: the actor of what nobody is named for."""
    monkeypatch.setattr(sys, "argv", [called])

    assert program_name() == name
