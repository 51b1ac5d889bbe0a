"""Alerts fire from a cause, arrive where they are to, and are over; panels show what happened.

A third of the causes, another one each day: all of them are in `evidence/drill.py`, and only there
those that take minutes or need a service with mounts of its own. DRILL_THIRD names one of the
thirds 0, 1 and 2 to be played in place of the day's.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.drill_causes import CAUSES, EVERY, TRAFFIC, receiver_of
from flows.drill_compared import asked, recomputed
from flows.drilling import Cause, staged
from shipworthy.serve import service_catalogue

# Met only when something is wrong, or a machine has ten times its work.
PATIENCE_SECONDS = 120.0
# The longest window of those that are played here: of an hour, which is a minute.
RESOLVING_SECONDS = 120.0


def chosen(third: int) -> list[Cause]:
    """Return a third of the causes that do not take minutes."""
    return [*CAUSES[third % 3 :: 3]]


def third_of(environ: dict[str, str], today: datetime) -> int:
    """Return which third is played: the one that is asked for, or the day's."""
    return int(environ.get("DRILL_THIRD") or today.toordinal()) % 3


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_alerts_arrive_and_resolve_and_panels_have_data(
    tmp_path: Path, postgres_url: str, debian: Callable[[str, str], str]
) -> None:
    """With real servers all the way, from what is broken to the webhook of each receiver."""
    debian("prometheus", "prometheus")
    debian("prometheus-alertmanager", "prometheus-alertmanager")
    catalogue = service_catalogue()
    third = third_of({**os.environ}, datetime.now(UTC))
    print(f"third {third} of the drill; DRILL_THIRD={third} plays it again")
    causes = chosen(third)
    names = [name for cause in causes for name in cause.alerts]
    with staged(tmp_path, postgres_url) as stage:
        stage.play([TRAFFIC, *causes], PATIENCE_SECONDS)
        for cause in causes:
            # Once more by itself, where what is played beside it was in its way.
            if not all(stage.ears.told[name].arrived for name in cause.alerts):
                print(f"again: {cause.name}")
                stage.play([cause], PATIENCE_SECONDS)
        told = {name: stage.ears.told[name] for name in names}
        assert [name for name in names if not told[name].arrived] == []
        assert {name: told[name].receiver for name in names} == {
            name: receiver_of(name, catalogue) for name in names
        }
        stage.until_resolved(names, RESOLVING_SECONDS)
        assert [name for name in names if not told[name].resolved] == []
        until = time.time()
        queries, panels = asked(stage, until), recomputed(stage, catalogue, until)
    print(f"{sum(1 for one in queries if one.samples)} of {len(queries)} queries had data")
    assert [panel.worst for panel in panels if panel.agreed < panel.values] == []
    assert sum(panel.values for panel in panels) > 1000


def test_each_cause_comes_once_in_three_days() -> None:
    """Nothing is left out by the rotation; a third can be asked for by hand."""
    days = [datetime(2026, 2, day, tzinfo=UTC) for day in (1, 2, 3)]
    daily = [cause.name for day in days for cause in chosen(third_of({}, day))]
    assert sorted(daily) == sorted(cause.name for cause in CAUSES)
    assert [third_of({"DRILL_THIRD": text}, days[0]) for text in ("0", "1", "2")] == [0, 1, 2]


def test_each_alert_has_a_cause() -> None:
    """And no alert has two: nobody would know which of them it was."""
    alerts = [name for cause in EVERY for name in cause.every]
    assert len(set(alerts)) == len(alerts)
    assert set(service_catalogue().alerts) - set(alerts) == set()
