"""What `[monitoring]` refuses, and that no secret gets into a file that is shared."""

import pytest

from shipworthy.deploy import MonitoringSettings


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (MonitoringSettings(page=("pager",)), "'pager' is none of a webhook"),
        (MonitoringSettings(page=("https://",)), "names no host"),
        (MonitoringSettings(page=("https://u:hunter2hunter2@x.example/",)), "holds a secret"),
        (MonitoringSettings(ticket=("https://x.example/?token=abcdef123456",)), "holds a secret"),
        (MonitoringSettings(info=("mailto:a@x.example",)), "mail needs monitoring.smtp"),
        (MonitoringSettings(info=("mailto:nobody",)), "is none of"),
        (MonitoringSettings(heartbeat=("slack:",)), "is none of"),
        (MonitoringSettings(targets=("localhost",)), "'localhost' is not host:port"),
        (MonitoringSettings(targets=("localhost:0",)), "is not host:port"),
        (MonitoringSettings(alertmanagers=("x:99999",)), "is not host:port"),
        (MonitoringSettings(job=" "), "needs a name"),
        (MonitoringSettings(job="a\nb"), "of printable characters"),
        (MonitoringSettings(scale=60.0), "60 is for drills"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_key(
    settings: MonitoringSettings, complaint: str
) -> None:
    """One sentence for each, which repeats no secret."""
    (sentence,) = settings.refusals("production")
    assert sentence.startswith("monitoring.")
    assert complaint in sentence
    assert "hunter2" not in sentence
    assert "abcdef" not in sentence


def test_receivers_of_each_kind_are_taken() -> None:
    """A webhook, mail with its server, and keys that stay in files of their own."""
    settings = MonitoringSettings(
        page=("https://pager.example/hook", "pagerduty:/etc/keys/pagerduty"),
        ticket=("mailto:ops@shop.example", "slack:/etc/keys/slack"),
        targets=("[::1]:9000",),
        smtp="mail.example:587",
        mail_from="a@shop.example",
    )
    assert settings.refusals("production") == []
    assert MonitoringSettings(scale=60.0).refusals("development") == []
