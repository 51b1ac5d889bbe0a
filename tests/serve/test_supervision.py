"""The supervisor's decisions, told as stories of what happened and when."""

import math

from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.lifecycle import Exit
from shipworthy.serve.supervision import (
    Action,
    Blow,
    Leave,
    Spawn,
    Stage,
    Strike,
    Supervision,
    SupervisionRule,
    Tell,
    Word,
)

RULE = SupervisionRule(start_seconds=60.0, grace_seconds=30.0)


def serving(rule: SupervisionRule = RULE) -> Supervision:
    supervision = Supervision(rule)
    supervision.begin(0.0)
    supervision.heard(1, 0.5)
    supervision.ready(1, 1.0)
    return supervision


def test_the_first_worker_is_started_at_once() -> None:
    """Begin means one worker."""
    assert Supervision(RULE).begin(0.0) == [Spawn(1)]


def test_a_service_that_never_was_ready_leaves_with_start_failed() -> None:
    """The worker's own reason is the reason the service leaves with."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)
    supervision.failed(1, "there is no module 'ap'")

    actions = supervision.exited(1, "it exited with code 3", 1.0, clean=False)

    assert actions == [Leave(Exit.START_FAILED, "there is no module 'ap'")]


def test_under_reload_a_broken_start_waits_for_the_next_change() -> None:
    """A person is at the editor: the next change starts a worker, nothing leaves."""
    supervision = Supervision(
        SupervisionRule(start_seconds=60.0, grace_seconds=30.0, waits_for_change=True)
    )
    supervision.begin(0.0)

    assert supervision.exited(1, "it exited with code 3", 1.0, clean=False) == []
    assert supervision.changed(2.0) == [Spawn(2)]


def test_the_first_signal_drains_and_a_clean_end_is_exit_zero() -> None:
    """One SIGTERM, one drain, exit 0."""
    supervision = serving()

    assert supervision.signalled(10.0) == [Tell(1, Word.DRAIN)]
    assert supervision.exited(1, "it exited with code 0", 12.0, clean=True) == [
        Leave(Exit.CLEAN, "drained")
    ]


def test_each_further_signal_goes_one_stage_further() -> None:
    """Second: cancel what is left. Third: stacks and out, then killed if even that hangs."""
    supervision = serving()

    assert supervision.signalled(10.0) == [Tell(1, Word.DRAIN)]
    assert supervision.signalled(11.0) == [Tell(1, Word.ESCALATE)]
    assert supervision.signalled(12.0) == [Strike(1, Blow.ABORT)]
    assert supervision.signalled(12.1) == []
    assert supervision.tick(12.4) == []
    assert supervision.tick(12.7) == [Strike(1, Blow.KILL)]
    assert supervision.tick(12.8) == []
    assert supervision.exited(1, "it was ended by signal 9", 12.9, clean=False) == [
        Leave(Exit.FORCED, "a worker had to be ended by force")
    ]


def test_impatience_does_not_win_a_worker_time() -> None:
    """However often somebody signals, SIGKILL comes no later than it would have."""
    supervision = serving()
    for at in (10.0, 39.0, 39.2, 39.4, 39.6):
        supervision.signalled(at)

    assert supervision.tick(39.9) == [Strike(1, Blow.KILL)]


def test_a_drain_that_was_asked_for_is_no_signal() -> None:
    """A preStop hook asks, then the platform sends its first SIGTERM: nothing is cut short."""
    supervision = serving()

    assert supervision.drain(10.0) == [Tell(1, Word.DRAIN)]
    assert supervision.drain(10.5) == []
    assert supervision.signalled(11.0) == []
    assert supervision.signalled(12.0) == [Tell(1, Word.ESCALATE)]
    assert supervision.exited(1, "it exited with code 0", 13.0, clean=True) == [
        Leave(Exit.CLEAN, "drained")
    ]
    assert supervision.drain(14.0) == []


def test_a_worker_that_somebody_else_told_to_go_is_followed_at_once() -> None:
    """Not when its last request is over; and however often that happens, it is no crash."""
    supervision = serving()
    for generation in range(1, 9):
        now = 10.0 + generation

        assert supervision.going(generation, now) == []
        assert supervision.tick(now + 0.05) == []
        assert supervision.tick(now + 0.1) == [Spawn(generation + 1)]
        assert supervision.going(generation, now) == []
        supervision.ready(generation + 1, now)
        assert supervision.exited(generation, "it exited with code 0", now, clean=True) == []


def test_a_signal_to_the_whole_group_starts_nobody() -> None:
    """The worker may say that it leaves before our own signal is heard."""
    supervision = serving()

    assert supervision.going(1, 10.0) == []
    assert supervision.signalled(10.05) == [Tell(1, Word.DRAIN)]
    assert supervision.tick(10.2) == []
    assert supervision.exited(1, "it exited with code 0", 11.0, clean=True) == [
        Leave(Exit.CLEAN, "drained")
    ]


def test_a_successor_that_is_ended_while_it_imports_forces_nothing() -> None:
    """The service drained in order; that one had nothing to leave in order."""
    supervision = serving()
    supervision.changed(10.0)

    assert supervision.signalled(10.1) == [Tell(1, Word.DRAIN), Strike(2, Blow.TERM)]
    assert supervision.exited(2, "it was ended by signal 15", 10.2, clean=False) == []
    assert supervision.exited(1, "it exited with code 0", 11.0, clean=True) == [
        Leave(Exit.CLEAN, "drained")
    ]


def test_who_goes_while_a_successor_starts_needs_no_second_one() -> None:
    """And who goes because the service leaves needs none at all."""
    supervision = serving()
    supervision.changed(10.0)

    assert supervision.going(1, 10.5) == []
    assert supervision.going(7, 10.5) == []
    supervision.ready(2, 11.0)
    supervision.signalled(12.0)
    assert supervision.going(2, 12.5) == []


def test_the_grace_period_ends_in_stacks_and_then_in_sigkill() -> None:
    """A worker whose loop is blocked hears no word; the supervisor keeps the deadline."""
    supervision = serving()
    supervision.signalled(10.0)

    assert supervision.tick(39.4) == []
    assert supervision.tick(39.6) == [Strike(1, Blow.ABORT)]
    assert supervision.tick(40.0) == [Strike(1, Blow.KILL)]


def test_a_signal_while_the_app_is_imported_ends_the_worker_by_signal() -> None:
    """No loop reads the pipe yet, and nothing was started that would need to be rolled back."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)

    assert supervision.signalled(1.0) == [Strike(1, Blow.TERM)]
    assert supervision.exited(1, "it was ended by signal 15", 1.1, clean=False) == [
        Leave(Exit.START_FAILED, "told to stop before it was ready")
    ]


