"""The report of a shutdown says what held it, in words that a person can act on."""

import json

from shipworthy.lifecycle import CommitUnderWay, Holder, HookReport, Phase, Shutdown

LIFE = (
    (Phase.STARTING, 0.0),
    (Phase.READY, 1.0),
    (Phase.LAME_DUCK, 100.0),
    (Phase.DRAINING, 105.0),
    (Phase.CANCELLING, 120.0),
    (Phase.STOPPING, 122.0),
    (Phase.STOPPED, 122.5),
)
SLOW = Holder(name="GET /slow", for_seconds=17.24, stands="shop.py:41 in slow", request_id="r-1")


def test_what_was_there_last_held_the_phase() -> None:
    """Whatever ended earlier did not; a look at nothing changes nothing."""
    shutdown = Shutdown()
    shutdown.looked(Phase.DRAINING, [Holder(name="GET /quick", for_seconds=0.2), SLOW])
    shutdown.looked(Phase.DRAINING, [SLOW], more=3)
    shutdown.looked(Phase.DRAINING, [])

    report = shutdown.report(LIFE, now=123.0)

    assert [(phase.phase, phase.seconds) for phase in report.phases] == [
        (Phase.LAME_DUCK, 5.0),
        (Phase.DRAINING, 15.0),
        (Phase.CANCELLING, 2.0),
        (Phase.STOPPING, 0.5),
    ]
    assert report.held_by == (
        "draining, 15.0 s, waited for GET /slow, for 17.2 s, at shop.py:41 in slow, request r-1",
        "draining, 15.0 s, waited for 3 more",
    )
    assert report.clean
    assert report.took_seconds == 22.5


def test_everything_that_was_left_behind_is_said_and_is_not_clean() -> None:
    """Requests, COMMITs, hooks; threads are named too, and do not decide."""
    shutdown = Shutdown()
    shutdown.cancelling(["r-1", "r-2"])
    shutdown.cancelling(["r-2"])
    shutdown.commits_left(
        [
            CommitUnderWay(request_id="r-1", for_seconds=2.0),
            CommitUnderWay(request_id="", for_seconds=1.0, work="mails"),
            CommitUnderWay(request_id="", for_seconds=1.0),
        ]
    )

    report = shutdown.report(
        LIFE,
        now=123.0,
        left_behind=[SLOW],
        hooks=[
            HookReport(name="pool", took_seconds=5.0, because="it hangs at pool.py:7 in close"),
            HookReport(name="fine", took_seconds=0.1, because=""),
        ],
        threads=[("worker_0", "shop.py:90 in export")],
    )

    assert report.held_by == (
        "left behind: GET /slow, for 17.2 s, at shop.py:41 in slow, request r-1",
        "left behind: a COMMIT of request r-1, sent 2.0 s before",
        "left behind: a COMMIT of background work 'mails', sent 1.0 s before",
        "left behind: a COMMIT of no request, sent 1.0 s before",
        "left behind: 'pool': it hangs at pool.py:7 in close",
        "still running: thread 'worker_0', at shop.py:90 in export",
    )
    assert report.requests_cancelled == 2
    assert not report.clean


def test_threads_alone_are_no_fault_of_the_shutdown() -> None:
    """Whether one holds the exit shows only later, and has its own bound."""
    assert Shutdown().report(LIFE, now=123.0, threads=[("t", "line")]).clean


def test_a_forced_end_is_said() -> None:
    """And the phase it broke into has its time."""
    forced = (*LIFE[:4], (Phase.FORCED, 130.0))

    report = Shutdown().report(forced, now=130.5)

    assert report.forced
    assert not report.clean
    assert report.phases[-1].phase is Phase.DRAINING
    assert report.phases[-1].seconds == 25.0


def test_it_travels_as_json_and_names_no_more_than_people_read() -> None:
    """Through the pipe to the supervisor."""
    shutdown = Shutdown()
    shutdown.looked(Phase.DRAINING, [SLOW] * 50)

    found = json.loads(json.dumps(shutdown.report(LIFE, now=123.0).to_dict()))

    assert found["phases"][1]["phase"] == "draining"
    assert len(found["phases"][1]["held_by"]) == 20
    assert found["phases"][1]["more"] == 30
    assert len(found["held_by"]) == 21
    assert found["clean"] is True
