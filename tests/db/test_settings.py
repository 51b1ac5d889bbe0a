"""Section [db]: lengths that contradict each other are refused."""

import pytest

from shipworthy.db import DbSettings
from shipworthy.settings import Secret


def test_the_defaults_are_good_everywhere():
    """Nothing is refused of what nobody changed."""
    assert DbSettings().refusals("production") == []


def test_a_warning_that_is_never_reached_is_refused():
    """A statement that is cut before it would be named is a mistake in one of the numbers."""
    settings = DbSettings(statement_seconds=2.0, statement_warn_seconds=5.0)

    (refusal,) = settings.refusals("development")

    assert "statement_warn = 5 s is never reached" in refusal


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3cret nonsense", "db.url: it cannot be read; its form is postgresql+psycopg://"),
        ("postgresql://u:s3cret@host:port/x", "db.url: its port is no number"),
    ],
)
def test_a_url_that_is_none_is_refused_without_a_word_of_it(url, said):
    """Before anything is served: what keeps tables of its own there could not start."""
    (refusal,) = DbSettings(url=Secret(url)).refusals("production")

    assert refusal.startswith(said)
    assert "s3cret" not in refusal
    assert DbSettings(url=Secret("sqlite:///x.db")).refusals("production") == []


def test_no_limit_for_statements_contradicts_nothing():
    """0 is no limit, so any warning is reached."""
    assert DbSettings(statement_seconds=0.0).refusals("production") == []


def test_in_report_no_limit_of_ours_holds():
    """What is slow or leaked is told all the same."""
    settings = DbSettings(mode="report").in_force()

    assert settings.checkout_seconds == settings.connect_seconds == settings.statement_seconds == 0
    assert (settings.server_limit, settings.deadlocks) == (False, "wait")
    assert settings.statement_warn_seconds == settings.leak_after_seconds / 6 == 5.0


def test_enforced_is_what_was_written():
    """And that is the default."""
    assert DbSettings().in_force() == DbSettings()
