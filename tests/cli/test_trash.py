"""`shipworthy trash`: what people see of a deletion, and how they put it back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from records.conftest import prepared, ready_engine
from records.shop import Model, everything, fill, run, write_log
from shipworthy.cli import app

Call = Callable[..., Result]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[sa.Engine]:
    """The business on SQLite."""
    engine = ready_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with prepared(engine, Model.metadata):
        with engine.begin() as connection:
            fill(connection)
        yield engine
    engine.dispose()


@pytest.fixture
def call(shop: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a verb of `trash` on that database."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> Result:
        shop.dispose()
        return CliRunner().invoke(app, ["trash", *words, "--database", str(shop.url)])

    return invoke


def facts(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_deletion_is_listed_shown_planned_and_restored(shop: sa.Engine, call: Call) -> None:
    """The whole way by commands, with facts for programs on each step."""
    before = everything(shop)
    assert "nothing in the trash" in call("list").output
    run(shop, "DELETE FROM clients WHERE id = 1")

    (listed,) = facts(call("list", "--json"))

    assert listed.keys() >= {"id", "at", "actor", "tables", "rows", "state"}
    assert (listed["rows"], listed["state"], listed["tables"]["tasks"]) == (9, "deleted", 3)
    number = str(listed["id"])
    assert "clients 1, with 8 rows of 5 other tables" in call("list").output
    assert "rows of tasks" in call("show", number).output
    plan = call("plan", number)
    assert (plan.exit_code, "9 of 9 rows would come back" in plan.output) == (0, True)
    assert facts(call("plan", number, "--json"))["offers"] == ["all"]

    done = call("restore", number, "--actor", "ana")

    assert "9 rows are back, 0 are not" in done.output
    assert everything(shop) == before
    again = call("restore", number)
    assert (again.exit_code, "was already restored by ana" in again.stderr) == (1, True)
    (change,) = facts(call("show", number, "--json"))["changes"]
    assert (change["actor"], change["state"], change["rows"]) == ("ana", "restored", 9)
    assert "9 rows were removed again" in call("restore", number, "--undo").output


def test_what_stands_in_the_way_is_a_no_with_a_sentence(shop: sa.Engine, call: Call) -> None:
    """Exit 1 on a plan that is not whole, and on a restore that is refused."""
    run(shop, "DELETE FROM tasks WHERE id = 102", "DELETE FROM tasks WHERE id = 200")
    run(shop, "INSERT INTO tasks (id, project_id, title) VALUES (200, 10, 'stranger')")
    taken, free = (str(one["id"]) for one in facts(call("list", "--json")))

    plan = call("plan", taken)

    assert plan.exit_code == 1
    assert "another row has its primary key now" in plan.output
    assert call("plan", free).exit_code == 0
    refused = call("restore", taken)
    assert (refused.exit_code, "cannot come back" in refused.stderr) == (1, True)


def test_a_purged_deletion_is_refused_and_a_held_one_is_not_purged(
    shop: sa.Engine, call: Call
) -> None:
    """A hold keeps from a purge; a purge is for good, and is told."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (listed,) = facts(call("list", "--json"))
    number = str(listed["id"])

    assert call("hold", number, "--reason", "case 12").exit_code == 0
    held = call("purge", number)
    assert (held.exit_code, "on hold (case 12)" in held.stderr) == (1, True)
    assert facts(call("purge", "--expired", "--json")) == {"purged": []}
    assert call("hold", number, "--release").exit_code == 0
    assert facts(call("purge", number, "--json")) == {"purged": [int(number)]}

    refused = call("restore", number)
    assert (refused.exit_code, "already purged" in refused.stderr) == (1, True)
    assert [one["state"] for one in facts(call("list", "--state", "all", "--json"))] == ["purged"]


def test_who_held_a_deletion_and_released_it_is_shown(shop: sa.Engine, call: Call) -> None:
    """A hold is a decision of somebody, like a restore."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (listed,) = facts(call("list", "--json"))
    number = str(listed["id"])
    call("hold", number, "--reason", "case 12", "--actor", "ana")
    call("hold", number, "--release", "--actor", "bo")

    changes = facts(call("show", number, "--json"))["changes"]

    assert [(one["note"], one["actor"], one["state"], one["rows"]) for one in changes] == [
        ("on hold: case 12", "ana", "deleted", 0),
        ("released", "bo", "deleted", 0),
    ]


def test_all_that_is_expired_is_purged_however_much_it_is(shop: sa.Engine, call: Call) -> None:
    """More than one transaction takes, which is 500."""
    many = 501
    rows = ", ".join(f"({number}, 'x')" for number in range(1000, 1000 + many))
    run(shop, f"INSERT INTO labels (id, name) VALUES {rows}")
    run(shop, "DELETE FROM labels WHERE id >= 1000")
    assert len(facts(call("list", "--json", "--limit", "10000"))) == many
    run(shop, "UPDATE shipworthy_deletions SET at_microseconds = 0")

    assert len(facts(call("purge", "--expired", "--json"))["purged"]) == many

    assert facts(call("list", "--json")) == []


def test_what_cannot_be_listed_for_a_damaged_entry_is_said(shop: sa.Engine, call: Call) -> None:
    """Else nobody would miss it."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    write_log(shop, "UPDATE shipworthy_audit_entries SET old = 'no' WHERE op = 'D'")

    result = call("list")

    assert (result.exit_code, result.stdout) == (0, "there is nothing in the trash\n")
    assert result.stderr.startswith("note: entry ")
    assert "`shipworthy audit verify` says what was changed" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "99999"), 1, "there is no deletion 99999"),
        (("show", "9" * 30), 1, "there is no deletion 999"),
        (("restore", "0"), 1, "there is no deletion 0"),
        (("list", "--before", "9" * 30), 0, "nothing in the trash"),
        (("plan", "99999"), 1, "there is no deletion 99999"),
        (("restore", "99999"), 1, "there is no deletion 99999"),
        (("restore", "1", "--undo", "--accept-losses"), 2, "give it alone"),
        (("purge",), 2, "give the number of a deletion, or --expired"),
        (("hold", "1"), 2, "give a --reason"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(
    call: Call, words: tuple[str, ...], code: int, said: str
) -> None:
    """Misuse is exit 2, a no is exit 1, and both say what to do."""
    result = call(*words)

    assert (result.exit_code, said in " ".join(result.output.split())) == (code, True)


def test_a_database_without_a_trail_is_told_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trash` never makes tables by itself."""
    monkeypatch.chdir(tmp_path)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'bare.db'}")
    run(engine, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    engine.dispose()

    result = CliRunner().invoke(app, ["trash", "list", "--database", str(engine.url)])

    assert (result.exit_code, "run `shipworthy audit install` first" in result.stderr) == (2, True)
