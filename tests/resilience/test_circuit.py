"""The states of a breaker: what opens it, what it lets through, how it finds back."""

from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.resilience import BreakerRule, BreakerState, Ended, Ticket
from shipworthy.resilience.circuit import Circuit, Objection

RULE = BreakerRule()


def circuit(rule_: BreakerRule = RULE, *, draw: float = 1.0) -> Circuit:
    """A circuit at time 0; a draw of 1 makes each wait as long as it may be."""
    return Circuit(rule_, 0.0, draw=lambda: draw)


def call(target: Circuit, ended: Ended, now: float, *, seconds: float = 0.01) -> None:
    """Make one call that is let through."""
    ticket = target.admit(now)
    assert not isinstance(ticket, Objection)
    target.record(ticket, ended, seconds, now)


def opened(rule_: BreakerRule = RULE, *, now: float = 0.0) -> Circuit:
    target = circuit(rule_)
    for _ in range(5):
        call(target, Ended.REFUSED, now)
    assert target.state is BreakerState.OPEN
    return target


def trials(target: Circuit, now: float) -> list[Ticket]:
    """Ask fifty times at once, and return the tickets given."""
    answers = [target.admit(now) for _ in range(50)]
    return [answer for answer in answers if not isinstance(answer, Objection)]


def test_half_of_twenty_failing_open_it() -> None:
    """19 calls are too few to say anything; the twentieth decides, with its reason."""
    target = circuit()
    for _ in range(10):
        call(target, Ended.SUCCESS, 0.0)
    for _ in range(9):
        call(target, Ended.FAILURE, 0.0)
    before = target.state

    call(target, Ended.FAILURE, 0.0)

    assert before is BreakerState.CLOSED
    assert target.state is BreakerState.OPEN
    assert target.because == "10 of the last 20 calls failed"


def test_alternating_failures_open_it() -> None:
    """A target that fails every second call is not well, though no two failures are in a row."""
    target = circuit()

    for number in range(20):
        call(target, Ended.FAILURE if number % 2 else Ended.SUCCESS, number * 0.1)

    assert target.state is BreakerState.OPEN


def test_a_few_failures_among_many_do_not_open_it() -> None:
    """Forty of a hundred are below half."""
    target = circuit()

    for number in range(100):
        call(target, Ended.FAILURE if number % 5 < 2 else Ended.SUCCESS, number * 0.01)

    assert target.state is BreakerState.CLOSED


def test_failures_older_than_the_window_are_forgotten() -> None:
    """Nineteen failures, then one eleven seconds later, are not twenty."""
    target = circuit()
    for _ in range(19):
        call(target, Ended.FAILURE, 0.0)

    call(target, Ended.FAILURE, 11.0)

    assert target.state is BreakerState.CLOSED
    assert target.window(11.0).calls == 1
    assert target.counted().calls == 20


def test_sparse_calls_do_not_stretch_the_window() -> None:
    """A bucket ends at its time, however long nobody called: it looks back nine to ten seconds."""
    target = circuit()
    for now in (0.0, 1.9, 3.8, 5.7, 7.6, 9.5):
        call(target, Ended.SUCCESS, now)

    assert target.window(11.2).calls == 4


def test_five_refusals_in_a_row_need_no_statistics() -> None:
    """Where nothing is taken at all, five calls within two seconds are proof enough."""
    target = circuit()
    for number in range(4):
        call(target, Ended.REFUSED, number * 0.4)
    before = target.state

    call(target, Ended.REFUSED, 2.0)

    assert before is BreakerState.CLOSED
    assert target.because == "the last 5 calls were refused"


@pytest.mark.parametrize("between", [Ended.SUCCESS, Ended.FAILURE])
def test_refusals_with_something_between_are_not_in_a_row(between: Ended) -> None:
    """An answer of any kind shows that somebody is there."""
    target = circuit()
    for _ in range(4):
        call(target, Ended.REFUSED, 0.0)
    call(target, between, 0.0)

    call(target, Ended.REFUSED, 0.0)

    assert target.state is BreakerState.CLOSED


def test_refusals_spread_over_time_are_left_to_the_ratio() -> None:
    """Five within 2.4 seconds are not five within two."""
    target = circuit()

    for number in range(5):
        call(target, Ended.REFUSED, number * 0.6)

    assert target.state is BreakerState.CLOSED


def test_slow_calls_open_it_though_none_failed() -> None:
    """16 of 20 taking 5 s or longer is a target that is drowning."""
    target = circuit()
    for _ in range(4):
        call(target, Ended.SUCCESS, 0.0)
    for _ in range(16):
        call(target, Ended.SUCCESS, 0.0, seconds=5.0)

    assert target.state is BreakerState.OPEN
    assert target.because == "16 of the last 20 calls took 5 s or longer"


