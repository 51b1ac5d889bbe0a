"""What the supervisor answers to the three questions."""

import math

import pytest

from shipworthy.serve import judge
from shipworthy.serve.judge import STALE_SECONDS, WEDGED_SECONDS, WorkerSeen

NOW = 1000.0


def worker(*, silent: float = 0.1, serving: bool = True, ready: bool = True) -> WorkerSeen:
    return WorkerSeen(
        1,
        pid=42,
        heard_at=NOW - silent,
        serving=serving,
        ready=ready,
        because="" if ready else "check 'db': refused",
    )


@pytest.mark.parametrize(
    ("workers", "leaving", "ok", "because"),
    [
        ([worker()], False, True, ""),
        ([worker()], True, False, "draining"),
        ([], False, False, "no worker runs"),
        ([worker(ready=False)], False, False, "check 'db': refused"),
        ([worker(serving=False)], False, False, "starting"),
        (
            [worker(silent=STALE_SECONDS + 1)],
            False,
            False,
            "worker 42: its event loop has not moved for 3.0 s",
        ),
        ([worker(silent=STALE_SECONDS + 1), worker()], False, True, ""),
    ],
    ids=["serves", "leaves", "nobody", "says no", "starts", "blocked", "one of two is blocked"],
)
def test_readiness(workers: list[WorkerSeen], leaving: bool, ok: bool, because: str) -> None:
    """Ready means: somebody serves, moves and says so, and the service is not leaving."""
    answer = judge.ready(workers, NOW, leaving=leaving)

    assert (answer.ok, answer.because) == (ok, because)


@pytest.mark.parametrize(
    ("workers", "ok"),
    [
        ([worker()], True),
        ([], True),
        ([worker(silent=WEDGED_SECONDS - 1)], True),
        ([worker(silent=WEDGED_SECONDS + 1)], False),
        ([worker(silent=WEDGED_SECONDS + 1, serving=False)], True),
        ([worker(silent=WEDGED_SECONDS + 1), worker()], True),
    ],
    ids=["serves", "nobody", "slow", "wedged", "long start", "one of two is wedged"],
)
def test_liveness(workers: list[WorkerSeen], ok: bool) -> None:
    """A restart is asked for only when every serving worker has been wedged for long."""
    assert judge.live(workers, NOW).ok is ok


def test_start_up_is_answered_by_whether_it_was_ever_ready() -> None:
    """It never goes back: a restart of a worker is no start of the service."""
    assert judge.startup(ever_ready=True).ok
    assert not judge.startup(ever_ready=False).ok


def test_a_heartbeat_is_taken_over_whole() -> None:
    """What a worker says of itself is what the operations port shows of it."""
    state = {
        "phase": "ready",
        "ready": True,
        "because": "",
        "in_flight": 3,
        "connections": 5,
        "rss_bytes": 2**20,
        "requests": 7,
        "health": {"checks": []},
    }
    seen = worker(ready=False)
    seen.watch({"blocked_seconds": 0.2, "where": "shop.py:3 in f"}, NOW)

    seen.hear({"kind": "state", **state})

    assert {name: getattr(seen, name) for name in state} == state
    # Its loop has said that, so it moves.
    assert judge.blocked(seen, NOW) == ""


def test_a_loop_that_stands_is_named_with_its_place_before_anybody_misses_it() -> None:
    """Its watcher says it after 200 ms; readiness waits until two seconds are over."""
    seen = worker(silent=0.3)
    found = {
        "blocked_seconds": 0.2,
        "where": "app/x.py:41 in f",
        "route": "/orders",
        "request_id": "a1",
    }

    seen.watch(found, NOW)

    place = "it stands at app/x.py:41 in f (request /orders a1)"
    assert judge.blocked(seen, NOW) == f"its event loop has not moved for 0.2 s; {place}"
    assert judge.ready([seen], NOW, leaving=False).ok
    assert judge.ready([seen], NOW + 3.0, leaving=False).because == (
        f"worker 42: its event loop has not moved for 3.3 s; {place}"
    )
    seen.watch({"blocked_seconds": 0}, NOW + 4.0)
    assert judge.blocked(seen, NOW) == ""


