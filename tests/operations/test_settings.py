"""What the settings of the operations port are by default, and what production refuses."""

import pytest

from shipworthy.operations import OperationsSettings
from shipworthy.settings import Secret

LONG = Secret("a-token-of-thirty-two-characters")


def test_the_defaults_listen_on_loopback_and_need_nothing():
    """Unset, the port is 127.0.0.1:9000, and no environment objects."""
    settings = OperationsSettings()

    assert (settings.host, settings.port, settings.allowed_hosts) == ("127.0.0.1", 9000, ())
    assert settings.refusals("production") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (OperationsSettings(host="0.0.0.0"), "operations.token: not set"),
        (OperationsSettings(token=Secret("short")), "operations.token: 5 characters"),
        (OperationsSettings(scrape_token=Secret("x" * 23)), "operations.scrape_token: 23"),
    ],
)
def test_production_refuses_what_can_be_guessed_or_not_used(settings, words):
    """Production and staging say what is wrong with its numbers; development lets it be."""
    assert [words in refusal for refusal in settings.refusals("production")] == [True]
    assert len(settings.refusals("staging")) == 1
    assert settings.refusals("development") == []


def test_production_accepts_a_port_for_all_with_a_long_token():
    """Off loopback with a token of 24 characters or more is fine."""
    settings = OperationsSettings(host="0.0.0.0", token=LONG, scrape_token=Secret("x" * 24))

    assert settings.refusals("production") == []


def test_a_refusal_never_shows_the_token():
    """A token that is too short is still a secret."""
    refusals = OperationsSettings(token=Secret("hunter2")).refusals("production")

    assert "hunter2" not in "".join(refusals)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9000"),
        ("localhost", "http://localhost:9000"),
        ("10.1.2.3", "http://10.1.2.3:9000"),
        ("0.0.0.0", "http://127.0.0.1:9000"),
        ("", "http://127.0.0.1:9000"),
        ("::", "http://[::1]:9000"),
        ("::1", "http://[::1]:9000"),
    ],
)
def test_a_command_on_the_same_machine_finds_the_port(host, url):
    """Bound to all addresses, loopback is one of them."""
    assert OperationsSettings(host=host).url == url
