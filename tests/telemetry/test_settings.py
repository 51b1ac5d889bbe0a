"""The settings of the log."""

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
