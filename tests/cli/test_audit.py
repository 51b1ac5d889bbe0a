"""`shipworthy audit`."""

import json
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from typer.testing import CliRunner

from db.migrate.projects import give_template, make_project
from shipworthy.cli import app

pytestmark = pytest.mark.slow
URL = "sqlite:///shop.db"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A file with one table, in a directory without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHIPWORTHY_ENV", raising=False)
    with sqlite3.connect("shop.db") as connection:
        connection.execute("CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()
    return tmp_path


@pytest.fixture
def call(shop):
    """Run a verb of `audit` on it; return exit code, output and errors."""

    def run(*arguments):
        result = CliRunner().invoke(app, ["audit", *arguments, "--database", URL])
        return result.exit_code, result.stdout, result.stderr

    return run


def sql(*statements):
    connection = sqlite3.connect("shop.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_from_the_plan_to_the_log(call):
    """Each verb says what the next one needs."""
    code, out, _ = call("plan")
    assert code == 0
    assert "new clients: it is not captured yet" in out
    code, out, _ = call("check")
    assert code == 1
    assert "audit install" in out

    code, out, err = call("install")
    assert code == 0
    assert out.endswith("done: 4 steps\n")
    assert "4/4 new clients" in err
    assert call("install")[1] == "nothing was to be done\n"
    assert call("plan")[1].startswith("nothing is to be done")
    assert call("check")[:2] == (0, "clients  captured\n")
    assert call("log")[:2] == (0, "no entry is like that\n")

    sql("INSERT INTO clients VALUES (7, 'ana')", "UPDATE clients SET name = 'eva'")
    code, out, _ = call("log")
    assert code == 0
    assert [line.split("  ")[2:] for line in out.splitlines()] == [
        ["update", "clients[7]", "name: ana -> eva"],
        ["insert", "clients[7]", "id: 7, name: ana"],
    ]


def test_a_value_that_is_nothing_to_python_is_told_as_it_is(call):
    """An empty text and a zero are values, and no NULL."""
    call("install")
    sql("INSERT INTO clients VALUES (0, '')", "DELETE FROM clients")
    assert [line.split("  ")[2:] for line in call("log")[1].splitlines()] == [
        ["delete", "clients[0]", "id: 0, name:"],
        ["insert", "clients[0]", "id: 0, name:"],
    ]


def test_programs_read_json(call):
    """The names in it are a promise."""
    call("install")
    sql("INSERT INTO clients VALUES (7, 'ana')", "CREATE TABLE tasks (id INTEGER PRIMARY KEY)")
    code, out, _ = call("check", "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["installed"]) == (1, False, 1)
    assert {one["table"]: one["capture"] for one in found["tables"]} == {
        "clients": "captured",
        "tasks": "not captured",
    }
    (entry,) = json.loads(call("log", "--table", "clients", "--key", "7", "--json")[1])
    assert entry.keys() >= {"at", "actor", "op", "table", "key", "old", "new", "correlation_id"}
    assert (entry["op"], entry["key"], entry["old"]) == ("insert", [7], None)
    (step,) = json.loads(call("plan", "--json")[1])["steps"]
    assert step["what"] == "tasks"
    assert json.loads(call("install", "--json")[1])["done"][0]["what"] == "tasks"


def test_the_sql_can_be_given_to_somebody_else(call):
    """SQLite's own shell reads it; nothing is left to do."""
    script = call("plan", "--sql")[1]
    connection = sqlite3.connect("shop.db")
    connection.executescript(script)
    connection.close()
    assert call("plan", "--sql")[1] == "-- nothing is to be done\n"
    connection = sqlite3.connect("shop.db")
    connection.executescript(call("uninstall", "--with-log", "--sql")[1])
    connection.close()
    assert call("check")[0] == 1


def test_it_can_be_taken_away(call):
    """Only who says what becomes of the log is listened to."""
    call("install")
    code, _, err = call("uninstall")
    assert code == 2
    assert "--keep-log" in err
    assert call("uninstall", "--keep-log", "--with-log")[0] == 2
    assert call("uninstall", "--keep-log")[:2] == (0, "done: 2 steps\n")
    assert call("log")[0] == 0
    assert json.loads(call("uninstall", "--with-log", "--json")[1])["done"]
    assert call("uninstall", "--with-log")[:2] == (0, "there is no trail here\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["log", "--since", "tomorrow"], "'tomorrow' is neither"),
        (["log", "--key", "7"], "name it with --table"),
        (["log", "--table", "client"], "'client' was ever captured"),
        (["plan", "--revision"], "no Alembic project"),
        (["install", "--lock-timeout", "soon"], "soon"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(call, arguments, said):
    """On standard error, with code 2."""
    call("install")
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


@pytest.mark.parametrize(
    "since", ["1h", "999999999999h", "2026-01-01", "0001-01-01", "2026-01-01T00:00:00+02:00"]
)
def test_since_is_a_length_of_time_or_a_time(call, since):
    """A time without a zone is in UTC."""
    call("install")
    sql("INSERT INTO clients VALUES (7, 'ana')")
    assert len(json.loads(call("log", "--since", since, "--json")[1])) == 1


def test_a_damaged_entry_is_told_among_the_others(call):
    """And the exit code says that there is one."""
    call("install")
    sql("INSERT INTO clients VALUES (7, 'ana')", "INSERT INTO clients VALUES (8, 'eva')")
    sql(
        "DROP TRIGGER shipworthy_audit_guard_update",
        "UPDATE shipworthy_audit_entries SET new = '{' WHERE seq = 1",
    )
    code, out, _ = call("log")

    assert code == 1
    first, second = out.splitlines()
    assert first.endswith("id: 8, name: eva")
    assert second.split()[:5] == ["?", "?", "?", "?", "entry"]
    assert "entry 1 of the log cannot be read" in second


def test_without_a_trail_the_log_says_how_to_make_one(call):
    """With the code of misuse."""
    code, _, err = call("log")
    assert code == 2
    assert "audit install" in err


def test_settings_that_name_what_is_not_there_are_refused(call, shop):
    """Before anything is captured."""
    Path("shipworthy.toml").write_text('[audit]\npersonal = ["clients.mail = id"]\n')
    for verb in ("plan", "install"):
        code, _, err = call(verb)
        assert code == 2
        assert "no column 'mail'" in err


def test_a_revision_installs_what_the_plan_said(call, shop):
    """Alembic runs it like any other, and takes it back."""
    make_project(shop, URL)
    give_template(shop)
    code, out, _ = call("plan", "--revision", "-m", "watch clients")
    assert code == 0
    assert "watch_clients" in out
    runner = CliRunner()
    migrated = runner.invoke(app, ["db", "migrate", "--database", URL])
    assert migrated.exit_code == 0, migrated.output
    assert call("check")[1].splitlines() == [
        "alembic_version  left out  the settings leave it out",
        "clients          captured",
    ]
    assert json.loads(call("plan", "--revision", "--json")[1]) == {"file": None}
    sql("INSERT INTO clients VALUES (7, 'ana')")
    config = Config(shop / "alembic.ini")
    command.downgrade(config, "base")
    assert call("check")[0] == 1
    command.upgrade(config, "heads")
    assert call("check")[0] == 0
    assert len(json.loads(call("log", "--json")[1])) == 1


def test_a_migration_is_followed_by_the_trail(call, shop):
    """What is captured is what the tables are now, without another command."""
    call("install")
    make_project(shop, URL, 'op.add_column("clients", sa.Column("phone", sa.Text))')
    migrated = CliRunner().invoke(app, ["db", "migrate", "--database", URL])
    assert migrated.exit_code == 0, migrated.output
    assert "captured anew: clients: column 'phone' is new" in migrated.stdout
    assert call("check")[0] == 0
