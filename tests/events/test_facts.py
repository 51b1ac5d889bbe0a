"""An event is declared once, and its declaration says everything that is derived from it."""

from typing import Annotated

import pytest

from shipworthy.events import Event, Field, Label, Measure, Severity, declared, event
from shipworthy.events.facts import Role


@event(severity=Severity.WARNING)
class LampFailed(Event):
    """A lamp of the harbour went out.

    The second paragraph is for readers of the code.
    """

    lamp: Annotated[str, Label]
    dark_seconds: Annotated[float, Measure]
    note: str
    hint: Annotated[str, "no role of ours"] = ""


def test_a_declaration_says_what_is_derived_from_it():
    """Name, severity, sentence and the role of each field."""
    assert LampFailed.name.endswith(".lamp_failed")
    assert LampFailed.severity is Severity.WARNING
    assert LampFailed.sentence == "A lamp of the harbour went out."
    assert LampFailed.schema == (
        Field("lamp", Label),
        Field("dark_seconds", Measure),
        Field("note", Role.DETAIL),
        Field("hint", Role.DETAIL),
    )


def test_what_is_declared_is_listed_in_a_copy():
    """Whoever derives things from the list cannot change it."""
    listed = declared()

    assert listed[LampFailed.name] is LampFailed
    listed.clear()
    assert LampFailed.name in declared()


def test_an_event_of_ours_is_named_after_its_room():
    """The room is the second part of the module's name; outside of the package it is the first."""
    phase_changed = type(
        "PhaseTested", (Event,), {"__doc__": "Tested.", "__module__": "shipworthy.web.line"}
    )
    foreign = type("PhaseTested", (Event,), {"__doc__": "Tested.", "__module__": "harbour.app"})

    assert event()(phase_changed).name == "web.phase_tested"
    assert event()(foreign).name == "harbour.phase_tested"


def test_an_event_without_a_sentence_is_refused():
    """Somebody has to read it at night."""
    with pytest.raises(TypeError, match=r"Silent has no docstring: say what happened"):

        @event()
        class Silent(Event):
            pass


def test_a_name_is_taken_once():
    """Two events of one name could not be told apart in the log."""
    with pytest.raises(TypeError, match=r"lamp_failed is declared twice"):
        event()(type("LampFailed", (Event,), {"__doc__": "Again.", "__module__": __name__}))
