"""The section [pages]."""

from shipworthy.db.page_settings import PageSettings
from shipworthy.settings import Secret


def test_short_keys_are_refused_outside_development() -> None:
    """A key of less than 32 characters is refused in production, by its number and never shown."""
    settings = PageSettings(keys=Secret(f"{'k' * 32}\nshort-one"))

    assert settings.refusals("development") == []
    assert settings.refusals("production") == [
        "pages.keys: key 2 has 9 characters, use at least 32 random ones"
    ]


def test_a_service_without_pages_needs_no_key() -> None:
    """Nothing is refused when no key is set, since nothing may be paged."""
    assert PageSettings().refusals("production") == []