def test_callers_that_cancel_because_it_is_slow_open_it() -> None:
    """A cancelled call is no failure, but its time counts: outer timeouts must not hide a stall."""
    target = circuit()

    for _ in range(20):
        call(target, Ended.NEUTRAL, 0.0, seconds=6.0)

    assert target.state is BreakerState.OPEN
    assert target.because == "20 of the last 20 calls took 5 s or longer"


def test_quick_cancellations_and_constraints_are_neutral() -> None:
    """A thousand of them neither open it nor dilute the failures."""
    target = circuit()
    for _ in range(1000):
        call(target, Ended.NEUTRAL, 0.0)
    before = target.state
    for _ in range(20):
        call(target, Ended.FAILURE, 0.0)

    assert before is BreakerState.CLOSED
    assert target.because == "20 of the last 20 calls failed"


def test_open_lets_nothing_through_and_says_until_when() -> None:
    """The objection carries the reason and the time that is left."""
    target = opened()

    assert target.admit(0.4) == Objection("the last 5 calls were refused", 0.6)
    assert target.refused_total == 1


def test_half_open_lets_three_of_fifty_through() -> None:
    """A flood that waited for the moment is not let loose on a target that just came back."""
    target = opened()

    given = trials(target, 1.0)

    assert len(given) == 3
    assert target.state is BreakerState.HALF_OPEN


def test_three_trials_that_go_well_close_it() -> None:
    """And none more than three is begun to find out."""
    target = opened()
    first, second, third = trials(target, 1.0)

    target.record(first, Ended.SUCCESS, 0.01, 1.0)
    target.record(second, Ended.SUCCESS, 0.01, 1.0)
    begun_meanwhile = trials(target, 1.0)
    target.record(third, Ended.SUCCESS, 0.01, 1.0)

    assert begun_meanwhile == []
    assert target.state is BreakerState.CLOSED
    assert target.because == "3 trial calls went well"


@pytest.mark.parametrize(
    ("ended", "seconds", "because"),
    [
        (Ended.FAILURE, 0.01, "a trial call failed"),
        (Ended.REFUSED, 0.01, "a trial call failed"),
        (Ended.SUCCESS, 7.0, "a trial call took 7.0 s"),
        (Ended.NEUTRAL, 7.0, "a trial call took 7.0 s"),
    ],
    ids=["failed", "refused", "slow", "given up as too slow"],
)
def test_one_bad_trial_opens_it_again_for_twice_as_long(
    ended: Ended, seconds: float, because: str
) -> None:
    """It does not wait for the others."""
    target = opened()
    first, *_ = trials(target, 1.0)

    target.record(first, ended, seconds, 1.0)

    assert target.state is BreakerState.OPEN
    assert target.because == because
    assert target.retry_after(1.0) == 2.0


def test_a_neutral_trial_gives_its_place_to_another() -> None:
    """A trial whose caller went away says nothing, and must not keep the breaker shut."""
    target = opened()
    first, *_ = trials(target, 1.0)

    target.record(first, Ended.NEUTRAL, 0.01, 1.0)

    assert target.state is BreakerState.HALF_OPEN
    assert len(trials(target, 1.0)) == 1


def test_trials_that_never_report_back_do_not_keep_it_half_open() -> None:
    """After ten seconds it opens again, with that as the reason, and later tries anew."""
    target = opened()
    trials(target, 1.0)

    objection = target.admit(11.0)

    assert isinstance(objection, Objection)
    assert target.state is BreakerState.OPEN
    assert target.because == "3 trial calls did not come back within 10 s"
    assert len(trials(target, 13.0)) == 3


def test_half_open_without_callers_stays_so() -> None:
    """That nobody called says nothing about the target."""
    target = opened()
    target.record(trials(target, 1.0)[0], Ended.NEUTRAL, 0.01, 1.0)
    for _ in range(2):
        target.record(target.era, Ended.NEUTRAL, 0.01, 1.0)

    given = trials(target, 60.0)

    assert target.state is BreakerState.HALF_OPEN
    assert len(given) == 3


def test_results_from_before_a_change_are_dropped() -> None:
    """A success that began before it opened does not close it, and a late failure opens nothing."""
    target = circuit()
    early = [target.admit(0.0) for _ in range(30)]
    for _ in range(5):
        call(target, Ended.REFUSED, 0.0)

    for ticket in early:
        assert not isinstance(ticket, Objection)
        target.record(ticket, Ended.SUCCESS, 0.5, 0.5)
    still = target.state
    given = trials(target, 1.0)
    target.record(Ticket(0), Ended.FAILURE, 1.0, 1.0)

    assert still is BreakerState.OPEN
    assert target.state is BreakerState.HALF_OPEN
    assert len(given) == 3
    assert target.late_total == 31


