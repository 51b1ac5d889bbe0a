"""The supervisor's decisions, told as stories of what happened and when."""

import math
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from shipworthy.lifecycle import Exit
from shipworthy.serve.supervision import (
    WORKERS_MAX,
    Action,
    Blow,
    EndReason,
    Leave,
    Spawn,
    Stage,
    Strike,
    Supervision,
    SupervisionRule,
    Tell,
    Word,
    workers_wanted,
)

RULE = SupervisionRule(start_seconds=60.0, grace_seconds=30.0)


TWO = replace(RULE, workers=2)


def serving(rule: SupervisionRule = RULE) -> Supervision:
    supervision = Supervision(rule)
    supervision.begin(0.0)
    for generation in range(1, rule.workers + 1):
        supervision.heard(generation, 0.5)
        supervision.ready(generation, 1.0)
    return supervision


def test_the_first_worker_is_started_at_once() -> None:
    """Begin means one worker."""
    assert Supervision(RULE).begin(0.0) == [Spawn(1)]


def test_one_worker_a_cpu_has_the_bound_of_a_number_that_is_written_down() -> None:
    """A machine of 384 CPUs gets what `serve.workers` allows, and no more than that."""
    assert workers_wanted(0, cpus=2) == 2
    assert workers_wanted(0, cpus=384) == WORKERS_MAX
    assert workers_wanted(3, cpus=384) == 3


def test_a_service_that_never_was_ready_leaves_with_start_failed() -> None:
    """The worker's own reason is the reason the service leaves with."""
    supervision = Supervision(RULE)
    supervision.begin(0.0)
    supervision.failed(1, "there is no module 'ap'")

    actions = supervision.exited(1, "it exited with code 3", 1.0, clean=False)

    assert actions == [Leave(Exit.START_FAILED, "there is no module 'ap'")]


def test_under_reload_a_place_is_filled_when_another_has_shown_that_the_code_serves() -> None:
    """Else one blip at the first start would leave it empty until somebody writes a file."""
    supervision = Supervision(
        SupervisionRule(start_seconds=10.0, grace_seconds=30.0, workers=2, waits_for_change=True)
    )
    supervision.begin(0.0)
    supervision.failed(1, "one blip")
    assert supervision.exited(1, "code 3", 0.1, clean=False) == []
    supervision.heard(2, 0.2)
    actions = supervision.ready(2, 0.3) + supervision.tick(0.4)

    assert actions == [Spawn(3)]


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
    """Second: cancel what is left. Third: out, with stacks if it does not hear, then killed."""
    supervision = serving()

    assert supervision.signalled(10.0) == [Tell(1, Word.DRAIN)]
    assert supervision.signalled(11.0) == [Tell(1, Word.ESCALATE)]
    assert supervision.signalled(12.0) == [Tell(1, Word.ESCALATE)]
    assert supervision.tick(12.05) == []
    assert supervision.tick(12.15) == [Strike(1, Blow.ABORT)]
    assert supervision.signalled(12.2) == []
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


def test_a_worker_is_bounded_by_the_times_it_has_read_and_the_old_one_by_its_own() -> None:
    """After SIGHUP the new ones follow the new file: a drain of theirs is not cut by the old."""
    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.heard(3, 10.5, start_seconds=5.0, grace_seconds=90.0)

    assert supervision.tick(16.4) == []
    assert supervision.tick(16.6) == [Strike(3, Blow.ABORT)]
    assert supervision.workers[3].because == "not ready within 5 s"

    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.heard(3, 10.5, start_seconds=60.0, grace_seconds=90.0)
    supervision.ready(3, 11.0)  # 1 retires
    supervision.signalled(12.0)
    assert [supervision.workers[g].deadline for g in (1, 2, 3)] == [41.0, 42.0, 102.0]


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


def test_one_that_was_given_up_before_it_heard_is_told_when_it_hears() -> None:
    """Its signal may have come before there was a process; a word is not lost on it then."""
    supervision = serving()
    supervision.changed(10.0)
    supervision.changed(10.1)

    assert supervision.heard(2, 10.2) == [Tell(2, Word.RETIRE)]
    assert supervision.ready(2, 10.3) == []
    supervision.drain(10.4)
    assert supervision.heard(2, 10.5) == [Tell(2, Word.DRAIN)]


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


