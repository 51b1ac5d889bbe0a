"""The phases of a process, in one direction and in time."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.lifecycle import Drain, DrainFacts, DrainRule, Phase

RULE = DrainRule(
    lame_duck_seconds=5.0,
    drain_seconds=15.0,
    idle_grace_seconds=2.0,
    cancel_seconds=2.0,
    stop_seconds=5.0,
    grace_seconds=30.0,
)
WITHOUT_LAME_DUCK = DrainRule(
    lame_duck_seconds=0.0,
    drain_seconds=15.0,
    idle_grace_seconds=2.0,
    cancel_seconds=2.0,
    stop_seconds=5.0,
    grace_seconds=30.0,
)
BUSY = DrainFacts(in_flight=3, idle_connections=2, quiet_seconds=0.0)
IDLE = DrainFacts(in_flight=0, idle_connections=2, quiet_seconds=60.0)
EMPTY = DrainFacts(in_flight=0, idle_connections=0, quiet_seconds=60.0)
QUIET_ENOUGH = DrainFacts(in_flight=0, idle_connections=0, quiet_seconds=2.0)
JUST_EMPTY = DrainFacts(in_flight=0, idle_connections=0, quiet_seconds=0.5)


def ready(rule_: DrainRule = RULE) -> Drain:
    drain = Drain(rule_, 0.0)
    drain.started(0.0)
    return drain


def leaving(rule_: DrainRule = RULE) -> Drain:
    drain = ready(rule_)
    drain.begin(100.0)
    return drain


def phases(drain: Drain) -> list[Phase]:
    return [phase for phase, _ in drain.transitions]


def test_a_process_starts_and_is_ready_when_told_so() -> None:
    """STARTING until `started`, then READY, for as long as nobody says otherwise."""
    drain = Drain(RULE, 3.0)
    before = drain.phase

    drain.started(4.5)
    drain.advance(EMPTY, 1e6)

    assert before is Phase.STARTING
    assert drain.transitions == ((Phase.STARTING, 3.0), (Phase.READY, 4.5))
    assert drain.since == 4.5
    assert drain.deadline == math.inf


def test_time_alone_ends_no_start() -> None:
    """A start that takes long is not the drain's to judge."""
    drain = Drain(RULE, 0.0)

    assert drain.advance(EMPTY, 1e6) is Phase.STARTING


def test_busy_all_the_way_goes_through_every_phase_at_its_time() -> None:
    """With requests that never end, each phase lasts exactly as long as its rule."""
    drain = leaving()

    for tenth in range(1000, 1400):
        drain.advance(BUSY, tenth / 10)

    assert drain.transitions == (
        (Phase.STARTING, 0.0),
        (Phase.READY, 0.0),
        (Phase.LAME_DUCK, 100.0),
        (Phase.DRAINING, 105.0),
        (Phase.CANCELLING, 120.0),
        (Phase.STOPPING, 122.0),
        (Phase.FORCED, 130.0),
    )


def test_who_has_a_successor_beside_it_is_no_lame_duck() -> None:
    """New clients go to the other one, and a probe must not meet one that says no."""
    drain = ready()

    drain.begin(100.0, lame_duck=False)

    assert phases(drain) == [Phase.STARTING, Phase.READY, Phase.DRAINING]


def test_without_a_lame_duck_time_the_drain_begins_at_once() -> None:
    """0 means that the phase is skipped, not that it takes one round."""
    assert leaving(WITHOUT_LAME_DUCK).phase is Phase.DRAINING


