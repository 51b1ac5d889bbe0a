"""Which heads are refused: by size, by what could be read twice."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.serve.heads import HeadLimits, handshake_refusal, target_refusal

RULE = HeadLimits(head_bytes=4096, head_count=20, url_bytes=1024)
HOST = (b"host", b"shop.example")


def rule_of(headers, *, version="1.1", url=b"/", rule=RULE):
    refusal = rule.refusal(version, url, headers)
    return refusal and (refusal.rule, refusal.status)


@given(
    st.lists(
        st.tuples(st.from_regex(rb"x-[a-z]{1,20}", fullmatch=True), st.binary(max_size=300)),
        max_size=25,
    ),
    st.binary(max_size=1200),
)
def test_a_head_is_refused_for_its_size_exactly_above_its_bounds(headers, url):
    """Counted as on the wire, with what stands between names and values."""
    found = rule_of([HOST, *headers], url=url)
    wire_bytes = len(url) + sum(len(n) + len(v) + 4 for n, v in [HOST, *headers])
    if len(url) > 1024:
        assert found == ("url", 414)
    elif len(headers) + 1 > 20:
        assert found == ("head-count", 431)
    elif wire_bytes > 4096:
        assert found == ("head-bytes", 431)
    else:
        assert found is None


def test_headers_are_counted_however_small_they_are():
    """The last that may be, and one more."""
    assert rule_of([HOST, *[(b"x", b"")] * 19]) is None
    assert rule_of([HOST, *[(b"x", b"")] * 20]) == ("head-count", 431)


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        ([], "1.1", ("host", 400)),
        ([], "1.0", None),
        ([HOST], "1.0", None),
        ([HOST, HOST], "1.1", ("host", 400)),
        ([HOST, HOST], "1.0", ("host", 400)),
        ([HOST], "2.0", ("version", 505)),
        ([(b"host", b"")], "1.1", ("host", 400)),
        ([(b"host", b"a/b")], "1.1", ("host", 400)),
        ([(b"host", b"a:b")], "1.1", ("host", 400)),
        ([(b"host", b"a:123456")], "1.1", ("host", 400)),
        ([(b"host", b"[::1]:80")], "1.1", None),
        ([(b"host", b"a_b:80")], "1.1", None),
        ([(b"host", b"a" * 256)], "1.1", ("host", 400)),
    ],
)
def test_there_is_one_host_and_it_names_one(headers, version, expected):
    """HTTP/1.0 had none, so a health check of a balancer may have none."""
    assert rule_of(headers, version=version) == expected


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        ([(b"transfer-encoding", b" Chunked ")], "1.1", None),
        ([(b"content-length", b"3")], "1.1", None),
        ([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], "1.1", 400),
        ([(b"transfer-encoding", b"chunked")], "1.0", 400),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1", 501),
        ([(b"transfer-encoding", b"chunked")] * 2, "1.1", 501),
    ],
)
def test_a_body_has_one_end(headers, version, expected):
    """A proxy that believes the other header sees another request begin."""
    found = rule_of([HOST, *headers], version=version)
    assert found == (expected and ("framing", expected))


def test_what_is_not_strict_looks_at_the_size_alone():
    """Switched off, the largest head is what is left."""
    rule = HeadLimits(head_bytes=4096, strict=False)
    assert rule_of([], rule=rule) is None
    assert rule_of([(b"x", b"y" * 4096)], rule=rule) == ("head-bytes", 431)


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        (b"GET", b"/a", None),
        (b"GET", b"/a#b", ("url", 400)),
        (b"GET", b"http://shop.example", None),
        (b"GET", b"HTTPS://SHOP.example/a?b", None),
        (b"GET", b"http://shop.example?b", None),
        (b"GET", b"http://other.example/", ("host", 400)),
        (b"GET", b"http://shop.example@other.example/", ("url", 400)),
        (b"GET", b"http:///a", ("url", 400)),
        (b"GET", b"ftp://shop.example/", ("url", 400)),
        (b"GET", b"a", ("url", 400)),
        (b"GET", b"*", ("url", 400)),
        (b"OPTIONS", b"*", None),
        (b"CONNECT", b"shop.example:443", ("url", 501)),
    ],
)
def test_a_target_that_is_no_path_has_one_meaning(method, url, expected):
    """Of a URL the host counts (RFC 9112, 3.2.2), so another one beside it is refused."""
    found = target_refusal(method, url, [(b"accept", b"*/*"), HOST])
    assert (found and (found.rule, found.status)) == expected


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([HOST], False),
        ([HOST, (b"content-length", b"0")], False),
        ([HOST, (b"content-length", b"05")], True),
        ([HOST, (b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a_handshake_has_no_body(headers, refused):
    """Its bytes would be frames to somebody."""
    assert (handshake_refusal(headers) is not None) is refused


def test_a_refusal_says_its_numbers():
    """The client learns what would pass."""
    assert "4,096 bytes" in RULE.too_large().detail
    assert "may have 1,024 bytes, and this one has 2,000" in RULE.too_long(b"x" * 2000).detail
