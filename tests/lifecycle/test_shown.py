"""What is shown of resources, the event loop and health."""

from functools import partial

import pytest

from shipworthy.events import Alert, metrics_of
from shipworthy.lifecycle import LIFECYCLE_SHOWN, ResourceSettings, ServiceResources
from shipworthy.lifecycle.loop_watch import BLOCKED, LAG, WORD_SECONDS
from shipworthy.lifecycle.watermarks import RESOURCES, ProcessJudge, ServiceJudge
from shipworthy.telemetry import Registry
from shipworthy.telemetry.evaluate import holds
from shipworthy.telemetry.history import History


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    read = ServiceResources(ResourceSettings()).metrics()
    shown = {metric.name for thing in LIFECYCLE_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in read} | {BLOCKED.name, LAG.name} <= shown


def _held(*, loops: int, blocked_seconds: float) -> dict[tuple[str, ...], float]:
    """Let EventLoopBlocked look at five minutes of loops that stood for so long, all together."""
    (alert,) = (
        one for one in LIFECYCLE_SHOWN if isinstance(one, Alert) and one.name == "EventLoopBlocked"
    )
    history, words = History(), (300.0 * loops - blocked_seconds) / WORD_SECONDS
    for at in range(0, 310, 10):
        registry, share = Registry(), at / 300
        registry.running_total(BLOCKED, read=partial(float, blocked_seconds * share))
        lag = registry.histogram(LAG).cell()
        for _ in range(round(words * share)):
            lag.observe(0.0)
        assert history.add(registry.snapshot(), at=float(at), wall=float(at))
    return holds(alert.when, history, 300.0)


def test_a_loop_that_stands_for_a_minute_is_an_alarm() -> None:
    """It alone has stood for more than a fifth of five minutes."""
    (share,) = _held(loops=1, blocked_seconds=90.0).values()

    assert share == pytest.approx(0.3, abs=0.01)


def test_many_loops_that_stand_for_a_moment_each_are_none() -> None:
    """Their seconds add up to the same, and nobody has waited."""
    assert _held(loops=8, blocked_seconds=90.0) == {}


def test_the_resources_of_the_metrics_are_those_that_are_judged() -> None:
    """A level of another would have no series, and its alert would never fire."""
    settings = ResourceSettings()
    service = ServiceJudge(
        memory=settings.memory,
        worker_memory_bytes=settings.worker_memory_bytes,
        processes_warn_ratio=settings.processes_warn_ratio,
        throttled_warn_ratio=settings.throttled_warn_ratio,
        disk_warn_ratio=settings.disk_warn_ratio,
    )
    process = ProcessJudge(
        descriptors=settings.descriptors,
        lag_seconds=settings.loop_lag_seconds,
        connections=settings.worker_connections,
    )

    judged = [report.resource for report in (*service.reports(), *process.reports())]
    assert judged == list(RESOURCES)