@pytest.mark.parametrize(
    ("facts", "at", "phase"),
    [
        pytest.param(EMPTY, 100.0, Phase.DRAINING, id="nobody there and long quiet: at once"),
        pytest.param(QUIET_ENOUGH, 100.1, Phase.DRAINING, id="as long quiet as the grace"),
        pytest.param(JUST_EMPTY, 104.9, Phase.LAME_DUCK, id="a request came just now: wait"),
        pytest.param(IDLE, 104.9, Phase.LAME_DUCK, id="somebody is connected: wait"),
        pytest.param(BUSY, 104.9, Phase.LAME_DUCK, id="somebody is served: wait"),
        pytest.param(BUSY, 105.0, Phase.DRAINING, id="the time is over"),
    ],
)
def test_the_lame_duck_ends_early_only_when_nobody_comes(
    facts: DrainFacts, at: float, phase: Phase
) -> None:
    """Until its time is over it ends only with no connection and a quiet as long as the grace."""
    assert leaving().advance(facts, at) is phase


@pytest.mark.parametrize(
    ("facts", "at", "phase"),
    [
        pytest.param(EMPTY, 100.0, Phase.STOPPING, id="nobody there"),
        pytest.param(JUST_EMPTY, 100.0, Phase.STOPPING, id="nobody there since just now"),
        pytest.param(IDLE, 101.9, Phase.DRAINING, id="idle, within the grace"),
        pytest.param(IDLE, 102.0, Phase.STOPPING, id="idle, the grace is over"),
        pytest.param(BUSY, 114.9, Phase.DRAINING, id="busy, within the time"),
        pytest.param(BUSY, 115.0, Phase.CANCELLING, id="busy, the time is over"),
    ],
)
def test_the_drain_ends_when_nobody_is_left(facts: DrainFacts, at: float, phase: Phase) -> None:
    """In-flight work gets all of the time, idle connections only their grace."""
    assert leaving(WITHOUT_LAME_DUCK).advance(facts, at) is phase


def test_idle_connections_alone_are_nothing_to_cancel() -> None:
    """A grace longer than the drain is cut by it, and CANCELLING is skipped."""
    drain = leaving(
        DrainRule(
            lame_duck_seconds=0.0,
            drain_seconds=1.0,
            idle_grace_seconds=9.0,
            cancel_seconds=1.0,
            stop_seconds=1.0,
            grace_seconds=9.0,
        )
    )

    assert drain.advance(IDLE, 101.0) is Phase.STOPPING


def test_cancelling_ends_as_soon_as_nothing_is_in_flight() -> None:
    """It waits for what was cancelled to unwind, and not for idle connections."""
    drain = leaving()
    drain.escalate(100.5)

    still = drain.advance(BUSY, 102.4)
    then = drain.advance(IDLE, 102.4)

    assert (still, then) == (Phase.CANCELLING, Phase.STOPPING)


def test_one_look_at_the_facts_moves_one_phase() -> None:
    """The facts were seen in the present phase; the next one may change them."""
    drain = leaving()

    first = drain.advance(EMPTY, 100.0)
    second = drain.advance(EMPTY, 100.0)

    assert (first, second) == (Phase.DRAINING, Phase.STOPPING)


def test_a_signal_during_the_start_goes_straight_to_stopping() -> None:
    """Nobody was promised anything yet, so there is nobody to wait for."""
    drain = Drain(RULE, 0.0)

    drain.begin(2.0)
    drain.started(2.1)

    assert phases(drain) == [Phase.STARTING, Phase.STOPPING]
    assert drain.deadline == 32.0
    assert drain.stop_by == 7.0


def test_each_further_signal_goes_one_stage_on() -> None:
    """Begin, cancel, force: the third SIGTERM ends it whatever is left."""
    drain = ready()

    for now in (100.0, 101.0, 102.0, 103.0):
        drain.escalate(now)

    assert drain.transitions[2:] == (
        (Phase.LAME_DUCK, 100.0),
        (Phase.CANCELLING, 101.0),
        (Phase.FORCED, 102.0),
    )


def test_a_signal_while_stopping_forces() -> None:
    """After STOPPING there is only one stage left."""
    drain = Drain(RULE, 0.0)
    drain.begin(1.0)

    drain.escalate(1.5)

    assert drain.phase is Phase.FORCED