def test_a_signal_during_start_up_gives_the_rollback_its_time_and_no_more() -> None:
    """Scenario L09: a start-up that hangs is left after `start_abort_seconds`."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)
    supervision.heard(1, 0.5)

    assert supervision.signalled(1.0) == [Tell(1, Word.DRAIN)]
    assert supervision.tick(5.4) == []
    assert supervision.tick(5.6) == [Strike(1, Blow.ABORT)]
    assert supervision.tick(6.0) == [Strike(1, Blow.KILL)]


def test_a_signal_before_the_loop_runs_reaches_a_loop_that_just_began() -> None:
    """The TERM of the import phase may come too late; the word then does it."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)
    supervision.signalled(1.0)

    assert supervision.heard(1, 1.1) == [Tell(1, Word.DRAIN)]


def test_a_worker_that_says_ready_while_the_service_leaves_is_told_to_go_with_a_deadline() -> None:
    """Its word crossed ours; without a deadline it would outlive the grace period."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)
    supervision.signalled(1.0)

    assert supervision.ready(1, 2.0) == [Tell(1, Word.DRAIN)]
    assert supervision.workers[1].stage is Stage.LEAVING
    assert supervision.workers[1].deadline < math.inf


def test_a_worker_that_never_gets_ready_is_ended_and_the_reason_has_the_number() -> None:
    """An import that hangs cannot bound itself."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)

    assert supervision.tick(60.9) == []
    assert supervision.tick(61.1) == [Strike(1, Blow.ABORT)]
    assert supervision.exited(1, "it was ended by signal 6", 61.2, clean=False) == [
        Leave(Exit.START_FAILED, "not ready within 60 s")
    ]


