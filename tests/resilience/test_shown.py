"""What is shown of breakers, retries, fallbacks and bulkheads, and when somebody is called."""

import pytest

from shipworthy.clock import ManualClock
from shipworthy.events import metrics_of
from shipworthy.resilience import (
    RESILIENCE_SHOWN,
    Breaker,
    Ended,
    resilience_metrics,
)
from shipworthy.resilience.breaker import _breakers
from shipworthy.resilience.shown import RESILIENCE_ALERTS
from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.alerting import Alerts, AlertState
from shipworthy.telemetry.evaluate import holds
from shipworthy.telemetry.history import History
from shipworthy.telemetry.snapshot import folded

ALERTS = {alert.name: alert for alert in RESILIENCE_ALERTS}
LOOKS_SECONDS = 15.0


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in RESILIENCE_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in resilience_metrics()} <= shown


class Watched:
    """Processes whose numbers are looked at each 15 s, and one alert over them."""

    def __init__(self, alert: str, clock: ManualClock) -> None:
        self.alert = ALERTS[alert]
        self.clock = clock
        self.fired = False
        self._alerts = Alerts()
        self._history = History()
        self._looked = float("-inf")

    def look(self, *processes: Breaker) -> None:
        """Look, if it is time to, as whoever folds the numbers of all processes does."""
        now = self.clock.now()
        if now - self._looked < LOOKS_SECONDS:
            return
        self._looked = now
        self._history.add(folded(map(_snapshot, processes)), at=now, wall=now)
        self._alerts.advance(self.alert, holds(self.alert.when, self._history, now), now)
        self.fired |= any(one.state is AlertState.FIRING for one in self._alerts.raised)


def _snapshot(breaker: Breaker) -> Snapshot:
    """Return what the process says whose breaker of that name this is."""
    # As its constructor does: a process tells of the newest of a name, and here are several.
    _breakers[breaker.name] = breaker
    return {
        metric.name: {
            "kind": metric.kind,
            "help": metric.help,
            "labels": list(metric.labels),
            "buckets": [],
            "fold": metric.fold,
            "sets": [(list(labels), [number]) for labels, number in read().items()],
        }
        for metric, read in resilience_metrics()
    }


def refused(breaker: Breaker) -> None:
    """Have a target refuse until its breaker opens."""
    for _ in range(5):
        breaker.record(breaker.admit(), Ended.REFUSED, 0.0)


def well(breaker: Breaker) -> None:
    """Have a prober find the target back, and its trials go well."""
    breaker.probe_ok()
    for _ in range(breaker.rule.trials):
        breaker.record(breaker.admit(), Ended.SUCCESS, 0.0)


def test_a_target_that_hangs_is_told_of(clock: ManualClock) -> None:
    """Its breaker is half-open while a trial hangs, and open for moments only."""
    breaker = Breaker("hangs", clock=clock, draw=lambda: 0.0)
    watched = Watched("BreakerOpen", clock)
    refused(breaker)
    for _ in range(12):
        clock.advance(LOOKS_SECONDS)
        # What lets a trial through is half-open when it is looked at.
        ticket = breaker.admit()
        watched.look(breaker)
        breaker.record(ticket, Ended.FAILURE, 14.0)

    assert watched.fired


def test_who_opened_and_is_called_no_more_wakes_nobody(clock: ManualClock) -> None:
    """What was away when somebody last asked may be back, and nobody is refused meanwhile."""
    breaker = Breaker("night", clock=clock)
    watched = Watched("BreakerOpen", clock)
    refused(breaker)
    for _ in range(40):
        watched.look(breaker)
        clock.advance(LOOKS_SECONDS)

    assert breaker.state == "open"
    assert not watched.fired


@pytest.mark.parametrize(("processes", "fires"), [(8, False), (1, True)])
def test_flapping_is_of_one_process(clock: ManualClock, processes: int, *, fires: bool) -> None:
    """Eight openings: of eight workers one outage, of one worker a target that comes and goes."""
    breakers = [Breaker("flaps", clock=clock) for _ in range(processes)]
    watched = Watched("BreakerFlapping", clock)
    for _ in range(8 // processes):
        for breaker in breakers:
            refused(breaker)
        watched.look(*breakers)
        clock.advance(20.0)
        for breaker in breakers:
            well(breaker)
        watched.look(*breakers)
        clock.advance(40.0)

    assert watched.fired is fires
