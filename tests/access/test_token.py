"""Tokens: made from random bytes, judged by id and hash; a tampered one opens nothing."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, strategies as st

from shipworthy.access.role import AccessRole
from shipworthy.access.token import (
    RANDOM_BYTES,
    UNKNOWN,
    Bearer,
    NoBearer,
    State,
    TokenBook,
    is_name,
    make_token,
)
from shipworthy.redact import redact

WALL = 1_700_000_000
RANDOM = bytes(range(RANDOM_BYTES))
TOKEN, SHOWN = make_token("ci", AccessRole.OPERATOR, random=RANDOM, created=WALL, expires=WALL + 90)


def test_a_token_is_shown_once_and_kept_as_a_hash() -> None:
    """Nothing that is kept holds the secret, and what is shown has the id to find it by."""
    secret = SHOWN.removeprefix(f"sw_{TOKEN.id}_")
    assert (TOKEN.id, len(secret)) == ("000102030405", 43)
    assert all(secret not in str(getattr(TOKEN, field.name)) for field in fields(TOKEN))
    assert TOKEN.secret_sha256 not in repr(TOKEN)
    assert TokenBook([TOKEN]).judge(SHOWN, WALL) == Bearer("ci", AccessRole.OPERATOR)


@given(random=st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_every_token_that_is_made_opens_and_is_redacted(random: bytes) -> None:
    """Whatever the bytes: it is found again, and a log that got hold of it does not show it."""
    token, shown = make_token("ci", AccessRole.VIEWER, random=random, created=WALL)
    assert TokenBook([token]).judge(shown, WALL) == Bearer("ci", AccessRole.VIEWER)
    assert shown not in redact(f"sent {shown}, refused")


@given(at=st.integers(0, len(SHOWN) - 1), other=st.characters(max_codepoint=255))
def test_a_token_with_one_character_changed_opens_nothing(at: int, other: str) -> None:
    """Also the last, of which base64 would drop two bits."""
    sent = SHOWN[:at] + other + SHOWN[at + 1 :]
    found = TokenBook([TOKEN]).judge(sent, WALL)
    assert (found == UNKNOWN) is (sent != SHOWN)


@given(sent=st.one_of(st.text(max_size=200), st.from_regex(r"sw_[0-9a-f]{12}_[\w-]{43}")))
def test_what_nobody_made_opens_nothing(sent: str) -> None:
    """Whatever is sent, and also where it has the form of a token."""
    assert TokenBook([TOKEN]).judge(sent, WALL) == UNKNOWN


@pytest.mark.parametrize(
    "cut", ["", "sw_", f"sw_{TOKEN.id}_", SHOWN[:-1], SHOWN + "A", SHOWN * 999]
)
def test_a_part_of_a_token_and_more_than_one_open_nothing(cut: str) -> None:
    """A megabyte of it costs no more than a look at its length."""
    assert TokenBook([TOKEN]).judge(cut, WALL) == UNKNOWN


def test_the_secret_of_one_token_does_not_open_another() -> None:
    """The id says which hash it is compared with."""
    other, _ = make_token("x", AccessRole.ADMIN, random=RANDOM[::-1], created=WALL)
    sent = SHOWN.replace(TOKEN.id, other.id)
    assert TokenBook([TOKEN, other]).judge(sent, WALL) == UNKNOWN


def test_a_token_ends_at_the_second_it_expires() -> None:
    """Its owner learns why; who has the id alone does not."""
    book = TokenBook([TOKEN])
    assert isinstance(book.judge(SHOWN, WALL + 89.9), Bearer)
    assert book.judge(SHOWN, WALL + 90) == NoBearer("the token 'ci' (000102030405) is expired")
    assert book.judge(SHOWN[:-1] + "_", WALL + 90) == UNKNOWN


def test_a_revoked_token_opens_nothing_and_stays_revoked() -> None:
    """Also once it would have expired."""
    revoked = replace(TOKEN, revoked=WALL + 5)
    assert revoked.state(WALL + 1000) is State.REVOKED
    found = TokenBook([revoked]).judge(SHOWN, WALL + 6)
    assert found == NoBearer("the token 'ci' (000102030405) is revoked")


def test_the_minute_of_the_last_use_is_kept() -> None:
    """To the minute, and a refused use is none."""
    book = TokenBook([TOKEN])
    book.judge(SHOWN, WALL + 90)
    assert book.used == {}
    book.judge(SHOWN, WALL + 59.5)
    assert book.used == {TOKEN.id: (WALL + 59) // 60 * 60}
    assert TOKEN.id in book
    assert "nobody" not in book


def test_a_token_is_made_of_enough_chance() -> None:
    """Fewer bytes would be a weaker token that looks like any other."""
    with pytest.raises(ValueError, match="38 random bytes, not 3"):
        make_token("ci", AccessRole.VIEWER, random=b"abc", created=WALL)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("ci", True),
        ("Ana's laptop", False),
        ("ana@example.com", True),
        ("deploy/eu-1 blue", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        (" ci", False),
        ("ci\n", False),
        ("\x1b[31m", False),
    ],
)
def test_a_name_is_what_a_log_can_hold(name: str, good: bool) -> None:
    """No quotes and no control characters, and not empty."""
    assert is_name(name) is good
