"""A secret that everybody tries, or that is too short to stand, is none."""

import pytest

from shipworthy.settings import load
from shipworthy.settings.weak import weakness


@pytest.mark.parametrize(
    ("secret", "least", "told"),
    [
        ("", 16, ""),
        ("Plover-Lantern-48", 16, ""),
        ("Plover-48", 0, ""),
        ("Plover-48", 16, "it has 9 characters"),
        ("changeme", 0, "everybody"),
        ("ChangeMe", 16, "everybody"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", 16, "it repeats 1 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", 0, ""),
        ("postgresql://app:postgres@db/shop", 0, "its password"),
        ("postgresql://app:%70ostgres@db/shop", 0, "its password"),
        ("postgresql://app:Plover-48@db/shop", 0, ""),
        ("postgresql://app@postgres/postgres", 0, ""),
        ("sqlite:///password", 0, ""),
        ("https://hooks.example/secret", 0, ""),
    ],
)
def test_what_is_wrong_with_a_secret(secret, least, told):
    """Of a URL the password counts; a length counts where we compare the secret ourselves."""
    found = weakness(secret, least_characters=least)
    assert (told in found) if told else found == ""


def test_production_and_staging_refuse_a_weak_secret_and_say_which(tmp_path):
    """Never with the secret in the sentence; a developer may have what suits them."""
    said = {"SHIPWORTHY_DOOR__TOKEN": "ChangeMe"}

    def refusals(environment):
        return load(environ=said, directory=tmp_path, environment=environment).refusals()

    assert refusals("development") == []
    assert refusals("staging") == ["door.token: it is one that everybody tries"]
    assert refusals("production") == refusals("staging")