def test_all_workers_are_started_at_once_and_the_first_makes_the_service_ready() -> None:
    """Nobody waits for a neighbour to import the same app."""
    supervision = Supervision(replace(RULE, workers=3))

    assert supervision.begin(0.0) == [Spawn(1), Spawn(2), Spawn(3)]
    assert not supervision.ever_ready
    assert supervision.ready(2, 1.0) == []
    assert supervision.ever_ready


def test_one_that_cannot_start_before_any_was_ready_ends_them_all() -> None:
    """The others would fail likewise; their end is waited for, the first reason is the reason."""
    supervision = Supervision(TWO)
    supervision.begin(0.0)
    supervision.heard(2, 0.5)
    supervision.failed(1, "there is no module 'ap'")

    assert supervision.exited(1, "it exited with code 3", 1.0, clean=False) == [Tell(2, Word.DRAIN)]
    assert supervision.exited(2, "it exited with code 3", 1.2, clean=False) == [
        Leave(Exit.START_FAILED, "there is no module 'ap'")
    ]


def test_a_round_replaces_one_worker_after_the_other_the_oldest_first() -> None:
    """The next successor is started only when the one before has gone: never two at once."""
    supervision = serving(TWO)

    assert supervision.changed(10.0) == [Spawn(3)]
    assert supervision.succeeds(3)
    assert not supervision.succeeds(1)
    assert supervision.replacing == 2
    assert supervision.ready(3, 11.0) == [Tell(1, Word.RETIRE)]
    assert supervision.tick(12.0) == []
    assert supervision.exited(1, "it exited with code 0", 13.0, clean=True) == [Spawn(4)]
    assert supervision.ready(4, 14.0) == [Tell(2, Word.RETIRE)]
    assert supervision.end_of(2, clean=True) is EndReason.REPLACED
    assert supervision.exited(2, "it exited with code 0", 15.0, clean=True) == []
    assert supervision.replacing == 0
    assert sorted((w.place, w.restarts) for w in supervision.workers.values()) == [(1, 1), (2, 1)]


def test_a_successor_that_cannot_start_ends_the_round_and_the_old_ones_stay() -> None:
    """Scenario L29: half of the service with new code and half without would be worse."""
    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.failed(3, "SyntaxError")

    assert supervision.exited(3, "it exited with code 3", 11.0, clean=False) == []
    assert supervision.tick(100.0) == []
    assert [w.stage for w in supervision.workers.values()] == [Stage.READY, Stage.READY]


def test_under_reload_nobody_waits_for_the_last_request_to_the_old_code() -> None:
    """A person is at the editor: the next successor starts when the first one serves."""
    supervision = serving(replace(TWO, waits_for_change=True))
    supervision.changed(10.0)

    assert supervision.ready(3, 11.0) == [Tell(1, Word.RETIRE), Spawn(4)]


def test_a_change_in_the_middle_of_a_round_begins_it_anew() -> None:
    """Who has the code of before is replaced, also the one that the round had just started."""
    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.ready(3, 11.0)

    assert supervision.changed(11.5) == []
    assert supervision.exited(1, "it exited with code 0", 12.0, clean=True) == [Spawn(4)]
    supervision.ready(4, 13.0)
    assert supervision.exited(2, "it exited with code 0", 14.0, clean=True) == [Spawn(5)]
    assert supervision.ready(5, 15.0) == [Tell(3, Word.RETIRE)]


def test_the_death_of_a_worker_during_a_round_is_mended_before_the_round_goes_on() -> None:
    """Capacity first: no worker is retired while another is missing."""
    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.ready(3, 11.0)

    assert supervision.exited(3, "it was ended by signal 9", 11.1, clean=False) == [Spawn(4)]
    assert supervision.exited(1, "it exited with code 0", 12.0, clean=True) == []
    assert supervision.ready(4, 13.0) == [Spawn(5)]
    assert supervision.ready(5, 14.0) == [Tell(2, Word.RETIRE)]


