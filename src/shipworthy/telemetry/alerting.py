"""When an alert is pending, fires and is over, for each of its label sets; and who is told when.

Pure: it takes what holds and a time. As in Prometheus and Alertmanager: an alert fires once its
condition has held for `for_seconds`, goes on for `keep_seconds` after it held last, and all label
sets of one alert are one message, sent after a short wait, again when it changes, and repeated.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, final

from shipworthy.events import Alert, Urgency, counts, kept_apart_by, selections, value_text
from shipworthy.telemetry.evaluate import Values
from shipworthy.telemetry.history import Labels

# Of one alert; who is told of 200 pools at once looks at the page in any case.
RAISED_MAX: Final = 200
# How long one that is over is still shown, and told to receivers that could not be reached.
OVER_KEPT_SECONDS: Final = 3600.0

Key = tuple[str, Labels]


class AlertState(StrEnum):
    """Where an alert stands for one label set; one that is not there is inactive."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """One label set for which an alert holds or held. Times are those of a clock without jumps."""

    alert: Alert
    labels: Labels
    state: AlertState
    value: float
    since: float  # when the condition began to hold
    fired_at: float | None = None
    missed_at: float | None = None  # since when it has not held, while it fires
    over_at: float | None = None

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.alert.name, self.labels

    @property
    def named(self) -> Mapping[str, str]:
        """The labels by their names."""
        return dict(zip(kept_apart_by(self.alert.when) or (), self.labels, strict=True))

    @property
    def summary(self) -> str:
        """The sentence of the alert, with its labels and value."""
        value = value_text(self.value, whole=counts(self.alert.when))
        return self.alert.summary.format_map({**self.named, "value": value})


@final
class Alerts:
    """The state machine of all alerts; `untaken` counts label sets beyond what one may have."""

    def __init__(self) -> None:
        self.untaken = 0
        self._raised: dict[Key, Raised] = {}

    @property
    def raised(self) -> list[Raised]:
        """Everything that is pending, fires, or was over a short time ago."""
        return list(self._raised.values())

    def restore(self, raised: Iterable[Raised]) -> None:
        """Go on with what another process has left."""
        self._raised.update({one.key: one for one in raised})

    def advance(self, alert: Alert, found: Values, now: float) -> list[Raised]:
        """Take what an alert's condition holds for now; return what began to fire or is over."""
        changed: list[Raised] = []
        known = {key: one for key, one in self._raised.items() if key[0] == alert.name}
        room = RAISED_MAX - len(known)
        for labels, value in sorted(found.items()):
            before = known.pop((alert.name, labels), None)
            if before is None:
                if room <= 0:
                    self.untaken += 1
                    continue
                room -= 1
            after = _held(before, alert, labels, value, now)
            self._raised[after.key] = after
            if after.state is AlertState.FIRING and (
                before is None or before.state is not AlertState.FIRING
            ):
                changed.append(after)
        for key, before in known.items():
            missed = _missed(before, now)
            if missed is None:
                del self._raised[key]
                continue
            self._raised[key] = missed
            if missed.state is not before.state:
                changed.append(missed)
        return changed

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget alerts that are declared no more."""
        names = frozenset(names)
        self._raised = {key: one for key, one in self._raised.items() if key[0] in names}


def _held(before: Raised | None, alert: Alert, labels: Labels, value: float, now: float) -> Raised:
    if before is None or before.state is AlertState.RESOLVED:
        before = Raised(
            alert=alert, labels=labels, state=AlertState.PENDING, value=value, since=now
        )
    after = replace(before, alert=alert, value=value, missed_at=None)
    if after.state is AlertState.PENDING and now - after.since >= alert.for_seconds:
        return replace(after, state=AlertState.FIRING, fired_at=now)
    return after


def _missed(before: Raised, now: float) -> Raised | None:
    match before.state:
        case AlertState.PENDING:
            return None
        case AlertState.RESOLVED:
            assert before.over_at is not None
            return before if now - before.over_at < OVER_KEPT_SECONDS else None
        case _:
            missed_at = now if before.missed_at is None else before.missed_at
            if now - missed_at < before.alert.keep_seconds:
                return replace(before, missed_at=missed_at)
            return replace(before, state=AlertState.RESOLVED, missed_at=missed_at, over_at=now)


def inhibited(raised: Iterable[Raised]) -> set[Key]:
    """Return the tickets of which nobody needs to hear while a page fires about the same thing.

    That is: both ask the same metric, and no label that both have tells them apart.
    """
    raised = list(raised)
    pages = [
        one
        for one in raised
        if one.state is AlertState.FIRING and one.alert.urgency is Urgency.PAGE
    ]
    return {
        one.key
        for one in raised
        if one.alert.urgency is not Urgency.PAGE and any(_is_about(one, page) for page in pages)
    }


def _is_about(one: Raised, page: Raised) -> bool:
    asked = {of.metric.name for of in selections(page.alert.when)}
    if not any(of.metric.name in asked for of in selections(one.alert.when)):
        return False
    theirs = page.named
    return all(theirs.get(name, value) == value for name, value in one.named.items())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a receiver is told of one alert: all label sets that fire, and those that are over."""

    alert: Alert
    firing: tuple[Raised, ...]
    over: tuple[Raised, ...]