def test_waits_double_up_to_half_a_minute() -> None:
    """Each reopening doubles the wait; half of it is certain, the rest is drawn."""
    waits = []
    target = opened()
    now = 0.0
    for _ in range(8):
        waits.append(target.retry_after(now))
        now += waits[-1]
        target.record(trials(target, now)[0], Ended.FAILURE, 0.01, now)

    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    lowest = circuit(draw=0.0)
    for _ in range(5):
        call(lowest, Ended.REFUSED, 0.0)
    assert lowest.retry_after(0.0) == 0.5


def closed_again(peak: int, *, rule_: BreakerRule = RULE) -> Circuit:
    """A circuit that closed at 1.0, after `peak` calls at once before it opened."""
    target = circuit(rule_)
    begun = [target.admit(0.0) for _ in range(peak)]
    for ticket in begun[:5]:
        assert not isinstance(ticket, Objection)
        target.record(ticket, Ended.REFUSED, 0.01, 0.0)
    for ticket in trials(target, 1.0):
        target.record(ticket, Ended.SUCCESS, 0.01, 1.0)
    assert target.state is BreakerState.CLOSED
    return target


@pytest.mark.parametrize(
    ("now", "at_once"), [(1.0, 10), (4.2, 10), (4.5, 20), (7.5, 20), (8.0, 40), (11.0, 50)]
)
def test_after_closing_admission_ramps_up(now: float, at_once: int) -> None:
    """A quarter of the concurrency there was, then half, then all, a third of 10 s each."""
    target = closed_again(40)

    assert len(trials(target, now)) == at_once


def test_the_ramp_never_lets_fewer_through_than_the_trials() -> None:
    """A target with two callers at once is not throttled to half of one."""
    assert len(trials(closed_again(5), 1.0)) == 3


def test_a_ramp_of_nothing_lets_all_in_at_once() -> None:
    """Where something else bounds the herd, no ramp is needed."""
    target = closed_again(40, rule_=BreakerRule(ramp_seconds=0.0))

    assert target.steady
    assert len(trials(target, 1.0)) == 50


def test_calls_that_take_long_are_part_of_the_concurrency_there_was() -> None:
    """Forty that began half a minute ago and still run are forty at once."""
    target = circuit()
    begun = [target.admit_steady() for _ in range(40)]
    for ticket in begun[:20]:
        target.record(ticket, Ended.FAILURE, 30.0, 30.0)
    for ticket in trials(target, 31.0):
        target.record(ticket, Ended.SUCCESS, 0.01, 31.0)

    assert len(trials(target, 31.0)) == 10


def test_only_a_plain_success_is_counted_without_a_lock() -> None:
    """A slow one, one in a new bucket, after a refusal or of another era is looked at closely."""
    target = circuit()
    ticket = target.admit_steady()
    slow = target.count_success(ticket, 5.0, 0.5)
    next_bucket = target.count_success(ticket, 0.01, 1.0)
    other_era = target.count_success(Ticket(7), 0.01, 0.5)
    plain = target.count_success(ticket, 4.9, 0.9)
    call(target, Ended.REFUSED, 0.5)
    after_refusal = target.count_success(target.admit_steady(), 0.01, 0.5)

    assert (slow, next_bucket, other_era, plain, after_refusal) == (
        False, False, False, True, False,
    )  # fmt: skip


def test_closing_by_hand_forgets_the_refusals() -> None:
    """One more within two seconds is one, not the sixth."""
    target = opened()
    target.close(0.5)

    call(target, Ended.REFUSED, 0.6)

    assert target.state is BreakerState.CLOSED


def test_opening_again_soon_keeps_the_longer_wait_and_the_peak() -> None:
    """A target that fails again right after it closed has not been well."""
    target = closed_again(40)
    for _ in range(5):
        call(target, Ended.REFUSED, 2.0)
    soon = target.retry_after(2.0)
    for ticket in trials(target, 4.0):
        target.record(ticket, Ended.SUCCESS, 0.01, 4.0)

    assert soon == 2.0
    assert len(trials(target, 4.0)) == 10


def test_opening_again_after_a_good_spell_begins_with_the_short_wait() -> None:
    """What happened before ten good seconds is forgiven."""
    target = closed_again(40)

    for _ in range(5):
        call(target, Ended.REFUSED, 20.0)

    assert target.retry_after(20.0) == 1.0