def test_beginning_twice_moves_no_deadline() -> None:
    """A second SIGTERM that is not an escalation buys no time."""
    drain = leaving()

    drain.begin(110.0)

    assert drain.deadline == 130.0
    assert drain.phase is Phase.LAME_DUCK


def test_what_is_stopped_stays_stopped() -> None:
    """Neither time nor signals nor facts change the end."""
    drain = leaving(WITHOUT_LAME_DUCK)
    drain.advance(EMPTY, 100.0)
    drain.stopped(101.0)

    drain.escalate(102.0)
    drain.advance(BUSY, 1e6)
    drain.stopping(1e6)

    assert drain.phase is Phase.STOPPED


def test_stopping_without_a_drain_begins_one() -> None:
    """When another server ended the traffic, the deadline still counts from there."""
    drain = ready()

    drain.stopping(50.0)

    assert phases(drain)[2:] == [Phase.LAME_DUCK, Phase.STOPPING]
    assert drain.deadline == 80.0
    assert drain.stop_by == 55.0


def test_stopping_late_gets_only_what_the_deadline_leaves() -> None:
    """The time to stop never reaches beyond the grace."""
    drain = leaving()

    drain.stopping(128.0)

    assert drain.stop_by == 130.0


def test_only_a_process_that_is_on_its_way_out_is_leaving() -> None:
    """STARTING and READY are not; every other phase is."""
    assert [phase for phase in Phase if not phase.leaving] == [Phase.STARTING, Phase.READY]


def test_a_phase_has_reached_itself_and_all_before_it() -> None:
    """The order of the phases is the order of their lives."""
    assert [phase for phase in Phase if phase.reached(Phase.STOPPING)] == [
        Phase.STOPPING,
        Phase.STOPPED,
        Phase.FORCED,
    ]


def test_the_default_budget_can_be_kept() -> None:
    """5 + 15 + 2 + 5 and a second to leave fit into 30."""
    assert RULE.problems() == []


def test_an_impossible_budget_is_named_with_its_sum() -> None:
    """The message holds every number and the one to write instead."""
    rule_ = DrainRule(
        lame_duck_seconds=5.0,
        drain_seconds=15.0,
        idle_grace_seconds=20.0,
        cancel_seconds=2.0,
        stop_seconds=5.0,
        grace_seconds=10.0,
    )

    grace, idle_grace = rule_.problems()

    assert grace == (
        "lifecycle.grace is 10s, but lame_duck 5s + drain 15s + cancel 2s + stop 5s + 1s to leave "
        "make 28s; raise grace to 28s or shorten one of the others"
    )
    assert idle_grace == (
        "lifecycle.idle_grace is 20s, but the drain it is part of ends after 15s; raise "
        "lifecycle.drain to 20s or shorten idle_grace"
    )


def test_a_budget_that_fits_exactly_is_kept_in_spite_of_binary_fractions() -> None:
    """0.1 s + 0.2 s + 1 s is 1.3 s, whatever floats make of it."""
    rule_ = DrainRule(
        lame_duck_seconds=0.1,
        drain_seconds=0.2,
        idle_grace_seconds=0.2,
        cancel_seconds=0.0,
        stop_seconds=0.0,
        grace_seconds=1.3,
    )

    assert rule_.problems() == []


SECONDS = st.floats(0.0, 40.0, allow_nan=False)
RULES = st.builds(
    DrainRule,
    lame_duck_seconds=SECONDS,
    drain_seconds=SECONDS,
    idle_grace_seconds=SECONDS,
    cancel_seconds=SECONDS,
    stop_seconds=SECONDS,
    grace_seconds=SECONDS,
)
FACTS = st.builds(
    DrainFacts,
    in_flight=st.integers(0, 3),
    idle_connections=st.integers(0, 3),
    quiet_seconds=SECONDS,
)


