"""A message says the same to programs and to people, and shows no secret to either."""

from shipworthy.events import Alert, Compared, Declared, Metric, Number, Selection, Urgency, Value
from shipworthy.telemetry.alerting import AlertState, Message, Raised
from shipworthy.telemetry.messages import TOLD_MAX, mail_of, webhook_of

POOL = Metric("t_pool", "gauge", "Used.", {"pool": Declared()})
ALERT = Alert(
    name="PoolFull",
    when=Compared(Value(Selection(metric=POOL, by=("pool",))), ">", Number(0.9)),
    for_seconds=0.0,
    urgency=Urgency.PAGE,
    summary="pool {pool} is full: {value}",
    cause="Somebody holds connections.",
    look="At the holders.",
    act="End them.",
    drill="Hold all.",
)
URL = "http://127.0.0.1:9000/"


def _raised(pool: str, *, over_at: float | None = None) -> Raised:
    state = AlertState.FIRING if over_at is None else AlertState.RESOLVED
    return Raised(
        alert=ALERT, labels=(pool,), state=state, value=0.95, since=100.0, over_at=over_at
    )


def test_a_webhook_is_told_as_alertmanager_tells_it() -> None:
    """Existing receivers read it: version, status, labels, times, and what is common to all."""
    message = Message(
        alert=ALERT, firing=(_raised("a"), _raised("b")), over=(_raised("c", over_at=160.0),)
    )
    facts = webhook_of(message, offset_seconds=1_800_000_000.0, receiver="webhook", url=URL)
    first, second, third = facts["alerts"]
    assert first == {
        "status": "firing",
        "labels": {"alertname": "PoolFull", "severity": "page", "pool": "a"},
        "annotations": {"summary": "pool a is full: 0.95", "value": "0.95"},
        "startsAt": "2027-01-15T08:01:40.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": URL,
        "fingerprint": first["fingerprint"],
    }
    assert (third["status"], third["endsAt"]) == ("resolved", "2027-01-15T08:02:40.000Z")
    prints = {one["fingerprint"] for one in (first, second, third)}
    assert len(prints) == 3
    assert all(len(one) == 16 for one in prints)
    del facts["alerts"]
    assert facts == {
        "version": "4",
        "groupKey": '{}:{alertname="PoolFull"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "webhook",
        "groupLabels": {"alertname": "PoolFull"},
        "commonLabels": {"alertname": "PoolFull", "severity": "page"},
        "commonAnnotations": {
            "cause": "Somebody holds connections.",
            "look": "At the holders.",
            "act": "End them.",
        },
        "externalURL": URL,
    }


def test_what_is_over_altogether_is_resolved() -> None:
    """So that who was woken may sleep."""
    message = Message(alert=ALERT, firing=(), over=(_raised("c", over_at=160.0),))
    facts = webhook_of(message, offset_seconds=0.0, receiver="webhook", url=URL)
    assert facts["status"] == "resolved"
    assert facts["commonLabels"]["pool"] == "c"
    subject, text = mail_of(message, offset_seconds=0.0, url="")
    assert subject == "[page] PoolFull: 1 over"
    assert "Firing" not in text


def test_a_mail_says_what_to_do() -> None:
    """What fires since when, what is over, and the runbook."""
    message = Message(alert=ALERT, firing=(_raised("a"),), over=(_raised("c", over_at=160.0),))
    subject, text = mail_of(message, offset_seconds=1_800_000_000.0, url=URL)
    assert subject == "[page] PoolFull: 1 firing, 1 over"
    assert text.splitlines() == [
        "Firing:",
        "  pool a is full: 0.95 (since 2027-01-15T08:01:40.000Z)",
        "",
        "Over:",
        "  pool c is full: 0.95 (since 2027-01-15T08:01:40.000Z)",
        "",
        "Cause: Somebody holds connections.",
        "Look: At the holders.",
        "Act: End them.",
        "",
        URL,
    ]


def test_a_message_has_a_bound() -> None:
    """More than somebody reads is a number."""
    many = tuple(_raised(f"p{n}") for n in range(TOLD_MAX + 7))
    message = Message(alert=ALERT, firing=many, over=())
    facts = webhook_of(message, offset_seconds=0.0, receiver="webhook", url=URL)
    assert (len(facts["alerts"]), facts["truncatedAlerts"]) == (TOLD_MAX, 7)
    assert "  and 7 more" in mail_of(message, offset_seconds=0.0, url=URL)[1]


def test_a_label_that_looks_like_a_secret_is_not_told() -> None:
    """A database's URL as the name of a pool, for one; and a line break breaks no mail."""
    message = Message(
        alert=ALERT, firing=(_raised("postgresql://u:s3cret@db/x\r\nBcc: a@b"),), over=()
    )
    for text in (
        repr(webhook_of(message, offset_seconds=0.0, receiver="webhook", url=URL)),
        mail_of(message, offset_seconds=0.0, url=URL)[1],
    ):
        assert "s3cret" not in text
        assert "\r" not in text
