"""The section `serve`."""

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.serve import ServeSettings
from shipworthy.settings import load


def test_the_defaults_listen_on_loopback_only() -> None:
    """Nobody is exposed by starting it."""
    assert (ServeSettings().host, ServeSettings().port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("key", "text"),
    [("SERVE__PORT", "65536"), ("SERVE__LOOP", "trio"), ("SERVE__KEEP_ALIVE", "5")],
)
def test_values_that_cannot_be_are_refused_with_their_place(key: str, text: str) -> None:
    """Out of range, unknown word, number without its unit."""
    with pytest.raises(SettingsInvalid, match=f"SHIPWORTHY_{key}"):
        load(environ={f"SHIPWORTHY_{key}": text})
