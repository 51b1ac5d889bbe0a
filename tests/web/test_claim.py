from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from shipworthy.web.claim import (
    KEY_CHARACTERS,
    Ending,
    KeyInvalid,
    KeyVerdict,
    ending_of,
    fingerprint_of,
    judge_claim,
    kept_headers,
    key_id,
    key_in,
)


@dataclass
class Row:
    """What is known of a key."""

    fingerprint: str = "same"
    state: str = "begun"
    lease_until: float = 60.0
    expires: float = 1000.0


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"8e03978e-40d5"', "8e03978e-40d5"),
        (b"8e03978e-40d5", "8e03978e-40d5"),
        (b' "two words" ', "two words"),
        (rb'"a \"quote\" and a \\"', 'a "quote" and a \\'),
        (b"x" * KEY_CHARACTERS, "x" * KEY_CHARACTERS),
    ],
)
def test_a_key_is_read_with_and_without_quotes(value, key):
    """The draft wants the quotes, most clients leave them out: the key is the same."""
    assert key_in([value]) == key


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"a", b"a"],
        [b""],
        [b'""'],
        [b"a, b"],
        [b"two words"],
        [b'"open'],
        [b'"\xc3\xa9"'],
        [b"\x00"],
        [b'"bad \\escape"'],
        [b"x" * (KEY_CHARACTERS + 1)],
        [b'"' + b"x" * (KEY_CHARACTERS + 1) + b'"'],
    ],
)
def test_what_cannot_be_a_key_is_refused(values):
    """The message says what one is, and repeats nothing of it."""
    with pytest.raises(KeyInvalid, match="Idempotency-Key"):
        key_in(values)


@given(st.binary(max_size=400))
def test_no_header_does_anything_else(value):
    """Whatever a client sends, it is a key of bounded length or a refusal."""
    with suppress(KeyInvalid):
        assert 0 < len(key_in([value])) <= KEY_CHARACTERS


def test_two_clients_with_the_same_key_have_two_keys():
    """And no client can put its identity together so that it gets the key of another."""
    assert key_id("k", [b"alice"]) != key_id("k", [b"bob"])
    assert key_id("k", [b"a", b"b"]) != key_id("k", [b"ab", b""])
    assert key_id("k", [b"a"]) == key_id("k", [b"a"])
    assert len(key_id("k", [])) == 64


def test_a_request_is_told_from_another_by_each_of_its_parts():
    """Method, path, query, length and body."""
    parts = ("POST", "/orders", b"a=1", b"3", b"abc")
    others = [("PATCH", *parts[1:]), (*parts[:1], "/order", b"sa=1", *parts[3:])]
    others += [(*parts[:2], b"", *parts[3:]), (*parts[:3], b"4", b"abc"), (*parts[:4], b"abd")]

    assert len({fingerprint_of(*one) for one in [parts, *others]}) == 6
    assert fingerprint_of(*parts) == fingerprint_of(*parts)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row(state="done"), KeyVerdict.SAY_AGAIN),
        (Row(state="done", lease_until=0.0), KeyVerdict.SAY_AGAIN),
        (Row(state="done", fingerprint="other"), KeyVerdict.OTHER_REQUEST),
        (Row(fingerprint="other"), KeyVerdict.OTHER_REQUEST),
        (Row(), KeyVerdict.IN_FLIGHT),
        (Row(state="applied"), KeyVerdict.IN_FLIGHT),
        (Row(lease_until=50.0), KeyVerdict.TAKE_OVER),
        (Row(state="applied", lease_until=50.0), KeyVerdict.ANSWER_LOST),
        (Row(state="done", expires=50.0), KeyVerdict.TAKE_OVER),
        (Row(state="applied", expires=50.0, fingerprint="other"), KeyVerdict.TAKE_OVER),
    ],
)
def test_what_follows_for_a_known_key(row, verdict):
    """At the instant 50."""
    assert judge_claim(row, fingerprint="same", now=50.0) is verdict


@given(
    st.builds(
        Row,
        fingerprint=st.sampled_from(["same", "other"]),
        state=st.sampled_from(["begun", "applied", "done"]),
        lease_until=st.floats(0, 100),
        expires=st.floats(0, 100),
    ),
    st.floats(0, 100),
)
def test_what_took_effect_is_never_run_again_before_it_is_forgotten(row, now):
    """Nor what somebody works on; nor is an answer given to another request."""
    verdict = judge_claim(row, fingerprint="same", now=now)

    if verdict is KeyVerdict.TAKE_OVER:
        assert row.expires <= now or (row.state == "begun" and row.lease_until <= now)
    if verdict is KeyVerdict.SAY_AGAIN:
        assert row.fingerprint == "same"


@pytest.mark.parametrize(
    ("status", "whole", "took_effect", "ending"),
    [
        (201, True, True, Ending.ANSWER),
        (200, True, False, Ending.ANSWER),
        (422, True, False, Ending.ANSWER),
        (200, False, False, Ending.EFFECT),
        (200, False, True, Ending.EFFECT),
        (500, True, False, Ending.NOTHING),
        (500, True, True, Ending.ANSWER),
        (503, False, True, Ending.EFFECT),
        (0, False, False, Ending.NOTHING),
        (0, False, True, Ending.EFFECT),
        (429, True, False, Ending.NOTHING),
        (429, True, True, Ending.ANSWER),
    ],
)
def test_what_is_kept_of_a_request_that_is_over(status, whole, took_effect, ending):
    """A failure without effect leaves nothing, so that the client may try again."""
    assert ending_of(status=status, whole=whole, took_effect=took_effect) is ending


def test_headers_of_one_exchange_are_not_kept():
    """A second client session, another date and another id would be lies."""
    kept = kept_headers(
        [
            (b"Content-Type", b"application/json"),
            (b"Set-Cookie", b"session=1"),
            (b"date", b"today"),
            (b"X-Request-ID", b"1"),
            (b"Location", b"/orders/1"),
        ]
    )

    assert kept == [(b"Content-Type", b"application/json"), (b"Location", b"/orders/1")]
