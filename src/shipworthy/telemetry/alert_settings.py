"""Who is told of alerts that `run` evaluates itself: section [alerts]."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from shipworthy.events import Urgency
from shipworthy.redact import printable
from shipworthy.settings import Secret, duration, option, secret, section

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@section("alerts")
@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """How often alerts are evaluated, and who is told besides the log."""

    every_seconds: float = duration(
        "15s", "from one evaluation of all alerts to the next; 0 evaluates none", maximum="5m"
    )
    wait_seconds: float = duration(
        "10s", "how long the first message of an alert waits for more of it", maximum="10m"
    )
    change_seconds: float = duration(
        "5m", "from one message of an alert to the next when it has changed", maximum="1h"
    )
    repeat_seconds: float = duration(
        "4h", "from one message of an alert to the next while it goes on", minimum="1m"
    )
    again_seconds: float = duration(
        "1m",
        "when a receiver that could not be told is tried again",
        minimum="1s",
        maximum="1h",
    )
    timeout_seconds: float = duration(
        "10s", "how long one attempt to tell a receiver may take", minimum="1s", maximum="60s"
    )
    webhook: Secret = secret(  # noqa: RUF009 - it makes a field
        "the URL that is told of alerts, in the form in which Alertmanager tells webhooks"
    )
    webhook_token: Secret = secret("a bearer token for the webhook")  # noqa: RUF009
    webhook_urgencies: tuple[str, ...] = option(
        ("page", "ticket"), "which alerts the webhook is told of: page, ticket, info"
    )
    email_to: tuple[str, ...] = option((), "the addresses that are told of alerts by mail")
    email_from: str = option("", "the sender of that mail")
    email_urgencies: tuple[str, ...] = option(
        ("page", "ticket"), "which alerts are told by mail: page, ticket, info"
    )
    smtp: str = option("", "the mail server, as host:port")
    smtp_security: Literal["starttls", "tls", "none"] = option(
        "starttls", "how the connection to the mail server is kept secret"
    )
    smtp_user: str = option("", "the name to sign in with at the mail server")
    smtp_password: Secret = secret("the password for that")  # noqa: RUF009

    @property
    def smtp_address(self) -> tuple[str, int]:
        """The mail server as host and port; an empty host where it is none."""
        host, _, port = self.smtp.rpartition(":")
        host = host.strip("[]")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            return "", 0
        return host, int(port)

    def refusals(self, environment: str) -> list[str]:
        """Name what could never reach anybody; it is refused everywhere."""
        del environment
        return [*self._about_webhook(), *self._about_mail(), *self._about_urgencies()]

    def _about_webhook(self) -> Iterator[str]:
        url = self.webhook.reveal()
        if url and not _is_url(url):
            # The text may hold a token, so it is not shown.
            yield "alerts.webhook: it is no http:// or https:// address; write one"
        elif "@" in urlsplit(url).netloc:
            yield (
                "alerts.webhook: it has a name or a password before the host, which is not sent; "
                "give the receiver a token with alerts.webhook_token"
            )
        if self.webhook_token and not url:
            yield "alerts.webhook_token: it is set and alerts.webhook is not; set both, or none"
        token = self.webhook_token.reveal()
        if not (token.isascii() and token.isprintable()):
            yield "alerts.webhook_token: it has a line break or a character that is not ASCII"

    def _about_mail(self) -> Iterator[str]:
        addresses = [("email_to", one) for one in self.email_to]
        if self.email_from:
            addresses.append(("email_from", self.email_from))
        for name, address in addresses:
            if not _is_address(address):
                yield f"alerts.{name}: {_shown(address)} is no mail address; write name@host"
        if self.email_to and not self.email_from:
            yield "alerts.email_from: not set, and mail needs a sender; set it beside email_to"
        if self.email_to and not self.smtp:
            yield "alerts.smtp: not set, and mail needs a server; set it as host:port"
        if self.smtp and not self.smtp_address[0]:
            yield f"alerts.smtp: {_shown(self.smtp)} is not host:port, as in mail.example.com:587"
        if bool(self.smtp_user) != bool(self.smtp_password):
            given, missing = ("user", "password") if self.smtp_user else ("password", "user")
            yield f"alerts.smtp_{missing}: not set while smtp_{given} is; set both, or none"
        exposed = self.smtp_security == "none" and self.smtp_address[0] not in _LOOPBACK
        if self.smtp_password and exposed:
            yield (
                "alerts.smtp_security: 'none' would show the password to the network; use starttls "
                "or tls"
            )

    def _about_urgencies(self) -> Iterator[str]:
        for name in ("webhook_urgencies", "email_urgencies"):
            for one in getattr(self, name):
                if one not in list(Urgency):
                    known = ", ".join(Urgency)
                    yield f"alerts.{name}: {_shown(one)} is not an urgency; there are {known}"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and text.isascii()
            and text.isprintable()
            and " " not in text
        )
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    name, _, host = text.rpartition("@")
    return bool(name and host) and text.isprintable() and not set(text) & set(' <>,"')


def _shown(text: str) -> str:
    return f"'{printable(text[:100])}'"
