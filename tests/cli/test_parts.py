"""What the verbs share."""

import json

import pytest
import typer

from shipworthy.cli import parts
from shipworthy.errors import Misuse, SettingsInvalid, ShipworthyError, StartFailed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misuse("give a table"), 2),
        (StartFailed("the port is taken"), 3),
        (SettingsInvalid(["db.url is not a URL"]), 78),
        (ShipworthyError("the table stays locked"), 1),
    ],
)
def test_a_refusal_is_one_sentence_and_its_own_code(error, code, capsys):
    """Who calls the command can tell misuse from a no by the code alone."""
    with pytest.raises(typer.Exit) as left, parts.refusals_said(settings=78):
        raise error
    assert left.value.exit_code == code
    assert capsys.readouterr() == ("", f"shipworthy: {error}\n")


def test_passwords_in_a_refusal_are_not_printed(capsys):
    """A driver may repeat the URL it was given."""
    with pytest.raises(typer.Exit), parts.refusals_said(settings=2):
        raise ShipworthyError("cannot reach postgresql://ana:hunter2@db/shop")
    assert "hunter2" not in capsys.readouterr().err


def test_other_exceptions_are_not_swallowed():
    """A bug of ours shows its traceback."""
    with pytest.raises(ZeroDivisionError), parts.refusals_said(settings=2):
        raise ZeroDivisionError


def test_columns_stand_under_one_another(capsys):
    """Lines that are piped have no heads and no spaces at their end."""
    parts.print_rows(("table", "state"), [("a", "captured"), ("longer", "not")])
    assert capsys.readouterr().out == "a       captured\nlonger  not\n"


def test_json_is_alone_on_standard_output(capsys):
    """How it goes is said on standard error meanwhile."""
    parts.say_on_stderr("working")
    parts.print_json({"done": 1})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"done": 1}
    assert err == "working\n"


def test_sentences_have_a_line_each(capsys):
    """So that they can be counted and searched."""
    parts.print_sentences(["one", "two"])
    assert capsys.readouterr().out == "one\ntwo\n"