def test_a_recycled_worker_goes_when_its_successor_serves_and_the_next_one_later() -> None:
    """Asked for twice is once; two workers that are due together go ten seconds apart."""
    supervision = serving(TWO)

    assert supervision.recycle(1, "it has served 1,000 requests", 20.0) == [Spawn(3)]
    assert supervision.recycle(1, "it has served 1,001 requests", 20.1) == []
    assert supervision.recycle(2, "it has served 1,000 requests", 20.2) == []
    assert supervision.ready(3, 21.0) == [Tell(1, Word.RETIRE)]
    assert supervision.workers[1].because == "it has served 1,000 requests"
    assert supervision.end_of(1, clean=True) is EndReason.RECYCLED
    supervision.exited(1, "it exited with code 0", 22.0, clean=True)
    assert supervision.tick(30.9) == []
    assert supervision.tick(31.0) == [Spawn(4)]
    assert supervision.ready(4, 32.0) == [Tell(2, Word.RETIRE)]


def test_a_round_is_over_when_all_have_new_code_though_others_are_worn() -> None:
    """systemd waits for the end of a reload; recycling, once an interval, is no part of it."""
    supervision = serving(TWO)
    supervision.changed(10.0)
    supervision.ready(3, 11.0)
    assert (supervision.replacing, supervision.renewing) == (1, 1)

    assert supervision.recycle(3, "worn", 11.5) == []
    supervision.exited(1, "it exited with code 0", 12.0, clean=True)
    supervision.ready(4, 13.0)

    assert (supervision.replacing, supervision.renewing) == (1, 0)


def test_an_emergency_does_not_wait_for_the_interval_but_for_its_turn() -> None:
    """Short of memory, ten seconds are too long; two successors at once are too much."""
    supervision = serving(TWO)
    supervision.recycle(1, "worn", 20.0)
    supervision.ready(3, 21.0)

    assert supervision.recycle(2, "worn", 21.5) == []
    assert supervision.recycle(2, "memory", 21.6, emergency=True) == []
    assert supervision.exited(1, "it exited with code 0", 22.0, clean=True) == [Spawn(4)]
    supervision.ready(4, 23.0)
    assert supervision.workers[2].because == "memory"


def test_a_recycling_that_fails_leaves_the_worker_and_is_tried_again_after_the_interval() -> None:
    """Whoever asked for it asks again; a start each moment would burn a core."""
    supervision = serving()
    supervision.recycle(1, "worn", 20.0)
    supervision.exited(2, "it exited with code 3", 21.0, clean=False)

    assert supervision.recycle(1, "worn", 22.0) == []
    assert supervision.tick(31.0) == [Spawn(3)]


def test_an_emergency_whose_successor_failed_waits_like_everybody() -> None:
    """It is asked for each second as long as it lasts, and each start takes memory again."""
    supervision = serving(TWO)
    supervision.recycle(1, "memory", 20.0, emergency=True)
    assert supervision.is_replacing(1)
    supervision.exited(3, "it exited with code 3", 21.0, clean=False)
    assert not supervision.is_replacing(1)

    asked = [supervision.recycle(1, "memory", at, emergency=True) for at in (22.0, 30.9, 31.0)]

    assert asked == [[], [], [Spawn(4)]]
    supervision.ready(4, 32.0)
    assert supervision.is_replacing(1), "until it is gone"
    assert not supervision.is_replacing(2)
    supervision.exited(1, "it exited with code 0", 33.0, clean=True)
    assert not supervision.is_replacing(1)


def test_without_room_for_both_the_old_one_leaves_and_its_successor_follows() -> None:
    """Others serve meanwhile, and no other replacement begins before that place is filled."""
    supervision = serving(TWO)

    assert supervision.recycle(1, "memory", 20.0, retire_first=True) == [Tell(1, Word.RETIRE)]
    assert supervision.end_of(1, clean=True) is EndReason.RECYCLED
    assert supervision.recycle(2, "memory", 20.5, emergency=True, retire_first=True) == []
    assert supervision.tick(25.0) == []
    assert supervision.exited(1, "it exited with code 0", 26.0, clean=True) == [Spawn(3)]
    assert supervision.tick(40.0) == []
    assert supervision.ready(3, 41.0) == [Tell(2, Word.RETIRE)]


def test_a_wish_that_waits_learns_that_there_is_no_room_any_more() -> None:
    """Also one for new code: where two do not fit, the kernel would end one of them."""
    supervision = serving(TWO)
    supervision.recycle(1, "worn", 20.0)
    supervision.recycle(2, "worn", 20.0)
    supervision.ready(3, 21.0)
    supervision.exited(1, "it exited with code 0", 22.0, clean=True)

    assert supervision.recycle(2, "worn", 23.0, retire_first=True) == []
    assert supervision.recycle(2, "worn", 24.0) == []
    assert supervision.tick(31.0) == [Tell(2, Word.RETIRE)]
    assert supervision.workers[2].because == "worn"


