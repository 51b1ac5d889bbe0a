"""What is a secret because of its name."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.redact import is_secret, is_secret_name, redact
from shipworthy.redact.names import NAME_HINTS


@pytest.mark.parametrize(
    "name",
    ["password", "PGPASSWORD", "DB_PASSWORD", "dbPassword", "passwd", "pass", "pwd", "secret",
     "client_secret", "clientSecret", "secret_key", "token", "X-Auth-Token", "access_token",
     "api_key", "apiKey", "APIKEY", "X-Api-Key", "private-key", "AccountKey", "Authorization",
     "cookie", "Set-Cookie", "session_id", "sessionid", "csrf_token", "X-Amz-Signature", "sig",
     "passphrase", "credentials", "jwt", "otp", "password_hash"],
)  # fmt: skip
def test_a_secret_is_told_by_its_name(name):
    """In the writing of variables, attributes, headers and query strings."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "_", "key", "primary_key", "monkey", "user", "max_tokens", "token_bytes", "token_type",
     "password_file", "secret_name", "session", "compass", "author", "signal", "design"],
)  # fmt: skip
def test_a_name_about_a_secret_is_none(name):
    """Sizes, places and kinds of secrets may be shown, and so may words that sound alike."""
    assert not is_secret_name(name)


@given(st.lists(st.sampled_from(
    ["api", "key", "Key", "pass", "word", "password", "token", "_", "-", "x", "session", "id", "ID",
     "sig", "signature", "pwd", "auth", "otp", "jwt", "csrf", "cred", "credential", "s", "cookie"]
), max_size=5).map("".join))  # fmt: skip
def test_every_secret_name_holds_a_hint(name):
    """Text without a hint skips the search for pairs, so no secret name may be without one."""
    if is_secret_name(name):
        assert any(hint in name.lower() for hint in NAME_HINTS)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("password", "x", True),
        ("password", 7, True),
        ("password", "", False),
        ("password", None, False),
        ("has_password", True, False),
        ("session", "Zq7Wm2Xk9Tr4Bn6V", True),
        ("session", "Zq7Wm2Xk9Tr4Bn6", False),
        ("session", "morning", False),
        ("session", 17, False),
        ("cacheKey", "orders:17:v3-0123456789", False),
        ("user", "Zq7Wm2Xk9Tr4Bn6V", False),
        ("", "Zq7Wm2Xk9Tr4Bn6V", False),
    ],
)
def test_the_value_decides_where_the_name_does_not(name, value, secret):
    """A missing secret is worth telling, and `session`, `key`, `code` may be anything."""
    assert is_secret(name, value) is secret


@pytest.mark.parametrize(
    "text",
    ["<token", "x>token>abc", "token>abc", "a token b", "-token x", "x token --y", "password: ,"],
)
def test_a_name_that_nothing_is_joined_to_hides_nothing(text):
    """A tag has an opening, an option two dashes, a value something in it."""
    assert redact(text) == text


def test_names_are_found_where_small_letters_are_more():
    """Some letters become two when they are small; positions are those of the text all the same."""
    assert redact("\u0130\u0130\u0130 TOKEN=hunter2") == "\u0130\u0130\u0130 TOKEN=***"


def test_a_name_is_looked_at_for_its_last_64_characters():
    """However long the path before it."""
    assert redact(f"{'a.' * 100}password=hunter2") == f"{'a.' * 100}password=***"
