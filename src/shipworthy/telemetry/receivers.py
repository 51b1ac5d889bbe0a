"""Who is told of alerts: a webhook over HTTP, people by mail. Each attempt is bounded.

Not here: the post itself, and how a connection that takes too long is cut (`posting`).
"""

import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final, Protocol, final

import orjson
from typing_extensions import override

from shipworthy.errors import ShipworthyError
from shipworthy.redact import printable, redact
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import Message
from shipworthy.telemetry.messages import mail_of, webhook_of
from shipworthy.telemetry.posting import cut_after, post

ATTEMPTS: Final = 3
_FIRST_PAUSE_SECONDS: Final = 1.0
_SAID_CHARACTERS: Final = 200


class ReceiverRefused(ShipworthyError):
    """A receiver answered that it will not take a message; the text says how it said so."""


class Receiver(Protocol):
    """Somebody who is told."""

    name: str

    def tell(self, message: Message, offset_seconds: float) -> None:
        """Tell once, within the timeout; raises what kept it from being told."""
        ...


@final
class Webhook(Receiver):
    """Posts each message as JSON, in the form of Alertmanager."""

    name = "webhook"

    def __init__(self, settings: AlertSettings, *, url: str) -> None:
        self._to = settings.webhook.reveal()
        self._token = settings.webhook_token.reveal()
        self._timeout_seconds = settings.timeout_seconds
        self._url = url

    @override
    def tell(self, message: Message, offset_seconds: float) -> None:
        facts = webhook_of(
            message, offset_seconds=offset_seconds, receiver=self.name, url=self._url
        )
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        answer = post(self._to, orjson.dumps(facts), headers, timeout_seconds=self._timeout_seconds)
        if not 200 <= answer.status < 300:
            raise ReceiverRefused(f"it answered {answer.status}")


@final
class Mail(Receiver):
    """Sends each message to all addresses in one mail."""

    name = "email"

    def __init__(self, settings: AlertSettings, *, url: str) -> None:
        self._settings = settings
        self._url = url

    @override
    def tell(self, message: Message, offset_seconds: float) -> None:
        chosen = self._settings
        subject, text = mail_of(message, offset_seconds=offset_seconds, url=self._url)
        mail = EmailMessage()
        mail["From"], mail["To"] = chosen.email_from, ", ".join(chosen.email_to)
        mail["Subject"] = subject
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=chosen.email_from.rpartition("@")[2])
        mail.set_content(text)
        with self._server() as server:
            server.send_message(mail)

    @contextmanager
    def _server(self) -> Iterator[smtplib.SMTP]:
        chosen = self._settings
        host, port = chosen.smtp_address
        secure = ssl.create_default_context()
        timeout = chosen.timeout_seconds
        server: smtplib.SMTP
        if chosen.smtp_security == "tls":
            server = smtplib.SMTP_SSL(timeout=timeout, context=secure)
        else:
            server = smtplib.SMTP(timeout=timeout)
        # What `starttls` checks the certificate against; `connect` does not set it.
        server._host = host  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            with cut_after(timeout, lambda: server.sock):
                server.connect(host, port)
                if chosen.smtp_security == "starttls":
                    server.starttls(context=secure)
                if chosen.smtp_user:
                    server.login(chosen.smtp_user, chosen.smtp_password.reveal())
                yield server
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()
        finally:
            server.close()


def receivers_of(
    settings: AlertSettings, *, url: str
) -> Iterator[tuple[Receiver, tuple[str, ...]]]:
    """Yield whom the settings name, each with the urgencies it is told of."""
    if settings.webhook:
        yield Webhook(settings, url=url), settings.webhook_urgencies
    if settings.email_to:
        yield Mail(settings, url=url), settings.email_urgencies


def reason(error: Exception) -> str:
    """Say in one line why a receiver was not told; whoever answers may say secrets back to us."""
    text = str(error) or type(error).__name__
    return printable(redact(text))[:_SAID_CHARACTERS]


@final
class Wire:
    """The way to one receiver: a thread while something is told, and nothing that waits.

    What is to be told is decided when the line is free, so a receiver that hangs costs only its own
    line, and hears the newest when it hears again.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        pause: Callable[[float], object] | None = None,
        done: Callable[[Message, Exception | None], None],
    ) -> None:
        self.receiver = receiver
        self._ended = threading.Event()
        self._pause = pause or self._ended.wait
        self._done = done
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being told."""
        return self._thread is not None and self._thread.is_alive()

    def tell(self, message: Message, offset_seconds: float) -> None:
        """Begin to tell; `done` hears how it ended, in the line's own thread."""
        self._thread = threading.Thread(
            target=self._tell,
            args=(message, offset_seconds),
            name=f"shipworthy-{self.receiver.name}",
            daemon=True,
        )
        self._thread.start()

    def end(self) -> None:
        """Try nothing again; what is under way ends by itself."""
        self._ended.set()

    def _tell(self, message: Message, offset_seconds: float) -> None:
        trouble: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt and (self._pause(_FIRST_PAUSE_SECONDS * 4.0 ** (attempt - 1)) is True):
                break
            try:
                self.receiver.tell(message, offset_seconds)
            except Exception as error:  # noqa: BLE001 - whatever it is, the line must live
                trouble = error
            else:
                trouble = None
                break
        self._done(message, trouble)
