"""The section [actor]: what could let anybody name himself does not start."""

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.settings import Secret, load
from shipworthy.web import ActorFinder, ActorSettings


def test_settings_that_let_anybody_name_himself_are_refused(tmp_path):
    """With what to do about it."""
    assert ActorSettings().refusals("production") == []
    (told,) = ActorSettings(from_=("header:X-User", "what?")).refusals("")
    environ = {"SHIPWORTHY_ACTOR__FROM": "header:X-User"}
    (forged,) = load(environ=environ, directory=tmp_path).refusals()
    environ["SHIPWORTHY_CLIENT__TRUSTED_PROXIES"] = "10.0.0.7"

    assert "'what?'" in told
    assert "client.trusted_proxies" in forged
    assert load(environ=environ, directory=tmp_path).refusals() == []
    no_key = Secret("-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----")
    with pytest.raises(SettingsInvalid, match="jwt_key"):
        ActorFinder(ActorSettings(from_=("jwt:sub",), jwt_key=no_key), str)


def test_the_key_of_the_setting_is_a_word_of_python(tmp_path):
    """`from`, in the file and in the environment."""
    environ = {"SHIPWORTHY_ACTOR__FROM": "scope.user"}

    assert load(environ=environ, directory=tmp_path).of(ActorSettings).from_ == ("scope.user",)
