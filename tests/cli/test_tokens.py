"""`shipworthy tokens`: what is printed, and the exit codes."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shipworthy.cli import app

# A token as a person gets it.
FORM = re.compile(r"sw_([0-9a-f]{12})_[A-Za-z0-9_-]{43}\n")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipworthy.toml").write_text('[access]\ntokens_file = "state/tokens.json"\n')
    return tmp_path / "state" / "tokens.json"


def tokens(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["tokens", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_token_is_printed_alone_and_once(file: Path) -> None:
    """So that it can be piped; the list has its id and never the rest."""
    code, out, err = tokens("add", "ci", "--role", "viewer", "--expires", "90d")
    assert (code, err) == (0, "")
    found = FORM.fullmatch(out)
    assert found is not None
    assert out.strip().rpartition("_")[2] not in file.read_text()
    code, out, _ = tokens("list")
    assert code == 0
    assert re.match(rf"{found[1]}  ci  viewer  in force  \S+Z  \S+Z  -\n", out)


def test_everything_is_there_as_json(file: Path) -> None:
    """Made, listed and revoked in one form; the token itself only where it is made."""
    made = json.loads(tokens("add", "ana@example.com", "--role", "operator", "--json")[1])
    listed = json.loads(tokens("list", "--json")[1])["tokens"]
    revoked = json.loads(tokens("revoke", made["id"], "--json")[1])
    assert FORM.fullmatch(made.pop("token") + "\n")
    assert listed == [made]
    assert made["state"] == "in force"
    assert (made["role"], made["expires"], made["last_used"]) == ("operator", None, None)
    assert (revoked["state"], revoked["id"]) == ("revoked", made["id"])


def test_a_token_is_revoked_and_again(file: Path) -> None:
    """It is revoked, and that is the answer both times; one that is not there is a no."""
    number = FORM.fullmatch(tokens("add", "ci", "--role", "admin")[1])[1]  # type: ignore[index]
    for _ in range(2):
        assert tokens("revoke", number) == (0, f"the token 'ci' ({number}) is revoked\n", "")
    assert "revoked" in tokens("list")[1]
    code, out, err = tokens("revoke", "nobody")
    assert (code, out) == (1, "")
    assert err.startswith("shipworthy: there is no token with the id 'nobody' in state/tokens.json")


def test_without_tokens_the_list_says_how_to_make_one(file: Path) -> None:
    """And a list of none is no error."""
    assert tokens("list")[:2] == (
        0,
        "there are no tokens in state/tokens.json; make one with `shipworthy tokens add`\n",
    )
    assert json.loads(tokens("list", "--json")[1]) == {"tokens": []}


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (["--role", "viewr"], "no role 'viewr' (did you mean 'viewer'?); the roles are viewer,"),
        (["--role", "viewer", "--expires", "0s"], "would have expired already"),
        (["--role", "viewer", "--expires", "90"], "'90' has no unit: write"),
        (["--role", "viewer", "--expires", "-1d"], "is no length of time"),
    ],
)
def test_bad_input_is_one_sentence(file: Path, words: list[str], because: str) -> None:
    """Exit code 2, nothing on standard output, no file."""
    code, out, err = tokens("add", "ci", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert because in err
    assert not file.exists()


def test_a_name_twice_and_a_place_that_is_none_are_one_sentence(file: Path) -> None:
    """Each with what to do."""
    tokens("add", "ci", "--role", "viewer")
    code, _, err = tokens("add", "ci", "--role", "viewer")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is a token 'ci' already" in err
    (file.parent.parent / "shipworthy.toml").write_text(
        '[access]\ntokens_file = "shipworthy.toml/tokens.json"\n'
    )
    code, _, err = tokens("add", "ci", "--role", "viewer")
    assert (code, err.count("\n")) == (2, 1)
    assert "shipworthy.toml/tokens.json cannot be written: File exists" in err


def test_without_a_file_named_nothing_is_guessed(file: Path) -> None:
    """A token in a place where no service looks would open nothing."""
    (file.parent.parent / "shipworthy.toml").unlink()
    for words in (["add", "ci", "--role", "viewer"], ["list"], ["revoke", "x"]):
        code, out, err = tokens(*words)
        assert (code, out) == (2, "")
        assert "access.tokens_file is not set" in err
        assert "SHIPWORTHY_ACCESS__TOKENS_FILE" in err
