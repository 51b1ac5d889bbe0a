"""Alerts are evaluated in the service itself, and arrive at real receivers."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from alert_sinks import webhook_sink
from shipworthy.clock import ManualClock
from shipworthy.events import (
    Alert,
    Combined,
    Compared,
    Declared,
    Event,
    Metric,
    Number,
    Selection,
    Urgency,
    Value,
    listen,
)
from shipworthy.settings import Secret
from shipworthy.telemetry import Registry, Snapshot
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import AlertState, Message
from shipworthy.telemetry.keeping import Keeping
from shipworthy.telemetry.receivers import DeliveryDoubtful, Receiver
from shipworthy.telemetry.retention import RetentionSettings
from shipworthy.telemetry.rounds import (
    AlertFired,
    AlertOver,
    AlertsUnkept,
    AlertUnjudged,
    AlertUntold,
    Rounds,
)
from shipworthy.telemetry.settings import HistorySettings

POOL = Metric("t_pool", "gauge", "Used.", {"pool": Declared()})
USED = Value(Selection(metric=POOL, by=("pool",)))


def _alert(name: str, when: Compared, *, for_seconds: float = 30.0) -> Alert:
    return Alert(
        name=name,
        when=when,
        for_seconds=for_seconds,
        urgency=Urgency.PAGE,
        summary="pool {pool} is full: {value}",
        cause="c",
        look="l",
        act="End them.",
        drill="d",
    )


FULL = _alert("PoolFull", Compared(USED, ">", Number(0.9)))


def _snapshot(**pools: float) -> Snapshot:
    return {
        POOL.name: {
            "kind": "gauge",
            "help": "Used.",
            "labels": ["pool"],
            "buckets": [],
            "fold": "sum",
            "sets": [([pool], [used]) for pool, used in pools.items()],
        }
    }


class Service:
    """A service that is snapshotted and judged every fifteen seconds."""

    def __init__(
        self,
        folder: Path,
        settings: AlertSettings | None = None,
        *,
        alerts: Sequence[Alert] = (FULL,),
        clock: ManualClock | None = None,
        receivers: Sequence[tuple[Receiver, Sequence[str]]] | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.registry = Registry()
        self.alerts = list(alerts)
        self.keeping = Keeping(
            HistorySettings(file=False), RetentionSettings(), folder, clock=self.clock
        )
        self.rounds = Rounds(
            self.keeping,
            settings or AlertSettings(wait_seconds=0.0, change_seconds=0.0),
            lambda: self.alerts,
            self.registry,
            folder=folder,
            clock=self.clock,
            receivers=receivers,
        )
        self.rounds.begin()

    def live(self, rounds: int, **pools: float) -> None:
        for _ in range(rounds):
            self.clock.advance(15.0)
            self.keeping.take(_snapshot(**pools))
            self.rounds.look()

    def number(self, name: str, *labels: str) -> float:
        sets = self.registry.snapshot()[name]["sets"]
        return next(numbers[0] for values, numbers in sets if tuple(values) == labels)


@contextmanager
def _heard(*kinds: type[Event]) -> Iterator[list[Event]]:
    facts: list[Event] = []
    stop = listen(facts.append, *kinds)
    try:
        yield facts
    finally:
        stop()


def test_an_alert_fires_arrives_and_is_over(tmp_path: Path) -> None:
    """Stated in the log, told to a webhook over a real socket, and told to be over."""
    with webhook_sink() as sink, _heard(AlertFired, AlertOver) as facts:
        settings = AlertSettings(
            webhook=Secret(f"http://127.0.0.1:{sink.port}/"), wait_seconds=0.0, change_seconds=0.0
        )
        service = Service(tmp_path, settings)
        service.live(2, a=0.95, b=0.5)
        assert facts == []
        assert [one.state for one in service.rounds.raised] == [AlertState.PENDING]
        service.live(1, a=0.96, b=0.5)
        told = sink.received.get(timeout=10)
        assert (told["status"], told["alerts"][0]["labels"]["pool"]) == ("firing", "a")
        assert service.number("shipworthy_alerts_firing", "PoolFull", "page") == 1.0
        over = None
        while over is None:
            # The line may still be busy with the first message.
            service.live(1, a=0.2, b=0.5)
            over = sink.received.get(timeout=0.2) if not sink.received.empty() else None
        assert (over["status"], over["alerts"][0]["labels"]["pool"]) == ("resolved", "a")
    fired, ended = facts
    assert isinstance(fired, AlertFired)
    assert isinstance(ended, AlertOver)
    assert fired.summary == "pool a is full: 0.96"
    assert fired.labels == {"pool": "a"}
    assert ended.fired_seconds == 15.0
    assert service.number("shipworthy_alerts_firing", "PoolFull", "page") == 0.0


class Deaf(Receiver):
    """A receiver that hangs until it is let go, and then takes or refuses."""

    name = "webhook"

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.go = threading.Event()
        self.heard: list[Message] = []

    @override
    def tell(self, message: Message, offset_seconds: float) -> None:
        assert self.go.wait(20)
        if self.refuses:
            raise ConnectionRefusedError("nobody is there")
        self.heard.append(message)


class Quick(Receiver):
    """A receiver that takes everything at once."""

    name = "email"

    def __init__(self) -> None:
        self.heard: list[Message] = []

    @override
    def tell(self, message: Message, offset_seconds: float) -> None:
        self.heard.append(message)


def _settle(service: Service) -> None:
    """Wait for the threads of the lines."""
    for thread in threading.enumerate():
        if thread.name.startswith("shipworthy-") and thread is not threading.current_thread():
            thread.join(20)


def test_a_receiver_that_hangs_costs_only_its_own_line(tmp_path: Path) -> None:
    """The rounds go on, the other receiver hears all, and the deaf one hears the newest."""
    deaf, quick = Deaf(refuses=False), Quick()
    service = Service(tmp_path, receivers=[(deaf, ["page"]), (quick, ["page"])])
    service.live(3, a=1.0)
    quick_hears = 0
    for used in (0.1, 1.0):
        for _ in range(3):
            service.live(1, a=used)
            # Its own thread is done at once; the deaf one stands.
            for thread in threading.enumerate():
                if thread.name == "shipworthy-email":
                    thread.join(20)
        quick_hears = len(quick.heard)
    assert deaf.heard == []
    assert quick_hears >= 2
    deaf.go.set()
    _settle(service)
    service.live(2, a=0.1)
    _settle(service)
    assert [bool(message.firing) for message in deaf.heard] == [True, False]
    service.rounds.end()


def test_a_receiver_that_refuses_is_tried_again_later(tmp_path: Path) -> None:
    """It is said once, counted each time, and told when it hears again."""
    receiver = Deaf(refuses=True)
    receiver.go.set()
    service = Service(tmp_path, receivers=[(receiver, ["page"])])
    service.rounds.end()  # one attempt each, so that nothing waits here
    with _heard(AlertUntold) as facts:
        service.live(3, a=1.0)
        _settle(service)
        service.live(3, a=1.0)
        _settle(service)
        assert service.number("shipworthy_alert_messages_total", "webhook", "failed") == 1.0
        service.live(2, a=1.0)
        _settle(service)
        assert service.number("shipworthy_alert_messages_total", "webhook", "failed") == 2.0
    assert len(facts) == 1
    receiver.refuses = False
    service.live(5, a=1.0)
    _settle(service)
    assert len(receiver.heard) == 1
    assert service.number("shipworthy_alert_messages_total", "webhook", "told") == 1.0


def test_a_message_of_unknown_outcome_is_counted_and_not_told_again(tmp_path: Path) -> None:
    """Whoever may have had it is not told twice; that it is doubtful is said."""

    class Doubtful(Quick):
        @override
        def tell(self, message: Message, offset_seconds: float) -> None:
            super().tell(message, offset_seconds)
            raise DeliveryDoubtful("it was sent, and nobody said yes")

    receiver = Doubtful()
    service = Service(tmp_path, receivers=[(receiver, ["page"])])
    with _heard(AlertUntold) as facts:
        for _ in range(12):
            service.live(1, a=1.0)
            _settle(service)
    assert len(receiver.heard) == 1
    assert service.number("shipworthy_alert_messages_total", "email", "doubtful") == 1.0
    assert service.number("shipworthy_alert_messages_total", "email", "failed") == 0.0
    (fact,) = facts
    assert isinstance(fact, AlertUntold)
    assert "nobody said yes" in fact.because


def test_two_services_with_one_folder_do_not_share_their_alerts(tmp_path: Path) -> None:
    """The second takes over nothing of the first, leaves its file alone, and says so once."""
    first = Service(tmp_path)
    first.live(3, a=1.0)
    kept = (tmp_path / "alerts.json").read_bytes()
    with _heard(AlertsUnkept) as facts:
        second = Service(tmp_path, clock=first.clock)
        assert second.rounds.raised == []
        second.live(4, b=1.0)
    assert [one.labels for one in second.rounds.raised] == [("b",)]
    assert (tmp_path / "alerts.json").read_bytes() == kept
    (fact,) = facts
    assert isinstance(fact, AlertsUnkept)
    assert "give each service a history.folder of its own" in fact.because
    first.rounds.end()
    second.live(1, b=1.0)
    assert (tmp_path / "alerts.json").read_bytes() != kept


def test_how_soon_it_is_tried_again_is_a_setting(tmp_path: Path) -> None:
    """A receiver that is away for moments need not cost a minute."""
    receiver = Deaf(refuses=True)
    receiver.go.set()
    settings = AlertSettings(wait_seconds=0.0, change_seconds=0.0, again_seconds=15.0)
    service = Service(tmp_path, settings, receivers=[(receiver, ["page"])])
    service.rounds.end()  # one attempt each, so that nothing waits here
    for attempts in (1.0, 2.0):
        service.live(3 if attempts == 1 else 1, a=1.0)
        _settle(service)
        failed = service.number("shipworthy_alert_messages_total", "webhook", "failed")
        assert failed == attempts


def test_what_fires_goes_on_over_a_restart(tmp_path: Path) -> None:
    """It is not stated twice, keeps its beginning, and is told to be over by the next process."""
    first = Service(tmp_path)
    with _heard(AlertFired, AlertOver) as facts:
        first.live(3, a=1.0)
        since = first.rounds.raised[0].since
        first.rounds.end()
        second = Service(tmp_path, clock=first.clock)
        second.live(1, a=1.0)
        assert [one.since for one in second.rounds.raised] == [pytest.approx(since, abs=0.2)]
        second.live(1, a=0.1)
    assert [type(fact) for fact in facts] == [AlertFired, AlertOver]


def test_who_was_told_by_one_process_hears_of_the_end_from_the_next(tmp_path: Path) -> None:
    """And is not told a second time that it fires."""
    before, after = Quick(), Quick()
    first = Service(tmp_path, receivers=[(before, ["page"])])
    first.live(3, a=1.0)
    _settle(first)
    first.live(1, a=1.0)
    assert [bool(message.firing) for message in before.heard] == [True]
    first.rounds.end()
    second = Service(tmp_path, clock=first.clock, receivers=[(after, ["page"])])
    second.live(3, a=1.0)
    _settle(second)
    assert after.heard == []
    second.live(1, a=0.1)
    _settle(second)
    (message,) = after.heard
    assert [one.labels for one in message.over] == [("a",)]


def test_what_the_application_declares_later_goes_on_too(tmp_path: Path) -> None:
    """Its workers say it after the first rounds; a third process takes up what waits as well."""
    before, after = Quick(), Quick()
    first = Service(tmp_path, receivers=[(before, ["page"])])
    first.live(3, a=1.0)
    _settle(first)
    first.live(1, a=1.0)
    first.rounds.end()
    second = Service(tmp_path, alerts=(), clock=first.clock, receivers=[(Quick(), ["page"])])
    second.live(2, a=1.0)
    second.rounds.end()
    third = Service(tmp_path, alerts=(), clock=first.clock, receivers=[(after, ["page"])])
    with _heard(AlertFired, AlertOver) as facts:
        third.live(2, a=1.0)
        third.alerts.append(FULL)
        third.live(2, a=1.0)
        _settle(third)
        assert (facts, after.heard) == ([], [])
        third.live(1, a=0.1)
        _settle(third)
    assert [type(fact) for fact in facts] == [AlertOver]
    (message,) = after.heard
    assert [one.labels for one in message.over] == [("a",)]


def test_what_nobody_declares_any_more_is_let_go_of_after_an_hour(tmp_path: Path) -> None:
    """It does not fire anew when it comes back the next day."""
    first = Service(tmp_path)
    first.live(3, a=1.0)
    first.rounds.end()
    second = Service(tmp_path, alerts=(), clock=first.clock)
    second.live(1, a=1.0)
    first.clock.advance(3700.0)
    second.live(1, a=1.0)
    assert b"PoolFull" not in (tmp_path / "alerts.json").read_bytes()
    second.alerts.append(FULL)
    second.live(1, a=1.0)
    assert [one.state for one in second.rounds.raised] == [AlertState.PENDING]


def test_one_that_is_kept_apart_otherwise_now_costs_no_other(tmp_path: Path) -> None:
    """It begins anew; the others go on."""
    other = _alert("Other", Compared(USED, ">", Number(0.9)))
    first = Service(tmp_path, alerts=(FULL, other))
    first.live(3, a=1.0)
    whole = Value(Selection(metric=POOL))
    changed = Alert(
        name=FULL.name,
        when=Compared(whole, ">", Number(0.9)),
        for_seconds=30.0,
        urgency=Urgency.PAGE,
        summary="all are full: {value}",
        **dict.fromkeys(("cause", "look", "act", "drill"), "Text."),
    )
    first.rounds.end()
    second = Service(tmp_path, alerts=(changed, other), clock=first.clock)
    assert [(one.alert.name, one.labels) for one in second.rounds.raised] == [("Other", ("a",))]


@pytest.mark.parametrize("left", [b"", b"{}", b'{"at": 0, "raised": [{}]}', b"[1]"])
def test_a_file_that_says_nothing_is_no_error(tmp_path: Path, left: bytes) -> None:
    """Whatever another version or a broken disk has left."""
    (tmp_path / "alerts.json").write_bytes(left)
    service = Service(tmp_path)
    service.live(3, a=1.0)
    assert [one.state for one in service.rounds.raised] == [AlertState.FIRING]


def test_what_fired_long_ago_says_nothing_of_now(tmp_path: Path) -> None:
    """After an hour without a process the alert begins anew."""
    first = Service(tmp_path)
    first.live(3, a=1.0)
    first.clock.advance(3700.0)
    first.rounds.end()
    assert Service(tmp_path, clock=first.clock).rounds.raised == []


def test_an_alert_that_cannot_be_evaluated_does_not_silence_the_others(tmp_path: Path) -> None:
    """It is said once an hour and counted each time."""
    wrong = _alert("Wrong", Compared(USED, ">", Number(0.9)))
    broken = Compared(Combined(USED, "*", Number(1.0)), ">", Number(0.9))
    object.__setattr__(broken, "operator", "~")
    object.__setattr__(wrong, "when", broken)
    service = Service(tmp_path, alerts=[wrong, FULL])
    with _heard(AlertFired, AlertUnjudged) as facts:
        service.live(3, a=1.0)
    assert [type(fact) for fact in facts] == [AlertUnjudged, AlertFired]
    assert service.number("shipworthy_alerts_unjudged_total", "evaluation") == 3.0
    assert service.number("shipworthy_alert_round_seconds") is not None


def test_an_alert_that_is_declared_no_more_is_gone(tmp_path: Path) -> None:
    """After a reload of the declarations, say."""
    service = Service(tmp_path)
    service.live(3, a=1.0)
    service.alerts.clear()
    service.live(1, a=1.0)
    assert service.rounds.raised == []
