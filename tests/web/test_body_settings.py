"""Sizes of single routes are checked at the start, and each has an effect."""

import pytest

from shipworthy.web import BodySettings


@pytest.mark.parametrize(
    ("text", "method", "path", "limit_bytes"),
    [
        ("POST /uploads/* = 5GiB", "POST", "/uploads/a/b", 5 * 2**30),
        ("/items/{id} = 64KiB", "", "/items/7", 64 * 2**10),
        ("* /items/{id} = 64 KiB", "", "/items/7", 64 * 2**10),
        ("PUT /files/{name:path}=1MB", "PUT", "/files/a/b.c", 10**6),
        ("/a.b/* = 1KiB", "", "/a.b/", 2**10),
    ],
)
def test_a_size_of_a_route_has_a_method_a_path_and_a_size(text, method, path, limit_bytes):
    """A path ends with * or has its parameters by name."""
    settings = BodySettings(routes=(text,))
    assert settings.refusals("production") == []
    (route,) = settings.sizes()
    assert (route.method, route.limit_bytes) == (method, limit_bytes)
    assert route.path.fullmatch(path)


def test_a_path_stands_for_no_other():
    """A dot is a dot, and a parameter is one segment."""
    dotted, one = BodySettings(routes=("/a.b = 1KiB", "/items/{id} = 1KiB")).sizes()
    assert not dotted.path.fullmatch("/aXb")
    assert not one.path.fullmatch("/items/7/8")


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        (("uploads = 5GiB",), "is no size of a route"),
        (("POST /uploads",), "is no size of a route"),
        (("POST /uploads = 5",), "has no unit"),
        (("POST /a/*/b = 5KiB",), "may end with *"),
        (("POST /a/{b = 5KiB",), "may end with *"),
        (("POST /a = 5KiB", "POST /a = 6KiB"), "has no effect"),
        (("/a = 5KiB", "POST /a = 6KiB"), "has no effect"),
        (tuple(f"/a{n} = 5KiB" for n in range(101)), "100 at most"),
    ],
)
def test_what_could_not_have_an_effect_stops_the_start(routes, said):
    """With its place and what to write instead."""
    (told, *_) = BodySettings(routes=routes).refusals("development")
    assert told.startswith("body.routes: ")
    assert said in told
