"""What is remembered is what all processes counted, and what is watched is what is declared."""

from pathlib import Path

import pytest

from shipworthy.clock import ManualClock
from shipworthy.events import (
    Alert,
    Board,
    Catalogue,
    Compared,
    Event,
    Metric,
    Number,
    Panel,
    Selection,
    Urgency,
    Value,
    listen,
)
from shipworthy.settings import load
from shipworthy.telemetry import AlertState, Memory, Registry
from shipworthy.telemetry.declarations import plain_declarations
from shipworthy.telemetry.memory import DeclarationsUnread

HELD = Metric("t_held", "gauge", "Held.")
PANEL = Panel(
    title="Held",
    help="What is held.",
    board=Board.BUSINESS,
    shows=(("held", Value(Selection(metric=HELD))),),
    unit="count",
)


def _alert(limit: float) -> Alert:
    return Alert(
        name="HeldTooMuch",
        when=Compared(Value(Selection(metric=HELD)), ">", Number(limit)),
        for_seconds=0.0,
        urgency=Urgency.TICKET,
        summary="{value} are held",
        cause="c",
        look="l",
        act="a",
        drill="d",
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def memory(tmp_path: Path, registry: Registry, clock: ManualClock) -> Memory:
    catalogue = Catalogue()
    catalogue.add(PANEL)
    settings = load(directory=tmp_path, environ={})
    return Memory(settings, registry, tmp_path, catalogue, clock=clock)


def test_several_processes_are_one_service(
    memory: Memory, registry: Registry, clock: ManualClock
) -> None:
    """Their gauges are added, alerts judge the sum, and the round is counted."""
    registry.gauge(HELD, read=lambda: 3.0)
    memory.declared(plain_declarations(_told(_alert(5.0))))
    memory.begin()
    clock.advance(10.0)
    memory.remember([registry.snapshot(), registry.snapshot()])
    memory.judge()
    assert [(one.state, one.value) for one in memory.rounds.raised] == [(AlertState.FIRING, 6.0)]
    ((_, numbers),) = registry.snapshot()["shipworthy_history_round_seconds"]["sets"]
    assert sum(numbers[:-1]) == 1.0
    memory.end()


def _told(*things: Panel | Alert) -> Catalogue:
    catalogue = Catalogue()
    catalogue.add(*things)
    return catalogue


def test_what_the_application_declares_stands_beside_ours(memory: Memory) -> None:
    """The latest of its versions alone; what is ours stays."""
    memory.declared(plain_declarations(_told(_alert(5.0))))
    memory.declared(plain_declarations(_told(_alert(9.0))))
    assert memory.alerts == {"HeldTooMuch": _alert(9.0)}
    assert memory.panels == {"Held": PANEL}
    assert memory.metrics == {"t_held": HELD}
    memory.declared([])
    assert memory.alerts == {}


def test_a_declaration_that_is_not_understood_changes_nothing(memory: Memory) -> None:
    """It is said, and what was known before holds."""
    memory.declared(plain_declarations(_told(_alert(5.0))))
    facts: list[Event] = []
    stop = listen(facts.append, DeclarationsUnread)
    for wrong in ([{"is": "Nonsense"}], None, 5):
        memory.declared(wrong)
    stop()
    assert len(facts) == 3
    assert memory.alerts == {"HeldTooMuch": _alert(5.0)}


def test_what_is_ours_cannot_be_declared_to_be_something_else(
    tmp_path: Path, registry: Registry, clock: ManualClock
) -> None:
    """An alert of ours goes on to watch; the sentence names the other, and the rest is taken."""
    ours = _told(_alert(5.0))
    settings = load(directory=tmp_path, environ={})
    memory = Memory(settings, registry, tmp_path, ours, clock=clock)
    facts: list[Event] = []
    stop = listen(facts.append, DeclarationsUnread)
    memory.declared(plain_declarations(_told(_alert(1e9), PANEL)))
    stop()
    assert memory.alerts == {"HeldTooMuch": _alert(5.0)}
    assert memory.panels == {"Held": PANEL}
    (said,) = facts
    assert isinstance(said, DeclarationsUnread)
    assert "alert 'HeldTooMuch' is declared twice, and differently" in said.because


def test_what_users_bring_from_elsewhere_is_no_error(memory: Memory, clock: ManualClock) -> None:
    """A summary of `prometheus_client` is on /metrics, and not in the history."""
    clock.advance(10.0)
    memory.remember(
        [
            {
                "t_theirs": {
                    "kind": "summary",
                    "help": "",
                    "labels": [],
                    "buckets": [],
                    "fold": "sum",
                    "sets": [([], [1.0, 2.0])],
                }
            }
        ]
    )
    assert memory.keeping.past.all[0].sets == 0
