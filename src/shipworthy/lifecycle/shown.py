"""What people see of resources, the event loop and health, and when they are called."""

from collections.abc import Callable
from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Both,
    Combined,
    Compared,
    Expression,
    Increase,
    Number,
    Panel,
    Quantile,
    Rate,
    Selection,
    Urgency,
    Value,
    ratio,
)
from shipworthy.lifecycle.checks import CheckStatus
from shipworthy.lifecycle.loop_watch import BLOCKED, LAG, WORD_SECONDS
from shipworthy.lifecycle.metrics import BACKGROUND_FAILURES, CHECK_AGE, CHECK_SECONDS, CHECKS
from shipworthy.lifecycle.resources import (
    LEVEL,
    LIMIT_HITS,
    OOM_KILLS,
    PERIODS,
    PRESSURE,
    THROTTLED,
    THROTTLED_SECONDS,
    USED,
)

_USED: Final = Selection(metric=USED, by=("resource",))
_THROTTLED: Final = ratio(
    Increase(Selection(metric=THROTTLED), 900), Increase(Selection(metric=PERIODS), 900)
)


def _level(resource: str) -> Value:
    return Value(Selection(metric=LEVEL, where={"resource": resource}))


def _stood(grown: Callable[[Selection], Expression]) -> Expression:
    """Return the share of their time in which loops stood, however many of them there are.

    A loop that does not stand says a word every 50 ms. One that is only late says fewer, so beside
    much lateness the share comes out larger.
    """
    blocked = grown(Selection(metric=BLOCKED))
    moved = Combined(grown(Selection(metric=LAG)), "*", Number(WORD_SECONDS))
    return ratio(blocked, Combined(blocked, "+", moved))


_FAILING: Final = Selection(metric=CHECKS, by=("check",), where={"status": CheckStatus.FAIL})
_WORK: Final = Selection(metric=BACKGROUND_FAILURES, by=("work",))

LIFECYCLE_PANELS: Final = (
    Panel(
        title="Health checks",
        help="In how many processes each check passes, fails, or has not answered yet.",
        board=Board.LIFECYCLE,
        shows=(("{check} {status}", Value(Selection(metric=CHECKS, by=("check", "status")))),),
        unit="count",
    ),
    Panel(
        title="Health checks, time",
        help="How long each check took last, and how long ago that was.",
        board=Board.LIFECYCLE,
        shows=(
            ("{check} took", Value(Selection(metric=CHECK_SECONDS, by=("check",)))),
            ("{check} age", Value(Selection(metric=CHECK_AGE, by=("check",)))),
        ),
        unit="seconds",
    ),
    Panel(
        title="Background work that failed",
        help="Background work that raised in an hour, by its name.",
        board=Board.LIFECYCLE,
        shows=(("{work}", Increase(_WORK, 3600)),),
        unit="count",
    ),
    Panel(
        title="Resources in use",
        help="Share of the limit of each resource; of several processes the highest.",
        board=Board.LIFECYCLE,
        shows=(("{resource}", Value(_USED)),),
        unit="ratio",
    ),
    Panel(
        title="Levels of resources",
        help="0 is well, 1 is told, 2 is acted upon, 3 is an emergency.",
        board=Board.LIFECYCLE,
        shows=(("{resource}", Value(Selection(metric=LEVEL, by=("resource",)))),),
        unit="count",
    ),
    Panel(
        title="Lateness of the event loop",
        help="How much later than asked for it came to a timer: half, one in a hundred.",
        board=Board.LIFECYCLE,
        shows=(
            ("half", Quantile(0.5, Selection(metric=LAG))),
            ("one in a hundred", Quantile(0.99, Selection(metric=LAG))),
        ),
        unit="seconds",
    ),
    Panel(
        title="Event loop blocked",
        help="Share of the time in which it stood for longer than resources.blocked.",
        board=Board.LIFECYCLE,
        shows=(("blocked", _stood(Rate)),),
        unit="ratio",
    ),
    Panel(
        title="CPU quota used up",
        help="Share of the scheduling periods in which the quota of the control group was used up.",
        board=Board.LIFECYCLE,
        shows=(
            (
                "throttled",
                ratio(Rate(Selection(metric=THROTTLED)), Rate(Selection(metric=PERIODS))),
            ),
        ),
        unit="ratio",
    ),
    Panel(
        title="Time lost to the CPU quota",
        help="Seconds in each second in which processes waited for the next period.",
        board=Board.LIFECYCLE,
        shows=(("waiting", Rate(Selection(metric=THROTTLED_SECONDS))),),
        unit="ratio",
    ),
    Panel(
        title="Memory limit",
        help="Times the kernel looked for memory at the limit, and processes it killed for want.",
        board=Board.LIFECYCLE,
        shows=(
            ("at the limit", Increase(Selection(metric=LIMIT_HITS), 3600)),
            ("killed", Increase(Selection(metric=OOM_KILLS), 3600)),
        ),
        unit="count",
    ),
    Panel(
        title="Pressure",
        help="Share of the last 10 s in which somebody waited for the resource.",
        board=Board.LIFECYCLE,
        shows=(("{resource}", Value(Selection(metric=PRESSURE, by=("resource",)))),),
        unit="ratio",
    ),
)

