"""Whom a request is charged to, and under which name."""

import pytest

from shipworthy.admission import KeyMaker, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no:address", "no:address"),
        ("n" * 100, "n" * 64),
    ],
)
def test_a_network_is_what_a_client_cannot_change_by_itself(address, network):
    """However it is written; what is no address is taken as it is, and not all of it."""
    assert network_of(address) == network


def test_a_name_is_a_hash_that_only_the_same_secret_makes_again():
    """30 characters, whatever it is of; without a secret each process has its own."""
    made = KeyMaker("s").key("login", "user", "ana")
    assert (len(made), made) == (30, KeyMaker("s").key("login", "user", "ana"))
    assert made != KeyMaker("t").key("login", "user", "ana")
    assert KeyMaker().key("p", "user", "a") != KeyMaker().key("p", "user", "a")
    assert len(KeyMaker().key("p", "api_key", "\udcff" * 1_000_000)) == 30


def test_no_client_can_choose_a_value_that_runs_into_another():
    """Every part of a name has its place."""
    make = KeyMaker("s").key
    names = {
        make("p", "user", "a", "/r"),
        make("p", "user", "a\0/r"),
        make("p", "user", "a", ""),
        make("p", "network", "a", "/r"),
        make("q", "user", "a", "/r"),
        make("p", "user", "/r\0001\0a"),
    }
    assert len(names) == 6