def test_who_serves_alone_is_not_retired_first() -> None:
    """A moment without anybody is an outage; who has a single worker leaves with code 75."""
    supervision = serving()

    assert supervision.recycle(1, "memory", 20.0, retire_first=True) == [Spawn(2)]


def test_one_that_retired_first_and_does_not_go_is_ended_and_followed() -> None:
    """The place is not left empty for longer than the grace period, nor filled twice."""
    supervision = serving(TWO)
    supervision.recycle(1, "memory", 20.0, retire_first=True)

    assert supervision.tick(49.5) == [Strike(1, Blow.ABORT)]
    assert supervision.tick(50.0) == [Strike(1, Blow.KILL), Spawn(3)]
    assert supervision.exited(1, "it was ended by signal 9", 50.1, clean=False) == []


def test_nobody_is_started_where_there_is_no_room_yet_unless_nobody_serves() -> None:
    """What makes other places be filled leaves this one alone; without anybody it is an outage."""
    supervision = serving(replace(RULE, workers=3))
    supervision.recycle(1, "memory", 20.0, retire_first=True)

    assert supervision.exited(2, "it was ended by signal 9", 21.0, clean=False) == [Spawn(4)]
    assert supervision.exited(3, "it was ended by signal 9", 22.5, clean=False) == []
    assert supervision.tick(23.5) == [Spawn(5), Spawn(6)]


def test_a_place_that_was_given_up_meanwhile_is_not_filled_again() -> None:
    """Fewer are wanted while the one in the last place is on its way out."""
    supervision = serving(TWO)
    supervision.recycle(2, "memory", 20.0, retire_first=True)
    supervision.fewer(21.0)

    assert supervision.exited(2, "it exited with code 0", 22.0, clean=True) == []
    assert supervision.tick(60.0) == []


def test_only_who_serves_is_recycled() -> None:
    """Who leaves, is gone or belongs to a service that leaves is no matter for recycling."""
    supervision = serving()
    supervision.going(1, 2.0)

    assert supervision.recycle(1, "worn", 3.0) == []
    assert supervision.recycle(7, "worn", 3.0) == []
    supervision = serving()
    supervision.drain(2.0)
    assert supervision.recycle(1, "worn", 3.0) == []


def test_one_more_and_one_less() -> None:
    """The last place is the one that is given up, and one worker always stays."""
    supervision = serving()

    assert supervision.more(10.0) == [Spawn(2)]
    supervision.ready(2, 11.0)
    assert supervision.fewer(12.0) == [Tell(2, Word.RETIRE)]
    assert supervision.end_of(2, clean=True) is EndReason.SURPLUS
    assert supervision.fewer(13.0) == []
    assert supervision.more(15.0) == [Spawn(3)]
    assert supervision.fewer(15.1) == [Strike(3, Blow.TERM)]
    assert supervision.end_of(3, clean=True) is EndReason.SURPLUS
    assert supervision.heard(3, 15.2) == [Tell(3, Word.RETIRE)]
    assert supervision.exited(2, "it exited with code 0", 16.0, clean=True) == []


def test_one_less_in_the_middle_of_its_replacement_takes_the_successor_too() -> None:
    """Both are in the place that is given up."""
    supervision = serving(TWO)
    supervision.recycle(2, "worn", 20.0)

    assert supervision.fewer(20.5) == [Tell(2, Word.RETIRE), Strike(3, Blow.TERM)]
    assert supervision.replacing == 0


def test_there_is_a_most_and_no_change_of_number_on_the_way_out() -> None:
    """A key that repeats must not start a thousand processes."""
    supervision = serving(replace(RULE, workers=WORKERS_MAX))

    assert supervision.more(2.0) == []
    supervision.drain(3.0)
    assert (supervision.more(4.0), supervision.fewer(4.0)) == ([], [])


