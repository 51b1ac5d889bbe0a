"""`shipworthy audit history | export | retain | hold | erase`, as somebody types them."""

import json

import pytest
from typer.testing import CliRunner

from audit.past_database import installed, run, sqlite_engine
from shipworthy.cli import app


@pytest.fixture
def shipworthy(tmp_path, monkeypatch):
    """Run a command on a database with one person in it, and return its exit code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipworthy.toml").write_text(
        f'[db]\nurl = "sqlite:///{tmp_path}/app.db"\n[audit]\npersonal = ["people.email = id"]\n'
    )
    with sqlite_engine(
        tmp_path / "app.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT, city TEXT)"
    ) as engine:
        installed(engine, personal=("people.email = id",))
        run(engine, "INSERT INTO people VALUES (7, 'a@x', 'Lisbon')")

    def call(*arguments):
        done = CliRunner().invoke(app, ["audit", *arguments])
        return done.exit_code, done.stdout, done.stderr

    return call


def test_a_history_is_printed(shipworthy):
    """Personal values only when asked for; a row nobody knows is exit 1."""
    code, out, _ = shipworthy("history", "people", "7")
    assert code == 0
    assert "insert  id: 7, email: (personal), city: Lisbon" in out
    _, out, _ = shipworthy("history", "people", "7", "--personal", "--json")
    [facts] = json.loads(out)
    assert facts["new"] == {"id": 7, "email": "a@x", "city": "Lisbon"}
    assert {"seq", "at", "actor", "op", "table", "key", "old", "correlation_id"} <= set(facts)
    assert shipworthy("history", "people", "8")[0] == 1
    code, _, error = shipworthy("history", "nothing", "8")
    assert (code, "has no trail" in error) == (2, True)


def test_an_export_is_recorded(shipworthy, tmp_path):
    """As lines or as a table; into a new file only."""
    code, out, _ = shipworthy("export", "--by", "ana")
    assert (code, json.loads(out)["new"]["email"]) == (0, "(personal)")
    code, _, _ = shipworthy("export", "--format", "csv", "--personal", "--output", "out.csv")
    assert code == 0
    assert "a@x" in (tmp_path / "out.csv").read_text()
    code, _, error = shipworthy("export", "--output", "out.csv")
    assert (code, "out.csv is there already" in error) == (2, True)
    code, _, error = shipworthy("export", "--output", "nowhere/out.csv")
    assert (code, "nowhere/out.csv cannot be written: No such file" in error) == (2, True)
    _, out, _ = shipworthy("log", "--json")
    deeds = [entry for entry in json.loads(out) if entry["op"] == "access"]
    assert [deed["new"]["export"] for deed in deeds] == ["csv", "ndjson"]
    assert deeds[1]["actor"] == "ana"


def test_a_hold_forbids_an_erasure_until_it_is_removed(shipworthy):
    """Exit 1 with the sentence; then it is done."""
    _, out, _ = shipworthy("hold", "add", "subject", "7", "--reason", "case 1", "--json")
    hold = json.loads(out)["id"]
    code, _, error = shipworthy("erase", "7", "--reason", "asked")
    assert (code, "case 1" in error) == (1, True)
    assert json.loads(shipworthy("hold", "list", "--json")[1])[0]["id"] == hold
    assert shipworthy("hold", "remove", hold, "--reason", "closed")[0] == 0
    assert shipworthy("hold", "list")[1] == "there are no holds\n"
    code, out, _ = shipworthy("erase", "7", "--reason", "asked", "--json")
    assert (code, json.loads(out)["values"]) == (0, 1)
    assert "(erased)" in shipworthy("history", "people", "7", "--personal")[1]


def test_retention_says_before_what_it_would_do(shipworthy):
    """Nothing is sealed yet, so nothing goes; archives are checked where there are any."""
    code, out, _ = shipworthy("retain", "--dry-run", "--json")
    assert (code, json.loads(out)["entries"]) == (0, 0)
    code, out, _ = shipworthy("retain", "--json")
    assert (code, json.loads(out)["archived_entries"]) == (0, 0)
    assert shipworthy("retain", "--check")[:2] == (0, "all archives are as they were sealed\n")
