"""Charts, panels and alerts over the operations port."""

from pathlib import Path

import pytest

from shipworthy.clock import Clock, ManualClock
from shipworthy.events import (
    Alert,
    Board,
    Catalogue,
    Compared,
    Declared,
    Metric,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
)
from shipworthy.operations import Endpoint, watch_endpoints
from shipworthy.settings import load
from shipworthy.telemetry import Memory, Registry

pytestmark = pytest.mark.anyio

ASKED = Metric("t_asked_total", "counter", "Asked.", {"route": Declared()})
TOOK = Metric("t_took_seconds", "histogram", "Took.", {"route": Declared()}, buckets=(0.1, 1.0))
HELD = Metric("t_held", "gauge", "Held.", {"pool": Declared()})
PANEL = Panel(
    title="Asked",
    help="What is asked.",
    board=Board.OVERVIEW,
    shows=(
        ("at {route}", Rate(Selection(metric=ASKED, by=("route",)))),
        ("in all", Rate(Selection(metric=ASKED))),
    ),
    unit="per_second",
)


def _alert(name: str, limit: float, *, for_seconds: float = 0.0) -> Alert:
    return Alert(
        name=name,
        when=Compared(Value(Selection(metric=HELD, by=("pool",))), ">", Number(limit)),
        for_seconds=for_seconds,
        urgency=Urgency.PAGE,
        summary="{pool} holds {value}",
        cause="Somebody holds them.",
        look="At the holders.",
        act="End them.",
        drill="d",
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _memory(folder: Path, clock: ManualClock, every: str = "10s") -> Memory:
    catalogue = Catalogue()
    catalogue.add(PANEL, TOOK, _alert("Full", 5.0), _alert("Fuller", 5.0, for_seconds=3600.0))
    catalogue.add(_alert("Never", 99.0))
    settings = load(directory=folder, environ={}, overrides={"history.every": every})
    return Memory(settings, Registry(), folder, catalogue, clock=clock)


@pytest.fixture
def endpoints(tmp_path: Path, clock: ManualClock) -> tuple[Endpoint, ...]:
    """Half an hour of one request a second, half of them at /b."""
    memory, registry = _memory(tmp_path, clock), Registry()
    asked, took = registry.counter(ASKED), registry.histogram(TOOK)
    registry.gauge(HELD, read=lambda: {("main",): 7.0})
    for _ in range(180):
        clock.advance(10.0)
        asked.cell("/a").add(5.0)
        asked.cell("/b").add(5.0)
        took.cell("/a").observe(0.05)
        memory.remember([registry.snapshot()])
        memory.judge()
    return watch_endpoints(memory, clock=clock)


async def test_a_panel_is_drawn_over_time(connect, endpoints, clock):
    """A line for each label set, named as the panel says, and a value for each time."""
    async with connect(signed=True, endpoints=endpoints) as client:
        found = (await client.get("/api/series?panel=Asked&since=20m&points=40")).json()

    assert (found["title"], found["unit"], found["left_out"]) == ("Asked", "per_second", 0)
    assert found["times"][-1] == clock.wall()
    assert len(found["times"]) == 41
    assert {line["name"] for line in found["lines"]} == {"at /a", "at /b", "in all"}
    values = {line["name"]: line["values"] for line in found["lines"]}
    assert values["in all"] == pytest.approx([1.0] * 41)
    assert values["at /b"] == pytest.approx([0.5] * 41)
    assert [line["labels"] for line in found["lines"] if line["name"] == "at /a"] == [
        {"route": "/a"}
    ]


@pytest.mark.parametrize(
    ("query", "unit", "value"),
    [
        ("metric=t_asked_total", "per_second", 1.0),
        ("metric=t_asked_total&show=increase&over=5m&where=route=/a", "count", 150.0),
        ("metric=t_took_seconds&show=rate&by=route", "per_second", 0.1),
        ("metric=t_took_seconds&share=0.5", "seconds", 0.05),
        ("metric=t_took_seconds&show=mean", "seconds", 0.05),
        ("metric=t_held", "count", 7.0),
        ("metric=t_held&show=value&by=pool", "count", 7.0),
        ("metric=t_held&show=age", "seconds", None),
    ],
)
async def test_one_metric_is_drawn_as_asked(connect, endpoints, query, unit, value):
    """By its usual expression, or by another; of some label sets, or by label."""
    async with connect(signed=True, endpoints=endpoints) as client:
        answer = await client.get(f"/api/series?{query}&since=5m&points=5")

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["unit"] == unit
    (line,) = found["lines"]
    if value is not None:
        assert line["values"][-1] == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("", 422, "name a panel by its title"),
        ("panel=Asked&metric=t_held", 422, "name a panel by its title"),
        ("panel=Askd", 404, "did you mean 'Asked'"),
        ("metric=t_hold", 404, "did you mean 't_held'"),
        ("metric=t_held&show=rate", 422, "Rate is for a counter"),
        ("metric=t_held&show=everything", 422, "'show' is one of rate"),
        ("metric=t_held&by=color", 422, "has no label 'color'"),
        ("metric=t_held&where=pool", 422, "'where' is label=value"),
        ("panel=Asked&since=2990-01-01T00:00Z&until=2991-01-01T00:00Z", 422, "before now"),
        ("metric=t_asked_total&over=five", 422, "'over' is a length of time"),
        ("metric=t_took_seconds&share=most", 422, "'share' is a number"),
        ("metric=t_took_seconds&share=2", 422, "between 0 and 1"),
        ("panel=Asked&since=yesterday", 422, "'since' is a time with its zone"),
        ("panel=Asked&since=2026-11-30T12:00:00", 422, "'since' is a time with its zone"),
        ("panel=Asked&since=5m&until=1h", 422, "'since' is before 'until'"),
        ("panel=Asked&since=0s", 422, "'since' is before 'until'"),
        ("panel=Asked&since=0001-01-01T00:00%2B14:00", 422, "after 1970"),
        ("panel=Asked&since=999999999999999d", 422, "after 1970"),
        ("panel=Asked&since=-5m", 422, "'since' is a time with its zone"),
        ("panel=Asked&until=9999-12-31T23:59:59-14:00&since=2990-01-01T00:00Z", 422, "before now"),
        ("metric=t_asked_total&over=0s", 422, "a window is longer than nothing"),
        ("metric=t_took_seconds&share=nan", 422, "between 0 and 1"),
        ("metric=t_held&where=pool=", 422, "can never be"),
        ("panel=Asked&points=-1", 422, "'points' is a number from 1 to 500"),
        ("panel=Asked&points=501", 422, "'points' is a number from 1 to 500"),
    ],
)
async def test_what_cannot_be_drawn_is_refused(connect, endpoints, query, status, says):
    """With a sentence that says how it can be."""
    async with connect(signed=True, endpoints=endpoints) as client:
        answer = await client.get(f"/api/series?{query}")

    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


