import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.settings import load
from shipworthy.web import IdempotencySettings, WebSettings, guards


def settled(tmp_path, **environ):
    said = {f"SHIPWORTHY_WEB__{name.upper()}": value for name, value in environ.items()}
    return load(environ=said, directory=tmp_path)


def test_by_default_every_guard_enforces_what_changes_nothing_that_is_meant(tmp_path):
    """The guards in their order, each with its mode, as `run --dry-run` shows them.

    Keys need a table in the application's database, so they are for the team to switch on, and so
    is https, which only the team knows it has. What may refuse a page of the application's own, or
    a client of its own, only reports.
    """
    assert guards(settled(tmp_path)) == (
        ("ids", "enforce"),
        ("metrics", "enforce"),
        ("access line", "enforce"),
        ("traces", "off"),
        ("headers", "enforce"),
        ("csp", "report"),
        ("probes", "enforce"),
        ("host", "report"),
        ("https", "off"),
        ("drain", "enforce"),
        ("admission", "report"),
        ("limits", "report"),
        ("csrf", "report"),
        ("body", "enforce"),
        ("door", "enforce"),
        ("idempotency", "off"),
        ("replay", "enforce"),
        ("problems", "enforce"),
    )


def test_what_is_turned_off_is_shown_as_off(tmp_path):
    """Access line, problems and probes can be left out."""
    shown = dict(
        guards(
            settled(
                tmp_path,
                access_log="false",
                problems="report",
                live_path="",
                ready_path="",
                startup_path="",
            )
        )
    )

    assert (shown["access line"], shown["problems"], shown["probes"]) == ("off", "report", "off")


def test_an_unknown_mode_is_refused(tmp_path):
    """The choices are named."""
    with pytest.raises(SettingsInvalid, match="enforce"):
        settled(tmp_path, problems="loud")


@pytest.mark.parametrize("path", ["livez", "/live z", "/livez?x=1", "/livez\n"])
def test_a_probe_path_that_no_request_can_have_is_refused(tmp_path, path):
    """It begins with a slash and has nothing in it that ends a path."""
    settings = settled(tmp_path, live_path=path)

    assert any("web.live_path" in sentence for sentence in settings.refusals())
    assert WebSettings().refusals("production") == []


def test_what_cannot_be_a_method_a_path_or_a_header_is_refused():
    """It would never be met, and the guard would never act."""
    assert WebSettings(replay_methods=("GET", "post")).refusals("development") == [
        "web.replay_methods: 'post' is no method; write it in upper case"
    ]
    keys = IdempotencySettings(
        methods=("POST", ""), required=("orders", "/orders/*"), identity=("Cookie", "x-api-key")
    )
    assert keys.refusals("production") == [
        "idempotency.methods: '' is no method; write it in upper case",
        "idempotency.required: 'orders' is no path; begin it with a slash",
        "idempotency.identity: 'Cookie' is no header; write it in lower case",
    ]
    assert IdempotencySettings().refusals("production") == []


def test_a_key_is_not_forgotten_while_its_request_is_worked_on():
    """It would be run a second time meanwhile."""
    assert IdempotencySettings(keep_seconds=60.0, lease_seconds=60.0).refusals("production") == []
    (sentence,) = IdempotencySettings(keep_seconds=60.0, lease_seconds=61.0).refusals("production")

    assert "idempotency.keep" in sentence
    assert "idempotency.lease" in sentence
