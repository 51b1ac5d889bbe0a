"""One way to write an address, and what of it a client cannot change by itself."""

import pytest

from shipworthy.admission import address_of, network_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", "testclient"),
        ("", "unix"),
        ("unix", "unix"),
    ],
)
def test_there_is_one_way_to_write_an_address(peer, address):
    """A peer without one is a kind of its own, and never this machine."""
    assert address_of(peer) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        # Behind a translator all of IPv4 is in one /64.
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
        ("testclient", "testclient"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("no:address", "no:address"),
        ("n" * 100, "n" * 64),
    ],
)
def test_one_customer_is_one_network(address, network):
    """All of a /64 of IPv6, of IPv4 the address."""
    assert network_of(address) == network


def test_however_many_addresses_a_customer_takes_he_is_one_network():
    """And what is remembered of them has a bound."""
    keys = {network_of(f"2001:db8::{n >> 16:x}:{n & 0xFFFF:x}") for n in range(5_000)}

    assert keys == {"2001:db8::/64"}
    assert network_of.cache_info().currsize <= network_of.cache_info().maxsize <= 4096
