"""What names a host, and what only looks like it."""

import pytest

from shipworthy.web.authority import host_of


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"shop.example", "shop.example"),
        (b"SHOP.example:8000", "shop.example"),
        (b"shop.example.", "shop.example"),
        (b"shop.example.:", "shop.example"),
        (b"my_service:65535", "my_service"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"192.0.2.1:80", "192.0.2.1"),
        (b"[2001:DB8:0::1]:443", "[2001:db8::1]"),
        (b"a" * 253, "a" * 253),
        (b"", None),
        (b":80", None),
        (b"shop.example:65536", None),
        (b"shop.example:x", None),
        (b"shop.example:-1", None),
        (b"shop.example/", None),
        (b"shop.example?x", None),
        (b"shop.example#x", None),
        (b"user@shop.example", None),
        (b"shop.example, evil.example", None),
        (b"shop .example", None),
        (b" shop.example", None),
        (b"shop..example", None),
        (b".example", None),
        (b"b\xc3\xbccher.example", None),
        (b"shop\\example", None),
        (b"shop.example\n", None),
        (b"<script>", None),
        (b"%73hop.example", None),
        (b"2001:db8::1", None),
        (b"[2001:db8::1", None),
        (b"[192.0.2.1]", None),
        (b"[:::]", None),
        (b"a" * 254, None),
        (b"a" * 1_000_000, None),
    ],
)
def test_a_host_is_a_name_or_an_address_with_at_most_a_port(authority, host):
    """Lower case, without port and last dot; whatever else stands in it, it is none."""
    assert host_of(authority) == host
