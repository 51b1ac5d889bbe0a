"""What people see of the workers, and when they are called."""

from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Both,
    Catalogue,
    Combined,
    Compared,
    Increase,
    Number,
    Panel,
    Selection,
    Urgency,
    Value,
)
from shipworthy.serve.metrics import ENDS, WANTED, WORKERS
from shipworthy.serve.supervision import EndReason, Stage
from shipworthy.settings import Loaded
from shipworthy.telemetry import MEMORY_SHOWN

_LOSSES: Final = (EndReason.LOST.value, EndReason.WEDGED.value)
_CRASHES: Final = (*_LOSSES, EndReason.FAILED.value)


def _workers(state: str) -> Value:
    return Value(Selection(metric=WORKERS, where={"state": state}))


def _ended(*reasons: str, seconds: float) -> Increase:
    return Increase(Selection(metric=ENDS, where={"reason": reasons}), seconds)


SERVE_PANELS: Final = (
    Panel(
        title="Workers",
        help="How many workers are wanted, start, are ready and leave.",
        board=Board.LIFECYCLE,
        shows=(("{state}", Value(Selection(metric=WORKERS, by=("state",)))),),
        unit="count",
    ),
    Panel(
        title="Workers that ended",
        help="Worker processes that ended in an hour, by why.",
        board=Board.LIFECYCLE,
        shows=(("{reason}", Increase(Selection(metric=ENDS, by=("reason",)), 3600)),),
        unit="count",
    ),
)

SERVE_ALERTS: Final = (
    Alert(
        name="NoWorkerReady",
        when=Both(
            Compared(_workers(Stage.READY.value), "<", Number(1)),
            Compared(_workers(WANTED), ">", Number(0)),
        ),
        for_seconds=60,
        urgency=Urgency.PAGE,
        summary="no worker of an instance is ready, so it serves nobody",
        cause="The application does not start, or its start waits for something.",
        look="`/health` says what each worker waits for; the events `serve.worker_lost` have the "
        "reason of the last ends. Was there a release?",
        act="Roll the release back. Else mend what the start waits for; workers are started anew "
        "by themselves.",
        drill="an application that raises in its start, after a change of its code",
    ),
    Alert(
        name="WorkersMissing",
        when=Compared(Combined(_workers(WANTED), "-", _workers(Stage.READY.value)), ">", Number(0)),
        for_seconds=180,
        urgency=Urgency.TICKET,
        summary="{value} workers fewer than wanted have been ready for three minutes",
        cause="Workers do not come up, or end as fast as they are started.",
        look="`GET /api/status` has the last ten ends, each with its reason.",
        act="As the reasons say: failed is the application's start, lost is a crash or the kernel.",
        drill="one of two workers that waits in its start for longer than three minutes",
    ),
    Alert(
        name="WorkerCrashLoop",
        when=Compared(_ended(*_CRASHES, seconds=600), ">=", Number(3)),
        for_seconds=0,
        urgency=Urgency.PAGE,
        summary="{value} workers crashed, failed to start or stood still in ten minutes",
        cause="A release that crashes, a request that kills the process, or no memory.",
        look="`GET /api/status`, as `ended`: signal or exit code. The panel 'Memory limit' for "
        "OOM. The log lines before the end.",
        act="Roll the last release back. Is it one request: refuse it in front of the service.",
        drill="SIGKILL to a worker, three times",
    ),
    Alert(
        name="WorkerLost",
        when=Compared(_ended(*_LOSSES, seconds=900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="a worker ended without being told to; what it was serving is lost",
        cause="A crash in a C extension, the kernel's OOM killer, or a loop that stood for good.",
        look="The events `serve.worker_lost` and `serve.worker_wedged`.",
        act="Exit by a signal 9 that nobody sent is memory: see OomKilled. Signal 11 is an "
        "extension: which one was updated last?",
        drill="SIGKILL to a worker, once",
    ),
    Alert(
        name="ShutdownForced",
        when=Compared(_ended(EndReason.FORCED.value, seconds=900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="a worker did not leave in time when told to: it was ended, or left work behind",
        cause="A request, a background task or a thread does not end, and swallows its "
        "cancellation.",
        look="The event `serve.worker_left` says what held it up, `serve.worker_forced` what it "
        "was sent.",
        act="Let that work end when it is cancelled, or give it its time (`lifecycle` in the "
        "settings).",
        drill="a handler that sleeps in the loop for a minute, while the workers are replaced",
    ),
)

SERVE_SHOWN: Final = (*SERVE_PANELS, *SERVE_ALERTS)


def service_catalogue(settings: Loaded | None = None) -> Catalogue:
    """Return what is shown of a service that is `run`; see `assembly.rooms_catalogue`.

    Only what was declared in this process is in it: the supervisor loads no application.
    """
    from shipworthy.assembly import rooms_catalogue

    found = rooms_catalogue(settings)
    found.add(*SERVE_SHOWN, *MEMORY_SHOWN)
    return found
