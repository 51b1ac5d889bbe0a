"""What could never reach anybody is refused at the start, in a sentence."""

import pytest

from shipworthy.settings import Secret
from shipworthy.telemetry.alert_settings import AlertSettings

WEBHOOK = Secret("https://hooks.example.com/T0/secret-part")
MAIL = {"email_to": ("ops@example.com",), "email_from": "shop@example.com", "smtp": "mail:587"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"webhook": Secret("hooks.example.com")}, "alerts.webhook: it is no http"),
        ({"webhook": Secret("ftp://hooks.example.com")}, "alerts.webhook: it is no http"),
        ({"webhook": Secret("http://[::1")}, "alerts.webhook: it is no http"),
        ({"webhook": Secret("http://host:99999/")}, "alerts.webhook: it is no http"),
        ({"webhook": Secret("http://host/a b")}, "alerts.webhook: it is no http"),
        ({"webhook_token": Secret("token")}, "alerts.webhook is not"),
        ({"webhook": WEBHOOK, "webhook_token": Secret("a\r\nX: b")}, "a line break"),
        ({**MAIL, "email_to": ("ops",)}, "alerts.email_to: 'ops' is no mail address"),
        ({**MAIL, "email_to": ("a@b\r\nBcc: c@d",)}, "is no mail address"),
        ({**MAIL, "email_from": "Shop <shop@example.com>"}, "alerts.email_from:"),
        ({**MAIL, "email_from": ""}, "alerts.email_from: not set"),
        ({**MAIL, "smtp": ""}, "alerts.smtp: not set"),
        ({**MAIL, "smtp": "mail.example.com"}, "alerts.smtp: 'mail.example.com' is not host:port"),
        ({**MAIL, "smtp": "mail:0"}, "is not host:port"),
        ({**MAIL, "smtp_user": "shop"}, "alerts.smtp_password: not set"),
        ({**MAIL, "smtp_password": Secret("x")}, "alerts.smtp_user: not set"),
        (
            {**MAIL, "smtp_user": "a", "smtp_password": Secret("b"), "smtp_security": "none"},
            "show the password",
        ),
        ({"webhook": Secret("https://shop:pw@hooks.example")}, "which is not sent"),
        ({"webhook_urgencies": ("pages",)}, "alerts.webhook_urgencies: 'pages'"),
        ({"email_urgencies": ("page", "all")}, "alerts.email_urgencies: 'all'"),
    ],
)
def test_it_is_refused_with_what_to_do(settings: dict[str, object], says: str) -> None:
    """In one sentence that names the setting, in every environment."""
    (problem,) = AlertSettings(**settings).refusals("development")  # type: ignore[arg-type]
    assert says in problem
    assert "\n" not in problem


def test_a_webhook_that_is_wrong_is_not_shown() -> None:
    """Its address may be the secret."""
    (problem,) = AlertSettings(webhook=Secret("htps://hooks/s3cret")).refusals("production")
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"webhook": WEBHOOK, "webhook_token": Secret("token")},
        MAIL,
        {**MAIL, "smtp": "[::1]:25", "smtp_security": "none"},
        {
            **MAIL,
            "smtp": "127.0.0.1:25",
            "smtp_user": "a",
            "smtp_password": Secret("b"),
            "smtp_security": "none",
        },
    ],
)
def test_what_can_work_is_accepted(settings: dict[str, object]) -> None:
    """Nothing set, a webhook, mail; also without secrecy where the server is on this machine."""
    assert AlertSettings(**settings).refusals("production") == []  # type: ignore[arg-type]


def test_the_address_of_the_mail_server_is_read() -> None:
    """With brackets around what has colons of its own."""
    assert AlertSettings(smtp="[::1]:25").smtp_address == ("::1", 25)
    assert AlertSettings(smtp="mail:587").smtp_address == ("mail", 587)
