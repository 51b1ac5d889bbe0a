"""`shipworthy limits`: what is printed, and the exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shipworthy.cli import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def limits(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["limits", *words])
    return done.exit_code, done.stdout, done.stderr


LOGIN = """\
[limits]
mode = "enforce"
[limits.policies.login]
match = ["POST /login"]
rate = "5/15m"
algorithm = "exact"
count = "failures"
key = ["network"]
"""


def test_without_settings_the_default_is_explained(here: Path) -> None:
    """With the most that can pass, and what memory means with several workers."""
    code, out, _ = limits("explain", "GET", "/items/1", "--as", "ana")
    assert code == 0
    assert out == (
        "1. default: 1000/minute, 200 at once, for each user 'ana'; at most 1199 in any 1m; mode "
        "report\n"
        "counted in: memory of each process: with several workers, that many times as much\n"
        "when that is down, default: it is there as long as the process is\n"
    )


def test_the_decisions_stand_in_their_order(here: Path) -> None:
    """As lines and as JSON; a method may be written small, and a query is no part of a path."""
    (here / "limits.toml").write_text(LOGIN)
    code, out, _ = limits("explain", "post", "/login?next=/", "--config", "limits.toml")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == ["1. default", "2. login"]
    assert "at most 5 in any 15m; answers of 400 to 499 count; mode enforce" in out
    code, out, _ = limits("explain", "POST", "/login", "--config", "limits.toml", "--json")
    facts = json.loads(out)
    assert (code, facts["mode"], facts["method"]) == (0, "enforce", "POST")
    assert [(one["policy"], one["worst"]) for one in facts["decisions"]] == [
        ("default", 1199),
        ("login", 5),
    ]


def test_the_policies_are_listed(here: Path) -> None:
    """As lines and as JSON."""
    (here / "shipworthy.toml").write_text(LOGIN)
    code, out, _ = limits("list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["default", "login"]
    assert "5 in any 15m" in out
    code, out, _ = limits("list", "--json")
    assert [one["policy"] for one in json.loads(out)["policies"]] == ["default", "login"]


def test_where_there_is_none_that_is_said(here: Path) -> None:
    """With all policies off, nobody is limited."""
    (here / "shipworthy.toml").write_text("[limits.policies.default]\nmode = 'off'\n")
    assert limits("explain", "GET", "/")[:2] == (0, "nothing limits GET /\n")


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (("explain", "GTE", "/"), "", "'GTE' is no method"),
        (("explain", "GET", "items"), "", "'items' is no path"),
        (("list",), "[limits.policies.x]\nkey = []\n", "limits.policies.x.key is empty"),
        (("list",), "[limits.policies.x]\nkey = 1\n", "limits.policies.x.key: expected a list"),
    ],
)
def test_what_cannot_be_is_misuse(here: Path, words, text, says) -> None:
    """Exit code 2, and a sentence on standard error."""
    (here / "shipworthy.toml").write_text(text)
    code, out, error = limits(*words)
    assert (code, out) == (2, "")
    assert says in error
