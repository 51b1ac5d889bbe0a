"""The sections [hosts] and [https]: which hosts are named, and where https is asked for."""

import pytest

from shipworthy.web import HostSettings, HttpsSettings


def test_what_is_no_host_is_refused_in_the_settings():
    """With what to write, in every environment."""
    right = ("shop.example", "*.shop.example", "*", "192.0.2.1", "::1", "[2001:db8::1]", "a_b")
    wrong = (
        "https://shop.example",
        "shop.example:80",
        "[::1]:80",
        "",
        "*.",
        "**.x",
        "a/b",
        "ü.example",
    )

    assert HostSettings(allowed=right).refusals("production") == []
    told = HostSettings(allowed=wrong).refusals("development")
    assert [sentence.split("'")[1] for sentence in told] == list(wrong)


def test_the_hosts_are_read_once_in_the_way_that_requests_name_them():
    """Lower case, IPv6 in brackets, and what is below another by its end."""
    settings = HostSettings(allowed=("Shop.example.", "::1", "*.Shop.example"))

    assert settings.names() == (frozenset({"shop.example", "[::1]"}), (".shop.example",))
    assert HostSettings().names() is None
    assert HostSettings(allowed=("shop.example", "*")).names() is None


@pytest.mark.parametrize("mode", ["off", "report", "enforce"])
def test_where_one_develops_https_is_not_asked_for(mode):
    """Whatever the settings say, which a team shares."""
    settings = HttpsSettings(mode=mode)

    assert settings.mode_in("development") == "off"
    assert settings.mode_in("staging") == settings.mode_in("production") == mode
