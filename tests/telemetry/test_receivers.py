"""Receivers are told over real sockets, and one that hangs is given up in time."""

import email
import email.policy
import ssl
import threading
import time
from base64 import b64decode
from pathlib import Path
from queue import Queue

import pytest
import trustme
from typing_extensions import override

from alert_sinks import mail_sink, webhook_sink
from shipworthy.events import Alert, Compared, Declared, Metric, Number, Selection, Urgency, Value
from shipworthy.settings import Secret
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import AlertState, Message, Raised
from shipworthy.telemetry.receivers import (
    ATTEMPTS,
    DeliveryDoubtful,
    Mail,
    Receiver,
    ReceiverRefused,
    Webhook,
    Wire,
    reason,
    receivers_of,
)

POOL = Metric("t_pool", "gauge", "Used.", {"pool": Declared()})
ALERT = Alert(
    name="PoolFull",
    when=Compared(Value(Selection(metric=POOL, by=("pool",))), ">", Number(0.9)),
    for_seconds=0.0,
    urgency=Urgency.PAGE,
    summary="pool {pool} is full: {value}",
    cause="c",
    look="l",
    act="a",
    drill="d",
)
RAISED = Raised(alert=ALERT, labels=("ä",), state=AlertState.FIRING, value=1.0, since=0.0)
MESSAGE = Message(alert=ALERT, firing=(RAISED,), over=())
URL = "http://127.0.0.1:9000/"