async def test_a_chart_may_end_in_the_past(connect, endpoints, clock):
    """Between two times with their zones, or so long ago."""
    async with connect(signed=True, endpoints=endpoints) as client:
        found = (await client.get("/api/series?panel=Asked&since=20m&until=10m&points=5")).json()
        assert found["times"][-1] == clock.wall() - 600
        same = await client.get(
            "/api/series?panel=Asked&since=2023-11-14T22:00:00Z&until=2023-11-14T22:30:00%2B00:00"
        )
        assert same.status_code == 200


async def test_a_chart_has_as_many_points_as_asked_for(connect, endpoints, clock):
    """Whatever the quotients round to; and a label that is named twice is one."""
    clock.advance(1e7 / 3)
    async with connect(signed=True, endpoints=endpoints) as client:
        for points in (1, 7, 10, 49, 93, 500):
            query = f"metric=t_held&by=pool&by=pool&points={points}&since=33h"
            found = (await client.get(f"/api/series?{query}")).json()
            assert len(found["times"]) == points + 1
            assert [line["name"] for line in found["lines"]] in ([], ["main"])


class PassingClock(Clock):
    """A clock on which a tenth of a second passes with each look, as with costly work."""

    def __init__(self):
        self._now = 0.0
        self.step = 0.0

    def now(self):
        self._now += self.step
        return self._now

    def wall(self):
        return 1_700_000_000.0 + self._now

    def advance(self, seconds):
        self._now += seconds


async def test_a_chart_of_too_much_is_given_up(connect, tmp_path):
    """The time is the supervisor's, so it is bounded; the sentence says what to ask for."""
    clock = PassingClock()
    memory, registry = _memory(tmp_path, clock), Registry()
    registry.counter(ASKED).cell("/a").add(5.0)
    for _ in range(100):
        clock.advance(10.0)
        memory.remember([registry.snapshot()])
    clock.step = 0.1
    async with connect(signed=True, endpoints=watch_endpoints(memory, clock=clock)) as client:
        small = await client.get("/api/series?metric=t_asked_total&points=5&since=15m")
        large = await client.get("/api/series?metric=t_asked_total&points=50&since=15m")

    assert small.status_code == 200
    assert large.status_code == 422
    assert "longer than 2 s; ask for fewer points" in large.json()["detail"]


async def test_alerts_say_how_they_stand_and_what_to_do(connect, endpoints, clock):
    """What fires first, then what is pending, then the rest, each with its runbook."""
    async with connect(signed=True, endpoints=endpoints) as client:
        found = (await client.get("/api/alerts")).json()

    stands = [(one["name"], one["state"], one["labels"]) for one in found["alerts"]]
    assert stands == [
        ("Full", "firing", {"pool": "main"}),
        ("Fuller", "pending", {"pool": "main"}),
        ("Never", "inactive", {}),
    ]
    full, _, never = found["alerts"]
    assert full["since"] == clock.wall() - 1790
    assert (full["value"], full["summary"], full["urgency"]) == (7.0, "main holds 7", "page")
    assert full["runbook"] == {
        "cause": "Somebody holds them.",
        "look": "At the holders.",
        "act": "End them.",
    }
    assert (never["since"], never["value"]) == (None, None)


async def test_panels_are_listed(connect, endpoints):
    """With where they stand, and the names of their lines."""
    async with connect(signed=True, endpoints=endpoints) as client:
        found = (await client.get("/api/panels")).json()

    assert found["panels"] == [
        {
            "title": "Asked",
            "help": "What is asked.",
            "board": "overview",
            "unit": "per_second",
            "lines": ["at {route}", "in all"],
        }
    ]


async def test_who_remembers_nothing_says_so(connect, tmp_path, clock):
    """And which setting would change that."""
    memory = _memory(tmp_path, clock, every="0")
    async with connect(signed=True, endpoints=watch_endpoints(memory, clock=clock)) as client:
        answer = await client.get("/api/series?panel=Asked")

    assert answer.status_code == 422
    assert "history.every is 0" in answer.json()["detail"]


async def test_nobody_sees_a_chart_without_the_token(connect, endpoints):
    """As with everything below /api."""
    async with connect(endpoints=endpoints) as client:
        for path in ("/api/series?panel=Asked", "/api/panels", "/api/alerts"):
            assert (await client.get(path)).status_code == 401