def test_workers_that_end_of_one_cause_count_as_one_crash() -> None:
    """All four at once, five times: five crashes, not twenty; the first are back at once."""
    supervision = serving(replace(RULE, workers=4))
    now, generation = 10.0, 1
    for _ in range(5):
        assert not supervision.left
        for _ in range(4):
            actions = supervision.exited(generation, "signal 9", now, clean=False)
            generation += 1
        now += 8.0
        supervision.tick(now)
        for fresh in list(supervision.workers):
            supervision.ready(fresh, now)

    assert actions == [
        Leave(Exit.SETTINGS, "workers ended 20 times within 60 s, the last time because: signal 9")
    ]


def test_no_more_ends_count_as_one_crash_than_there_are_workers() -> None:
    """One that ends again and again is a crash loop, however soon it ends."""
    supervision = serving(replace(TWO, crash_limit=2))
    for victim in (1, 2):
        supervision.exited(victim, "signal 9", 10.0, clean=False)
    for fresh in (3, 4):
        supervision.tick(10.5)
        supervision.ready(fresh, 10.6)
    supervision.exited(4, "signal 9", 10.7, clean=False)

    assert supervision.exited(3, "signal 9", 10.8, clean=False) == [
        Leave(Exit.SETTINGS, "workers ended 4 times within 60 s, the last time because: signal 9")
    ]


def test_single_losses_never_end_a_service_of_which_others_serve() -> None:
    """Sixteen workers and a loss each eleven seconds: fifteen serve on, and more than an exit code
    would be lost. The place is filled ever later, as after any loss.
    """
    supervision = serving(replace(RULE, workers=16))
    waits = []
    for victim in range(1, 17):
        lost_at = now = 11.0 * victim
        actions = supervision.exited(victim, "signal 9", now, clean=False)
        while not actions:
            now += 0.25
            actions = supervision.tick(now)
        waits.append(now - lost_at)
        (spawned,) = actions
        assert spawned == Spawn(16 + victim)
        supervision.ready(16 + victim, now)

    assert not supervision.leaving
    assert waits[:6] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(waits) == 8.0


def test_losses_that_leave_nobody_end_the_service_whatever_others_did_before() -> None:
    """Two workers that both end each time they serve: five times nobody was left."""
    supervision = serving(TWO)
    now = 10.0
    while not supervision.left:
        assert now < 60.0
        for generation in list(supervision.workers):
            supervision.ready(generation, now)
        for generation in list(supervision.workers):
            actions = supervision.exited(generation, "signal 9", now, clean=False)
            now += 1.5
        while not supervision.workers and not supervision.left:
            now += 0.25
            supervision.tick(now)

    (last,) = actions
    assert isinstance(last, Leave)
    assert last.code is Exit.SETTINGS
    assert sum(loss.outage for loss in supervision._losses) == 5


def test_a_worker_that_cannot_start_never_ends_a_service_that_serves() -> None:
    """The code on the disk broke meanwhile: tried again, ever more rarely."""
    supervision = serving(TWO)
    now, actions = 10.0, supervision.exited(1, "signal 9", 10.0, clean=False)
    waits = []
    for generation in range(3, 23):
        assert actions == [Spawn(generation)]
        actions, began = supervision.exited(generation, "code 3", now, clean=False), now
        while not actions:
            now += 0.25
            actions = supervision.tick(now)
        waits.append(now - began)

    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) == 30.0
    supervision.ready(23, now)
    assert supervision.exited(2, "signal 9", now + 60.0, clean=False) == [Spawn(24)]


def test_a_loop_that_stands_is_ended_and_followed_at_once() -> None:
    """SIGABRT writes every stack, SIGKILL follows; it is no crash."""
    supervision = serving(TWO)
    stands = {2: (10.0, "its event loop has not moved for 10.0 s")}

    assert supervision.tick(20.0, {2: (9.9, "")}) == []
    assert supervision.tick(20.1, stands) == [Spawn(3), Strike(2, Blow.ABORT)]
    assert supervision.end_of(2, clean=True) is EndReason.WEDGED
    assert supervision.workers[2].because == stands[2][1]
    assert supervision.tick(20.6, stands) == [Strike(2, Blow.KILL)]
    assert supervision.exited(2, "signal 9", 20.7, clean=False) == []


