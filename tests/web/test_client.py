"""Who a request comes from: read from the right, as far as somebody trusted wrote it."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.web import ClientRule, ClientSettings, address_of
from shipworthy.web.client import ELEMENT_BYTES, ENTRIES_MAX

PROXIES = ("10.0.0.0/8", "::1", "unix")


def rule(header="x-forwarded-for", **settings):
    named = {} if "hops" in settings else {"trusted_proxies": PROXIES}
    return ClientRule(ClientSettings(header=header, **{**named, **settings}))


def found(*lines, peer="10.0.0.1", **settings):
    return rule(**settings).client(peer, lines)


@pytest.mark.parametrize(
    ("lines", "address", "port"),
    [
        ([b"192.0.2.1"], "192.0.2.1", 0),
        # What the client sent itself stands to the left, in the same line or in one before.
        ([b"6.6.6.6, 192.0.2.1"], "192.0.2.1", 0),
        ([b"6.6.6.6", b"192.0.2.1"], "192.0.2.1", 0),
        ([b"6.6.6.6", b"192.0.2.1, 10.0.0.2"], "192.0.2.1", 0),
        ([b"10.9.9.9, 192.0.2.1, 10.0.0.2,10.0.0.3"], "192.0.2.1", 0),
        # Ports, brackets, and the ways to write one address.
        ([b"192.0.2.1:4711"], "192.0.2.1", 4711),
        ([b"192.0.2.1:_hidden"], "192.0.2.1", 0),
        ([b"[2001:db8::1]"], "2001:db8::1", 0),
        ([b"[2001:DB8:0:0::1]:443"], "2001:db8::1", 443),
        ([b"2001:db8::1"], "2001:db8::1", 0),
        ([b"::ffff:192.0.2.1"], "192.0.2.1", 0),
        ([b"[::ffff:192.0.2.1%eth0]:1"], "192.0.2.1", 1),
        ([b"fe80::1%eth0"], "fe80::1", 0),
        # Empty entries are none (RFC 9110, 5.6.1).
        ([b", ,192.0.2.1 ,\t,"], "192.0.2.1", 0),
        ([b"192.0.2.1", b""], "192.0.2.1", 0),
        # A proxy that speaks for nobody, and one for others of its kind, are clients themselves.
        ([], "10.0.0.1", 0),
        ([b""], "10.0.0.1", 0),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3", 0),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(lines, address, port):
    """Two header lines are one list, in their order."""
    client = found(*lines)

    assert (client.address, client.port, client.unclear) == (address, port, "")
    assert "10.0.0." in client.because or client.because == "it connected itself"


@pytest.mark.parametrize(
    "entry",
    [
        b"unknown",
        b"Unknown",
        b"_hidden",
        b"garbage",
        b"1.2.3",
        b"1.2.3.4.5",
        b"01.2.3.4",
        b"1.2.3.4:",
        b"1.2.3.4:http",
        b"1.2.3.4:65536",
        b"1.2.3.4:999999",
        b"[1.2.3.4]",
        b"[2001:db8::1",
        b"[2001:db8::1]443",
        b"2001:db8::1::2",
        b'"192.0.2.1"',
        b"\xd9\xa1.2.3.4",
        b"localhost",
        b"1.2.3.4 5.6.7.8",
        b"x" * 1_000_000,
        b"192.0.2.1" + b" " * 100,
        b"-",
        b"%",
    ],
)
@pytest.mark.parametrize("tail", [b"", b", 10.0.0.2"])
def test_behind_what_is_no_address_nobody_is_believed(entry, tail):
    """Whoever wrote it is the last one that is known, and that is said."""
    client = found(b"6.6.6.6, " + entry + tail)

    assert client.address == ("10.0.0.2" if tail else "10.0.0.1")
    assert client.address in client.unclear


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([b"for=192.0.2.1"], ("192.0.2.1", 0, "", b"")),
        ([b"for=6.6.6.6, for=192.0.2.1"], ("192.0.2.1", 0, "", b"")),
        (
            [b'For="[2001:db8::1]:80" ;PROTO=https;by=_me; Host="shop.example:443"'],
            ("2001:db8::1", 80, "https", b"shop.example:443"),
        ),
        # Escaped, a comma, and a semicolon within quotes.
        ([b'for="192\\.0.2.1";host="a,b;c"'], ("192.0.2.1", 0, "", b"")),
        ([b'for=6.6.6.6, host="a\\",b";for=192.0.2.1;'], ("192.0.2.1", 0, "", b"")),
        # A quote that the client never closed does not swallow what the proxy wrote.
        ([b'for="6.6.6.6, for=192.0.2.1'], ("192.0.2.1", 0, "", b"")),
        ([b'for=", for="[2001:db8::1]"'], ("2001:db8::1", 0, "", b"")),
        ([b'for="', b"for=192.0.2.1"], ("192.0.2.1", 0, "", b"")),
        ([b'for=6.6.6.6;x="\\", for=192.0.2.1'], ("192.0.2.1", 0, "", b"")),
        # The scheme is that of the client's own connection, where its proxy says it.
        (
            [b"for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"],
            ("192.0.2.1", 0, "https", b""),
        ),
        ([b"for=192.0.2.1, for=10.0.0.2;proto=wss"], ("192.0.2.1", 0, "https", b"")),
        ([b"for=192.0.2.1;proto=gopher;host=<b>"], ("192.0.2.1", 0, "", b"")),
        ([b", ,for=192.0.2.1"], ("192.0.2.1", 0, "", b"")),
    ],
)
def test_forwarded_is_read_as_its_rfc_writes_it(lines, client):
    """Names in any case, values in quotes, from the right all the same."""
    assert found(*lines, header="forwarded")[:4] == client


@pytest.mark.parametrize(
    "element",
    [
        b"for=unknown",
        b"for=_hidden",
        b"proto=https",
        b"for=",
        b"for=1.1.1.1;for=2.2.2.2",
        b"for",
        b"for=1.2.3.4 x",
        b"=1.2.3.4",
        b'for="1.2.3.4',
        b'for=1.2.3.4"',
        b";for=1.2.3.4",
        b'for="' + b"1" * 200 + b'"',
        b'x="' + b"," * 5_000 + b'";for=1.2.3.4',
        b"\xff",
        b'for=1.2.3.4;x="' + b"\\" * 900,
    ],
)
def test_behind_an_element_that_names_nobody_nobody_is_believed(element):
    """The proxy that wrote it is known, and nobody to the left of it."""
    client = found(element + b", for=10.0.0.2;proto=https", header="forwarded")

    assert (client.address, client.scheme) == ("10.0.0.2", "https")
    assert "10.0.0.2" in client.unclear


def test_with_hops_the_client_stands_at_its_place_from_the_right():
    """Whatever the addresses of the proxies are, and whoever connects."""
    lines = [b"6.6.6.6, 192.0.2.1, 203.0.113.9"]

    assert found(*lines, peer="198.51.100.1", hops=1).address == "203.0.113.9"
    assert found(*lines, peer="", hops=2).address == "192.0.2.1"
    assert rule(hops=2).believes("198.51.100.1")
    assert not rule(hops=2).is_proxy("198.51.100.1")
    assert not rule(hops=2, trusted_proxies=PROXIES).believes("198.51.100.1")


def test_with_fewer_entries_than_hops_the_last_one_that_was_vouched_for_counts():
    """Never one further to the left than there are proxies; that some are missing is said."""
    client = found(b"192.0.2.1", hops=3)

    assert client.address == "192.0.2.1"
    assert client.unclear == "x-forwarded-for has 1 entries of client.hops = 3"
    assert found(hops=1).address == "10.0.0.1"


def test_ten_thousand_entries_cost_as_little_as_a_few():
    """Reading ends at the first stranger, and after so many proxies in any case."""

    class Watched(bytes):
        looked = 0

        def rfind(self, *arguments):
            Watched.looked += 1
            return super().rfind(*arguments)

    for header, entry in (("x-forwarded-for", b"10.0.0.2"), ("forwarded", b"for=10.0.0.2")):
        for before, most in ((entry, ENTRIES_MAX), (b"", ENTRIES_MAX)):
            Watched.looked = 0
            client = found(Watched(b"6.6.6.6," + b",".join([before] * 10_000)), header=header)
            assert Watched.looked <= most
            assert client.address == ("10.0.0.2" if before else "10.0.0.1")
    Watched.looked = 0
    assert found(Watched(b"1.1.1.1," * 10_000 + b"192.0.2.1")).address == "192.0.2.1"
    assert Watched.looked == 1
    lines = [b"6.6.6.6", *[b"10.0.0.2"] * ENTRIES_MAX]
    assert found(*lines).address == "10.0.0.2"
    assert found(*[line.replace(b"1", b"for=1", 1) for line in lines], header="forwarded")[0]
    assert ELEMENT_BYTES < 10_000


junk = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                b"10.0.0.2",
                b"::1",
                b"unix",
                b'for="',
                b"for=10.0.0.2",
                b",",
                b'"',
                b"\\",
                b"127.0.0.1",
            ]
        ),
        st.ip_addresses().map(lambda address: str(address).encode()),
    ),
    max_size=8,
).map(b",".join)


@pytest.mark.slow
@given(st.lists(junk, max_size=3), st.booleans())
def test_whatever_a_client_sends_before_a_proxy_writes_its_address_it_is_that_address(sent, same):
    """In the same line or in one of its own, for both headers: no client chooses its own key."""
    for header, own in (("x-forwarded-for", b"192.0.2.1"), ("forwarded", b"for=192.0.2.1")):
        lines = [*sent[:-1], sent[-1] + b", " + own] if same and sent else [*sent, own]
        for settings in ({}, {"hops": 1}, {"hops": 1, "trusted_proxies": PROXIES}):
            client = found(*lines, header=header, **settings)
            assert (client.address, client.unclear) == ("192.0.2.1", "")
        through = [*lines[:-1], lines[-1] + b", " + own.replace(b"192.0.2.1", b"10.0.0.7")]
        assert found(*through, header=header).address == "192.0.2.1"


@pytest.mark.slow
@given(st.lists(junk, max_size=4), st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_nothing_that_is_sent_breaks_the_reading(lines, header):
    """It ends with an address that somebody trusted wrote, or that connected."""
    client = found(*lines, header=header)

    assert address_of(client.address) == client.address
