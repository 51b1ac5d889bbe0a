"""The settings of the guards against what browsers can be made to do."""

import pytest

from shipworthy import harden
from shipworthy.errors import SettingsInvalid
from shipworthy.settings import load
from shipworthy.web import undecided, unsealed

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def settled(tmp_path):
    def load_with(environment="development", **environ):
        said = {f"SHIPWORTHY_{name}": value for name, value in environ.items()}
        return load(environ=said, directory=tmp_path, environment=environment)

    return load_with


def test_by_default_nothing_is_refused(settled):
    """In any environment."""
    assert settled("production").refusals() == []


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"HEADERS__REFERRER": "a\nb"}, "headers.referrer: a header holds printable ASCII"),
        ({"HEADERS__PERMISSIONS": "ä"}, "headers.permissions: a header holds printable ASCII"),
        ({"HEADERS__NO_STORE": "account"}, "headers.no_store: 'account' is no path"),
        ({"HEADERS__HSTS_SUBDOMAINS": "true"}, "has no effect without headers.hsts"),
        ({"CSP__POLICY": "script 'self'"}, "csp.policy: 'script' is no directive"),
        ({"CSP__REPORT_PATH": "csp"}, "csp.report_path: 'csp' is no path"),
        ({"CSRF__TRUSTED_ORIGINS": "shop.example"}, "'shop.example' is no origin"),
        ({"CSRF__TRUSTED_ORIGINS": "https://*.shop.example"}, "is no origin"),
        ({"CSRF__TRUSTED_ORIGINS": "null"}, "'null' is no origin"),
        ({"CSRF__EXEMPT": "webhooks"}, "csrf.exempt: 'webhooks' is no path"),
        ({"CSRF__KEY_HEADERS": "cookie"}, "'cookie' is no header that could hold a key"),
        ({"CSRF__KEY_HEADERS": "X-Key"}, "'X-Key' is no header"),
        (
            {"CSRF__SECRET": "short", "CSRF__SESSION_COOKIE": "sid"},
            "csrf.secret: 5 characters can be guessed",
        ),
        ({"CSRF__SECRET": SECRET}, "csrf.session_cookie: is empty"),
        ({"CSRF__SESSION_COOKIE": "a;b"}, "'a;b' cannot be the name of a cookie"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(settled, environ, says):
    """One sentence each, and no secret in it; the application does not start with it."""
    settings = settled(**environ)
    (refusal,) = settings.refusals()
    assert says in refusal
    with pytest.raises(SettingsInvalid):
        harden(lambda scope: None, settings=settings)


def test_a_secret_may_come_from_a_file(settled, tmp_path):
    """As every secret may."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    settings = settled(CSRF__SECRET_FILE=str(file), CSRF__SESSION_COOKIE="sid")
    assert settings.refusals() == []


@pytest.mark.parametrize(
    ("environment", "environ", "names"),
    [
        ("development", {}, ""),
        ("staging", {}, ""),
        ("production", {}, "csp and csrf only report,"),
        ("production", {"CSRF__MODE": "enforce"}, "csp only reports,"),
        ("production", {"CSP__MODE": "report"}, "csrf only reports,"),
        ("production", {"CSP__MODE": "report", "CSRF__MODE": "report"}, ""),
        ("production", {"CSP__MODE": "off", "CSRF__MODE": "enforce"}, ""),
    ],
)
def test_production_asks_for_a_decision_until_there_is_one(settled, environment, environ, names):
    """One remark names what nobody has decided; who said report has."""
    remarks = list(undecided(settled(environment, **environ)))
    assert [remark[: len(names)] for remark in remarks] == ([names] if names else [])


def test_that_no_token_can_help_is_said_where_it_counts(settled):
    """Only where requests are refused for the lack of one."""
    assert list(unsealed(settled())) == []
    (remark,) = unsealed(settled(CSRF__MODE="enforce"))
    assert "csrf.secret is not set" in remark
    sealed = settled(CSRF__MODE="enforce", CSRF__SECRET=SECRET, CSRF__SESSION_COOKIE="sid")
    assert list(unsealed(sealed)) == []


def test_a_hull_says_it_among_its_remarks(settled):
    """Which the log, `/health` and `--dry-run` show."""

    async def app(scope, receive, send):
        pass

    hull = harden(app, settings=settled("production", WEB__ACCESS_LOG="false", HOSTS__ALLOWED="*"))
    assert [remark.startswith("csp and csrf only report") for remark in hull.remarks].count(
        True
    ) == 1
