"""What the use of a resource means, and what is done about it: tables and a state machine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from shipworthy.lifecycle.watermarks import (
    CALM_SECONDS,
    Decision,
    LeaveForRecycle,
    Level,
    LevelChange,
    Marks,
    OverBudget,
    ProcessJudge,
    ProcessUse,
    Recycle,
    ServiceJudge,
    ServiceUse,
    Trend,
    Watermark,
    WorkerUse,
)

MIB = 2**20
MARKS = Marks(warn=0.75, act=0.9, emergency=0.95)


# Levels.


@pytest.mark.parametrize(
    ("ratio", "level"),
    [
        (0.0, "ok"),
        (0.7499, "ok"),
        (0.75, "warn"),
        (0.9, "act"),
        (0.95, "emergency"),
        (3, "emergency"),
    ],
)
def test_a_mark_is_reached_at_its_value(ratio: float, level: str) -> None:
    """The mark itself belongs to the level."""
    assert MARKS.level(ratio) == level


def test_up_at_once_and_down_after_a_while() -> None:
    """A ratio that swings around a mark tells of it once."""
    mark = Watermark(MARKS)

    assert mark.judge(0.76, 0.0)
    assert mark.level is Level.WARN
    assert not any(mark.judge(0.74, at) for at in (1.0, 20.0, 40.0)), "within the slack"
    assert not mark.judge(0.70, 50.0)
    assert not mark.judge(0.76, 55.0), "the calm begins anew"
    assert not mark.judge(0.70, 60.0)
    assert not mark.judge(0.70, 69.9)
    assert mark.judge(0.70, 70.0)
    assert mark.level is Level.OK


def test_patience_is_without_a_break() -> None:
    """What comes and goes is told when it lasts."""
    mark = Watermark(MARKS, patience_seconds=5.0)

    assert not mark.judge(0.8, 0.0)
    assert not mark.judge(0.1, 3.0)
    assert not mark.judge(0.8, 4.0)
    assert not mark.judge(0.8, 8.9)
    assert mark.judge(0.8, 9.0)


def test_several_levels_at_once() -> None:
    """A jump is one change, up and down."""
    mark = Watermark(MARKS)

    assert mark.judge(0.99, 0.0)
    assert mark.level is Level.EMERGENCY
    assert not mark.judge(0.1, 1.0)
    assert mark.judge(0.1, 11.0)
    assert mark.level is Level.OK


def test_what_is_not_known_changes_nothing() -> None:
    """A file that cannot be read for a moment is no all-clear."""
    mark = Watermark(MARKS)
    mark.judge(0.8, 0.0)

    assert not mark.judge(None, 100.0)
    assert mark.level is Level.WARN


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 30)), min_size=1, max_size=60))
def test_never_below_what_is_used_and_never_down_in_haste(steps: list[tuple[float, float]]) -> None:
    """For all courses: the level covers the use at once, and no fall comes before the calm."""
    mark = Watermark(MARKS)
    now = risen_at = 0.0
    for ratio, seconds in steps:
        now += seconds
        before = mark.level
        changed = mark.judge(ratio, now)
        assert changed == (mark.level is not before)
        assert mark.level.rank >= MARKS.level(ratio).rank
        if mark.level.rank > before.rank:
            risen_at = now
        if mark.level.rank < before.rank:
            assert now - risen_at >= CALM_SECONDS


# The forecast.


def test_a_steady_growth_is_foreseen() -> None:
    """10 MiB a second towards a limit 600 MiB away: a minute."""
    trend = Trend()
    for second in range(61):
        trend.add(second * 10.0 * MIB, second)

    assert trend.per_second() == pytest.approx(10 * MIB)
    assert trend.forecast(600.0 * MIB, 1200.0 * MIB) == (
        "; it has grown by 600.0 MiB a minute over the last 60 s, and at this rate is full in 60 s"
    )


@pytest.mark.parametrize(
    ("values", "step_seconds"),
    [
        pytest.param([1.0], 60.0, id="one value"),
        pytest.param([1.0, 2.0, 3.0], 5.0, id="too short a time"),
        pytest.param([3.0, 2.0, 1.0, 0.0], 60.0, id="it shrinks"),
        pytest.param([1.0, 1.0, 1.0, 1.0], 60.0, id="it stays"),
        pytest.param([1.0, 1.0, 1.0, 1.00001], 60.0, id="it takes more than a day"),
    ],
)
def test_no_forecast(values: list[float], step_seconds: float) -> None:
    """Where nobody can tell, nothing is said."""
    trend = Trend()
    for number, value in enumerate(values):
        trend.add(value, number * step_seconds)

    assert trend.forecast(values[-1], 10.0) == ""


def test_only_the_last_ten_minutes_count() -> None:
    """An old growth is forgotten, and the memory of it is bounded."""
    trend = Trend()
    for second in range(600):
        trend.add(float(second), second)
    for second in range(600, 1300):
        trend.add(600.0, second)

    assert trend.per_second() == pytest.approx(0)
    assert len(trend._samples) <= 121


# The service.


def judge(**more: Any) -> ServiceJudge:
    chosen: dict[str, Any] = {
        "memory": MARKS,
        "worker_memory_bytes": 0,
        "processes_warn_ratio": 0.8,
        "throttled_warn_ratio": 0.05,
        "disk_warn_ratio": 0.9,
    }
    return ServiceJudge(**chosen | more)


def use(
    used_mib: float | None, *workers_mib: int, limit_mib: int = 1000, **more: Any
) -> ServiceUse:
    """A use with workers 1, 2, ... of these sizes."""
    given_: dict[str, Any] = {
        "memory_bytes": None if used_mib is None else int(used_mib * MIB),
        "memory_limit_bytes": limit_mib * MIB,
        "memory_of": "control group",
        "workers": tuple(
            WorkerUse(pid=pid, rss_bytes=size * MIB, serving=True)
            for pid, size in enumerate(workers_mib, 1)
        ),
        "workers_wanted": max(1, len(workers_mib)),
        "cpus": 8.0,
    }
    return ServiceUse(**given_ | more)


def serves(mib: int) -> WorkerUse:
    return WorkerUse(pid=0, rss_bytes=mib * MIB, serving=True)


def to_go(mib: int) -> WorkerUse:
    """One that serves, and is to be replaced already."""
    return replace(serves(mib), replacing=True)


def leaves(mib: int) -> WorkerUse:
    return replace(serves(mib), serving=False, replacing=True)


def sizes(used_mib: float, *workers: WorkerUse) -> ServiceUse:
    """A use with these as workers 1, 2, ..."""
    numbered = tuple(replace(worker, pid=pid) for pid, worker in enumerate(workers, 1))
    return use(used_mib, workers=numbered, workers_wanted=len(workers))


def recycles(decisions: Sequence[Decision]) -> list[Recycle]:
    return [found for found in decisions if isinstance(found, Recycle)]


def actions(decisions: Sequence[Decision]) -> list[Decision]:
    return [found for found in decisions if isinstance(found, Recycle | LeaveForRecycle)]


def changes(decisions: Sequence[Decision]) -> dict[str, str]:
    return {f.report.resource: f.report.level for f in decisions if isinstance(f, LevelChange)}


def test_the_largest_worker_is_recycled_when_memory_runs_short() -> None:
    """L24: told at 75 %, the largest replaced at 90 %; nobody else while it is to be replaced."""
    judged = judge()

    assert judged.tick(use(300, 100, 100), 0.0) == []
    assert changes(judged.tick(use(760, 500, 200), 1.0)) == {"memory": "warn"}
    decisions = judged.tick(use(900, 600, 250), 2.0)
    assert changes(decisions) == {"memory": "act"}
    (recycle,) = actions(decisions)
    assert isinstance(recycle, Recycle)
    assert (recycle.pid, recycle.emergency) == (1, False)
    assert recycle.because == (
        "900 MiB of the 1,000 MiB of the control group are in use (90%); "
        "worker 1 has 600 MiB of it, and had 100 MiB when it began to serve"
    )
    assert actions(judged.tick(sizes(910, to_go(300), serves(600)), 3.0)) == [], "one at a time"
    (again,) = actions(judged.tick(sizes(900, to_go(610), serves(250)), 4.0))
    assert isinstance(again, Recycle)
    assert (again.pid, again.emergency) == (1, False)
    (urgent,) = actions(judged.tick(sizes(960, to_go(650), serves(250)), 5.0))
    assert isinstance(urgent, Recycle)
    assert (urgent.pid, urgent.emergency) == (1, True)
    (other,) = actions(judged.tick(sizes(960, to_go(250), serves(650)), 6.0))
    assert isinstance(other, Recycle)
    assert (other.pid, other.emergency) == (2, True), "an emergency waits for no turn"
    assert actions(judged.tick(sizes(960, leaves(250), serves(650)), 7.0)) == [], "that one goes"


def test_a_replacement_that_failed_is_asked_for_again_and_by_then_of_whom_it_helps() -> None:
    """One successor that cannot start must not end the recycling for good."""
    judged = judge(worker_memory_bytes=500 * MIB)
    judged.tick(use(300, 100, 100), 0.0)
    assert [found.pid for found in recycles(judged.tick(use(600, 500, 100), 1.0))] == [1]

    starts = WorkerUse(pid=3, rss_bytes=30 * MIB, serving=False)
    begun = (*sizes(0, to_go(510), serves(100)).workers, starts)
    assert recycles(judged.tick(use(640, workers=begun, workers_wanted=2), 2.0)) == []
    assert [found.pid for found in recycles(judged.tick(use(620, 520, 100), 3.0))] == [1]
    assert recycles(judged.tick(use(300, 200, 100), 4.0)) == [], "the reason is gone"

    judged = judge()
    judged.tick(use(300, 100, 100), 0.0)
    assert [found.pid for found in recycles(judged.tick(use(900, 600, 250), 1.0))] == [1]
    assert [found.pid for found in recycles(judged.tick(use(900, 100, 750), 2.0))] == [2]


def test_a_successor_that_takes_the_last_room_does_not_end_the_service() -> None:
    """What there is room for is judged before it starts, also with a single worker."""
    judged = judge(worker_memory_bytes=500 * MIB)
    judged.tick(use(120, 100), 0.0)
    assert recycles(judged.tick(use(880, 850), 1.0))

    begun = (
        WorkerUse(pid=1, rss_bytes=850 * MIB, serving=True, replacing=True),
        WorkerUse(pid=2, rss_bytes=90 * MIB, serving=False),
    )
    assert actions(judged.tick(use(970, workers=begun, workers_wanted=1), 2.0)) == []


def test_without_room_for_both_the_old_one_goes_first_where_others_serve() -> None:
    """A third worker of 110 MiB in a limit with 22 MiB left would have the kernel kill one."""
    for more in ({}, {"worker_memory_bytes": 340 * MIB}):
        judged = judge(**more)
        judged.tick(use(240, 110, 110, limit_mib=512), 0.0)

        (recycle,) = recycles(judged.tick(use(475, 340, 115, limit_mib=512), 1.0))[:1]

        assert (recycle.pid, recycle.retire_first) == (1, True)


def test_the_next_one_comes_when_the_first_is_gone() -> None:
    """When a replacement did not help enough, the largest of those that are left follows."""
    judged = judge()
    judged.tick(use(300, 100, 100), 0.0)
    judged.tick(use(920, 500, 400), 1.0)

    rest = (
        WorkerUse(pid=2, rss_bytes=800 * MIB, serving=True),
        WorkerUse(pid=3, rss_bytes=100 * MIB, serving=True),
    )
    (recycle,) = actions(judged.tick(use(920, workers=rest, workers_wanted=2), 2.0))

    assert isinstance(recycle, Recycle)
    assert recycle.pid == 2


def test_a_worker_that_leaves_already_is_not_chosen() -> None:
    """Somebody else has it replaced; the largest of those that serve on is meant."""
    judged = judge()
    judged.tick(use(300, 100, 100), 0.0)
    leaving = (
        WorkerUse(pid=1, rss_bytes=600 * MIB, serving=False),
        WorkerUse(pid=2, rss_bytes=300 * MIB, serving=True),
    )

    (recycle,) = actions(judged.tick(use(920, workers=leaving, workers_wanted=2), 1.0))

    assert isinstance(recycle, Recycle)
    assert recycle.pid == 2


def test_nobody_is_recycled_who_would_be_as_large_again() -> None:
    """Too little memory from the start is no leak: replacing workers for ever would not help."""
    judged = judge()
    judged.tick(use(930, 450, 450), 0.0)

    decisions = judged.tick(use(931, 460, 460), 1.0)

    assert actions(decisions) == []
    report = judged.reports()[0]
    assert report.level is Level.ACT
    assert report.because.endswith(
        "no worker is much larger than the 450 MiB with which it began to serve, so a new one "
        "would not help: give more than 1,000 MiB, or start fewer workers than 2"
    )


def test_nobody_is_recycled_for_memory_that_others_hold() -> None:
    """A browser on a laptop, a neighbour in the pod: our workers are not to blame."""
    judged = judge()
    judged.tick(use(300, 20, memory_of="machine"), 0.0)

    decisions = judged.tick(use(960, 200, memory_of="machine"), 1.0)

    assert actions(decisions) == []
    assert "the workers hold 200 MiB of it" in judged.reports()[0].because
    assert actions(judge().tick(use(960), 0.0)) == [], "nor when there are none"


def test_a_single_worker_with_room_for_a_successor() -> None:
    """The room is for what a new one takes, not for what the old one has become."""
    judged = judge()
    judged.tick(use(100, 80), 0.0)

    (decision,) = actions(judged.tick(use(910, 890), 1.0))

    assert isinstance(decision, Recycle)


def test_a_single_worker_without_room_leaves() -> None:
    """Drain and exit 75: to start a second one beside it would have the kernel kill one of both."""
    judged = judge()
    judged.tick(use(120, 100), 0.0)

    decisions = judged.tick(use(910, 890), 1.0)

    (leave,) = actions(decisions)
    assert isinstance(leave, LeaveForRecycle)
    assert leave.because.endswith("there is no room for a new worker beside it")
    assert actions(judged.tick(use(960, 940), 2.0)) == [], "once"


def test_a_worker_may_have_a_limit_of_its_own() -> None:
    """`resources.worker_memory` replaces each worker that reaches it, without any other limit."""
    judged = judge(worker_memory_bytes=200 * MIB)
    judged.tick(use(None, 100, 100), 0.0)

    assert changes(judged.tick(use(None, 185, 100), 1.0)) == {"worker_memory": "warn"}
    (recycle,) = actions(judged.tick(use(None, 200, 100), 2.0))
    assert recycle == Recycle(
        pid=1, because="it holds 200 MiB, and resources.worker_memory is 200 MiB"
    )
    assert [found.pid for found in recycles(judged.tick(use(None, 220, 210), 3.0))] == [1, 2]
    assert [found.pid for found in recycles(judged.tick(use(None, 100, 220), 4.0))] == [2]


def test_a_single_worker_above_its_limit_without_room_leaves() -> None:
    """The same question of room, whatever the worker is replaced for."""
    judged = judge(worker_memory_bytes=400 * MIB)
    judged.tick(use(400, 300), 0.0)

    (leave,) = actions(judged.tick(use(720, 450), 1.0))

    assert isinstance(leave, LeaveForRecycle)
    assert leave.because == (
        "it holds 450 MiB, and resources.worker_memory is 400 MiB; there is no room for a new "
        "worker beside it"
    )


def test_a_worker_that_begins_above_its_limit_is_told_of_and_not_replaced() -> None:
    """Else it would be replaced for ever."""
    judged = judge(worker_memory_bytes=50 * MIB)

    decisions = [*judged.tick(use(None, 80), 0.0), *judged.tick(use(None, 90), 1.0)]

    assert actions(decisions) == []
    assert changes(decisions) == {"worker_memory": "act"}
    assert judged.reports()[1].because.endswith("a new one needs 80 MiB, so it is not replaced")


def test_processes_and_disk_are_told() -> None:
    """They warn, and nothing else is done."""
    judged = judge()

    decisions = judged.tick(
        use(
            None, processes=90, processes_limit=100, disk_bytes=95 * MIB, disk_size_bytes=100 * MIB
        ),
        0.0,
    )

    assert changes(decisions) == {"processes": "warn", "disk": "warn"}
    assert [report.because for report in judged.reports() if report.because] == [
        "90 of 100 processes in use (90%)",
        "95 of 100 MiB of disk in use (95%)",
    ]


def throttled(judged: ServiceJudge, *, every: int, seconds: int, **more: Any) -> list[Decision]:
    """Ten periods a second, of which every n-th is throttled."""
    found: list[Decision] = []
    for second in range(seconds):
        periods = second * 10
        found += judged.tick(
            use(None, cpu_periods=periods, cpu_throttled_periods=periods // every, **more), second
        )
    return found


def test_a_quota_that_is_used_up_is_told_with_a_hint() -> None:
    """L27: more than 5 % of the periods, and it lasts; the hint compares workers and quota."""
    judged = judge()

    assert changes(throttled(judged, every=10, seconds=15, workers_wanted=4, cpus=1.5)) == {
        "cpu_throttled": "warn"
    }
    (report,) = [r for r in judged.reports() if r.resource == "cpu_throttled"]
    assert report.because == (
        "the quota of 1.5 CPUs was used up in 10% of the last 100 periods, with 4 workers: start 2"
    )


def test_a_quota_that_is_hardly_used_up_is_not_told() -> None:
    """4 % is what a burst makes; few periods say nothing; a counter may begin anew."""
    judged = judge()
    assert throttled(judged, every=25, seconds=40) == []
    assert judged.tick(use(None, cpu_periods=5, cpu_throttled_periods=0), 41.0) == []
    assert throttled(judge(), every=1, seconds=1) == []


def test_with_few_workers_the_hint_is_more_cpu() -> None:
    """One worker under a quota of one is not too many."""
    judged = judge()
    throttled(judged, every=2, seconds=15, cpus=1.0)

    (report,) = [r for r in judged.reports() if r.resource == "cpu_throttled"]
    assert report.because.endswith("with 1 worker: give more CPU, or more replicas")


def budget(used: float | None, *workers: int, **more: Any) -> list[tuple[str, str]]:
    decisions = judge().tick(use(used, *workers, **more), 0.0)
    return [(f.resource, f.because) for f in decisions if isinstance(f, OverBudget)]


def test_what_does_not_fit_is_told_after_the_start() -> None:
    """CPUs, memory for all, and memory for one more beside them."""
    assert budget(500, 100, 100, cpus=2.0) == []
    assert budget(None, 100, 100) == []
    assert budget(500, 100, 100, cpus=0.5) == [
        ("cpu", "2 workers share 0.5 CPUs: they wait for one another; 1 would serve as much")
    ]
    assert budget(700, 400, 400) == [
        (
            "memory",
            (
                "2 x 400 MiB is 80% of the 1,000 MiB of the control group, and that without a "
                "request: give more memory, or start fewer workers"
            ),
        )
    ]
    assert budget(800, 300, 300) == [
        (
            "memory",
            (
                "200 MiB of the 1,000 MiB of the control group are free, and a new worker needs "
                "300 MiB: none fits beside those that are to be replaced"
            ),
        )
    ]


def test_the_budget_waits_for_all_workers_and_is_told_once() -> None:
    """Before all serve nobody knows what they take."""
    judged = judge()

    first = judged.tick(use(500, 300, workers_wanted=3), 0.0)
    second = judged.tick(use(900, 300, 300, 300), 1.0)
    third = judged.tick(use(900, 300, 300, 300), 2.0)

    assert [len([f for f in d if isinstance(f, OverBudget)]) for d in (first, second, third)] == [
        0,
        1,
        0,
    ]


COURSES = st.lists(
    st.tuples(
        st.integers(0, 1200),
        st.dictionaries(
            st.integers(1, 6), st.tuples(st.integers(0, 900), st.booleans(), st.booleans())
        ),
    ),
    max_size=30,
)


@given(COURSES, st.sampled_from([0, 300 * MIB]))
def test_who_is_named_serves_and_nobody_beside_one_that_starts_or_is_replaced(
    steps: list[tuple[int, dict[int, tuple[int, bool, bool]]]], worker_memory_bytes: int
) -> None:
    """For all courses of memory and workers, also those that come and go."""
    judged = judge(worker_memory_bytes=worker_memory_bytes)
    served: set[int] = set()
    for second, (used, sizes) in enumerate(steps):
        workers = [
            WorkerUse(pid=pid, rss_bytes=size * MIB, serving=serving, replacing=replacing)
            for pid, (size, serving, replacing) in sizes.items()
        ]
        served &= sizes.keys()
        served |= {worker.pid for worker in workers if worker.serving and worker.rss_bytes}
        found = recycles(judged.tick(use(used, workers=workers, workers_wanted=2), float(second)))
        assert not found or served == sizes.keys(), "nobody is named while one starts"
        for decision in found:
            assert sizes[decision.pid][1], "who leaves already is not named"
            if "resources.worker_memory" in decision.because:
                continue
            others = [worker for worker in workers if worker.pid != decision.pid]
            assert all(worker.serving for worker in others if worker.replacing)
            alone = sizes[decision.pid][2] or not any(worker.replacing for worker in others)
            assert decision.emergency or alone


# The process.


def process(**more: Any) -> ProcessJudge:
    chosen: dict[str, Any] = {
        "descriptors": Marks(warn=0.7, act=0.85),
        "lag_seconds": 0.1,
        "connections": 0,
    }
    return ProcessJudge(**chosen | more)


def test_a_process_short_of_descriptors_is_not_ready() -> None:
    """L25: told at 70 %, not ready at 85 %, ready again when some are free for a while."""
    judged = process()

    (few,) = judged.tick(ProcessUse(descriptors=100, descriptors_limit=256), 0.0)
    assert isinstance(few, OverBudget)
    assert few.because.startswith("a worker may open 256 file descriptors, and clients that come")
    assert changes(judged.tick(ProcessUse(descriptors=180, descriptors_limit=256), 1.0)) == {
        "descriptors": "warn"
    }
    assert judged.not_ready == ""
    judged.tick(ProcessUse(descriptors=220, descriptors_limit=256), 2.0)
    assert judged.not_ready == (
        "220 of 256 file descriptors are open (86%); raise the limit (ulimit -n), or look for "
        "what is not closed"
    )
    judged.tick(ProcessUse(descriptors=50, descriptors_limit=256), 3.0)
    assert judged.not_ready
    judged.tick(ProcessUse(descriptors=50, descriptors_limit=256), 6.0)
    assert judged.not_ready == ""
    assert {report.level for report in judged.reports()} == {Level.OK}


def test_a_process_is_not_ready_for_a_reason_though_the_count_fails_for_a_while() -> None:
    """The level holds while nothing is known, and so does what it was entered for."""
    judged = process()
    judged.tick(ProcessUse(descriptors=900, descriptors_limit=1024), 0.0)
    because = judged.not_ready
    assert because

    judged.tick(ProcessUse(descriptors=None, descriptors_limit=1024), 5.0)

    assert judged.not_ready == because
    assert judged.reports()[0].level is Level.ACT


def test_lag_and_connections_are_told() -> None:
    """L26: they warn, a lag when it lasts, and the process stays ready."""
    judged = process(connections=10)

    found = [
        judged.tick(ProcessUse(lag_seconds=0.25, connections=10), at) for at in (0.0, 1.0, 3.0)
    ]

    assert [changes(one) for one in found] == [{"connections": "warn"}, {}, {"loop_lag": "warn"}]
    assert [report.because for report in judged.reports() if report.because] == [
        (
            "the event loop was up to 250 ms late; what works for longer than that in one go "
            "belongs into a thread"
        ),
        "10 connections are open, and resources.worker_connections is 10",
    ]
    assert judged.not_ready == ""


def test_what_has_no_limit_is_never_near_it() -> None:
    """No limit of connections, none of descriptors, a lag that is not known."""
    judged = process()

    assert judged.tick(ProcessUse(descriptors=10**9, connections=10**9), 0.0) == []
    assert process().tick(ProcessUse(descriptors=5, descriptors_limit=1024), 0.0) == []
    assert [report.ratio for report in judged.reports()] == [None, None, None]


@pytest.mark.parametrize(
    ("seconds", "text"), [(119, "119 s"), (600, "10 min"), (7200, "2.0 h"), (80000, "22.2 h")]
)
def test_a_length_is_said_as_people_say_it(seconds: float, text: str) -> None:
    """The forecast counts in what one thinks in."""
    trend = Trend()
    for second in range(0, 61, 5):
        trend.add(float(second), second)

    assert trend.forecast(0.0, seconds).endswith(f"full in {text}")