def test_a_place_without_a_request_is_a_place_and_a_novel_is_cut() -> None:
    """What the watcher could not find out is left out; what it says is not ours."""
    seen = worker()

    seen.watch({"blocked_seconds": 1, "where": "x" * 1000}, NOW)

    assert judge.blocked(seen, NOW).endswith("it stands at " + "x" * 300)
    seen.watch({"blocked_seconds": 1, "request_id": "a1"}, NOW)
    assert judge.blocked(seen, NOW) == "its event loop has not moved for 1.0 s"


def test_only_those_whose_loop_stands_are_named() -> None:
    """For how long they were not heard, and what is known; a start is long and blocks nobody."""
    stands = WorkerSeen(2, pid=43, heard_at=NOW - 12.0, serving=True)
    starts = WorkerSeen(3, pid=44, heard_at=NOW - 12.0)

    found = judge.standing([worker(), stands, starts], NOW)

    assert found == {2: (12.0, "its event loop has not moved for 12.0 s")}


@pytest.mark.parametrize(
    ("gap", "expected"), [(0.25, 0.0), (1.0, 0.0), (5.0, 5.0)], ids=["tick", "late", "stopped"]
)
def test_time_in_which_we_did_not_run_is_known_by_the_gap(gap: float, expected: float) -> None:
    """L31: what a stopped supervisor has not read yet is nobody's silence."""
    stopped = worker(silent=gap)
    stopped.watch({"blocked_seconds": gap}, NOW)

    stopped.pardon(judge.pause(NOW - gap, NOW), NOW)

    assert judge.pause(NOW - gap, NOW) == expected
    assert judge.silent_seconds(stopped, NOW) == gap - expected
    assert NOW - stopped.stands_since == gap - expected


@pytest.mark.parametrize(
    ("most", "ratio", "draw", "expected"),
    [(0, 0.1, 0.5, 0), (1000, 0.1, 0.0, 1000), (1000, 0.1, 0.5, 950), (1, 1.0, 0.99, 1)],
    ids=["never", "the most", "jitter", "at least one"],
)
def test_with_how_many_requests_a_worker_has_served_its_time(
    most: int, ratio: float, draw: float, expected: int
) -> None:
    """Never more than was set, and workers that began together are not due together."""
    assert judge.requests_max(most, jitter_ratio=ratio, draw=draw) == expected


def test_a_worker_is_worn_when_it_has_served_its_requests() -> None:
    """Without a most it never is."""
    seen = worker()
    seen.requests = 1500

    assert judge.worn(seen) == ""
    seen.requests_max = 1501
    assert judge.worn(seen) == ""
    seen.requests_max = 1500
    assert judge.worn(seen) == "it has served 1,500 requests"


@pytest.mark.parametrize(
    ("phases", "leaving", "expected"),
    [
        ([], False, "starting"),
        (["starting", "ready"], False, "ready"),
        (["draining", "starting"], False, "starting"),
        (["ready", "draining"], True, "ready"),
        (["stopping", "draining"], True, "draining"),
        ([], True, "stopped"),
    ],
)
def test_the_phase_of_the_whole_service(phases: list[str], leaving: bool, expected: str) -> None:
    """Ready with the first, and as far on its way out as the last."""
    workers = [WorkerSeen(number, phase=phase) for number, phase in enumerate(phases)]

    assert judge.phase(workers, leaving=leaving) == expected


def test_while_none_serves_the_last_end_is_the_reason() -> None:
    """L20: whoever asks the port sees why, without the log."""
    ended = "it was ended by signal 9"

    nobody = judge.ready([], NOW, leaving=False, last_end=ended)
    starts = judge.ready([worker(serving=False)], NOW, leaving=False, last_end=ended)

    assert nobody.because == "no worker runs; the last one ended because it was ended by signal 9"
    assert starts.because == "starting; the last one ended because it was ended by signal 9"


def test_what_was_heard_in_the_pause_is_not_put_into_the_future() -> None:
    """It may have been read after we last looked."""
    seen = worker(silent=1.0)

    seen.pardon(5.0, NOW)

    assert (seen.heard_at, seen.stands_since) == (NOW, math.inf)
