"""Who is told of alerts: a webhook over HTTP, people by mail. Each attempt is bounded as a whole.

A webhook may be told twice, as Alertmanager does: by its `groupKey` it knows what it had. A mail is
not sent again once it was sent whole, whatever the server says or does not say after that.

Not here: the post itself, and how an exchange that takes too long is cut (`posting`).
"""

import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final, Protocol, final

import orjson
from typing_extensions import override

from shipworthy.errors import ShipworthyError
from shipworthy.redact import printable, redact
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import Message
from shipworthy.telemetry.messages import mail_of, webhook_of
from shipworthy.telemetry.posting import TimeBound, post, secured

ATTEMPTS: Final = 3
_FIRST_PAUSE_SECONDS: Final = 1.0
_SAID_CHARACTERS: Final = 200
_GREETING: Final = 220
_END_OF_MAIL: Final = b"\r\n.\r\n"


class ReceiverRefused(ShipworthyError):
    """A receiver answered that it will not take a message; the text says how it said so."""


class DeliveryDoubtful(ShipworthyError):
    """What was sent may not have reached everybody, and is not sent again; the text says why."""


class Receiver(Protocol):
    """Somebody who is told."""

    name: str

    def tell(self, message: Message, offset_seconds: float) -> None:
        """Tell once, within the timeout; raises what kept it from being told.

        `DeliveryDoubtful` where it is not to be told again all the same.
        """
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
        server = _MailServer()
        refused: Mapping[str, tuple[int, bytes]] = {}
        with TimeBound(chosen.timeout_seconds) as cut, closing(server):
            self._sign_in(server, cut)
            try:
                refused = server.send_message(mail)
            except OSError as error:
                refusal = isinstance(error, smtplib.SMTPDataError) and error.smtp_code > 0
                if refusal or not server.all_sent:
                    raise
                raise DeliveryDoubtful(
                    "the mail was sent, and the server did not say whether it took it "
                    f"({error}); it is not sent again"
                ) from error
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
        if refused:
            raise DeliveryDoubtful(
                f"the server took the mail, but not for {_refusals(refused)}; it is not sent again"
            )

    def _sign_in(self, server: "_MailServer", cut: TimeBound) -> None:
        chosen = self._settings
        host, port = chosen.smtp_address
        # What `starttls` checks the certificate against.
        server._host = host  # type: ignore[attr-defined]  # noqa: SLF001
        sock = cut.connected(host, port)
        server.sock = secured(sock, host) if chosen.smtp_security == "tls" else sock
        code, said = server.getreply()
        if code != _GREETING:
            raise smtplib.SMTPConnectError(code, said)
        if chosen.smtp_security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if chosen.smtp_user:
            server.login(chosen.smtp_user, chosen.smtp_password.reveal())


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
                if isinstance(error, DeliveryDoubtful):
                    break
            else:
                trouble = None
                break
        self._done(message, trouble)


@final
class _MailServer(smtplib.SMTP):
    """A mail server; `all_sent` is whether it was sent the end of a mail, and may have taken it."""

    all_sent = False

    @override
    def send(self, s: Any) -> None:
        super().send(s)
        # Nothing else that is said has this end.
        self.all_sent |= isinstance(s, bytes) and s.endswith(_END_OF_MAIL)


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(
        f"{address} ({code} {said.decode(errors='replace')})"
        for address, (code, said) in refused.items()
    )
