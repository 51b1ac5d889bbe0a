"""Facts reach whoever listens, and cost nothing to speak of when nobody does."""

import logging
import sys
from typing import Annotated

import pytest

from shipworthy.events import Event, Label, emit, event, facts, listen

emit_module = sys.modules["shipworthy.events.emit"]


@event()
class ShipArrived(Event):
    """A ship is in the harbour."""

    ship: Annotated[str, Label]


@event()
class ShipLeft(Event):
    """A ship is at sea again."""

    ship: Annotated[str, Label]


@pytest.fixture(autouse=True)
def nobody_else_listens(monkeypatch):
    """Whoever listens to everything since an earlier test is not part of these."""
    monkeypatch.setattr(facts, "STANDING", [])
    monkeypatch.setattr(emit_module, "STANDING", facts.STANDING)
    for kind in (ShipArrived, ShipLeft):
        monkeypatch.setattr(kind, "listeners", ())


def test_a_fact_reaches_all_who_listen_in_their_order():
    """At once, in the thread that states it."""
    heard: list[str] = []
    stops = [
        listen(lambda fact: heard.append(f"first {fact.ship}"), ShipArrived),
        listen(lambda fact: heard.append(f"second {fact.ship}"), ShipArrived),
    ]

    emit(ShipArrived, ship="Meridian")
    emit(ShipLeft, ship="Meridian")

    assert heard == ["first Meridian", "second Meridian"]
    for stop in stops:
        stop()


def test_who_has_stopped_listening_hears_nothing():
    """The others still do."""
    heard: list[str] = []
    stop_first = listen(lambda fact: heard.append("first"), ShipArrived)
    stop_second = listen(lambda fact: heard.append("second"), ShipArrived)

    stop_first()
    emit(ShipArrived, ship="Meridian")

    assert heard == ["second"]
    stop_second()
    assert ShipArrived.listeners == ()


def test_who_names_no_kind_hears_all_kinds():
    """Everything that was declared until then."""
    heard: list[Event] = []
    stop = listen(heard.append)

    emit(ShipArrived, ship="Meridian")
    emit(ShipLeft, ship="Meridian")
    stop()

    assert [type(fact) for fact in heard] == [ShipArrived, ShipLeft]


def test_nothing_is_built_when_nobody_listens():
    """Even a fact that could not be built costs its room nothing."""
    emit(ShipArrived, no_such_field=1)

    stop = listen(lambda fact: None, ShipArrived)
    with pytest.raises(TypeError):
        emit(ShipArrived, no_such_field=1)
    stop()


def test_a_listener_that_fails_disturbs_nobody(caplog):
    """It is logged; the room that speaks and the other listeners go on."""
    heard: list[str] = []

    def fail(_: object) -> None:
        raise RuntimeError("deaf")

    stops = [listen(fail, ShipArrived), listen(lambda fact: heard.append(fact.ship), ShipArrived)]
    with caplog.at_level(logging.ERROR, logger="shipworthy.events"):
        emit(ShipArrived, ship="Meridian")

    assert heard == ["Meridian"]
    assert "a listener failed on" in caplog.text
    for stop in stops:
        stop()


def test_who_listens_to_everything_hears_kinds_declared_later_too():
    """Rooms are imported when they are needed, which may be after the log was opened."""
    heard: list[Event] = []
    stop = listen(heard.append)

    @event()
    class DeclaredLater(Event):
        """Something happened in a room that was imported late."""

    emit(DeclaredLater)
    stop()
    emit(DeclaredLater)

    assert [type(fact) for fact in heard] == [DeclaredLater]