def test_a_lost_worker_is_replaced_at_once_and_a_crash_loop_ends_the_service() -> None:
    """The first crash costs no waiting, later ones wait longer, the fifth within a minute ends."""
    supervision = serving()
    now = 10.0
    spawned = []
    actions: list[Action] = supervision.exited(1, "it was ended by signal 9", now, clean=False)
    for generation in range(2, 6):
        while not actions:
            now += 0.25
            actions = supervision.tick(now)
        spawned.append((actions, now))
        supervision.heard(generation, now)
        supervision.ready(generation, now)
        actions = supervision.exited(generation, "it exited with code 1", now, clean=False)

    assert [a for a, _ in spawned] == [[Spawn(2)], [Spawn(3)], [Spawn(4)], [Spawn(5)]]
    assert [at for _, at in spawned] == [10.0, 10.5, 11.5, 13.5]
    assert actions == [
        Leave(
            Exit.SETTINGS,
            "the worker ended 5 times within 60 s, the last time because: it exited with code 1",
        )
    ]


def test_crashes_that_lie_far_apart_are_no_crash_loop() -> None:
    """Only those within the window count."""
    supervision = serving()
    for generation in range(1, 21):
        now = generation * 61.0
        actions = supervision.exited(generation, "it exited with code 1", now, clean=False)

        assert actions == [Spawn(generation + 1)]
        supervision.heard(generation + 1, now)
        supervision.ready(generation + 1, now)


def test_new_code_serves_before_the_old_worker_retires() -> None:
    """Ready before retire: there is no moment without a worker."""
    supervision = serving()

    assert supervision.changed(10.0) == [Spawn(2)]
    assert supervision.heard(2, 10.5) == []
    assert supervision.ready(2, 11.0) == [Tell(1, Word.RETIRE)]
    assert supervision.exited(1, "it exited with code 0", 12.0, clean=True) == []
    assert not supervision.left


def test_new_code_that_cannot_start_leaves_the_old_worker_serving() -> None:
    """Scenario L29: the failed replacement is forgotten, the old one goes on."""
    supervision = serving()
    supervision.changed(10.0)
    supervision.failed(2, "SyntaxError")

    assert supervision.exited(2, "it exited with code 3", 11.0, clean=False) == []
    assert supervision.workers[1].stage is Stage.READY
    assert supervision.signalled(20.0) == [Tell(1, Word.DRAIN)]
    assert supervision.exited(1, "it exited with code 0", 21.0, clean=True) == [
        Leave(Exit.CLEAN, "drained")
    ]


def test_a_new_worker_that_dies_before_the_old_one_has_gone_is_replaced() -> None:
    """The old one is told to go already, so nobody else would serve."""
    supervision = serving()
    supervision.changed(10.0)
    supervision.ready(2, 11.0)

    assert supervision.exited(2, "it was ended by signal 9", 11.1, clean=False) == [Spawn(3)]
    assert supervision.exited(1, "it exited with code 0", 12.0, clean=True) == []


def test_an_old_worker_that_dies_while_the_new_one_starts_needs_no_third() -> None:
    """One is coming already; should it fail, that is when the next is started."""
    supervision = serving()
    supervision.changed(10.0)

    assert supervision.exited(1, "it was ended by signal 9", 10.5, clean=False) == []
    assert supervision.exited(2, "it exited with code 3", 11.0, clean=False) == [Spawn(3)]


def test_a_change_while_a_worker_starts_gives_that_worker_up() -> None:
    """Saving twice quickly starts the newest code, once."""
    supervision = serving()
    supervision.changed(10.0)

    assert supervision.changed(10.2) == [Strike(2, Blow.TERM), Spawn(3)]
    assert supervision.exited(2, "it was ended by signal 15", 10.3, clean=False) == []
    assert supervision.ready(3, 11.0) == [Tell(1, Word.RETIRE)]


