"""Alerts fire from a cause, arrive where they are to, and are over; panels show what happened.

A third of the causes, another one each day: all of them are in `evidence/drill.py`.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.drill_causes import CAUSES, TRAFFIC
from flows.drilling import Cause, asked, compared, staged
from shipworthy.serve import service_catalogue

# Not in every change until it has been seen green there; it takes two minutes.
pytestmark = [pytest.mark.evidence, pytest.mark.slow, pytest.mark.timeout(400)]

# Met only when something is wrong: each takes some seconds.
PATIENCE_SECONDS = 60.0
# What only a cause, or a control group, has to show.
_NOT_DAILY = {
    "Background work that failed",
    "COMMITs whose answer was lost",
    "CPU quota used up",
    "Calls to other services",
    "Clients that left",
    "Exceptions",
    "Memory limit",
    "Pressure",
    "Time lost to the CPU quota",
    "Time of calls to other services",
    "Transactions run again",
    "Wait for a connection",
}
# What is another value at each look.
_MOVING = {
    "CPU",
    "Cost of a round",
    "Health checks, time",
    "Last look at the triggers",
    "Lateness of the event loop",
    "Memory",
    "Age of the service",
}


def chosen(day: int) -> list[Cause]:
    """Return the causes of a day: each of them is among those of three days in a row."""
    return [cause for cause in CAUSES if not cause.lasting][day % 3 :: 3]


def test_alerts_arrive_and_resolve_and_panels_have_data(
    tmp_path: Path, postgres_url: str, debian: Callable[[str, str], str]
) -> None:
    """With real servers all the way, from what is broken to the webhook of each receiver."""
    debian("prometheus", "prometheus")
    debian("prometheus-alertmanager", "prometheus-alertmanager")
    catalogue = service_catalogue()
    causes = chosen(datetime.now(UTC).timetuple().tm_yday)
    with staged(tmp_path, postgres_url) as stage:
        stage.play(TRAFFIC, 0)
        for cause in causes:
            stage.play(cause, PATIENCE_SECONDS)
        names = [name for cause in causes for name in cause.alerts]
        told = {name: stage.ears.told[name] for name in names}
        assert [name for name in names if not told[name].arrived] == []
        assert {name: told[name].receiver for name in names} == {
            name: str(catalogue.alerts[name].urgency) if name in catalogue.alerts else "page"
            for name in names
        }
        stage.until_resolved(names, 90)
        assert [name for name in names if not told[name].resolved] == []
        queries = asked(stage, time.time())
        assert {one.title for one in queries if not one.samples} <= _NOT_DAILY
        panels = compared(stage, catalogue, seconds=30, times=1)
        # Whether a value that changes meanwhile is the same is for steady traffic, in the evidence.
        assert {one.title for one in panels if one.values and not one.agreed} <= _MOVING


def test_each_cause_comes_once_in_three_days() -> None:
    """Nothing is left out by the rotation, and no alert has two causes."""
    daily = [cause.name for day in range(3) for cause in chosen(day)]
    assert sorted(daily) == sorted(cause.name for cause in CAUSES if not cause.lasting)
    alerts = [name for cause in CAUSES for name in (*cause.alerts, *cause.later)]
    assert len(set(alerts)) == len(alerts)