LIFECYCLE_ALERTS: Final = (
    Alert(
        name="HealthCheckFails",
        when=Compared(Value(_FAILING), ">", Number(0)),
        for_seconds=180,
        urgency=Urgency.TICKET,
        summary="the health check {check} has failed for three minutes in {value} processes",
        cause="What the check asks for is away or wrong.",
        look="`/health` has its sentence, since when, and whether readiness depends on it.",
        act="Help what it names. A check of a database goes with BreakerOpen.",
        drill="the action break-database for longer than three minutes, or a check that answers "
        "False",
    ),
    Alert(
        name="HealthCheckStale",
        when=Compared(Value(Selection(metric=CHECK_AGE, by=("check",))), ">", Number(900)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="the health check {check} has not answered for {value} s",
        cause="Its event loop has stood for that long, so nobody asks. A check that hangs is no "
        "cause: that is a failure after its timeout. Or the code declares the check with an "
        "interval of more than 15 minutes.",
        look="`/health` has its age; the events `lifecycle.loop_blocked` name the line.",
        act="Replace the workers (`POST /api/restart`), or restart a service that is not `run`, "
        "where nobody replaces a worker whose loop stands. Mend the line.",
        drill="`harden()` in another server, and a check that sleeps in the loop for half an hour",
    ),
    Alert(
        name="BackgroundWorkFails",
        when=Compared(Increase(_WORK, 3600), ">=", Number(3)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="background work {work} failed {value} times in an hour",
        cause="Work that was begun after an answer raised; whoever asked was told that it went "
        "well.",
        look="The events `lifecycle.background_failed` have its stack.",
        act="Mend it, and do again by hand what was left undone.",
        drill="a handler that starts background work that raises, called four times",
    ),
    Alert(
        name="MemoryNearLimit",
        when=Compared(_level("memory"), ">=", Number(2)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="the memory of the service has been near its limit for five minutes",
        cause="The workers are too many or too large for the limit, or one of them grows.",
        look="`/health` names use, limit and the forecast; `GET /api/status` has each worker's "
        "size. The panel 'Memory limit' says whether the kernel was out of it already.",
        act="The largest worker is replaced by itself. Does it grow again: set "
        "`resources.worker_memory`, and see what it keeps. Else fewer workers or more memory.",
        drill="a memory limit little above what the workers hold, and one that keeps what it reads",
    ),
    Alert(
        name="OomKilled",
        when=Compared(Increase(Selection(metric=OOM_KILLS), 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="the kernel killed {value} processes for want of memory in a quarter of an hour",
        cause="The control group met its memory limit, and nothing could be given back.",
        look="`/health` and the panel 'Resources in use': was it one worker, or all together? The "
        "event `serve.worker_lost` has the signal and the time.",
        act="More memory, fewer workers, or `resources.worker_memory`, which replaces a worker in "
        "order before the kernel does it in the midst of requests.",
        drill="a control group of 64 MiB more than the service holds, and a worker that takes 128",
    ),
    Alert(
        name="CpuThrottled",
        when=Compared(_THROTTLED, ">", Number(0.25)),
        for_seconds=900,
        urgency=Urgency.TICKET,
        summary="the CPU quota is used up in {value} of the scheduling periods",
        cause="The service has more to do than its quota allows, or more workers than CPUs.",
        look="`/health` compares workers and quota; the panel 'Time lost to the CPU quota'.",
        act="Give a higher quota or more replicas; not more workers.",
        drill="a quota of 0.2 CPUs and traffic that wants one",
    ),
    Alert(
        name="EventLoopLate",
        when=Compared(Quantile(0.99, Selection(metric=LAG), 300), ">", Number(0.25)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="the event loop comes {value} s late to one in a hundred of its timers",
        cause="Code in the loop computes or waits without giving it a turn, or the CPU is short.",
        look="The events `lifecycle.loop_blocked` name the line. The panel 'CPU quota used up' "
        "says whether it is the CPU.",
        act="Give that work to a thread or await it.",
        drill="a handler that computes for 400 ms in the loop, called all the time",
    ),
    Alert(
        name="EventLoopBlocked",
        # A fifth of the time of all loops, which one alone has after a minute; and a minute in five
        # at least, because the first seconds of a service are no measure.
        when=Both(
            Compared(_stood(lambda of: Increase(of, 300)), ">", Number(0.2)),
            Compared(Rate(Selection(metric=BLOCKED), 300), ">", Number(0.2)),
        ),
        for_seconds=0,
        urgency=Urgency.PAGE,
        summary="event loops stood still for {value} of the last five minutes",
        cause="A call in the loop waits for something that does not come, or computes for long.",
        look="The events `lifecycle.loop_blocked` name the line and the request.",
        act="Does one route do it: take its traffic away, or roll its release back. A worker that "
        "does not come back is replaced by itself (`serve.worker_wedged`).",
        drill="a handler that sleeps in the loop for 5 s, called all the time",
    ),
    Alert(
        name="DescriptorsNearLimit",
        when=Compared(
            Value(Selection(metric=USED, where={"resource": "descriptors"})), ">", Number(0.8)
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="a process has {value} of the file descriptors open that it may have",
        cause="Connections or files are opened and not closed, or the limit is that of a shell.",
        look="`shipworthy run` prints the limit at its start; `ls -l /proc/PID/fd` what is open.",
        act="Raise the hard limit (`LimitNOFILE` of systemd, `ulimit -Hn`); if it only grows, find "
        "what is not closed, and replace the workers meanwhile (`POST /api/restart`).",
        drill="a limit of 256, and 220 files that a worker opens and keeps",
    ),
    Alert(
        name="DiskNearlyFull",
        when=Compared(Value(Selection(metric=USED, where={"resource": "disk"})), ">", Number(0.9)),
        for_seconds=600,
        urgency=Urgency.TICKET,
        summary="the disk of the service is {value} full",
        cause="Logs, a SQLite file or its write-ahead log have grown, or somebody else's files.",
        look="`du -xh --max-depth=2` in the folder the service runs in. For the trail: "
        "`shipworthy audit retain --dry-run` says what may be archived.",
        act="Rotate logs, `shipworthy audit retain`, `shipworthy trash purge --expired`. "
        "A database on a full disk refuses every write.",
        drill="a small disk (tmpfs) as the folder of the service, filled to 95 %",
    ),
)

LIFECYCLE_SHOWN: Final = (*LIFECYCLE_PANELS, *LIFECYCLE_ALERTS)