def test_a_prober_that_is_answered_begins_the_trials_before_the_wait_is_over() -> None:
    """No call has to be sacrificed to find out that the target is back."""
    target = opened()
    target.probe_failed(0.5)
    target.probe_failed(0.5)
    longer = target.retry_after(0.5)

    target.probe_ok(0.6)

    assert longer == RULE.open_seconds  # it comes again, so the wait does not grow
    assert target.state is BreakerState.HALF_OPEN
    assert target.because == "the prober was answered"
    assert len(trials(target, 0.6)) == 3


def test_a_prober_that_is_not_answered_ends_the_trials() -> None:
    """Half-open it opens again; closed, a prober changes nothing: the calls say it sooner."""
    target = opened()
    trials(target, 1.0)
    target.probe_failed(1.0)
    closed = circuit()
    closed.probe_failed(0.0)
    closed.probe_ok(0.0)

    assert target.state is BreakerState.OPEN
    assert closed.state is BreakerState.CLOSED
    assert closed.changes == []


def test_isolated_refuses_everything_until_it_is_closed() -> None:
    """By hand it stays as it was put, whatever time and probers say."""
    target = circuit()
    target.isolate("the operator works on it", 0.0)
    target.probe_ok(0.0)
    after_a_day = target.admit(86_400.0)

    target.close(86_400.0)

    assert after_a_day == Objection("the operator works on it", 30.0)
    assert target.steady
    assert len(trials(target, 86_400.0)) == 50


def test_disabled_counts_nothing_and_lets_everything_through() -> None:
    """It is as if there were no breaker."""
    target = circuit()
    target.disable(0.0)

    for _ in range(100):
        call(target, Ended.REFUSED, 0.0)
        assert not target.count_success(target.era, 0.0, 0.0)

    assert target.state is BreakerState.DISABLED
    assert target.counted().calls == 0


def test_metrics_only_says_once_that_it_would_have_opened() -> None:
    """It lets everything through, and says so again only when it would have been closed again."""
    target = circuit()
    target.metrics_only(0.0)
    target.changes.clear()

    for _ in range(100):
        call(target, Ended.REFUSED, 0.0)
    at_first = [change.because for change in target.changes]
    for _ in range(5):
        call(target, Ended.REFUSED, 1.5)

    assert at_first == ["the last 5 calls were refused"]
    assert [change.would for change in target.changes] == [True, True]
    assert target.state is BreakerState.METRICS_ONLY


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ({"failure_ratio": 0.0}, "failure_ratio lies above 0 and up to 1, got 0.0"),
        ({"slow_ratio": 1.5}, "slow_ratio lies above 0 and up to 1, got 1.5"),
        ({"trials": 0}, "trials is 1 or more, got 0"),
        ({"window_seconds": 0.0}, "window_seconds is a finite time above 0 s, got 0.0 s"),
        ({"ramp_seconds": -1.0}, "ramp_seconds is a finite time of 0 s or more, got -1.0 s"),
        (
            {"open_seconds": 60.0},
            "open_cap_seconds (30.0 s) is shorter than open_seconds (60.0 s)",
        ),
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers: dict[str, float], problem: str) -> None:
    """The sentence names the number."""
    with pytest.raises(ValueError) as refused:
        BreakerRule(**numbers)

    assert str(refused.value) == problem


