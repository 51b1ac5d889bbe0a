"""What the drill does to the service, and which alerts that is for."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import httpx
import sqlalchemy as sa
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.drill_neighbours import ALERTMANAGER, INSTANCE
from flows.drill_walls import EASY_RATIO, Walls
from flows.drilling import REFUSALS, Cause, Place, Stage
from shipworthy.audit.tables import BATCHES, ENTRIES
from shipworthy.events import Catalogue
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
    """Fill the pool: when the breaker has closed again after the cause before.

    Until all were served: each that meets a connection of before has the whole pool made anew.
    """
    hold = _get("/drill/hold", engine="wide", seconds=0.5)
    stage.service.until(lambda: all(map(_is_ok, _together(12, hold, stage))), 60)


def _is_ok(answer: object) -> bool:
    return isinstance(answer, httpx.Response) and answer.status_code == 200


def _together(number: int, press: Callable[[Stage], object], stage: Stage) -> list[object]:
    with ThreadPoolExecutor(number) as pool:
        return [*pool.map(press, [stage] * number)]


def _read_in_silence(stage: Stage) -> None:
    """Have fourteen at once ask a database that falls silent.

    Anew each time: once its breaker is open nobody is cut any more.
    """
    _heard_again(stage)
    _warm(stage)
    stage.proxy.apply(Silence())
    _together(14, _get("/drill/read"), stage)


def _cut_commits(stage: Stage) -> None:
    _warm(stage)
    stage.proxy.apply(Cut(at=POSTGRES_COMMIT))


def _lose_commit(stage: Stage) -> None:
    """Cut a COMMIT, on a connection that is open already: new ones, to ask by, are refused.

    Anew each time: after the first the breaker is open, and no further one is sent.
    """
    _heard_again(stage)
    _warm(stage)
    stage.proxy.apply(Cut(at=POSTGRES_COMMIT), Refuse())
    stage.get("/drill/unit")


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
    for _ in range(3):
        stage.client.post(
            f"{stage.service.url}/clients",
            json={"name": f"drill {time.monotonic_ns()}", "email": "a@b", "country": "DE"},
            headers={"X-User": "drill"},
        )
        # A scrape lies between: the first of them has nothing that it is more than.
        time.sleep(1.5)
    with stage.client.stream("GET", f"{stage.service.url}/drill/stream") as answer:
        next(answer.iter_bytes())
    _say(stage)
    _refused_websocket(stage)
    # A guard tells of it.
    stage.client.get(f"{stage.service.url}/drill/well", headers={"Host": "no/host"})


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


def _tamper(by_microseconds: int) -> Callable[[Stage], object]:
    """Change when the first entry says that it was written, as who owns the database can."""

    def sealed(stage: Stage) -> bool:
        with stage.database.connect() as connection:
            batch = f"SELECT 1 FROM {BATCHES} WHERE entries > 0 LIMIT 1"
            return connection.execute(sa.text(batch)).first() is not None

    def tamper(stage: Stage) -> None:
        # What is not sealed yet is sealed as it is found.
        stage.service.until(lambda: sealed(stage), 60)
        stage.sql(
            f"ALTER TABLE {ENTRIES} DISABLE TRIGGER shipworthy_audit_guard",
            f"UPDATE {ENTRIES} SET at_microseconds = at_microseconds + {by_microseconds}"
            f" WHERE seq = (SELECT min(seq) FROM {ENTRIES})",
            f"ALTER TABLE {ENTRIES} ENABLE ALWAYS TRIGGER shipworthy_audit_guard",
        )

    return tamper


def _change(stage: Stage) -> None:
    stage.sql("UPDATE clients SET email = concat(email, 'y') WHERE id = 2")


def _beats_refused(stage: Stage) -> None:
    for _ in range(1000):
        stage.beats.answers.put(400)


def _beats_taken(stage: Stage) -> None:
    while not stage.beats.answers.empty():
        stage.beats.answers.get()


def _isolate(stage: Stage) -> None:
    answer = stage.ask(
        "/api/breakers/drill-isolated/isolate", "POST", json={"because": "the drill"}
    )
    assert answer.is_success, answer.text


def _close(stage: Stage) -> None:
    stage.ask("/api/breakers/drill-isolated/close", "POST", json={"because": "the drill is over"})


def _fail_quietly(stage: Stage) -> None:
    """Fail a hundred times and more, each of them late, and then leave the service alone."""

    def some(times: int = 5) -> None:
        for _ in range(times):
            stage.get("/drill/raise", seconds=1)

    some(1)
    # What is counted when it is first seen has not grown: so it is seen before.
    time.sleep(5)
    threads = [threading.Thread(target=some) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _hold_horizon(stage: Stage) -> None:
    """Leave a transaction open that writes a captured table: what comes after it waits for it."""
    connection = stage.database.connect()
    connection.execute(sa.text("UPDATE clients SET email = concat(email, 'z') WHERE id = 3"))
    _open.append(connection)


def _end_horizon(stage: Stage) -> None:
    _open.pop().close()


_open: list[sa.Connection] = []


def _own_receiver_refuses(stage: Stage) -> None:
    if stage.own.answers.empty():  # it has heard since the drill began
        stage.own.answers.queue.extend([500] * REFUSALS)


def _own_receiver_hears(stage: Stage) -> None:
    stage.own.answers.queue.clear()


def _all_down(stage: Stage) -> None:
    stage.neighbours.down.add(INSTANCE)
    os.kill(stage.service.process.pid, signal.SIGSTOP)


def _all_up(stage: Stage) -> None:
    stage.neighbours.down.discard(INSTANCE)
    os.kill(stage.service.process.pid, signal.SIGCONT)


def _down(neighbour: str) -> Callable[[Stage], object]:
    return lambda stage: stage.neighbours.down.add(neighbour)


def _up(neighbour: str) -> Callable[[Stage], object]:
    return lambda stage: stage.neighbours.down.discard(neighbour)


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


def _collector_answers(status: int) -> Callable[[Stage], object]:
    return lambda stage: setattr(stage.traces, "status", status)


def _walls(stage: Stage) -> Walls:
    assert stage.walls is not None, "this cause needs a place with walls"
    return stage.walls


def _use_memory(ratio: float) -> Callable[[Stage], object]:
    return lambda stage: setattr(_walls(stage).group, "used_ratio", ratio)


def _throttle(*, throttled: bool) -> Callable[[Stage], object]:
    return lambda stage: setattr(_walls(stage).group, "throttled", throttled)


def _kill_for_memory(stage: Stage) -> None:
    """Kill a worker as the kernel does, and count it as the kernel does."""
    os.kill(stage.service.serving()[0], signal.SIGKILL)
    _walls(stage).group.kill()


def _fill_disk(stage: Stage) -> None:
    _walls(stage).fill(stage.service.process.pid, 0.95)


def _empty_disk(stage: Stage) -> None:
    _walls(stage).empty(stage.service.process.pid)


def _refuse_database(stage: Stage) -> None:
    stage.proxy.apply(Refuse())
    stage.proxy.cut_all()


TRAFFIC: Final = Cause(name="all is well", alerts=(), before=_upload)

# They take minutes even here, so they are played in the evidence only.
FORGOTTEN: Final = Cause(
    name="a breaker is isolated and forgotten",
    alerts=("BreakerIsolated",),
    before=_isolate,
    after=_close,
)
# Played first: of the alerts of long windows nobody is told twice, whatever fails afterwards.
QUIET: Final = Cause(
    name="a hundred requests fail late, and nobody comes for long",
    alerts=("AvailabilityMissedQuietly", "LatencyMissedQuietly"),
    later=("AvailabilityBurn1d", "AvailabilityBurn3d", "LatencyBurn1d", "LatencyBurn3d"),
    endless=("AvailabilityBudgetSpent", "LatencyBudgetSpent"),
    before=_fail_quietly,
)
UNANSWERED: Final = Cause(
    name="a route raises, and nobody comes",
    alerts=("AvailabilityBurn6h", "PageUnanswered"),
    press=_get("/drill/raise"),
)
TARDY: Final = Cause(
    name="a route that takes long, for long",
    alerts=("LatencyBurn6h",),
    press=_get("/drill/sleep", seconds=1.2),
    at_once=10,
)

# Those first whose windows are long: what they are about takes a minute to be over.
CAUSES: Final = (
    Cause(
        name="background work raises",
        alerts=("BackgroundWorkFails",),
        press=_get("/drill/background"),
    ),
    Cause(
        name="writes of nobody",
        alerts=("WritesUnattributed",),
        uses=("trail",),
        press=lambda stage: stage.client.post(f"{stage.service.url}/drill/write"),
        at_once=2,
    ),
    Cause(
        name="an entry that was sealed is changed by hand",
        alerts=("TrailBroken",),
        uses=("trail",),
        before=_tamper(1),
        after=_tamper(-1),
    ),
    Cause(
        name="a route raises",
        alerts=("ExceptionsUnhandled", "RouteFails", "AvailabilityBurn1h"),
        press=_get("/drill/raise"),
        at_once=2,
    ),
    Cause(
        name="the webhook of the service itself refuses",
        alerts=("AlertsNotTold",),
        # So that there is something to tell.
        press=_get("/drill/raise"),
        before=_own_receiver_refuses,
        after=_own_receiver_hears,
    ),
    Cause(
        name="a route that takes long",
        alerts=("LatencyBurn1h",),
        press=_get("/drill/sleep", seconds=1.2),
        at_once=16,
    ),
    Cause(
        name="clients leave",
        alerts=("ClientsLeave",),
        press=_leave_early,
        at_once=8,
    ),
    Cause(
        name="a breaker that opens again and again",
        alerts=("BreakerFlapping",),
        press=_get("/drill/call", which="flapping"),
        every_seconds=0.02,
    ),
    Cause(
        name="a fallback serves",
        alerts=("FallbackServing",),
        press=_get("/drill/instead"),
    ),
    Cause(
        name="a counter is given a value that its label does not name",
        alerts=("CardinalityOverflow",),
        press=_get("/drill/narrow"),
    ),
    Cause(
        name="an alert that holds for 300 label sets, and a rule that matches one with them",
        alerts=("AlertsNotEvaluated", "RulesFailing"),
        before=_mark("many"),
        after=_unmark("many"),
    ),
    Cause(
        name="another service does not know its path",
        alerts=("DependencyFails",),
        press=_dependency,
        at_once=4,
    ),
    Cause(
        name="a gauge cannot be read",
        alerts=("ReadingsFail",),
        before=_mark("spoilt"),
        after=_unmark("spoilt"),
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
        uses=("pools",),
        press=_get("/drill/thread-hold", engine="small", seconds=3),
        every_seconds=0.1,
    ),
    Cause(
        name="a breaker whose target refuses",
        alerts=("BreakerOpen",),
        press=_get("/drill/call", which="opened"),
    ),
    Cause(
        name="a pool of 1 and ten callers",
        alerts=("PoolWaitLong",),
        uses=("pools",),
        press=_get("/drill/thread-hold", engine="single", seconds=0.2),
        every_seconds=0.2,
        at_once=4,
    ),
    Cause(
        name="a request takes a second connection of a pool of 1",
        alerts=("PoolDeadlock",),
        press=_get("/drill/twice"),
    ),
    Cause(
        name="another instance stops",
        alerts=("TargetDown",),
        before=_down(INSTANCE),
        after=_up(INSTANCE),
    ),
    Cause(
        name="one of two Alertmanagers refuses",
        alerts=("NotificationsNotSent",),
        before=_down(ALERTMANAGER),
        after=_up(ALERTMANAGER),
    ),
    Cause(
        name="the collector of traces refuses",
        alerts=("TracesUnsent",),
        before=_collector_answers(503),
        # What failed is kept, so there are spans to send.
        press=_get("/drill/raise"),
        every_seconds=0.5,
        after=_collector_answers(200),
    ),
    Cause(
        name="the receiver of the heartbeat refuses",
        alerts=("NotificationsNotDelivered",),
        before=_beats_refused,
        after=_beats_taken,
    ),
    Cause(
        name="every connection is cut",
        alerts=("RequestsRunAgain",),
        uses=("database",),
        press=_read_cut,
        at_once=12,
    ),
    Cause(
        name="the database falls silent",
        alerts=("DatabaseCallsCut",),
        uses=("database",),
        press=_read_in_silence,
        after=_heard_again,
    ),
    Cause(
        name="slow statements",
        alerts=("StatementsSlow",),
        uses=("database",),
        press=_get("/drill/statement", seconds=0.2),
        at_once=4,
    ),
    Cause(
        name="COMMITs of a plain session are cut",
        alerts=("CommitUnanswered",),
        uses=("database",),
        before=_cut_commits,
        press=_get("/drill/commit"),
        after=lambda stage: stage.proxy.clear(),
    ),
    Cause(
        name="COMMITs of a unit are cut, and nobody can ask what became of them",
        alerts=("CommitLost",),
        uses=("database",),
        press=_lose_commit,
        after=_heard_again,
    ),
    Cause(
        name="units that change the same row",
        alerts=("TransactionsRunAgainOften",),
        uses=("database",),
        press=_get("/drill/unit"),
        at_once=10,
        every_seconds=0.01,
    ),
    Cause(
        name="a target that fails every third call",
        alerts=("RetryStorm",),
        press=_get("/drill/call", which="retried-some"),
        at_once=6,
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
        name="most descriptors are open",
        alerts=("DescriptorsNearLimit",),
        before=_get("/drill/descriptors", count=840),
        after=_get("/drill/descriptors", count=0),
    ),
    Cause(
        name="a transaction stays open that writes",
        alerts=("TrailSealLate",),
        uses=("trail",),
        before=_hold_horizon,
        press=_change,
        every_seconds=0.5,
        after=_end_horizon,
    ),
    Cause(
        name="twelve hundred deletions",
        alerts=("DeletionsMany",),
        uses=("trail",),
        press=_delete_many,
        every_seconds=0.1,
    ),
    Cause(
        name="restores of what is taken",
        alerts=("RestoresRefused",),
        uses=("trail",),
        before=_refused_restore,
        press=_restore,
    ),
    Cause(
        name="more requests that keep a connection than there are connections",
        alerts=("DoorRefuses",),
        uses=("pools", "database"),
        press=_get("/drill/kept", seconds=1),
        at_once=60,
    ),
    Cause(
        name="nobody reads standard output",
        alerts=("LogLinesDropped",),
        alone=True,
        before=lambda stage: stage.pipe.flowing.clear(),
        press=_get("/drill/well"),
        at_once=4,
        every_seconds=0.001,
        after=lambda stage: stage.pipe.flowing.set(),
    ),
    Cause(
        name="the signing key is away",
        alerts=("TrailSealFails",),
        alone=True,
        before=_unlinked_key,
        press=_change,
        every_seconds=0.5,
        after=_linked_key,
    ),
    Cause(
        name="the worker is killed",
        alerts=("WorkerLost", "WorkerCrashLoop"),
        alone=True,
        before=_kill_thrice,
        after=_ready_again,
    ),
    Cause(
        name="a handler computes in the loop",
        alerts=("EventLoopLate",),
        alone=True,
        press=_get("/drill/stand", seconds=0.5),
    ),
    Cause(
        name="a handler stands in the loop again and again",
        alerts=("EventLoopBlocked",),
        alone=True,
        press=_get("/drill/stand", seconds=3),
    ),
    Cause(
        name="a handler stands in the loop for long",
        alerts=("HealthCheckStale",),
        alone=True,
        press=_get("/drill/stand", seconds=25),
    ),
    Cause(
        name="the supervisor and the other instance stand still",
        alerts=("AllTargetsDown",),
        alone=True,
        before=_all_down,
        after=_all_up,
    ),
    Cause(
        name="a start that waits",
        alerts=("NoWorkerReady", "WorkersMissing"),
        alone=True,
        before=_hold_start,
        after=_start_again,
    ),
    Cause(
        name="a handler stands in the loop while workers are replaced",
        alerts=("ShutdownForced",),
        alone=True,
        before=_standing_replaced,
        after=_ready_again,
    ),
)
# Who is told of the alerts about the watching itself, which no catalogue has.
WATCHING: Final = {
    "AllTargetsDown": "page",
    "NotificationsNotDelivered": "page",
    "NotificationsNotSent": "page",
    "PageUnanswered": "escalation",
    "RulesFailing": "page",
    "TargetDown": "ticket",
}
# Those that need a service of their own are played in the evidence only: two of the places take
# minutes, and the third takes root and the right to mount, which not every machine gives.
WALLED: Final = Place(
    name="in a control group and on a small disk, the kernel's part played",
    walls=True,
    causes=(
        Cause(
            name="the control group uses 93 % of its memory",
            alerts=("MemoryNearLimit",),
            before=_use_memory(0.93),
            after=_use_memory(EASY_RATIO),
        ),
        Cause(
            name="the CPU quota is used up in two of three periods",
            alerts=("CpuThrottled",),
            before=_throttle(throttled=True),
            after=_throttle(throttled=False),
        ),
        Cause(
            name="the disk is filled to 95 %",
            alerts=("DiskNearlyFull",),
            before=_fill_disk,
            after=_empty_disk,
        ),
        Cause(
            name="a worker is killed, and counted as killed for want of memory",
            alerts=("OomKilled",),
            alone=True,
            before=_kill_for_memory,
            after=_ready_again,
        ),
    ),
)
DAY: Final = Place(
    name="a day is two minutes",
    scale=720.0,
    narrow=True,
    look_through_proxy=True,
    causes=(
        Cause(
            name="the database refuses whoever wants to look at the trail",
            alerts=("TrailUnwatched",),
            before=_refuse_database,
            after=_heard_again,
        ),
    ),
    patience_seconds=200.0,
)
# A quarter of an hour is six minutes there, since those that are counted are minutes of the clock.
MINUTES: Final = Place(
    name="a quarter of an hour is six minutes",
    scale=2.5,
    environ={"SHIPWORTHY_HISTORY__FOLDER": "kept"},
    # From the start: what is open already goes on to be written.
    prepare=lambda folder: (folder / "kept").touch(),
    causes=(
        Cause(
            name="a file is where the folder of the history should be",
            alerts=("HistoryNotKept",),
            after=_unmark("kept"),
        ),
    ),
    patience_seconds=450.0,
    resolving_seconds=450.0,
)
PLACES: Final = (WALLED, DAY, MINUTES)
USUALLY: Final = (FORGOTTEN, QUIET, UNANSWERED, TARDY, *CAUSES)
EVERY: Final = (*USUALLY, *(cause for place in PLACES for cause in place.causes))


def receiver_of(name: str, catalogue: Catalogue) -> str:
    """Return who is to be told of an alert."""
    return WATCHING.get(name) or str(catalogue.alerts[name].urgency)
