"""Who goes before others, by method and path."""

import pytest

from shipworthy.admission import Ranks
from shipworthy.errors import Misuse


@pytest.mark.parametrize(
    ("pattern", "method", "path", "meant"),
    [
        ("/pay", "POST", "/pay", True),
        ("/pay", "POST", "/pay/", True),
        ("/pay", "POST", "/pay/1", False),
        ("POST /pay", "POST", "/pay", True),
        ("POST /pay", "GET", "/pay", False),
        ("/orders/{id}", "GET", "/orders/7", True),
        ("/orders/{id}/lines", "GET", "/orders/7/lines", True),
        ("/admin/*", "DELETE", "/admin/a/b", True),
        ("/admin/*", "GET", "/administrators", False),
        ("WS /chat", "WEBSOCKET", "/chat", True),
        ("WS /chat", "GET", "/chat", False),
        ("*", "WEBSOCKET", "/any", True),
    ],
)
def test_requests_are_named_as_for_rate_limits(pattern, method, path, meant):
    """A method and a path, `{name}` for one part of it, a star at its end for anything."""
    assert Ranks(critical=[pattern]).of(method, path) == ("critical" if meant else "default")


def test_what_both_lists_name_is_critical():
    """A wide pattern for what may be shed does not reach what must not."""
    ranks = Ranks(critical=["/api/pay"], sheddable=["/api/*"])
    assert ranks.of("GET", "/api/pay") == "critical"
    assert ranks.of("GET", "/api/export") == "sheddable"
    assert ranks.of("GET", "/") == "default"


def test_without_patterns_all_are_the_same():
    """The default."""
    assert Ranks().of("GET", "/") == "default"


@pytest.mark.parametrize("text", ["pay", "post /pay", "/a?b", ""])
def test_what_could_never_match_is_refused(text):
    """A pattern that meets no request protects nobody, silently."""
    with pytest.raises(Misuse):
        Ranks(critical=[text])
