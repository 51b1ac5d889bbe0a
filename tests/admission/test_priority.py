"""Who goes before others, by method and path."""

import pytest

from shipworthy.admission import Ranks, is_pattern


@pytest.mark.parametrize(
    ("pattern", "method", "path", "meant"),
    [
        ("/pay", "POST", "/pay", True),
        ("/pay", "POST", "/pay/1", False),
        ("POST /pay", "POST", "/pay", True),
        ("POST /pay", "GET", "/pay", False),
        ("/pay*", "GET", "/payments", True),
        ("/pay*", "GET", "/pay/1", False),
        ("/orders/{id}", "GET", "/orders/7", True),
        ("/orders/{id}", "GET", "/orders/", False),
        ("/orders/{id}/lines", "GET", "/orders/7/lines", True),
        ("/admin/*", "DELETE", "/admin/a/b", True),
        ("/admin/*", "GET", "/administrators", False),
        ("/a.b", "GET", "/axb", False),
        ("/*", "WEBSOCKET", "/any\nthing", True),
    ],
)
def test_a_pattern_names_paths_and_before_them_a_method(pattern, method, path, meant):
    """`{name}` is one segment, `*` text within one, `/*` at the end all below; the rest is text."""
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


@pytest.mark.parametrize("text", ["pay", "post /pay", "GET  /pay", "/a b", "/a?b", ""])
def test_what_is_no_path_names_nothing(text):
    """It is refused with the settings, and where it is used."""
    assert not is_pattern(text)
    with pytest.raises(ValueError, match="is no path; begin it with a slash"):
        Ranks(critical=[text])
