"""Each kind of operation has its lengths, and impossible ones are refused."""

import pytest

from shipworthy.db.dialects.bounds import Bounds
from shipworthy.db.kinds import KindSettings, OperationKind, kind_named, use_kinds
from shipworthy.errors import Misuse

NAMES = ("probe", "interactive-read", "interactive-write", "background", "report", "migration")


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_has_lengths_that_fit_each_other(name):
    """What waits for a person is short, what nobody waits for is longer, a migration has no end."""
    kind = kind_named(name)

    assert kind.name == name
    assert (kind.total_seconds == 0) == (name == "migration")
    assert kind.checkout_seconds > 0


def test_a_kind_there_is_not_is_refused_with_those_there_are():
    """The message is the list."""
    with pytest.raises(Misuse, match="no kind of operation 'nightly'; there are probe, interact"):
        kind_named("nightly")


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({"checkout_seconds": 3, "total_seconds": 2}, "checkout .3 s. is never reached"),
        ({"checkout_seconds": 2, "total_seconds": 2}, "checkout .2 s. is never reached"),
        ({"statement_seconds": 9, "total_seconds": 8}, "statement .9 s. is never reached"),
        ({"lock_seconds": 2, "statement_seconds": 1}, "lock .2 s. is never reached"),
        ({"lock_seconds": 2, "total_seconds": 1}, "because total ends after 1 s"),
        ({"total_seconds": -1}, "total is -1 s; use 0 for no limit"),
        ({"idle_seconds": float("inf")}, "idle is inf s"),
        ({"idle_seconds": float("nan")}, "idle is nan s"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(lengths, said):
    """A deadline below the time that a connection may take could not be meant."""
    with pytest.raises(ValueError, match=said):
        OperationKind(name="odd", **lengths)


def test_a_length_of_nothing_is_no_limit_and_contradicts_nothing():
    """Only what both are set is compared; a client that has stopped is beyond any total."""
    kind = OperationKind(name="long", checkout_seconds=5, lock_seconds=2, idle_seconds=60)

    assert kind.bounds(read_only=True) == Bounds(lock_seconds=2, idle_seconds=60, read_only=True)


def test_a_setting_changes_the_lengths_it_names():
    """The others keep their defaults."""
    settings = KindSettings(report="total 10m, statement 9m")

    assert settings.kind("report").total_seconds == 600
    assert settings.kind("report").checkout_seconds == kind_named("report").checkout_seconds
    assert settings.refusals("production") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("total 1s", "kinds.report: kind 'report': checkout (5 s) is never reached"),
        ("everything 1s", "kinds.report: 'everything 1s' is no length of a kind"),
        ("total soon", "kinds.report: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_at_the_start(text, said):
    """In every environment, with its key."""
    (refused,) = KindSettings(report=text).refusals("development")

    assert refused.startswith(said)


def test_units_take_their_lengths_from_what_was_set():
    """One process has one set; a unit asks when it begins."""
    use_kinds(KindSettings(probe="total 1500ms"))
    try:
        assert kind_named("probe").total_seconds == 1.5
    finally:
        use_kinds(KindSettings())