def test_of_several_that_stand_the_longest_is_ended_and_the_next_after_the_interval() -> None:
    """A pause of the whole machine looks the same in all of them: no storm of kills (L31)."""
    supervision = serving(replace(RULE, workers=3))
    stands = {1: (10.0, "a"), 2: (12.0, "b")}

    assert supervision.tick(20.0, stands) == [Spawn(4), Strike(2, Blow.ABORT)]
    supervision.exited(2, "signal 6", 20.1, clean=False)
    supervision.ready(4, 21.0)
    assert supervision.tick(29.9, stands) == []
    assert supervision.tick(30.0, stands) == [Spawn(5), Strike(1, Blow.ABORT)]


def test_where_nobody_moves_any_more_all_are_ended_at_once() -> None:
    """They serve nobody, so there is nothing to lose by ending them."""
    supervision = serving(TWO)

    assert supervision.tick(20.0, {1: (10.0, "a"), 2: (10.0, "b")}) == [
        Spawn(3),
        Spawn(4),
        Strike(1, Blow.ABORT),
        Strike(2, Blow.ABORT),
    ]


def test_a_loop_may_stand_for_ever_where_the_setting_says_so_and_while_it_leaves() -> None:
    """`wedged = 0`; and on the way out the grace is the bound."""
    stands = {1: (500.0, "a")}
    supervision = serving(replace(RULE, wedged_seconds=0.0))

    assert supervision.tick(20.0, stands) == []
    supervision = serving()
    supervision.drain(10.0)
    assert supervision.tick(20.0, stands) == []


def test_time_in_which_we_did_not_run_is_given_back_to_who_was_starting() -> None:
    """SIGSTOP and SIGCONT of the supervisor end nobody."""
    supervision = serving()
    supervision.changed(10.0)
    supervision.pardon(100.0)

    assert supervision.tick(170.9) == []
    assert supervision.tick(171.1) == [Strike(2, Blow.ABORT)]


def test_a_worker_is_named_after_how_it_would_end_now() -> None:
    """The label of the metric: nobody told it, by force, while starting."""
    supervision = serving(TWO)
    supervision.begin(2.0)

    assert supervision.end_of(1, clean=False) is EndReason.LOST
    supervision.drain(10.0)
    assert supervision.end_of(1, clean=True) is EndReason.DRAINED
    supervision.tick(39.6)
    assert supervision.end_of(1, clean=True) is EndReason.FORCED
    started = Supervision(RULE)
    started.begin(0.0)
    assert started.end_of(1, clean=False) is EndReason.FAILED
    started.changed(1.0)
    assert started.end_of(1, clean=False) is EndReason.DROPPED


def test_who_gives_up_by_itself_when_its_time_is_over_was_forced_too() -> None:
    """Exit code 70 says that work was left behind, and so does a signal of somebody else's."""
    supervision = serving()
    supervision.changed(10.0)
    supervision.ready(2, 11.0)

    assert supervision.end_of(1, clean=True) is EndReason.REPLACED
    assert supervision.end_of(1, clean=False) is EndReason.FORCED


def test_the_service_can_leave_with_a_reason_of_its_own() -> None:
    """Short of memory with no room for a successor: drained, and started anew by others."""
    supervision = serving()

    assert supervision.leave_after(Exit.RECYCLE, "memory", 10.0) == [Tell(1, Word.DRAIN)]
    assert supervision.leave_after(Exit.SETTINGS, "later", 10.1) == []
    assert supervision.exited(1, "it exited with code 0", 11.0, clean=True) == [
        Leave(Exit.RECYCLE, "memory")
    ]


BY_SUCCESSOR = {EndReason.REPLACED, EndReason.RECYCLED}


def test_it_is_at_rest_when_all_who_are_wanted_serve_and_none_waits_for_newer_code() -> None:
    """Then a spare may be started: nobody else wants the CPU, and what it imports is of now."""
    supervision = Supervision(TWO)
    supervision.begin(0.0)
    rests = [supervision.at_rest]
    for generation in (1, 2):
        supervision.heard(generation, 0.5)
        supervision.ready(generation, 1.0)
        rests.append(supervision.at_rest)
    supervision.exited(1, "signal 9", 2.0, clean=False)
    rests.append(supervision.at_rest)
    supervision.ready(3, 3.0)
    rests.append(supervision.at_rest)
    supervision.exited(3, "signal 9", 3.5, clean=False)  # the second loss: a pause comes first
    assert set(supervision.workers) == {2}
    rests.append(supervision.at_rest)

    assert rests == [False, False, True, False, True, False]


