"""The settings of the log."""

import re

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.settings import load
from shipworthy.telemetry import LogSettings


def test_the_log_is_for_whoever_reads_it_and_from_info_on() -> None:
    """The defaults: text on a terminal, JSON elsewhere, nothing quieter than info."""
    assert LogSettings() == LogSettings(level="info", format="auto")


@pytest.mark.parametrize(("key", "value"), [("LEVEL", "loud"), ("FORMAT", "xml")])
def test_a_level_or_format_that_is_none_is_refused(key: str, value: str) -> None:
    """The refusal names what there is."""
    with pytest.raises(SettingsInvalid, match=value):
        load(environ={f"SHIPWORTHY_LOG__{key}": value})


def test_a_file_is_bounded_unless_somebody_wants_it_otherwise() -> None:
    """100 MiB, and ten that were put aside: 1.1 GiB for each service, and no more."""
    settings = LogSettings()

    assert (settings.file, settings.rotate_size_bytes, settings.keep) == ("", 100 * 2**20, 10)
    assert settings.rotate_age_seconds == 0
    with pytest.raises(SettingsInvalid, match=r"log\.keep"):
        load(environ={"SHIPWORTHY_LOG__KEEP": "-1"})


PATH, DIRECTORY, TOKEN = (
    "SHIPWORTHY_METRICS__" + name for name in ("PATH", "SHARED_DIRECTORY", "TOKEN")
)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({PATH: "/metrics", TOKEN: "t"}, "each worker would show its own part"),
        ({PATH: "/metrics", DIRECTORY: "x"}, r"metrics\.token: not set while metrics\.path is"),
        ({DIRECTORY: "x"}, r"metrics\.path: not set while metrics\.shared_directory is"),
        ({TOKEN: "t"}, r"metrics\.path: not set while metrics\.token is"),
        ({PATH: "metrics", DIRECTORY: "x", TOKEN: "t"}, "'metrics' is no path"),
    ],
)
def test_metrics_are_shown_whole_and_not_to_everybody(given: dict[str, str], says: str) -> None:
    """A part for the whole is refused at the start."""
    refused = load(environ=given).refusals()
    assert len(refused) == 1
    assert re.search(says, refused[0])
    assert load(environ={PATH: "/m", DIRECTORY: "x", TOKEN: "t"}).refusals() == []
