"""The hook of `run`: every engine is protected, whenever SQLAlchemy is imported."""

import subprocess
import sys
from types import ModuleType

import pytest
import sqlalchemy as sa

from shipworthy.db import (
    DatabasesUnguarded,
    DbSettings,
    engine_urls_here,
    guards_all,
    install,
    not_reached,
    protect,
    protections,
)
from shipworthy.events import listen

pytestmark = pytest.mark.slow


def told_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_engine_made_after_the_import_of_the_application_is_protected():
    """Nothing of SQLAlchemy is loaded before the application asks for it."""
    script = (
        "import sys\n"
        "from shipworthy import db\n"
        "db.install()\n"
        "before = 'sqlalchemy' in sys.modules\n"
        "import sqlalchemy as sa\n"
        "engine = sa.create_engine('sqlite://')\n"
        "engine.connect().close()\n"
        "print(before, [protection.name for protection in db.protections()])\n"
    )

    assert told_by(script) == "False ['main']"


def test_an_engine_that_was_there_before_is_protected_on_its_next_use():
    """And taken back, it is what it was."""
    engine = sa.create_engine("sqlite://")
    undo = install()
    with engine.connect():
        names = [protection.name for protection in protections()]
    undo()
    with engine.connect():
        after = protections()
    engine.dispose()

    assert (names, after) == (["main"], ())


def test_off_leaves_engines_alone():
    """The mode is asked for by whoever is in trouble with us."""
    engine = sa.create_engine("sqlite://")
    undo = install(DbSettings(mode="off"))
    with engine.connect():
        found = protections()
    undo()
    engine.dispose()

    assert found == ()


def test_an_sqlalchemy_that_we_do_not_know_is_left_alone_and_named(monkeypatch):
    """The import of the application does not fail for us."""
    strange = ModuleType("sqlalchemy")
    strange.__version__ = "0.9"
    facts = []
    monkeypatch.setitem(sys.modules, "sqlalchemy", strange)
    monkeypatch.setitem(sys.modules, "shipworthy.db.guard", None)
    stop = listen(facts.append, DatabasesUnguarded)
    install()()
    stop()

    assert len(facts) == 1
    assert "SQLAlchemy 0.9" in facts[0].what


def test_other_ways_to_a_database_are_said(monkeypatch):
    """By their modules; Django is one where it has databases, and not where it has none."""
    monkeypatch.setitem(sys.modules, "peewee", ModuleType("peewee"))
    django = (
        "from django.conf import settings\n"
        "settings.configure(DATABASES={DATABASES})\n"
        "from django.db import connections\n"
        "connections.databases\n"
        "from shipworthy.db import not_reached\n"
        "print(*not_reached())\n"
    )
    sqlite = "{'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'x'}}"

    (said,) = not_reached()
    assert said.startswith("peewee has a way of its own to the database")
    assert told_by(django.replace("{DATABASES}", sqlite)).startswith("Django's ORM has a way")
    assert told_by(django.replace("{DATABASES}", "{}")) == ""


def test_whether_every_engine_is_guarded_is_known():
    """Not where it is off; with two in force, until both are taken back."""
    undo = [install(DbSettings(mode="off"))]
    known = [guards_all()]
    undo += [install(), install()]
    for take_back in undo:
        known.append(guards_all())
        take_back()
    known.append(guards_all())

    assert known == [False, True, True, True, False]


def test_whoever_is_taken_back_first_does_nothing_more(tmp_path):
    """Two that were put on one after the other need not be taken off the other way round."""
    first, second = install(), install()
    first()
    second()

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect():
        found = protections()
    engine.dispose()

    assert found == ()


def test_engines_under_guard_say_where_they_lead():
    """So that whoever looks after their databases need not be told which there are."""
    engine = sa.create_engine("sqlite:///of_this_test.db")
    protection = protect(engine)
    assert engine.url in engine_urls_here()
    protection.undo()
    assert engine.url not in engine_urls_here()
    engine.dispose()