@pytest.mark.slow
@given(RULES, st.lists(st.tuples(SECONDS, FACTS)), FACTS, st.booleans())
def test_it_ends_by_the_grace_whatever_is_seen(
    rule_: DrainRule, course: list[tuple[float, DrainFacts]], last: DrainFacts, up: bool
) -> None:
    """Any rule, even an impossible one, and any traffic: at the deadline it is over."""
    drain = Drain(rule_, 0.0)
    if up:
        drain.started(0.0)
    now = 0.0
    drain.begin(now)

    for seconds, facts in course:
        now += seconds
        drain.advance(facts, now)
    drain.advance(last, max(now, rule_.grace_seconds))

    assert drain.phase is Phase.FORCED


@given(RULES, FACTS)
def test_a_possible_budget_leaves_time_to_stop(rule_: DrainRule, facts: DrainFacts) -> None:
    """A grace that covers the sum reaches STOPPING early enough, whatever traffic there is."""
    needed = rule_.lame_duck_seconds + rule_.drain_seconds + rule_.cancel_seconds
    rule_ = replace(rule_, grace_seconds=needed + rule_.stop_seconds + 1.0)
    drain = leaving(rule_)

    lengths = {
        Phase.LAME_DUCK: rule_.lame_duck_seconds,
        Phase.DRAINING: rule_.drain_seconds,
        Phase.CANCELLING: rule_.cancel_seconds,
    }
    while drain.phase in lengths:
        drain.advance(facts, drain.since + lengths[drain.phase] + 1e-6)

    assert drain.phase is Phase.STOPPING
    assert drain.deadline - drain.since >= rule_.stop_seconds


class AnyLife(RuleBasedStateMachine):
    """Every method in any order, at times that do not go back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.drain = Drain(RULE, self.now)
        self.begun_at: float | None = None

    @rule(seconds=st.floats(0.0, 12.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def started(self) -> None:
        self.drain.started(self.now)

    @rule()
    def begin(self) -> None:
        self.note_begin()
        self.drain.begin(self.now)

    @rule()
    def escalate(self) -> None:
        self.note_begin()
        before = self.drain.phase
        self.drain.escalate(self.now)
        if before not in {Phase.STOPPED, Phase.FORCED}:
            assert self.drain.phase is not before, "a signal always moves"

    @rule(facts=FACTS)
    def advance(self, facts: DrainFacts) -> None:
        before = len(self.drain.transitions)
        assert self.drain.advance(facts, self.now) is self.drain.phase
        assert len(self.drain.transitions) <= before + 1

    @rule()
    def stopping(self) -> None:
        self.note_begin()
        self.drain.stopping(self.now)

    @precondition(lambda self: self.drain.phase is Phase.STOPPING)
    @rule()
    def stopped(self) -> None:
        self.drain.stopped(self.now)

    def note_begin(self) -> None:
        if self.begun_at is None:
            self.begun_at = self.now

    @invariant()
    def phases_and_times_only_go_on(self) -> None:
        order = [list(Phase).index(phase) for phase, _ in self.drain.transitions]
        times = [at for _, at in self.drain.transitions]
        assert order == sorted(set(order))
        assert times == sorted(times)
        assert self.drain.transitions[-1][0] is self.drain.phase

    @invariant()
    def it_leaves_when_told_and_only_then(self) -> None:
        assert self.drain.phase.leaving == (self.begun_at is not None)

    @invariant()
    def the_deadline_is_fixed_at_the_first_word(self) -> None:
        expected = math.inf if self.begun_at is None else self.begun_at + RULE.grace_seconds
        assert self.drain.deadline == expected

    def teardown(self) -> None:
        if self.begun_at is not None:
            self.drain.advance(BUSY, max(self.now, self.drain.deadline))
            assert self.drain.phase in {Phase.STOPPED, Phase.FORCED}


TestAnyLife = pytest.mark.slow(AnyLife.TestCase)