@final
@dataclass(slots=True)
class _Group:
    """What a receiver knows of one alert."""

    begun_at: float
    told: dict[Key, Raised]
    told_at: float | None = None


@final
class Dispatch:
    """Decides what one receiver is told, and when.

    The first message waits `wait_seconds` for others of the same alert; a change is told after
    `change_seconds` at the earliest, and what goes on is repeated after `repeat_seconds`. What was
    never told is not told to be over.
    """

    def __init__(
        self,
        urgencies: Iterable[Urgency],
        *,
        wait_seconds: float,
        change_seconds: float,
        repeat_seconds: float,
    ) -> None:
        self._urgencies = frozenset(urgencies)
        self._wait_seconds = wait_seconds
        self._change_seconds = change_seconds
        self._repeat_seconds = repeat_seconds
        self._groups: dict[str, _Group] = {}

    def due(self, raised: Iterable[Raised], now: float) -> Message | None:
        """Return the message that is due, the most urgent and the oldest first, if any is."""
        raised = [one for one in raised if one.alert.urgency in self._urgencies]
        silent = inhibited(raised)
        firing: dict[str, dict[Key, Raised]] = {}
        for one in raised:
            if one.state is AlertState.FIRING and one.key not in silent:
                firing.setdefault(one.alert.name, {})[one.key] = one
        for name in firing:
            self._groups.setdefault(name, _Group(now, {}))
        over = {one.key: one for one in raised if one.state is AlertState.RESOLVED}
        still = {one.key for one in raised if one.state is AlertState.FIRING}
        self._forget(firing, over, still)
        due = [
            Message(
                alert=next(iter((here or group.told).values())).alert,
                firing=tuple(here.values()),
                over=tuple(over[key] for key in group.told if key in over and key not in here),
            )
            for name, group in self._groups.items()
            for here in [firing.get(name, {})]
            if self._is_due(group, here, over, now)
        ]
        order = list(Urgency)
        return min(
            due,
            key=lambda message: (
                order.index(message.alert.urgency),
                self._groups[message.alert.name].begun_at,
            ),
            default=None,
        )

    @property
    def known(self) -> frozenset[Key]:
        """What the receiver was told to fire, and not yet to be over."""
        return frozenset(key for group in self._groups.values() for key in group.told)

    def restore(self, raised: Iterable[Raised], known: Iterable[Key], now: float) -> None:
        """Go on with what another process has told."""
        known = frozenset(known)
        for one in raised:
            if one.key in known:
                group = self._groups.setdefault(one.alert.name, _Group(now, {}, now))
                group.told[one.key] = one

    def told(self, message: Message, now: float) -> None:
        """Note that the receiver has taken a message."""
        group = self._groups.setdefault(message.alert.name, _Group(now, {}))
        for one in message.over:
            group.told.pop(one.key, None)
        # One that is silent now is in neither, and its end is still to be told.
        group.told.update({one.key: one for one in message.firing})
        group.told_at = now
        if not group.told:
            del self._groups[message.alert.name]

    def _is_due(
        self,
        group: _Group,
        firing: Mapping[Key, Raised],
        over: Mapping[Key, Raised],
        now: float,
    ) -> bool:
        if group.told_at is None:
            return bool(firing) and now - group.begun_at >= self._wait_seconds
        if firing.keys() - group.told.keys() or any(key in over for key in group.told):
            return now - group.told_at >= self._change_seconds
        return bool(firing) and now - group.told_at >= self._repeat_seconds

    def _forget(
        self,
        firing: Mapping[str, Mapping[Key, Raised]],
        over: Mapping[Key, Raised],
        still: set[Key],
    ) -> None:
        """Let go of groups of which there is nothing to tell any more."""
        for name, group in list(self._groups.items()):
            # One that fires and is silent now is neither told nor over.
            group.told = {
                key: one for key, one in group.told.items() if key in over or key in still
            }
            if name not in firing and not group.told:
                del self._groups[name]


def about(raised: Iterable[Raised], state: AlertState) -> Iterator[Raised]:
    """Yield those in a state, the most urgent first and then by age."""
    order = list(Urgency)
    found = [one for one in raised if one.state is state]
    yield from sorted(found, key=lambda one: (order.index(one.alert.urgency), one.since))
