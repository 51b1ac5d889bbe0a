"""What the supervisor counts of its workers, told from what it knows."""

import pytest

from shipworthy.events import Alert
from shipworthy.serve.metrics import WORKERS, workers_by_state
from shipworthy.serve.shown import SERVE_SHOWN
from shipworthy.serve.supervision import Spawn, Supervision, SupervisionRule, Tell
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


def _pages(supervision: Supervision) -> set[str]:
    urgent = {one.name for one in SERVE_SHOWN if isinstance(one, Alert) and one.urgency == "page"}
    return _alarms(supervision) & urgent


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


def test_a_first_start_wakes_nobody_however_long_it_may_take() -> None:
    """A new release may need minutes to start while the instances before it still serve."""
    supervision = Supervision(SupervisionRule(start_seconds=600.0, grace_seconds=30.0))
    supervision.begin(0.0)
    supervision.heard(1, 1.0)
    assert _alarms(supervision) == set()

    supervision.ready(1, 500.0)
    supervision.exited(1, "it was ended by signal 9", 501.0, clean=False)

    assert "NoWorkerReady" in _alarms(supervision)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("retire_first", [False, True])
def test_a_rolling_replacement_wakes_nobody_at_any_step(
    workers: int, *, retire_first: bool
) -> None:
    """Of one worker too: its successor serves before it goes, even where there is little room."""
    rule = SupervisionRule(start_seconds=60.0, grace_seconds=30.0, workers=workers)
    supervision, now = Supervision(rule), 0.0
    supervision.begin(now)
    for generation in range(1, workers + 1):
        supervision.heard(generation, now)
        supervision.ready(generation, now)
    pages = _pages(supervision)
    actions = (
        supervision.recycle(1, "worn", now, retire_first=True)
        if retire_first
        else supervision.changed(now)
    )
    for _ in range(10 * workers):
        now += 1.0
        pages |= _pages(supervision)
        following = []
        for action in actions:
            if isinstance(action, Spawn):
                following += supervision.heard(action.generation, now)
                pages |= _pages(supervision)
                following += supervision.ready(action.generation, now)
            elif isinstance(action, Tell):
                following += supervision.exited(action.generation, "code 0", now, clean=True)
            pages |= _pages(supervision)
        actions = following

    assert supervision.at_rest
    assert min(supervision.workers) > (1 if retire_first else workers)
    assert pages == set()
