"""What the drill does to the service, and which alerts that is for."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.drilling import Cause, Stage
from shipworthy.faults import POSTGRES_COMMIT, Cut, Refuse, Silence


def _get(path: str, **parameters: Any) -> Callable[[Stage], object]:
    return lambda stage: stage.get(path, **parameters)


def _mark(name: str) -> Callable[[Stage], object]:
    return lambda stage: stage.mark(name).touch()


def _unmark(name: str) -> Callable[[Stage], object]:
    return lambda stage: stage.mark(name).unlink(missing_ok=True)


def _leave_early(stage: Stage) -> None:
    with stage.service.raw() as client:
        client.sendall(b"GET /drill/stream HTTP/1.1\r\nHost: drill\r\n\r\n")
        client.recv(1024)


def _kill_thrice(stage: Stage) -> None:
    """Kill a worker, and its successors as they start; five would end the service."""
    killed: set[int] = set()

    def another() -> bool:
        for worker in stage.service.status()["workers"]:
            if worker["pid"] and worker["pid"] not in killed:
                with suppress(ProcessLookupError):
                    os.kill(worker["pid"], signal.SIGKILL)
                killed.add(worker["pid"])
                return True
        return False

    for _ in range(3):
        stage.service.until(another, 20)


def _ready_again(stage: Stage) -> None:
    stage.service.until(stage.service.serving, 60)


def _hold_start(stage: Stage) -> None:
    stage.mark("hold-start").touch()
    for pid in stage.service.serving():
        os.kill(pid, signal.SIGKILL)


def _start_again(stage: Stage) -> None:
    stage.mark("hold-start").unlink(missing_ok=True)
    stage.service.until(stage.service.serving, 60)


def _warm(stage: Stage) -> None:
    """Fill the pool: when the breaker has closed again after the cause before."""

    def reads() -> bool:
        answer = stage.get("/drill/read")
        return answer is not None and answer.status_code == 200

    stage.service.until(reads, 60)
    hold = _get("/drill/hold", engine="wide", seconds=0.5)
    threads = [threading.Thread(target=hold, args=(stage,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _silence(stage: Stage) -> None:
    _warm(stage)
    stage.proxy.apply(Silence())


def _cut_commits(stage: Stage) -> None:
    _warm(stage)
    stage.proxy.apply(Cut(at=POSTGRES_COMMIT))


def _cut_for_good(stage: Stage) -> None:
    """Cut each COMMIT, on connections that are open already: new ones are refused."""
    _warm(stage)
    stage.proxy.apply(Cut(at=POSTGRES_COMMIT), Refuse())


def _heard_again(stage: Stage) -> None:
    stage.proxy.clear()
    stage.proxy.cut_all()


def _standing_replaced(stage: Stage) -> None:
    with suppress(httpx.HTTPError):
        httpx.get(f"{stage.service.url}/drill/stand?seconds=40", timeout=0.5)
    stage.ask("/api/restart", "POST")


def _read_cut(stage: Stage) -> None:
    """Read; every half second one of those who do cuts all connections meanwhile."""
    if time.monotonic() - _cut["at"] > 0.5:
        _cut["at"] = time.monotonic()
        stage.proxy.cut_all()
    stage.get("/drill/read")


_cut = {"at": 0.0}


def _say(stage: Stage) -> None:
    with connect(stage.service.url.replace("http", "ws") + "/drill/echo") as websocket:
        websocket.send("well?")
        websocket.recv(5)


def _refused_websocket(stage: Stage) -> None:
    with suppress(InvalidStatus), connect(stage.service.url.replace("http", "ws") + "/no"):
        pass


def _upload(stage: Stage) -> None:
    """Traffic that no alert is about, for the panels that show it."""
    stage.client.post(
        f"{stage.service.url}/clients",
        json={"name": f"drill {time.monotonic_ns()}", "email": "a@b", "country": "DE"},
        headers={"X-User": "drill"},
    )
    with stage.client.stream("GET", f"{stage.service.url}/drill/stream") as answer:
        next(answer.iter_bytes())
    _say(stage)
    _refused_websocket(stage)


def _dependency(stage: Stage) -> None:
    stage.get("/drill/dependency", url=f"http://127.0.0.1:{stage.ears.sink.port}/")


def _unlinked_key(stage: Stage) -> None:
    key = next(stage.folder.rglob("audit.key"))
    key.rename(key.with_suffix(".away"))
    # Who seals has it in memory: its successor has not.
    stage.ask("/api/restart", "POST")


def _linked_key(stage: Stage) -> None:
    key = next(stage.folder.rglob("audit.away"))
    key.rename(key.with_suffix(".key"))


def _change(stage: Stage) -> None:
    stage.sql("UPDATE clients SET email = concat(email, 'y') WHERE id = 2")


def _beats_refused(stage: Stage) -> None:
    for _ in range(1000):
        stage.beats.answers.put(400)


def _beats_taken(stage: Stage) -> None:
    while not stage.beats.answers.empty():
        stage.beats.answers.get()


def _stopped(stage: Stage) -> None:
    os.kill(stage.service.process.pid, signal.SIGSTOP)


def _continued(stage: Stage) -> None:
    os.kill(stage.service.process.pid, signal.SIGCONT)


def _isolate(stage: Stage) -> None:
    stage.ask("/api/breakers/drill-opened/isolate", "POST", json={"reason": "the drill"})


def _close(stage: Stage) -> None:
    stage.ask("/api/breakers/drill-opened/close", "POST", json={"reason": "the drill is over"})


def _delete_many(stage: Stage) -> None:
    marker = f"drill {time.monotonic_ns()}"
    with stage.database.connect() as connection:
        auto = connection.execution_options(isolation_level="AUTOCOMMIT")
        auto.exec_driver_sql(
            "INSERT INTO clients (name, email, country, created_at) SELECT"
            f" '{marker} ' || n, 'a@b', 'DE', now() FROM generate_series(1, 1200) n"
        )
        auto.exec_driver_sql(
            "DO $$ DECLARE one int; BEGIN FOR one IN SELECT id FROM clients WHERE name LIKE"
            f" '{marker} %%' LOOP DELETE FROM clients WHERE id = one; COMMIT; END LOOP; END $$"
        )


def _refused_restore(stage: Stage) -> None:
    insert = (
        "INSERT INTO clients (name, email, country, created_at)"
        " VALUES ('twice', 'a@b', 'DE', now())"
    )
    # A transaction each: what is made and deleted in one was never there.
    for statement in (insert, "DELETE FROM clients WHERE name = 'twice'", insert):
        stage.sql(statement)


def _restore(stage: Stage) -> None:
    found = stage.ask("/api/trash?limit=1").json()["deletions"]
    number = found[0]["id"] if found else 0
    stage.ask(f"/api/trash/{number}/restore", "POST", json={"by": "drill"})


def _traces_refused(stage: Stage) -> None:
    stage.traces.status = 503


def _traces_taken(stage: Stage) -> None:
    stage.traces.status = 200


TRAFFIC: Final = Cause(name="all is well", alerts=(), before=_upload)

CAUSES: Final = (
    Cause(
        name="a route raises, and nobody comes",
        alerts=("AvailabilityBurn6h", "PageUnanswered"),
        later=("AvailabilityBurn1d", "AvailabilityBurn3d"),
        lasting=True,
        press=_get("/drill/raise"),
    ),
    Cause(
        name="a route raises",
        alerts=("ExceptionsUnhandled", "RouteFails", "AvailabilityBurn1h"),
        press=_get("/drill/raise"),
        at_once=2,
    ),
    Cause(
        name="a counter is given a value that its label does not name",
        alerts=("CardinalityOverflow",),
        press=_get("/drill/narrow"),
    ),
    Cause(
        name="a gauge cannot be read",
        alerts=("ReadingsFail",),
        before=_mark("spoilt"),
        after=_unmark("spoilt"),
    ),
    Cause(
        name="background work raises",
        alerts=("BackgroundWorkFails",),
        press=_get("/drill/background"),
    ),
    Cause(
        name="the check answers False",
        alerts=("HealthCheckFails",),
        before=_mark("unwell"),
        after=_unmark("unwell"),
    ),
    Cause(
        name="a table without triggers",
        alerts=("TrailUncovered",),
        before=lambda stage: stage.sql("CREATE TABLE untracked (id int PRIMARY KEY)"),
        after=lambda stage: stage.sql("DROP TABLE untracked"),
    ),
    Cause(
        name="a pool of 2, all of it held",
        alerts=("PoolExhausted", "PoolTimeouts", "PoolTimeoutsMany", "ConnectionLeak"),
        press=_get("/drill/thread-hold", engine="small", seconds=3),
        every_seconds=0.1,
    ),
    Cause(
        name="a breaker whose target refuses",
        alerts=("BreakerOpen",),
        press=_get("/drill/call", which="opened"),
    ),
    Cause(
        name="the worker is killed",
        alerts=("WorkerLost", "WorkerCrashLoop"),
        before=_kill_thrice,
        after=_ready_again,
    ),
    Cause(
        name="a fallback serves",
        alerts=("FallbackServing",),
        press=_get("/drill/instead"),
    ),
    Cause(
        name="clients leave",
        alerts=("ClientsLeave",),
        press=_leave_early,
        at_once=8,
    ),
    Cause(
        name="a route that takes long",
        lasting=True,
        alerts=("LatencyBurn1h", "LatencyBurn6h"),
        later=("LatencyBurn1d", "LatencyBurn3d"),
        press=_get("/drill/sleep", seconds=1.2),
        at_once=20,
    ),
    Cause(
        name="every connection is cut",
        alerts=("RequestsRunAgain",),
        press=_read_cut,
        at_once=8,
        every_seconds=0.01,
    ),
    Cause(
        name="a pool of 1 and ten callers",
        alerts=("PoolWaitLong",),
        press=_get("/drill/thread-hold", engine="single", seconds=0.2),
        every_seconds=0.1,
    ),
    Cause(
        name="a request takes a second connection of a pool of 1",
        alerts=("PoolDeadlock",),
        press=_get("/drill/twice"),
    ),
    Cause(
        name="the database falls silent",
        alerts=("DatabaseCallsCut",),
        before=_silence,
        press=_get("/drill/read"),
        at_once=14,
        after=_heard_again,
    ),
    Cause(
        name="slow statements",
        alerts=("StatementsSlow",),
        press=_get("/drill/statement", seconds=0.2),
        at_once=4,
    ),
    Cause(
        name="COMMITs of a plain session are cut",
        alerts=("CommitUnanswered",),
        before=_cut_commits,
        press=_get("/drill/commit"),
        after=lambda stage: stage.proxy.clear(),
    ),
    Cause(
        name="COMMITs of a unit are cut, and nobody can ask what became of them",
        alerts=("CommitLost",),
        before=_cut_for_good,
        press=_get("/drill/unit"),
        after=lambda stage: stage.proxy.clear(),
    ),
    Cause(
        name="units that change the same row",
        alerts=("TransactionsRunAgainOften",),
        press=_get("/drill/unit"),
        at_once=10,
        every_seconds=0.01,
    ),
    Cause(
        name="a breaker that opens again and again",
        alerts=("BreakerFlapping",),
        press=_get("/drill/call", which="flapping"),
        every_seconds=0.02,
    ),
    Cause(
        name="a target that fails every third call",
        alerts=("RetryStorm",),
        press=_get("/drill/call", which="retried-some"),
        at_once=3,
        every_seconds=0.02,
    ),
    Cause(
        name="a target that refuses every call",
        alerts=("RetryBudgetSpent",),
        press=_get("/drill/call", which="retried-all"),
        at_once=2,
    ),
    Cause(
        name="a bulkhead of 2 and three long calls",
        alerts=("BulkheadFull",),
        press=_get("/drill/full", seconds=5),
        at_once=3,
        every_seconds=0.1,
    ),
    Cause(
        name="a handler computes in the loop",
        alerts=("EventLoopLate",),
        press=_get("/drill/stand", seconds=0.5),
    ),
    Cause(
        name="most descriptors are open",
        alerts=("DescriptorsNearLimit",),
        before=_get("/drill/descriptors", count=880),
        after=_get("/drill/descriptors", count=0),
    ),
    Cause(
        name="the signing key is away",
        alerts=("TrailSealFails",),
        before=_unlinked_key,
        press=_change,
        every_seconds=0.5,
        after=_linked_key,
    ),
    Cause(
        name="writes of nobody",
        alerts=("WritesUnattributed",),
        press=lambda stage: stage.client.post(f"{stage.service.url}/drill/write"),
        at_once=2,
    ),
    Cause(
        name="twelve hundred deletions",
        alerts=("DeletionsMany",),
        press=_delete_many,
        every_seconds=0.1,
    ),
    Cause(
        name="restores of what is taken",
        alerts=("RestoresRefused",),
        before=_refused_restore,
        press=_restore,
    ),
    Cause(
        name="nobody reads standard output",
        alerts=("LogLinesDropped",),
        before=lambda stage: stage.pipe.flowing.clear(),
        press=_get("/drill/well"),
        at_once=4,
        every_seconds=0.001,
        after=lambda stage: stage.pipe.flowing.set(),
    ),
    Cause(
        name="another service does not know its path",
        alerts=("DependencyFails",),
        press=_dependency,
    ),
    Cause(
        name="the receiver of the heartbeat refuses",
        alerts=("NotificationsNotDelivered",),
        before=_beats_refused,
        after=_beats_taken,
    ),
    Cause(
        name="the collector of traces is not available",
        alerts=("TracesUnsent",),
        before=_traces_refused,
        press=_get("/drill/well"),
        after=_traces_taken,
    ),
    Cause(
        name="the supervisor stands still",
        alerts=("AllTargetsDown",),
        before=_stopped,
        after=_continued,
    ),
    Cause(
        name="more requests that need the database than it has connections",
        alerts=("DoorRefuses",),
        press=_get("/drill/hold", engine="small", seconds=0.5),
        at_once=30,
    ),
    Cause(
        name="a start that waits",
        alerts=("NoWorkerReady", "WorkersMissing"),
        before=_hold_start,
        after=_start_again,
    ),
    Cause(
        name="a handler stands in the loop while workers are replaced",
        alerts=("ShutdownForced",),
        before=_standing_replaced,
        after=_ready_again,
    ),
    Cause(
        name="an alert that holds for 300 label sets",
        alerts=("AlertsNotEvaluated",),
        before=_mark("many"),
        after=_unmark("many"),
    ),
    Cause(
        name="a breaker is isolated and forgotten",
        alerts=("BreakerIsolated",),
        lasting=True,
        before=_isolate,
        after=_close,
    ),
)

_GROUP = "it takes a control group with a limit of its own, which a drill on any machine has not"
_FIXED = "it compares with a fixed time, which a scaled drill does not shorten"
NOT_PROVOKED: Final = {
    "TargetDown": "of one instance AllTargetsDown says it, and keeps this one silent",
    "NotificationsNotSent": "it is about the way to Alertmanager: with one of them nobody is told",
    "RulesFailing": "it takes a rule that Prometheus cannot evaluate, and none such is written",
    "MemoryNearLimit": _GROUP,
    "OomKilled": _GROUP,
    "CpuThrottled": _GROUP,
    "DiskNearlyFull": "it takes a small disk, and the right to mount one",
    "EventLoopBlocked": "standing still for 60 s does not fit into a window of 5 s",
    "HealthCheckStale": f"{_FIXED}: 15 minutes",
    "TrailSealLate": f"{_FIXED}: 15 minutes",
    "TrailUnwatched": f"{_FIXED}: a day",
    "AlertsNotTold": "a receiver that is away is tried again once a minute of the clock",
    "HistoryNotKept": "the minutes it counts are those of the clock: five of them are no 15 s",
    "AvailabilityBudgetSpent": "half a day of the drill is its window, in which it is not over",
    "LatencyBudgetSpent": "as the other one",
    "AvailabilityMissedQuietly": "it is for a service that has been quiet for six minutes before",
    "LatencyMissedQuietly": "as the other one",
}
