"""When a spare process is started, taken and ended, told as stories and as whatever happens."""

from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shipworthy.serve.standby import SpareStage, Standby, StandbyRule, Step, has_room

RULE = StandbyRule(start_seconds=10.0, rest_seconds=2.0, again_seconds=60.0)


def resting(rule: StandbyRule = RULE) -> Standby:
    """Everybody has served since 0.0; at 2.0 a spare is due."""
    standby = Standby(rule)
    assert standby.tick(0.0, at_rest=True, room=True) is None
    return standby


def warm() -> Standby:
    standby = resting()
    assert standby.tick(2.0, at_rest=True, room=True) is Step.START
    standby.warm()
    return standby


def test_a_spare_is_started_once_everybody_has_served_for_a_while() -> None:
    """Not before: its start would take the CPU that the first requests want."""
    standby = resting()

    assert standby.tick(1.9, at_rest=True, room=True) is None
    assert standby.tick(2.0, at_rest=True, room=True) is Step.START
    assert standby.stage is SpareStage.WARMING
    assert standby.tick(2.1, at_rest=True, room=True) is None


def test_rest_is_counted_from_its_last_disturbance() -> None:
    """Where workers fall again and again a start more is of no use."""
    standby = resting()

    assert standby.tick(1.5, at_rest=False, room=True) is None
    assert standby.tick(1.6, at_rest=True, room=True) is None
    assert standby.tick(3.5, at_rest=True, room=True) is None
    assert standby.tick(3.6, at_rest=True, room=True) is Step.START


def test_the_spare_outlasts_the_loss_it_is_for_and_is_taken_once() -> None:
    """Then the next one is due when everybody serves again."""
    standby = warm()

    assert standby.tick(5.0, at_rest=False, room=True) is None
    assert standby.take()
    assert not standby.take()
    assert standby.tick(5.1, at_rest=True, room=True) is None
    assert standby.tick(7.1, at_rest=True, room=True) is Step.START


def test_one_that_still_imports_is_taken_too() -> None:
    """It is as far as a process that is started now, or further."""
    standby = resting()
    standby.tick(2.0, at_rest=True, room=True)

    assert standby.take()
    standby.warm()  # its word was on the way
    assert standby.stage is SpareStage.NONE


def test_a_spare_that_is_not_wanted_is_never_started() -> None:
    """`serve.spare = false`, and --reload."""
    standby = resting(StandbyRule(kept=False))

    assert standby.tick(1000.0, at_rest=True, room=True) is None
    assert not standby.take()


def test_a_spare_gives_its_memory_back_before_a_worker_has_to() -> None:
    """And none is started for a while: memory that is scarce now is scarce in a second."""
    standby = warm()

    assert standby.tick(5.0, at_rest=True, room=False) is Step.END
    assert standby.stage is SpareStage.NONE
    assert standby.tick(64.9, at_rest=True, room=True) is None
    assert standby.tick(65.0, at_rest=True, room=False) is None
    assert standby.tick(65.1, at_rest=True, room=True) is Step.START


def test_a_spare_that_does_not_get_warm_is_ended() -> None:
    """An import that hangs would be a hang of the worker it becomes."""
    standby = resting()
    standby.tick(2.0, at_rest=True, room=True)

    assert standby.tick(11.9, at_rest=True, room=True) is None
    assert standby.tick(12.0, at_rest=True, room=True) is Step.END
    assert warm().tick(1000.0, at_rest=True, room=True) is None


def test_one_that_ended_or_could_not_become_a_worker_is_followed_later() -> None:
    """The start that follows is one from nothing, so that the spare cannot be what is wrong."""
    standby = warm()
    standby.lost(5.0)

    assert not standby.take()
    assert standby.tick(64.0, at_rest=True, room=True) is None
    assert standby.tick(65.0, at_rest=True, room=True) is Step.START


def test_one_with_old_libraries_is_ended_and_followed_as_soon_as_there_is_rest() -> None:
    """SIGHUP means that there is something new."""
    standby = warm()

    assert standby.outdated()
    assert not standby.outdated()
    assert standby.tick(5.0, at_rest=True, room=True) is None
    assert standby.tick(7.0, at_rest=True, room=True) is Step.START


def test_there_is_room_while_one_more_stays_within_the_ratio() -> None:
    """What is not known decides nothing."""
    assert has_room(used=70.0, limit=100.0, most=0.8, more=10.0)
    assert not has_room(used=71.0, limit=100.0, most=0.8, more=10.0)
    assert has_room(used=None, limit=100.0, most=0.8, more=10.0)
    assert has_room(used=71.0, limit=None, most=0.8, more=10.0)


class Stories(RuleBasedStateMachine):
    """Whatever happens: one spare at most, none without room or rest, or too soon."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.standby = Standby(RULE)
        self.there = False
        self.lost_at = -1000.0
        self.unrest_at = 0.0

    @rule(seconds=st.floats(0.01, 30.0), at_rest=st.booleans(), room=st.booleans())
    def time_passes(self, seconds: float, at_rest: bool, room: bool) -> None:
        self.now += seconds
        if not at_rest:
            self.unrest_at = self.now
        step = self.standby.tick(self.now, at_rest=at_rest, room=room)
        if step is Step.START:
            assert not self.there
            assert at_rest
            assert room
            assert self.now >= self.unrest_at + RULE.rest_seconds
            assert self.now >= self.lost_at + RULE.again_seconds
            self.there = True
        elif step is Step.END:
            assert self.there
            self.there, self.lost_at = False, self.now
        elif self.there:
            assert room

    @rule()
    def it_is_warm(self) -> None:
        self.standby.warm()

    @rule(outdated=st.booleans())
    def it_is_taken(self, outdated: bool) -> None:
        taken = self.standby.outdated() if outdated else self.standby.take()
        assert taken == self.there
        if taken:
            self.there, self.unrest_at = False, self.now

    @rule()
    def it_is_lost(self) -> None:
        self.standby.lost(self.now)
        self.there, self.lost_at = False, self.now

    @invariant()
    def the_stage_is_true(self) -> None:
        assert (self.standby.stage is not SpareStage.NONE) == self.there


TestStories = Stories.TestCase


@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=50))
def test_a_service_at_rest_gets_its_spare(gaps: list[float]) -> None:
    """With the first look after the rest, however the looks lie."""
    standby, now = resting(), 0.0
    for gap in gaps:
        now += gap
        step = standby.tick(now, at_rest=True, room=True)
        if now >= RULE.rest_seconds:
            assert step is Step.START
            return
        assert step is None
