"""What the files for Prometheus, Alertmanager and Grafana are told: section `monitoring`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shipworthy.redact import redact
from shipworthy.settings import duration, option, section

# Windows of rates are at least four scrapes long, else one that is late leaves a hole.
SCRAPES_IN_WINDOW: Final = 4
_WAYS: Final = "a webhook (https://...), mailto:ADDRESS, pagerduty:FILE or slack:FILE"


@section("monitoring")
@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    """What `shipworthy generate monitoring` writes, beside what is declared in the code."""

    job: str = option("shipworthy", "the name of the service in Prometheus: its label `job`")
    targets: tuple[str, ...] = option(
        (), "operations ports to scrape, as host:port; else operations.host and operations.port"
    )
    scrape_interval_seconds: float = duration(
        "15s", "how often Prometheus asks", minimum="1s", maximum="1m"
    )
    scrape_token_file: str = option(
        "", "the file, where Prometheus runs, that holds operations.scrape_token"
    )
    alertmanagers: tuple[str, ...] = option(
        ("127.0.0.1:9093",), "where Prometheus finds Alertmanager, as host:port"
    )
    page: tuple[str, ...] = option((), f"who is woken: {_WAYS}")
    ticket: tuple[str, ...] = option((), "who looks in working hours; the same forms")
    info: tuple[str, ...] = option((), "where the rest is only shown; the same forms")
    escalation: tuple[str, ...] = option(
        (), "who is woken when a page goes on for monitoring.escalate_after; the same forms"
    )
    escalate_after_seconds: float = duration(
        "30m", "how long a page may go on before it is escalated", minimum="1m"
    )
    heartbeat: tuple[str, ...] = option(
        (), "who expects a sign of life of the alarms themselves; the same forms"
    )
    smtp: str = option("", "the mail server for mailto:, as host:port")
    mail_from: str = option("", "the sender of mail")
    runbook_url: str = option(
        "", "where the folder runbooks/ is published; alerts then link to their page there"
    )
    scale: float = option(
        1.0,
        "what every window, wait and age is divided by; for drills, where nobody waits for hours",
        minimum=1.0,
        maximum=3600.0,
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what cannot be written as it is; only development may have alarms nobody hears."""
        found = [
            f"monitoring.{name}: {problem}"
            for name in ("page", "ticket", "info", "escalation", "heartbeat")
            for text in getattr(self, name)
            for problem in _problems(self, text)
        ]
        found += [
            f"monitoring.{name}: '{text}' is not host:port"
            for name in ("targets", "alertmanagers")
            for text in getattr(self, name)
            if not _is_address(text)
        ]
        if not self.job.strip() or not self.job.isprintable():
            found.append("monitoring.job: a service needs a name, of printable characters")
        if environment == "production" and self.scale != 1:
            found.append(f"monitoring.scale: {self.scale:g} is for drills; use 1")
        return found


def _problems(settings: MonitoringSettings, text: str) -> Iterator[str]:
    way, _, rest = text.partition(":")
    if way in ("http", "https"):
        parts = urlsplit(text)
        if not parts.hostname:
            yield f"'{redact(text)}' names no host"
        # A file that is committed is read by many; Alertmanager 0.25 reads no webhook from a file.
        if parts.username is not None or parts.password is not None or redact(text) != text:
            yield f"'{redact(text)}' holds a secret, and would stand in a file that is shared"
    elif way == "mailto" and "@" in rest:
        if not (settings.smtp and settings.mail_from):
            yield "mail needs monitoring.smtp and monitoring.mail_from"
    elif way not in ("pagerduty", "slack") or not rest:
        yield f"'{redact(text)}' is none of {_WAYS}"


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