def test_words_about_workers_that_are_gone_change_nothing() -> None:
    """Messages and exits cross on the way."""
    supervision = serving()

    assert supervision.heard(7, 2.0) == []
    assert supervision.ready(7, 2.0) == []
    assert supervision.failed(7, "late") == []
    assert supervision.exited(7, "late", 2.0, clean=True) == []
    assert supervision.ready(1, 2.0) == []


def test_a_signal_without_a_worker_leaves_at_once() -> None:
    """Between a crash and the postponed restart there is nobody to drain."""
    supervision = serving()
    supervision.exited(1, "it exited with code 1", 2.0, clean=False)
    supervision.workers.clear()

    assert supervision.signalled(3.0) == [Leave(Exit.CLEAN, "drained")]
    assert supervision.signalled(4.0) == []
    assert supervision.changed(4.0) == []
    assert supervision.tick(100.0) == []


@given(gap=st.floats(0.0, 100.0))
def test_a_second_signal_never_comes_too_early_or_late_to_count(gap: float) -> None:
    """Whenever it comes, the second signal escalates."""
    supervision = serving()
    supervision.signalled(10.0)

    assert supervision.signalled(10.0 + gap) == [Tell(1, Word.ESCALATE)]


SAYS = ["heard", "ready", "going", "crash", "clean", "failed"]


class Stories(RuleBasedStateMachine):
    """Any order of events: one `Leave`, no start once leaving, an end by the grace period."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.supervision = Supervision(RULE)
        self.alive: set[int] = set()
        self.leaves = 0
        self.signalled_at = math.inf
        self.do(self.supervision.begin(0.0))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(generation):
                    assert self.signalled_at == math.inf
                    assert generation not in self.alive
                    self.alive.add(generation)
                case Leave():
                    self.leaves += 1
                case Strike(generation, Blow.KILL):
                    # The kernel does this for certain, so the story does it at once.
                    assert generation in self.alive
                    self.end(generation, clean=False)
                case Strike(generation, _) | Tell(generation, _):
                    assert generation in self.alive

    def end(self, generation: int, *, clean: bool) -> None:
        self.alive.discard(generation)
        self.do(self.supervision.exited(generation, "ended", self.now, clean=clean))

    @rule(seconds=st.floats(0.05, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.supervision.tick(self.now))

    @rule()
    def a_signal_comes(self) -> None:
        if self.leaves:
            return
        self.signalled_at = min(self.signalled_at, self.now)
        self.do(self.supervision.signalled(self.now))

    @rule()
    def a_drain_is_asked_for(self) -> None:
        if self.leaves:
            return
        self.signalled_at = min(self.signalled_at, self.now)
        self.do(self.supervision.drain(self.now))

    @rule()
    def code_changes(self) -> None:
        self.do(self.supervision.changed(self.now))

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        event=st.sampled_from(["heard", "ready", "going", "crash", "clean", "failed"]),
    )
    def a_worker_says(self, data: st.DataObject, event: str) -> None:
        generation = data.draw(st.sampled_from(sorted(self.alive)))
        match event:
            case "heard":
                self.do(self.supervision.heard(generation, self.now))
            case "ready":
                self.do(self.supervision.ready(generation, self.now))
            case "failed":
                self.do(self.supervision.failed(generation, "because"))
            case "going":
                self.do(self.supervision.going(generation, self.now))
            case _:
                self.end(generation, clean=event == "clean")

    @invariant()
    def somebody_serves_or_will(self) -> None:
        supervision = self.supervision
        if supervision.ever_ready and not supervision.leaving and not supervision.left:
            coming = [w for w in supervision.workers.values() if w.stage is not Stage.LEAVING]
            assert coming or supervision._respawn_at < math.inf

    @invariant()
    def it_leaves_once(self) -> None:
        assert self.leaves == int(self.supervision.left)

    @invariant()
    def it_is_gone_after_the_grace_period(self) -> None:
        # Two ticks may be needed: one aborts, the next kills.
        self.do(self.supervision.tick(self.now))
        if self.now > self.signalled_at + RULE.grace_seconds:
            self.do(self.supervision.tick(self.now))
            assert not self.alive
            assert self.leaves == 1


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=list(HealthCheck), deadline=None
)
