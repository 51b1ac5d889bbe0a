"""The tree of what can go wrong: its kinds, its messages, and the facts they carry."""

import re

import pytest

from shipworthy import errors

EXAMPLES = [
    errors.SettingsInvalid(["serve.prot: no such setting", "web.x: no such setting"]),
    errors.ComponentFailed("ledger", "it took longer than 30.0 s", seconds=30.0),
    errors.PortTaken("127.0.0.1", 8000, option="--port"),
    errors.Draining(),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_starts_in_lower_case_and_holds_no_exclamation(error):
    """Messages can be put behind a colon."""
    assert re.match(r"[^A-Z]", str(error))
    assert "!" not in str(error)


def test_all_problems_of_the_settings_are_told_at_once():
    """One line each, and each as an item."""
    error = EXAMPLES[0]

    assert str(error).splitlines() == list(error.problems)
    assert isinstance(error, errors.Misuse)


def test_a_component_that_failed_names_itself():
    """Which one, why, and how long it had."""
    error = EXAMPLES[1]

    assert str(error) == "component 'ledger' did not start: it took longer than 30.0 s"
    assert (error.name, error.seconds) == ("ledger", 30.0)
    assert isinstance(error, errors.StartFailed)


def test_a_taken_port_says_which_option_chooses_another():
    """What to do next is in the message, the address is in the attributes."""
    error = EXAMPLES[2]

    assert "127.0.0.1:8000" in str(error)
    assert "--port" in str(error)
    assert (error.host, error.port) == ("127.0.0.1", 8000)


def test_what_was_rejected_says_when_to_come_back():
    """It was never begun: a 503 with `Retry-After`, safe to send again."""
    error = errors.Draining(retry_after_seconds=3.0)

    assert isinstance(error, errors.Rejected)
    assert (error.status, error.retry_after_seconds) == (503, 3.0)


def test_the_tree_in_the_docstring_is_the_tree():
    """Every class stands in the drawing, under its own parent."""
    drawn = re.findall(r"^([│├└─ ]*)(\w+)", errors.__doc__.partition("\n\n")[2], re.MULTILINE)
    parents: list[str] = []
    tree = {}
    for branch, name in drawn:
        if not hasattr(errors, name):
            continue
        depth = len(branch) // 4
        parents[depth:] = [name]
        tree[name] = parents[depth - 1] if depth else "Exception"

    assert tree == {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
