"""Plain data without secrets."""

import pytest

from redact.planted import ORDINARY, PLANTED
from shipworthy.redact import redact_fields


@pytest.mark.parametrize(("text", "secret"), [p[1:] for p in PLANTED], ids=[p[0] for p in PLANTED])
def test_no_secret_stays_in_data(text: str, secret: str) -> None:
    """As a value, in lists and mappings, as a name, and of an object that is shown as text."""
    held = {
        "note": text,
        "deep": [{"list": (text,)}, {text: 1}],
        text: 2,
        "error": ValueError(text),
    }

    assert secret not in str(redact_fields(held))


def test_what_is_no_secret_stays() -> None:
    """Numbers, nothing, truth and ordinary lines keep their type and place."""
    held = {
        "n": 1,
        "f": 0.5,
        "t": True,
        "none": None,
        "lines": list(ORDINARY),
        "m": {"a": {"b": 1}},
    }

    assert redact_fields(held) == held


def test_names_hide_at_any_depth_and_what_is_too_deep_is_hidden() -> None:
    """What nobody has looked at is not shown."""
    held: object = "x"
    for _ in range(20):
        held = [held]

    shown = redact_fields({"a": [{"password": 7, "session": "Zq7Wm2Xk9Tr4Bn6V"}], "deep": held})

    assert shown["a"] == [{"password": "***", "session": "***"}]
    assert str(shown["deep"]) == "[" * 8 + "'***'" + "]" * 8
