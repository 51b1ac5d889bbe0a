"""How long calls take is told by address, method and status, whoever is called."""

import gc

import pytest

from outbound.play import answer, reset
from shipworthy.events import OTHER, FirstNames
from shipworthy.outbound import CALL_SECONDS, metrics, observe_calls


class Told:
    """What an observer was told."""

    def __init__(self):
        self.calls = []

    def __call__(self, address, method, status, seconds):
        assert seconds >= 0
        self.calls.append((address, method, status))


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(metrics, "_observers", ())
    monkeypatch.setattr(metrics, "_addresses", FirstNames(50))
    told = Told()
    observe_calls(told)
    return told


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_a_call_is_told_by_the_host_the_method_and_the_status(client, service, install, told, mode):
    """For each library, whether calls are only seen or guarded too."""
    install(mode=mode)
    service.then(answer(201), answer(404))

    client.request("POST", service.url)
    client.request("GET", f"{service.url}/secret/path?token=x")

    assert told.calls == [("127.0.0.1", "POST", "201"), ("127.0.0.1", "GET", "404")]


def test_each_attempt_is_told_and_one_without_an_answer_has_no_status(
    client, service, install, told
):
    """A call that was sent again took two requests, and the failed one is seen too."""
    install()
    service.then(reset, answer(200))

    client.request("GET", service.url)

    assert told.calls == [("127.0.0.1", "GET", "none"), ("127.0.0.1", "GET", "200")]


def test_addresses_without_end_are_one_after_the_first_fifty(told):
    """A service that calls what its users name makes no ever new series; the first keep theirs."""
    for number in range(200):
        metrics.call_ended(f"hook-{number}.example.org", "BREW", 299, 0.1)
    metrics.call_ended("hook-7.example.org", "GET", 200, 0.1)

    addresses = [address for address, _, _ in told.calls]
    assert len(set(addresses)) == 51
    assert addresses[49:51] == ["hook-49.example.org", OTHER]
    assert addresses[-1] == "hook-7.example.org"
    assert {call[1:] for call in told.calls[:-1]} == {(OTHER, OTHER)}
    assert CALL_SECONDS.labels["server_address"].most == 50


def test_who_is_gone_is_told_no_more(told):
    """An application that was hardened and thrown away is not kept alive by what is called."""
    other = Told()
    calls = other.calls
    observe_calls(other)
    metrics.call_ended("a", "GET", 200, 0.1)
    del other
    gc.collect()
    metrics.call_ended("a", "GET", 200, 0.1)
    observe_calls(told)

    assert len(calls) == 1
    assert len(told.calls) == 2
    assert len(metrics._observers) == 2


def test_where_nobody_counts_nothing_is_kept(monkeypatch):
    """Not even the address."""
    monkeypatch.setattr(metrics, "_observers", ())
    monkeypatch.setattr(metrics, "_addresses", FirstNames(50))

    metrics.call_ended("a", "GET", 200, 0.1)

    assert len(metrics._addresses) == 0
