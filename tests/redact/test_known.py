"""Secrets that this process was given are told by their value, wherever they turn up."""

import time

import pytest
from hypothesis import given, strategies as st

from shipworthy.redact import known, redact, remember, remember_environment

PLAIN = "the Plover-Lantern left"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Each test begins with a process that was given nothing."""
    monkeypatch.setattr(known, "_known", ())


@pytest.mark.parametrize(
    ("given", "text", "safe"),
    [
        ("Plover-Lantern", PLAIN, "the *** left"),
        ("  Plover-Lantern\n", PLAIN, "the *** left"),
        ("postgresql://app:Plover-Lantern@db/shop", PLAIN, "the *** left"),
        ("postgresql://app:Plover%2DLantern@db/shop", PLAIN, "the *** left"),
        ("first-of-two Plover-Lantern", PLAIN, "the *** left"),
        ("x-api-key=Plover-Lantern,x-team=shop-and-more", PLAIN, "the *** left"),
        ("x-api-key=Plover-Lantern,x-team=shop-and-more", "shop-and-more", "shop-and-more"),
        ("Plover/Lantern", "GET /?v=Plover%2FLantern", "GET /?v=***"),
        ("postgresql://app:Plover-Lantern@dbserver-1/shop", "dbserver-1 is away", None),
        ("postgresql://dbserver-1/Plover-Lantern", PLAIN, None),
        ("plover", "a plover is a bird", None),
        ("", PLAIN, None),
    ],
)
def test_what_was_given_is_taken_out(given, text, safe):
    """As it is and as it stands in a URL; a host, a short word and an empty text stay."""
    assert redact(text) == text
    remember(given)
    assert redact(text) == (text if safe is None else safe)


def test_a_longer_secret_hides_before_one_that_is_a_part_of_it():
    """Otherwise the rest of the longer would be left."""
    for secret in ("Plover-Lantern", "Plover-Lantern-and-tail"):
        remember(secret)
    assert redact("it was Plover-Lantern-and-tail.") == "it was ***."


def test_secrets_of_the_environment_are_told_by_their_names():
    """A key of a service is one; what is no secret, or names a file with one, is not."""
    remember_environment(
        {
            "STRIPE_API_KEY": "Plover-Lantern",
            "APP_TITLE": "Wheatear-Garden",
            "DB_PASSWORD_FILE": "/run/secrets/sandpiper",
            "SIGNING_KEY_SECRET": "/run/secrets/sandpiper",
            "SHIPWORTHY_LIMITS__API_KEY_HEADER": "x-sandpiper-key",
        }
    )
    text = "Plover-Lantern Wheatear-Garden /run/secrets/sandpiper x-sandpiper-key"
    assert redact(text) == "*** Wheatear-Garden /run/secrets/sandpiper x-sandpiper-key"


def test_no_more_are_remembered_than_every_line_can_bear():
    """What comes then is left to the rules by form; a line costs no more for it."""
    for number in range(1000):
        remember(f"Plover-Lantern-{number:04}")
    assert len(known._known) <= known.MOST
    began = time.perf_counter()
    for _ in range(100):
        redact("a line of a log about nothing in particular, with no secret in it at all" * 3)
    assert time.perf_counter() - began < 0.5


@given(st.text(min_size=8, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_whatever_was_given_is_nowhere(secret, before, after):
    """Any text of eight characters or more that has no spaces and is no URL or list of pairs."""
    if any(c.isspace() for c in secret) or "://" in secret or "=" in secret or "*" in secret:
        return
    known._known = ()
    remember(secret)
    assert secret not in redact(f"{before} {secret} {after}")
