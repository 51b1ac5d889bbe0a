"""`shipworthy audit verify | prove | reconcile | key`."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shipworthy.cli import app

pytestmark = pytest.mark.slow
URL = "sqlite:///shop.db"


def sql(*statements):
    connection = sqlite3.connect("shop.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a verb of `audit` on a file whose one table is captured and has a row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHIPWORTHY_ENV", raising=False)
    sql("CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT)")

    def run(*arguments, database=True):
        named = ("--database", URL) if database else ()
        result = CliRunner().invoke(app, ["audit", *arguments, *named])
        return result.exit_code, result.stdout, result.stderr

    code, out, _ = run("install")
    assert code == 0
    assert "note: made the signing key shipworthy-audit.key" in out
    sql("INSERT INTO clients VALUES (1, 'ana')")
    return run


def test_the_trail_is_verified_and_what_was_changed_is_named(call):
    """Exit 0 while all is as it was sealed, 1 after; the same as JSON."""
    assert call("key", "rotate")[0] == 0  # which seals what is there
    code, out, _ = call("verify")
    assert code == 0
    assert out.startswith("1 entries in 1 batches and 1 checkpoints: as they were sealed")

    sql(
        *(f"DROP TRIGGER {name}" for name in guards()),
        "UPDATE shipworthy_audit_entries SET op = 'D'",
    )
    code, out, _ = call("verify")
    assert code == 1
    assert "entry changed: entry 1 of batch 1 is not as it was sealed" in out
    code, out, _ = call("verify", "--json")
    facts = json.loads(out)
    assert (code, facts["ok"], facts["rows"]) == (1, False, 1)
    assert facts["findings"][0]["seq"] == 1


def guards():
    connection = sqlite3.connect("shop.db")
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        " AND tbl_name = 'shipworthy_audit_entries'"
    ).fetchall()
    connection.close()
    return [name for (name,) in found]


def test_a_proof_is_made_and_checked_without_the_database(call):
    call("key", "rotate")
    Path("audit.pub").write_text(call("key", "show")[1])
    assert call("prove", "1", "--out", "proof.json")[:2] == (0, "wrote proof.json\n")
    assert json.loads(call("prove", "1")[1]) == json.loads(Path("proof.json").read_text())
    Path("shop.db").unlink()

    code, out, _ = call("prove", "--check", "proof.json", "--key", "audit.pub", database=False)
    assert code == 0
    assert out.startswith("proven: entry 1 is in batch 1 of shipworthy.audit/")
    code, out, _ = call("prove", "--check", "proof.json", "--json", database=False)
    assert json.loads(out)["entry"]["op"] == "I"

    Path("proof.json").write_text(Path("proof.json").read_text().replace("ana", "eva"))
    code, _, err = call("prove", "--check", "proof.json", database=False)
    assert code == 1
    assert "does not lead to the root of batch 1" in err


def test_a_write_past_the_triggers_is_found(call):
    assert call("reconcile")[:2] == (
        0, "1 rows of 1 tables compared, 0 are older than the log: they agree\n",
    )  # fmt: skip
    triggers = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'clients' AND type = 'trigger'"
    connection = sqlite3.connect("shop.db")
    there = connection.execute(triggers).fetchall()
    connection.close()
    sql(
        *(f'DROP TRIGGER "{name}"' for name, _ in there),
        "UPDATE clients SET name = 'eva'",
        *(text for _, text in there),
    )
    code, out, _ = call("reconcile", "clients")
    assert code == 1
    assert 'row changed: clients ["i1"]: name: not what the log has' in out
    assert json.loads(call("reconcile", "--json")[1])["found"] == 1


def test_keys_are_shown_rotated_and_replaced_when_lost(call):
    code, first, _ = call("key", "show")
    assert code == 0
    assert re.fullmatch(r"shipworthy\.audit/[0-9a-f]{16}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}\n", first)
    assert call("key", "rotate")[0] == 0
    assert call("key", "new", "--lost")[0] == 2  # it is not lost
    Path("shipworthy-audit.key").unlink()
    code, _, err = call("key", "rotate")
    assert code == 1
    assert "`shipworthy audit key new --lost` goes on with a new one" in err
    assert call("key", "new", "--lost")[0] == 0
    shown = json.loads(call("key", "show", "--json")[1])
    assert [it["vouched"] for it in shown] == [True, True, False]
    assert call("verify")[0] == 0


def test_misuse_is_said(call):
    assert call("prove")[0] == 2
    assert call("prove", "1", "--check", "x")[0] == 2
    assert call("key", "new")[0] == 2
    for arguments, because in (
        (("prove", "99"), "there is no entry 99"),
        (("prove", "9" * 30), "there is no entry 999"),
        (("prove", "1"), "entry 1 is not sealed yet"),
        (("verify", "--from", "none"), "none cannot be read: No such file"),
        (("verify", "--key", "none"), "none cannot be read"),
        (("reconcile", "nothing"), "not in the log: nothing"),
    ):
        code, _, err = call(*arguments)
        assert code == 2
        assert because in err