def test_a_webhook_gets_the_message_and_the_token() -> None:
    """At the path and query that were set."""
    with webhook_sink() as sink:
        settings = AlertSettings(
            webhook=Secret(f"http://127.0.0.1:{sink.port}/hook?to=ops"),
            webhook_token=Secret("t0ken"),
        )
        Webhook(settings, url=URL).tell(MESSAGE, 1_800_000_000.0)
        facts = sink.received.get(timeout=5)
    assert facts["alerts"][0]["labels"]["pool"] == "ä"
    assert facts["alerts"][0]["startsAt"] == "2027-01-15T08:00:00.000Z"
    assert sink.headers[0]["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("status", [301, 404, 500])
def test_an_answer_that_is_no_yes_is_a_refusal(status: int) -> None:
    """A redirect too: the token goes where it was set, and nowhere else."""
    with webhook_sink() as sink:
        sink.answers.put(status)
        settings = AlertSettings(webhook=Secret(f"http://127.0.0.1:{sink.port}"))
        with pytest.raises(ReceiverRefused, match=str(status)):
            Webhook(settings, url=URL).tell(MESSAGE, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_webhook_that_hangs_is_given_up_in_time(how: str) -> None:
    """Also one that sends a byte now and then, so that no single wait is long."""
    with webhook_sink() as sink:
        sink.answers.put(how)
        settings = AlertSettings(
            webhook=Secret(f"http://127.0.0.1:{sink.port}"), timeout_seconds=0.5
        )
        began = time.monotonic()
        with pytest.raises(OSError, match=r"longer than 0\.5 s|timed out"):
            Webhook(settings, url=URL).tell(MESSAGE, 0.0)
        assert time.monotonic() - began < 10


def test_a_webhook_over_tls_must_show_who_it_is() -> None:
    """A certificate that nobody vouches for is no receiver of ours."""
    authority = trustme.CA()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with mail_sink() as sink:  # whoever it is: it is not trusted before it says a word
        settings = AlertSettings(webhook=Secret(f"https://127.0.0.1:{sink.port}/"))
        with pytest.raises(ssl.SSLError):
            Webhook(settings, url=URL).tell(MESSAGE, 0.0)


def _mail_settings(port: int, **more: object) -> AlertSettings:
    return AlertSettings(
        email_to=("ops@example.com", "boss@example.com"),
        email_from="shop@example.com",
        smtp=f"127.0.0.1:{port}",
        **{"smtp_security": "none", **more},  # type: ignore[arg-type]
    )


def test_a_mail_arrives_at_all() -> None:
    """With subject and text, from the sender, at every address."""
    with mail_sink() as sink:
        Mail(_mail_settings(sink.port), url=URL).tell(MESSAGE, 0.0)
        said = sink.received.get(timeout=5)
    assert len(said["to"]) == 2
    assert "shop@example.com" in said["from"]
    mail = email.message_from_bytes(said["mail"], policy=email.policy.default)
    assert mail["Subject"] == "[page] PoolFull: 1 firing"
    assert mail["To"] == "ops@example.com, boss@example.com"
    assert "pool ä is full: 1 (since" in mail.get_content()


def test_the_password_is_said_over_tls_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """STARTTLS first, with a certificate that is checked; then the name and the password."""
    authority = trustme.CA()
    trusted = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with mail_sink(secure) as sink:
        settings = _mail_settings(
            sink.port, smtp_security="starttls", smtp_user="shop", smtp_password=Secret("s3cret")
        )
        with pytest.raises(ssl.SSLError):
            Mail(settings, url=URL).tell(MESSAGE, 0.0)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        Mail(settings, url=URL).tell(MESSAGE, 0.0)
        said = sink.received.get(timeout=5)
    assert said["tls"]
    assert b64decode(said["auth"].split()[1]) == b"\0shop\0s3cret"


@pytest.mark.slow
def test_a_mail_server_that_hangs_is_given_up_in_time() -> None:
    """It accepts and says nothing."""
    with mail_sink() as sink:
        sink.answers.put("hang")
        began = time.monotonic()
        with pytest.raises(OSError, match=r"longer than 0\.5 s|timed out"):
            Mail(_mail_settings(sink.port, timeout_seconds=0.5), url=URL).tell(MESSAGE, 0.0)
        assert time.monotonic() - began < 10


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS whose certificate is trusted here."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    return secure


@pytest.mark.slow
def test_a_slow_handshake_is_part_of_the_time_of_a_mail(trusted: ssl.SSLContext) -> None:
    """Greeting and handshake of 0.4 s each are each in time, and together too much: no mail goes
    out of which it is then said that it did not."""
    with mail_sink(trusted) as sink:
        sink.slow_seconds = 0.4
        sink.answers.put("slow")
        settings = _mail_settings(sink.port, smtp_security="starttls", timeout_seconds=0.6)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"longer than 0\.6 s"):
            Mail(settings, url=URL).tell(MESSAGE, 0.0)
        assert time.monotonic() - began < 10
    assert sink.received.empty()


@pytest.mark.slow
def test_a_slow_handshake_is_part_of_the_time_of_a_webhook(trusted: ssl.SSLContext) -> None:
    """As with mail: handshake and answer of 0.4 s each."""
    with webhook_sink(trusted) as sink:
        settings = AlertSettings(
            webhook=Secret(f"https://127.0.0.1:{sink.port}"), timeout_seconds=0.6
        )
        Webhook(settings, url=URL).tell(MESSAGE, 0.0)
        sink.slow_seconds = 0.4
        sink.answers.put("slow")
        with pytest.raises(TimeoutError, match=r"longer than 0\.6 s"):
            Webhook(settings, url=URL).tell(MESSAGE, 0.0)
    assert sink.headers[0]["Host"] == f"127.0.0.1:{sink.port}"


@pytest.mark.slow
def test_a_mail_of_unknown_outcome_is_not_sent_again() -> None:
    """The server has all of it and says nothing; who waits at the other end had it perhaps."""
    ended: Queue[Exception | None] = Queue()
    with mail_sink() as sink:
        for _ in range(ATTEMPTS):
            sink.answers.put("silent")
        mail = Mail(_mail_settings(sink.port, timeout_seconds=0.5), url=URL)
        Wire(mail, pause=lambda _: None, done=lambda _, trouble: ended.put(trouble)).tell(
            MESSAGE, 0.0
        )
        trouble = ended.get(timeout=10)
    assert isinstance(trouble, DeliveryDoubtful)
    assert "not sent again" in reason(trouble)
    assert sink.received.qsize() == 1


def test_a_mail_that_was_refused_in_the_end_is_sent_again() -> None:
    """A server that has it all and says that it does not take it has not taken it."""
    ended: Queue[Exception | None] = Queue()
    with mail_sink() as sink:
        sink.answers.put("busy")
        mail = Mail(_mail_settings(sink.port), url=URL)
        Wire(mail, pause=lambda _: None, done=lambda _, trouble: ended.put(trouble)).tell(
            MESSAGE, 0.0
        )
        assert ended.get(timeout=10) is None
    assert sink.received.qsize() == 2


@pytest.mark.slow
def test_a_mail_that_was_taken_is_told_though_the_goodbye_is_late() -> None:
    """What the server said before it is known."""
    with mail_sink() as sink:
        sink.answers.put("lingers")
        Mail(_mail_settings(sink.port, timeout_seconds=0.5), url=URL).tell(MESSAGE, 0.0)
    assert sink.received.qsize() == 1


def test_an_address_that_is_refused_is_named_and_the_others_are_told_once() -> None:
    """Sending it again would tell the others twice."""
    with mail_sink() as sink:
        sink.answers.put("unknown")
        with pytest.raises(DeliveryDoubtful, match=r"boss@example\.com \(550 nobody"):
            Mail(_mail_settings(sink.port), url=URL).tell(MESSAGE, 0.0)
    assert sink.received.qsize() == 1


def test_who_is_told_is_who_was_set() -> None:
    """Nobody, the webhook, the addresses, each with its urgencies."""
    assert list(receivers_of(AlertSettings(), url=URL)) == []
    both = AlertSettings(
        webhook=Secret("http://hook/"),
        email_to=("a@b",),
        email_from="c@d",
        smtp="m:25",
        email_urgencies=("page",),
    )
    found = [(one.name, urgencies) for one, urgencies in receivers_of(both, url=URL)]
    assert found == [("webhook", ("page", "ticket")), ("email", ("page",))]


class Moody(Receiver):
    """A receiver that fails so many times, or hangs until it is let go."""

    name = "webhook"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0
        self.go = threading.Event()
        self.go.set()

    @override
    def tell(self, message: Message, offset_seconds: float) -> None:
        self.calls += 1
        assert self.go.wait(10)
        if self.calls <= self.failures:
            raise OSError("not now")


@pytest.mark.parametrize(("failures", "calls"), [(0, 1), (2, 3), (9, ATTEMPTS)])
def test_a_line_tries_some_times_and_says_how_it_ended(failures: int, calls: int) -> None:
    """With longer and longer pauses; after the last attempt the trouble is told."""
    ended: Queue[Exception | None] = Queue()
    pauses: list[float] = []
    receiver = Moody(failures)
    line = Wire(receiver, pause=pauses.append, done=lambda _, trouble: ended.put(trouble))
    line.tell(MESSAGE, 0.0)
    trouble = ended.get(timeout=10)
    assert (trouble is None) == (failures < ATTEMPTS)
    assert receiver.calls == calls
    assert pauses == [1.0, 4.0][: calls - 1]


def test_a_line_that_is_ended_tries_no_more() -> None:
    """The service leaves, and the attempt under way is the last."""
    ended: Queue[Exception | None] = Queue()
    receiver = Moody(9)
    receiver.go.clear()
    line = Wire(receiver, done=lambda _, trouble: ended.put(trouble))
    line.tell(MESSAGE, 0.0)
    assert line.busy
    line.end()
    receiver.go.set()
    assert isinstance(ended.get(timeout=10), OSError)
    assert receiver.calls == 1


def test_what_a_receiver_says_back_is_shown_without_secrets() -> None:
    """It may repeat the token; and an error without words has a name."""
    said = reason(OSError("no https://user:s3cret@hook/\r\nX"))
    assert "s3cret" not in said
    assert "\n" not in said
    assert reason(TimeoutError()) == "TimeoutError"
