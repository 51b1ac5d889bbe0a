"""The section [client]: whoever lets clients name themselves must say so twice."""

import pytest

from shipworthy.web import ClientSettings


def told(environment="production", **settings):
    return ClientSettings(**settings).refusals(environment)


def test_by_default_nobody_is_believed_and_nothing_is_refused():
    """In every environment."""
    assert told() == told("development") == []
    assert ClientSettings().header == "none"


@pytest.mark.parametrize(
    "text", ["nowhere", "10.0.0.0/33", "10.0.0.256", "", "*", "10.0.0.0/255.0.0.0/8", "localhost"]
)
def test_what_is_no_address_is_refused_everywhere(text):
    """With what to write."""
    (sentence,) = told("development", trusted_proxies=("10.0.0.1", text))

    assert sentence.startswith(f"client.trusted_proxies: '{text}' is no address")


@pytest.mark.parametrize(
    "proxies",
    [
        ("0.0.0.0/0",),
        ("::/0",),
        ("128.0.0.0/1", "0.0.0.0/1"),
        ("::ffff:0:0/96",),
        ("2000::/3",),
        ("64.0.0.0/7",),
        ("10.0.0.0/8", "::/0"),
    ],
)
def test_a_range_that_trusts_everybody_must_be_said_twice_in_production(proxies):
    """However it is put together; elsewhere it is the developer's own affair."""
    settings = {"trusted_proxies": proxies, "header": "x-forwarded-for"}
    (sentence,) = told(**settings)

    assert "client.trust_everybody" in sentence
    assert told(**settings, trust_everybody=True) == []
    assert told("development", **settings) == []


def test_ranges_that_somebody_owns_are_no_matter():
    """Private ones, however wide, a provider's, and a socket."""
    proxies = ("10.0.0.0/8", "172.16.0.0/12", "fc00::/7", "104.16.0.0/13", "2400:cb00::/32", "unix")

    assert told(trusted_proxies=proxies, header="forwarded") == []
    assert len(ClientSettings(trusted_proxies=proxies).networks) == 5


def test_proxies_that_are_only_counted_must_be_said_twice_in_production():
    """Whoever gets past them is believed."""
    settings = {"hops": 2, "header": "x-forwarded-for"}
    (sentence,) = told(**settings)

    assert sentence.startswith("client.hops: 2 proxies are counted")
    assert told(**settings, trust_everybody=True) == []
    assert told(**settings, trusted_proxies=("10.0.0.0/8",)) == []
    assert told("staging", **settings) == []


def test_what_could_have_no_effect_is_refused_everywhere():
    """A count without a header, and a header that nobody may write."""
    assert told("development", hops=1)[0].startswith("client.hops: no header is read")
    assert told("development", forwarded_host=True)[0].startswith("client.forwarded_host: no")
    assert told("development", header="forwarded")[0].startswith("client.header: forwarded could")
    # Proxies may be named for the header that names an actor alone.
    assert told("development", trusted_proxies=("10.0.0.1",)) == []


def test_an_address_of_ipv4_that_is_written_as_one_of_ipv6_is_that_address():
    """A socket that listens for both writes it so."""
    networks = ClientSettings(trusted_proxies=("::ffff:10.0.0.1", "fe80::1%eth0")).networks

    assert [str(network) for network in networks] == ["10.0.0.1/32", "fe80::1/128"]