class Calling(RuleBasedStateMachine):
    """Any order of calls, answers, time, probers and hands: the promises of a breaker hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.target = Circuit(BreakerRule(minimum_calls=4), 0.0, draw=lambda: 0.5)
        self.under_way: list[tuple[Ticket, float]] = []
        self.admitted = 0

    @rule(times=st.integers(1, 8))
    def ask(self, times: int) -> None:
        for _ in range(times):
            answer = (
                self.target.admit_steady() if self.target.steady else self.target.admit(self.now)
            )
            if isinstance(answer, Objection):
                assert answer.because
                assert 0 <= answer.retry_after_seconds <= 30
                assert self.target.state not in {BreakerState.DISABLED, BreakerState.METRICS_ONLY}
            else:
                assert self.target.state not in {BreakerState.OPEN, BreakerState.ISOLATED}
                self.under_way.append((answer, self.now))
                self.admitted += 1

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), ended=st.sampled_from(Ended))
    def end(self, which: int, ended: Ended) -> None:
        ticket, began = self.under_way.pop(which % len(self.under_way))
        state, late = self.target.state, ticket != self.target.era
        elapsed = self.now - began
        if ended is not Ended.SUCCESS or not self.target.count_success(ticket, elapsed, self.now):
            self.target.record(ticket, ended, elapsed, self.now)
        if late:
            assert self.target.state is state, "a late result changed the state"

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0, 10.0, 31.0, 600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def probe(self) -> None:
        self.target.probe_ok(self.now)

    @rule()
    def probe_in_vain(self) -> None:
        self.target.probe_failed(self.now)

    @rule(hand=st.sampled_from(["isolate", "close", "disable", "metrics_only"]))
    def by_hand(self, hand: str) -> None:
        if hand == "isolate":
            self.target.isolate("test", self.now)
        else:
            getattr(self.target, hand)(self.now)

    @invariant()
    def trials_are_bounded(self) -> None:
        ours = sum(ticket == self.target.era for ticket, _ in self.under_way)
        assert self.target.in_flight == ours
        if self.target.state is BreakerState.HALF_OPEN:
            assert ours <= 3

    @invariant()
    def every_change_is_an_era(self) -> None:
        changes = [change for change in self.target.changes if not change.would]
        assert len(changes) == self.target.era
        for one, two in pairwise(changes):
            assert one.after is two.before

    @invariant()
    def open_ends(self) -> None:
        if self.target.state is BreakerState.OPEN:
            assert 0 <= self.target.retry_after(self.now) <= 30

    def teardown(self) -> None:
        seen = self.target.counted()
        assert 0 <= seen.failures <= seen.calls
        assert seen.calls + seen.neutral <= self.admitted


TestCalling = Calling.TestCase


def hanging(
    target: Circuit, *, seconds: float, every: float = 1.0
) -> list[tuple[float, str, bool]]:
    """Call every so often a target that answers nobody; return state and judgement each second.

    Each call that is let through ends at its deadline, 8 s later, and that is a failure.
    """
    seen, under_way = [], list[tuple[float, Ticket]]()
    now = 0.0
    while now < seconds:
        for ended, ticket in [one for one in under_way if one[0] <= now]:
            target.record(ticket, Ended.FAILURE, 8.0, now)
            under_way.remove((ended, ticket))
        if now % every == 0:
            answer = target.admit(now)
            if not isinstance(answer, Objection):
                under_way.append((now + 8.0, answer))
        seen.append((now, target.state, target.keeps_out(now)))
        now += 1.0
    return seen


def test_a_target_that_hangs_keeps_callers_out_whatever_state_its_trials_are_in() -> None:
    """Looked at now and then it is half-open as often as open, and closed it never is."""
    seen = hanging(opened(), seconds=600.0)[2:]

    states = {state for _, state, _ in seen}
    assert states == {BreakerState.OPEN, BreakerState.HALF_OPEN}
    assert all(keeps_out for _, _, keeps_out in seen)


def test_one_that_nobody_calls_keeps_nobody_out_though_it_is_open() -> None:
    """An open breaker closes when somebody calls: until then it tells nothing of its target."""
    target = opened()

    assert target.keeps_out(44.0)
    assert target.state is BreakerState.OPEN
    assert not target.keeps_out(45.0)


def test_a_probe_that_fails_says_that_callers_are_kept_out_though_none_comes() -> None:
    """Where nobody is sent because readiness fails, the prober is the only one who asks."""
    target = opened()
    for now in range(5, 300, 5):
        target.probe_failed(float(now))
        assert target.keeps_out(now + 4.9)


def test_a_breaker_that_is_held_open_by_hand_keeps_nobody_out_by_itself() -> None:
    """Planned work is no outage; that it is forgotten has an alert of its own."""
    target = circuit()
    target.isolate("planned", 0.0)
    target.admit(1.0)

    assert not target.keeps_out(1.0)


def test_openings_are_in_a_row_until_the_target_was_well_for_long() -> None:
    """An outage is one, however many trials fail in it; one after a good spell begins anew."""
    target, now = circuit(), 0.0
    counted = []
    for _ in range(3):
        for _ in range(5):
            call(target, Ended.REFUSED, now)
        target.probe_ok(now)
        call(target, Ended.FAILURE, now)  # a trial: no opening
        target.probe_ok(now)
        for _ in range(3):
            call(target, Ended.SUCCESS, now)
        assert target.state is BreakerState.CLOSED
        counted.append(target.openings_in_a_row(now))
        now += RULE.spell_seconds

    assert counted == [1, 2, 3]
    assert target.openings_in_a_row(now) == 3
    assert target.openings_in_a_row(now + 0.1) == 0


def test_closing_by_hand_begins_the_row_anew() -> None:
    """Whoever closed it has looked at it."""
    target = opened()
    target.close(1.0)

    assert target.openings_in_a_row(1.0) == 0
