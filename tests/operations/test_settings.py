"""What the settings of the operations port are by default, and what production refuses."""

import pytest

from shipworthy.operations import OperationsSettings
from shipworthy.settings import load


def test_the_defaults_listen_on_loopback_and_need_nothing():
    """Unset, the port is 127.0.0.1:9000, and no environment objects."""
    settings = OperationsSettings()

    assert (settings.host, settings.port, settings.allowed_hosts) == ("127.0.0.1", 9000, ())
    assert settings.refusals("production") == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("HOST", "0.0.0.0", "operations.token: not set"),
        ("TOKEN", "shorter", "operations.token: it has 7 characters, use 24"),
        ("SCRAPE_TOKEN", "abcdefgh" * 2 + "abcdefg", "operations.scrape_token: it has 23"),
        ("SCRAPE_TOKEN", "xy" * 20, "operations.scrape_token: it repeats 2 characters"),
    ],
)
def test_production_refuses_what_can_be_guessed_or_not_used(tmp_path, key, value, words):
    """Production and staging say what is wrong with its numbers; development lets it be."""
    said = {f"SHIPWORTHY_OPERATIONS__{key}": value}

    def refusals(environment):
        return load(environ=said, directory=tmp_path, environment=environment).refusals()

    (sentence,) = refusals("production")
    assert sentence.startswith(words)
    assert refusals("staging") == [sentence]
    assert refusals("development") == []
    assert value == "0.0.0.0" or value not in sentence


def test_production_accepts_a_port_for_all_with_a_long_token(tmp_path):
    """Off loopback with a token of 24 characters or more is fine."""
    said = {
        "SHIPWORTHY_OPERATIONS__HOST": "0.0.0.0",
        "SHIPWORTHY_OPERATIONS__TOKEN": "a-token-of-thirty-two-characters",
        "SHIPWORTHY_OPERATIONS__SCRAPE_TOKEN": "Plover-Lantern-Wheatear-",
    }
    assert load(environ=said, directory=tmp_path, environment="production").refusals() == []


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
