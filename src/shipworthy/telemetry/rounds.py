"""The shell around alerts: evaluates all of them again and again, and tells who is to know."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, final

import orjson

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.events import (
    Alert,
    Declared,
    Event,
    Label,
    Measure,
    Metric,
    OneOf,
    Seldom,
    Severity,
    Urgency,
    emit,
    event,
)
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import Alerts, AlertState, Dispatch, Key, Message, Raised
from shipworthy.telemetry.keeping import Keeping
from shipworthy.telemetry.lock_file import FileHeld, hold
from shipworthy.telemetry.metrics import Registry
from shipworthy.telemetry.receivers import DeliveryDoubtful, Receiver, Wire, reason, receivers_of

FILE_NAME: Final = "alerts.json"
# What cannot be evaluated now cannot be in fifteen seconds.
_SAID_AGAIN_SECONDS: Final = 3600.0
# When it is said again that a receiver could not be reached.
_UNTOLD_AGAIN_SECONDS: Final = 600.0
# One that ended longer ago begins anew: what was firing then says nothing of now.
_RESTORED_SECONDS: Final = 3600.0

FIRING = Metric(
    "shipworthy_alerts_firing",
    "gauge",
    "Label sets for which an alert fires, as the service itself evaluates it.",
    {"alert": Declared(200), "urgency": OneOf(*Urgency)},
)
TOLD = Metric(
    "shipworthy_alert_messages_total",
    "counter",
    "Messages about alerts to those who are to be told, by how that ended.",
    {"receiver": OneOf("webhook", "email"), "outcome": OneOf("told", "failed", "doubtful")},
)
JUDGING = Metric(
    "shipworthy_alert_round_seconds",
    "histogram",
    "How long one evaluation of all alerts took, in seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
UNJUDGED = Metric(
    "shipworthy_alerts_unjudged_total",
    "counter",
    "What alerts lost: evaluations that failed, label sets beyond what one alert may have.",
    {"what": OneOf("evaluation", "series")},
)


@event(severity=Severity.WARNING)
class AlertFired(Event):
    """An alert began to fire."""

    alert: Annotated[str, Label]
    urgency: Annotated[str, Label]
    summary: str
    labels: Mapping[str, str]
    value: float
    act: str


@event(severity=Severity.INFO)
class AlertOver(Event):
    """An alert that fired is over."""

    alert: Annotated[str, Label]
    urgency: Annotated[str, Label]
    summary: str
    labels: Mapping[str, str]
    fired_seconds: float


@event(severity=Severity.ERROR)
class AlertUntold(Event):
    """Somebody who is to be told of an alert could not be reached, or may not have been.

    `held_back` is how often that failed since this was last said.
    """

    alert: Annotated[str, Label]
    receiver: Annotated[str, Label]
    because: str
    held_back: Annotated[int, Measure]


@event(severity=Severity.ERROR)
class AlertUnjudged(Event):
    """An alert could not be evaluated; the others were.

    `held_back` is how often that failed since this was last said.
    """

    alert: Annotated[str, Label]
    because: str
    held_back: Annotated[int, Measure]


@event(severity=Severity.WARNING)
class AlertsUnkept(Event):
    """What fires is not remembered over a restart: another service has its alerts in the folder."""

    file: str
    because: str


@final
@dataclass(slots=True)
class _Told:
    line: Wire
    dispatch: Dispatch
    not_before: float = 0.0


@final
class Rounds:
    """Evaluates every alert of `alerts` in `look`, and begins to tell; never waits for a receiver.

    `folder` is where it remembers over a restart what fires; where it cannot, or another process
    does, it begins anew.
    """

    def __init__(
        self,
        keeping: Keeping,
        settings: AlertSettings,
        alerts: Callable[[], Sequence[Alert]],
        registry: Registry,
        *,
        folder: Path | None,
        url: str = "",
        clock: Clock = SYSTEM_CLOCK,
        receivers: Sequence[tuple[Receiver, Sequence[str]]] | None = None,
    ) -> None:
        self._keeping = keeping
        self._declared = alerts
        self._clock = clock
        self._file = None if folder is None else folder / FILE_NAME
        self._lock_fd = -1
        self._alerts = Alerts()
        # Lines say in their own threads how it ended.
        self._lock = threading.Lock()
        self._told = [
            self._line(receiver, urgencies, settings)
            for receiver, urgencies in (
                receivers_of(settings, url=url) if receivers is None else receivers
            )
        ]
        self._saved = b""
        # What the process before left of alerts that are not declared yet, and who was told of it.
        self._left: dict[Key, dict[str, Any]] = {}
        self._left_told: dict[str, set[Key]] = {}
        self._left_until = 0.0
        self._failed = 0
        self._unjudged = Seldom(_SAID_AGAIN_SECONDS)
        self._untold = Seldom(_UNTOLD_AGAIN_SECONDS)
        self._unkept = Seldom(_SAID_AGAIN_SECONDS)
        registry.gauge(FIRING, read=self._count)
        registry.running_total(
            UNJUDGED,
            read=lambda: {
                ("evaluation",): float(self._failed),
                ("series",): float(self._alerts.untaken),
            },
        )
        self._cost = registry.histogram(JUDGING).cell()
        messages = registry.counter(TOLD)
        self._messages = {
            (receiver, outcome): messages.cell(receiver, outcome)
            for receiver in ("webhook", "email")
            for outcome in ("told", "failed", "doubtful")
        }

    @property
    def raised(self) -> list[Raised]:
        """Everything that is pending, fires, or was over a short time ago."""
        return self._alerts.raised

    @property
    def offset_seconds(self) -> float:
        """What the wall clock is ahead of the times of `raised`."""
        return self._clock.wall() - self._clock.now()

    def begin(self) -> None:
        """Go on with what fired when the process before ended.

        An alert that is not declared yet, as the application's when no worker has come so far, is
        gone on with when it is.
        """
        if self._file is None or not self._holds(self._file):
            return
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            facts = orjson.loads(self._file.read_bytes())
            age_seconds = self._clock.wall() - float(facts["at"])
            if 0 <= age_seconds <= _RESTORED_SECONDS:
                self._left_until = self._clock.now() + _RESTORED_SECONDS
                self._left_told = {
                    receiver: {(str(name), tuple(labels)) for name, labels in keys}
                    for receiver, keys in facts["told"].items()
                }
                self._left = {_key(one): one for one in facts["raised"]}
        self._resume(self._declared())

    def _resume(self, declared: Sequence[Alert]) -> None:
        """Take up what the process before has left of these alerts."""
        if self._clock.now() > self._left_until:
            self._left.clear()
        if not self._left:
            return
        alerts = {alert.name: alert for alert in declared}
        raised = []
        for key, facts in list(self._left.items()):
            if key[0] in alerts:
                del self._left[key]
                # Its condition may be kept apart by other labels now.
                with suppress(ValueError, LookupError, TypeError):
                    raised.append(_restored(facts, alerts[key[0]], -self.offset_seconds))
        for told in self._told:
            keys = self._left_told.get(told.line.receiver.name, ())
            with self._lock:
                told.dispatch.restore(raised, keys, self._clock.now())
        self._alerts.restore(raised)

    def look(self) -> None:
        """Evaluate all alerts once, state what has changed, and begin to tell what is due."""
        began = self._clock.now()
        declared = self._declared()
        self._resume(declared)
        self._alerts.keep_only(alert.name for alert in declared)
        for alert in declared:
            self._judge(alert)
        self._cost.observe(self._clock.now() - began)
        self._tell()
        self._save()

    def end(self) -> None:
        """Try no receiver again, and let another process have the file."""
        for told in self._told:
            told.line.end()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _judge(self, alert: Alert) -> None:
        now = self._clock.now()
        try:
            changed = self._alerts.advance(alert, self._keeping.holds(alert.when), now)
        except Exception as error:  # noqa: BLE001 - one alert that is wrong must not silence the rest
            self._failed += 1
            held_back = self._unjudged.held_back(alert.name, now)
            if held_back is not None:
                because = f"{type(error).__name__}: {error}"
                emit(AlertUnjudged, alert=alert.name, because=because, held_back=held_back)
            return
        for one in changed:
            if one.state is AlertState.FIRING:
                emit(
                    AlertFired,
                    alert=alert.name,
                    urgency=str(alert.urgency),
                    summary=one.summary,
                    labels=one.named,
                    value=one.value,
                    act=alert.act,
                )
            else:
                emit(
                    AlertOver,
                    alert=alert.name,
                    urgency=str(alert.urgency),
                    summary=one.summary,
                    labels=one.named,
                    fired_seconds=round(now - (one.fired_at or now), 3),
                )

    def _tell(self) -> None:
        raised = self._alerts.raised
        for told in self._told:
            if told.line.busy or self._clock.now() < told.not_before:
                continue
            with self._lock:
                message = told.dispatch.due(raised, self._clock.now())
            if message is not None:
                told.line.tell(message, self.offset_seconds)

    def _line(self, receiver: Receiver, urgencies: Sequence[str], settings: AlertSettings) -> _Told:
        dispatch = Dispatch(
            map(Urgency, urgencies),
            wait_seconds=settings.wait_seconds,
            change_seconds=settings.change_seconds,
            repeat_seconds=settings.repeat_seconds,
        )

        def done(message: Message, trouble: Exception | None) -> None:
            doubtful = isinstance(trouble, DeliveryDoubtful)
            outcome = "doubtful" if doubtful else "told" if trouble is None else "failed"
            self._messages[receiver.name, outcome].add()
            now = self._clock.now()
            if trouble is None or doubtful:
                with self._lock:
                    dispatch.told(message, now)
            if trouble is None:
                return
            if not doubtful:
                told.not_before = now + settings.again_seconds
            held_back = self._untold.held_back(receiver.name, now)
            if held_back is not None:
                emit(
                    AlertUntold,
                    alert=message.alert.name,
                    receiver=receiver.name,
                    because=reason(trouble),
                    held_back=held_back,
                )

        told = _Told(Wire(receiver, done=done), dispatch)
        return told

    def _count(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {
            (alert.name, str(alert.urgency)): 0.0 for alert in self._declared()
        }
        for one in self._alerts.raised:
            if one.state is AlertState.FIRING:
                counts[one.alert.name, str(one.alert.urgency)] += 1.0
        return counts

    def _holds(self, file: Path) -> bool:
        """Say whether the file is ours: of services that were given one folder, the first has it.

        Nobody makes the folder for it: a service that was there for a moment leaves none.
        """
        if self._lock_fd < 0 and file.parent.is_dir():
            try:
                self._lock_fd = hold(file.with_suffix(".lock"), what="its alerts")
            except FileHeld as error:
                if self._unkept.held_back(file.name, self._clock.now()) is not None:
                    emit(AlertsUnkept, file=str(file), because=str(error))
            except OSError:
                return False
        return self._lock_fd >= 0

    def _save(self) -> None:
        """Write what fires and what is pending, where that has changed."""
        if self._file is None or not self._holds(self._file):
            return
        now = self._clock.wall()
        offset = round(self.offset_seconds, 1)
        raised = [
            _kept(one, offset)
            for one in self._alerts.raised
            if one.state is not AlertState.RESOLVED
        ]
        raised += self._left.values()
        told = {}
        with self._lock:
            for one in self._told:
                name = one.line.receiver.name
                left = self._left_told.get(name, set()) & self._left.keys()
                told[name] = sorted(one.dispatch.known | left)
        facts = orjson.dumps([raised, told])
        # While something fires, its file is not older than a round.
        if facts == self._saved and not raised and not any(told.values()):
            return
        self._saved = facts
        with suppress(OSError):
            beside = self._file.with_suffix(".new")
            beside.write_bytes(orjson.dumps({"at": now, "raised": raised, "told": told}))
            beside.replace(self._file)


def _kept(one: Raised, offset: float) -> dict[str, Any]:
    return {
        "alert": one.alert.name,
        "labels": one.labels,
        "state": str(one.state),
        "value": one.value,
        "since": one.since + offset,
        "fired_at": None if one.fired_at is None else one.fired_at + offset,
    }


def _key(facts: Mapping[str, Any]) -> Key:
    return str(facts["alert"]), tuple(map(str, facts["labels"]))


def _restored(facts: Mapping[str, Any], alert: Alert, offset: float) -> Raised:
    fired_at = facts["fired_at"]
    one = Raised(
        alert=alert,
        labels=tuple(map(str, facts["labels"])),
        state=AlertState(facts["state"]),
        value=float(facts["value"]),
        since=float(facts["since"]) + offset,
        fired_at=None if fired_at is None else float(fired_at) + offset,
    )
    # Raises for a condition that is kept apart by other labels now: it has no such label set.
    _ = one.named
    return one
