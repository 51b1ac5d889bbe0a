"""What the supervisor answers to the three questions."""

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
        "health": {"checks": []},
    }
    seen = worker(ready=False)

    seen.hear({"kind": "state", **state})

    assert {name: getattr(seen, name) for name in state} == state
