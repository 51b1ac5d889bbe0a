"""Whether a request that changes something was meant: the judge, each rule by itself.

That the rules together say what they should is in `test_csrf_guard.py`, over every combination.
"""

import pytest
from hypothesis import given, strategies as st

from shipworthy.web.csrf import (
    Claims,
    Doubt,
    cookie_of,
    is_ambient,
    is_explicit,
    judge_origin,
    normal_origin,
    own_origin,
    referer_origin,
    token_fits,
    token_for,
)

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://Shop.Example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("http://shop.example:08080", "http://shop.example:8080"),
        ("http://[2001:db8::1]:8000", "http://[2001:db8::1]:8000"),
        ("http://localhost", "http://localhost"),
        ("null", ""),
        ("", ""),
        ("shop.example", ""),
        ("https://shop.example/", ""),
        ("https://me@shop.example", ""),
        ("https://shop.example:0", ""),
        ("https://shop.example:65536", ""),
        ("https://shop.example:", ""),
        ("https://shop.example\n", ""),
        ("chrome-extension://abc", ""),
        ("https://.example", ""),
    ],
)
def test_an_origin_has_one_way_to_be_written(text, normal):
    """And what is none is the empty text, which equals no origin."""
    assert normal_origin(text) == normal


@given(st.text(max_size=80))
def test_to_normalise_twice_is_to_do_it_once(text):
    """Whatever a client sends as an origin."""
    assert normal_origin(normal_origin(text)) == normal_origin(text)


@pytest.mark.parametrize(
    ("referer", "origin"),
    [
        ("https://shop.example/a?b=https://evil.example/", "https://shop.example"),
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example?x", "https://shop.example"),
        ("https://shop.example@evil.example/", ""),
        ("https://shop.example.evil.example/", "https://shop.example.evil.example"),
        ("about:blank", ""),
        ("", ""),
    ],
)
def test_the_origin_of_a_referer_is_what_stands_before_its_path(referer, origin):
    """A user in it makes it none: `https://shop.example@evil.example` is of evil.example."""
    assert referer_origin(referer) == origin


def test_a_websocket_has_the_origin_of_its_page():
    """ws is http, wss is https."""
    assert own_origin("ws", "shop.example:80") == "http://shop.example"
    assert own_origin("wss", "shop.example") == "https://shop.example"
    assert own_origin("http", "a b") == ""


def judged(**said):
    claims = Claims(**{"scheme": "https", "host": "shop.example", **said})
    return judge_origin(claims, frozenset({"https://friend.example"}))


@pytest.mark.parametrize(
    ("referer", "doubt"),
    [
        ("https://shop.example/cart", None),
        ("https://friend.example/", None),
        ("http://shop.example/cart", Doubt.FOREIGN_REFERER),
        ("https://evil.example/", Doubt.FOREIGN_REFERER),
        ("", Doubt.FOREIGN_REFERER),
    ],
)
@pytest.mark.parametrize("ambient", [True, False])
def test_where_there_is_no_origin_the_referer_tells(referer, doubt, ambient):
    """No page can write one of another origin; some browsers of old send nothing else."""
    assert judged(referer=referer, ambient=ambient) is doubt


def test_a_referer_outweighs_no_origin():
    """A foreign origin stays foreign whatever else is said."""
    assert (
        judged(origin="https://evil.example", referer="https://shop.example/")
        is Doubt.FOREIGN_ORIGIN
    )


def test_a_host_that_is_none_has_no_origin_that_could_be_its_own():
    """So what names an origin is refused there."""
    assert judged(host="a b", origin="https://a b") is Doubt.FOREIGN_ORIGIN
    assert judged(host="", referer="https:///x") is Doubt.FOREIGN_REFERER


@pytest.mark.parametrize(
    ("headers", "ambient"),
    [
        ({b"cookie": b"a=b"}, True),
        ({b"authorization": b"Basic YTpi"}, True),
        ({b"authorization": b"  basic YTpi"}, True),
        ({b"authorization": b"NTLM abc"}, True),
        ({b"authorization": b"Negotiate abc"}, True),
        ({b"authorization": b'Digest username="a"'}, True),
        ({b"authorization": b"Bearer abc"}, False),
        ({b"authorization": b"Basics abc"}, False),
        ({}, False),
    ],
)
def test_what_a_browser_sends_by_itself_is_ambient(headers, ambient):
    """Cookies and the schemes it keeps passwords for; a token is put in by a program."""
    assert is_ambient(headers) is ambient


def test_a_key_is_explicit():
    """Under Authorization, or one of the headers that hold keys."""
    keys = frozenset({b"x-api-key"})
    assert is_explicit({b"authorization": b"Bearer a"}, keys)
    assert is_explicit({b"x-api-key": b"a"}, keys)
    assert not is_explicit({b"x-other": b"a", b"cookie": b"a=b"}, keys)


def test_a_token_fits_the_session_it_was_made_for_and_no_other():
    """Each is another text, all of them fit."""
    one = token_for("session-1", secret=SECRET, salt=b"123456789")
    two = token_for("session-1", secret=SECRET, salt=b"987654321")
    assert one != two
    assert token_fits(one, "session-1", secret=SECRET)
    assert token_fits(two, "session-1", secret=SECRET)
    assert not token_fits(one, "session-2", secret=SECRET)
    assert not token_fits(one, "session-1", secret=SECRET[::-1])
    assert not token_fits(one, "", secret=SECRET)


@given(st.integers(0, 54), st.characters(codec="ascii"))
def test_a_token_with_one_other_character_fits_nothing(place, other):
    """Whichever it is, in the salt or the seal."""
    token = token_for("session-1", secret=SECRET, salt=b"123456789")
    bent = token[:place] + other + token[place + 1 :]
    assert token_fits(bent, "session-1", secret=SECRET) is (bent == token)


@pytest.mark.parametrize("token", ["", "x", "=" * 56, "a" * 56, "a" * 55 + "=", "ä" * 55 + "="])
def test_what_is_no_token_fits_nothing(token):
    """Of another length, or of other characters."""
    assert not token_fits(token, "session-1", secret=SECRET)


@pytest.mark.parametrize(
    ("cookies", "value"),
    [
        (b"a=1; sid=abc; b=2", "abc"),
        (b'sid="abc"', "abc"),
        (b"sid=abc=def", "abc=def"),
        (b"xsid=abc", ""),
        (b"sid", ""),
        (b"", ""),
        (b"sid=abc; sid=def", ""),
    ],
)
def test_a_cookie_that_is_there_twice_is_none(cookies, value):
    """A neighbour under the same domain may have set the other one."""
    assert cookie_of(cookies, "sid") == value
