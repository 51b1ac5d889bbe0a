"""What the supervisor counts of its workers, told from what it knows."""

from shipworthy.events import Alert
from shipworthy.serve.metrics import WORKERS, workers_by_state
from shipworthy.serve.shown import SERVE_SHOWN
from shipworthy.serve.supervision import Supervision, SupervisionRule
from shipworthy.telemetry import Registry
from shipworthy.telemetry.evaluate import holds
from shipworthy.telemetry.history import History


def _serving() -> Supervision:
    supervision = Supervision(SupervisionRule(start_seconds=60.0, grace_seconds=30.0, workers=2))
    supervision.begin(0.0)
    supervision.heard(1, 0.5)
    supervision.ready(1, 1.0)
    return supervision


def _alarms(supervision: Supervision) -> set[str]:
    """Return which alerts hold at this moment, however long they would have to."""
    registry, history = Registry(), History()
    registry.gauge(WORKERS, read=lambda: workers_by_state(supervision, spare=False))
    assert history.add(registry.snapshot(), at=0.0, wall=0.0)
    alerts = [one for one in SERVE_SHOWN if isinstance(one, Alert)]
    return {one.name for one in alerts if holds(one.when, history, 0.0)}


def test_workers_are_counted_by_what_they_do() -> None:
    """One of the two that are wanted is ready, and the other still starts."""
    counts = workers_by_state(_serving(), spare=True)

    assert counts == {
        ("starting",): 1.0,
        ("ready",): 1.0,
        ("leaving",): 0.0,
        ("wanted",): 2.0,
        ("spare",): 1.0,
    }


def test_a_drain_misses_nobody() -> None:
    """However long it takes, nobody is called because a service leaves as it was told."""
    supervision = _serving()
    assert _alarms(supervision) == {"WorkersMissing"}

    supervision.drain(2.0)

    assert workers_by_state(supervision, spare=False)["leaving",] >= 1.0
    assert _alarms(supervision) == set()