def test_a_worker_that_only_has_served_its_time_disturbs_no_rest_and_a_round_does() -> None:
    """Recycling waits for its interval, for minutes if need be."""
    supervision = serving(TWO)
    supervision.recycle(1, "worn", 2.0)
    supervision.ready(3, 2.5)
    supervision.exited(1, "code 0", 3.0, clean=True)
    supervision.recycle(2, "worn", 3.5)
    waits = supervision.at_rest
    supervision.changed(4.0)
    replaces = supervision.at_rest
    supervision.drain(5.0)

    assert (waits, replaces, supervision.at_rest) == (True, False, False)


class Stories(RuleBasedStateMachine):
    """Any order of events: one `Leave`, no start once leaving, an end by the grace period.

    And with any number of workers: every place is filled or will be, one replacement at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.alive: set[int] = set()
        self.leaves = 0
        self.signalled_at = math.inf

    @initialize(workers=st.integers(1, 4))
    def it_begins(self, workers: int) -> None:
        self.supervision = Supervision(replace(RULE, workers=workers))
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
                case Tell(generation, Word.RETIRE):
                    # Its successor serves, or there is no room for one and another serves, or its
                    # place is given up, or it never served.
                    assert generation in self.alive
                    worker = self.supervision.workers[generation]
                    assert (
                        (
                            worker.followed
                            and any(
                                other.stage is Stage.READY
                                for other in self.supervision.workers.values()
                            )
                        )
                        or worker.place > self.supervision.wanted
                        or not worker.served
                        or any(
                            other.place == worker.place and other.stage is Stage.READY
                            for other in self.supervision.workers.values()
                        )
                    )
                case Strike(generation, _) | Tell(generation, _):
                    assert generation in self.alive

    def end(self, generation: int, *, clean: bool) -> None:
        self.alive.discard(generation)
        self.do(self.supervision.exited(generation, "ended", self.now, clean=clean))
        if self.supervision.leaving:  # also when it leaves of itself: a crash loop, a failed start
            self.signalled_at = min(self.signalled_at, self.now)

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

    @rule(what=st.sampled_from(["changed", "more", "fewer", "pardon"]))
    def the_operator_says(self, what: str) -> None:
        match what:
            case "changed":
                self.do(self.supervision.changed(self.now))
            case "more":
                self.do(self.supervision.more(self.now))
            case "fewer":
                self.do(self.supervision.fewer(self.now))
            case _:
                self.supervision.pardon(1.0)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), emergency=st.booleans(), retire_first=st.booleans())
    def a_worker_is_worn(self, data: st.DataObject, *, emergency: bool, retire_first: bool) -> None:
        generation = data.draw(st.sampled_from(sorted(self.alive)))
        self.do(
            self.supervision.recycle(
                generation, "worn", self.now, emergency=emergency, retire_first=retire_first
            )
        )

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def loops_stand(self, data: st.DataObject) -> None:
        standing = data.draw(st.sets(st.sampled_from(sorted(self.alive)), min_size=1))
        self.do(self.supervision.tick(self.now, dict.fromkeys(standing, (10.0, "it stands"))))

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        event=st.sampled_from(["heard", "ready", "ready", "going", "crash", "clean", "failed"]),
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
    def every_place_is_filled_or_will_be(self) -> None:
        supervision = self.supervision
        if supervision.ever_ready and not supervision.leaving and not supervision.left:
            held = {w.place for w in supervision.workers.values() if w.stage is not Stage.LEAVING}
            wanted = set(range(1, supervision.wanted + 1))
            assert held <= wanted
            assert held == wanted or supervision._respawn_at < math.inf

    @invariant()
    def one_replacement_at_a_time(self) -> None:
        workers = self.supervision.workers.values()
        held = Counter(w.place for w in workers if w.stage is not Stage.LEAVING)
        retiring = [w for w in workers if w.end in BY_SUCCESSOR]
        assert sum(count - 1 for count in held.values()) + len(retiring) <= 1

    @invariant()
    def at_rest_nobody_is_missing_or_starts(self) -> None:
        if self.supervision.at_rest:
            workers = self.supervision.workers.values()
            assert not self.supervision.leaving
            assert not self.supervision.renewing
            assert not [w for w in workers if w.stage is Stage.STARTING]
            assert sum(w.stage is Stage.READY for w in workers) == self.supervision.wanted

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
    max_examples=100, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)
