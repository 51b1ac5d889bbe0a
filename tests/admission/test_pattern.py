"""What a line of a policy matches, and what could never match."""

import pytest

from shipworthy.admission.pattern import METHODS, pattern_of, plain
from shipworthy.errors import Misuse


@pytest.mark.parametrize(
    ("text", "method", "path", "is_meant"),
    [
        ("POST /login", "POST", "/login", True),
        ("POST /login", "GET", "/login", False),
        ("POST /login", "POST", "/login/", True),
        ("POST /login", "POST", "//login", True),
        ("POST /login", "POST", "/login/again", False),
        ("GET /login", "HEAD", "/login", True),
        ("HEAD /login", "GET", "/login", True),
        ("/items/{id}", "DELETE", "/items/7", True),
        ("/items/{id}", "GET", "/items/{item_id}", True),
        ("/items/{id}", "GET", "/items/7/parts", False),
        ("/items/{id}", "GET", "/items/", False),
        ("GET /search*", "GET", "/search", True),
        ("GET /search*", "GET", "/search/a/b", True),
        ("GET /search*", "GET", "/searching", True),
        ("/a.b", "GET", "/axb", False),
        ("WS /chat", "WS", "/chat", True),
        ("WS /chat", "GET", "/chat", False),
        ("*", "WS", "/any\nthing", True),
        ("PUT *", "PUT", "/x", True),
        ("PUT *", "GET", "/x", False),
        ("/", "GET", "/", True),
    ],
)
def test_a_line_matches_its_method_and_its_path(text, method, path, is_meant):
    """Whatever a route calls its parameters, and however the slashes are written."""
    assert pattern_of(text).matches(method, plain(path)) == is_meant


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("*", "POST /login", True),
        ("POST *", "POST /login", True),
        ("GET *", "POST /login", False),
        ("/a*", "GET /a/b", True),
        ("/a*", "/a*", True),
        ("/a*", "*", False),
        ("/items/{id}", "/items/{name}", True),
        ("/items/{id}", "/items/7", False),
        ("GET /a", "/a", False),
    ],
)
def test_a_line_covers_another_where_it_matches_all_that_the_other_does(wide, narrow, covers):
    """In doubt it does not: nothing is refused by mistake."""
    assert pattern_of(wide).covers(pattern_of(narrow)) == covers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("login", "has no path; write one that begins with a slash"),
        ("POST login", "has no path"),
        ("Post /login", f"'Post' is no method; write one of {', '.join(METHODS)}"),
        ("GET /a?b=1", "can never match: paths are compared decoded and without their query"),
        ("GET /a%20b", "can never match"),
        ("GET /a*/b", "a star stands at the end only"),
        ("GET /a/{id", "a brace is not closed"),
        ("", "has no path"),
    ],
)
def test_a_line_that_could_never_match_is_refused(text, says):
    """With what would."""
    with pytest.raises(Misuse, match=says.replace("*", r"\*")):
        pattern_of(text)
