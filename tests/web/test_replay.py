import asyncio
import gc
import sqlite3
import threading
from contextlib import suppress

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from shipworthy import outbound
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import current_request, deadline_scope
from shipworthy.db import Attempt, DbPhase, PoolTimeout, attempt_scope, current_attempt
from shipworthy.resilience import RetryBudget, is_retrying
from shipworthy.telemetry import Registry
from shipworthy.web import (
    Correlation,
    Line,
    Problems,
    Replay,
    ReplayWithheld,
    RequestReplayed,
)
from shipworthy.web.again import RUNS, Withheld
from shipworthy.web.exchange import KEPT_BYTES
from web.conftest import http_scope

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("guarded")]


def lost(phase=DbPhase.STATEMENT):
    """Fail as a driver does whose connection is cut, and as `protect` notes it."""
    error = ConnectionResetError("cut")
    error.__shipworthy_phase__ = phase
    current_attempt().failed(error)
    raise sa.exc.OperationalError("SELECT 1", None, error)


def around(app, *guards, **options):
    """The line with a replay guard that waits for nothing."""
    said = {"mode": "enforce", "methods": ("GET", "HEAD", "OPTIONS"), "within_seconds": 10.0}
    registry = Registry()
    replay = Replay(registry, now=SYSTEM_CLOCK.now, draw=lambda: 0.0, **(said | options))
    line = Line(
        app,
        (Correlation(), *guards, replay),
        answers=Problems(mode="enforce", development=False, leaving=lambda: False),
        route_of=lambda scope: "/thing",
        now=SYSTEM_CLOCK.now,
    )
    line.registry = registry
    return line


class Thing:
    """An application whose first `failures` runs fail with their database."""

    def __init__(self, failures=1, fail=lost, **options):
        self.runs = 0
        self.seen = []
        self.failures = failures
        self.fail = fail
        self.app = Starlette(
            routes=[Route("/thing", self.endpoint, methods=["GET", "POST"])], **options
        )

    async def endpoint(self, request):
        self.runs += 1
        self.record = current_request()
        self.seen.append(await request.body())
        if self.runs <= self.failures:
            self.fail()
        return PlainTextResponse(f"run {self.runs}")


def kinds(heard, kind):
    return [fact for fact in heard if isinstance(fact, kind)]


async def test_a_request_whose_database_failed_is_run_again(ask, heard):
    """The client sees one good answer, with the id of its request; the log has why it was late."""
    thing = Thing()

    told = await ask(
        around(thing.app), "/thing", headers=[(b"x-request-id", b"mine-42-and-no-other")]
    )

    assert (told.status, told.body, told.error) == (200, b"run 2", None)
    assert told.one(b"x-request-id") == b"mine-42-and-no-other"
    (fact,) = kinds(heard, RequestReplayed)
    assert (fact.outcome, fact.method, fact.run) == ("lost", "GET", 2)
    assert fact.error == "ConnectionResetError"
    assert thing.record.work.retries == 1


async def test_an_error_answer_that_the_application_made_of_it_is_replayed_too(ask):
    """A handler of exceptions that answers 503 has not told anybody yet."""

    async def sorry(request, error):
        return PlainTextResponse("sorry", 503)

    thing = Thing(exception_handlers={sa.exc.OperationalError: sorry})

    told = await ask(around(thing.app), "/thing")

    assert (told.status, told.body, thing.runs) == (200, b"run 2", 2)


async def test_the_last_failure_is_told_as_it_would_be_without_us(ask, heard):
    """After four runs the client gets the application's answer, and the server its error."""
    thing = Thing(failures=99)

    told = await ask(around(thing.app, budget=RetryBudget(1.0, 10.0)), "/thing")

    assert thing.runs == RUNS
    assert told.status == 503  # what `Problems` says of a database that was lost
    assert isinstance(told.error, sa.exc.OperationalError)
    assert [fact.because for fact in kinds(heard, ReplayWithheld)] == [Withheld.RUNS]


async def test_an_error_answer_is_released_when_it_is_not_replayed(ask):
    """Word for word."""

    async def sorry(request, error):
        return PlainTextResponse("sorry", 503, headers={"retry-after": "7"})

    thing = Thing(failures=99, exception_handlers={sa.exc.OperationalError: sorry})

    told = await ask(around(thing.app, budget=RetryBudget(0.0, 0.0)), "/thing")

    assert (told.status, told.body, thing.runs) == (503, b"sorry", 1)
    assert told.one(b"retry-after") == b"7"


async def test_each_run_gets_the_request_as_the_server_gave_it(ask):
    """Its scope without what the last run has put there, its body from the first byte."""
    seen = []

    async def app(scope, receive, send):
        seen.append((dict(scope["state"]), list(scope["headers"]), "path_params" in scope))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        scope["state"]["run"] = scope["path_params"] = len(seen)
        scope["headers"].append((b"x-run", b"1"))
        seen.append(body)
        if len(seen) < 4:
            lost()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    told = await ask(around(app), body=[b"a", b"b"], state={"pool": "of the server"})

    headers = [(b"host", b"test")]
    assert seen == [({"pool": "of the server"}, headers, False), b"ab"] * 2
    assert told.status == 200
    assert told.scope["state"]["run"] == 1, "the first run had the server's own"


async def test_a_replay_shows_what_the_last_run_took_as_its_route(ask):
    """The scope of the call is the one that the last run was given."""
    routes = []

    class Looks:
        def leave(self, call):
            routes.append(call.scope["endpoint"])

    thing = Thing()

    await ask(around(thing.app, Looks()), "/thing")

    assert routes == [thing.endpoint]


async def test_an_error_that_a_framework_noted_is_that_of_the_last_run(ask):
    """Flask and others tell us of an exception; of a run that is not the last it is over."""
    errors = []

    class Looks:
        def leave(self, call):
            errors.append(call.record.error)

    def noted():
        current_request().error = ValueError()
        lost()

    await ask(around(Thing(fail=noted).app, Looks()), "/thing")

    assert errors == [None]


@pytest.mark.parametrize("fail", [ZeroDivisionError, None])
async def test_what_failed_without_a_database_is_left_alone(ask, heard, fail):
    """A bug, or an error answer: not one more run, and not a word."""
    thing = Thing(failures=99)

    async def broken(request):
        thing.runs += 1
        if fail:
            raise fail
        return PlainTextResponse("no", 503)

    told = await ask(around(Starlette(routes=[Route("/thing", broken)])), "/thing")

    assert (told.status, thing.runs) == (500 if fail else 503, 1)
    assert not kinds(heard, (RequestReplayed, ReplayWithheld))


async def test_a_failure_that_the_application_got_over_is_its_business(ask):
    """It answered, so there is nothing to do."""
    runs = []

    async def copes(request):
        runs.append(1)
        try:
            lost()
        except sa.exc.OperationalError:
            return PlainTextResponse("from a cache")

    told = await ask(around(Starlette(routes=[Route("/thing", copes)])), "/thing")

    assert (told.body, len(runs)) == (b"from a cache", 1)


async def test_what_may_have_had_an_effect_is_not_run_again(ask, heard):
    """A COMMIT that went well, one that was lost, a call to another service."""

    def committed():
        current_attempt().committed()
        lost()

    def in_commit():
        lost(DbPhase.COMMIT)

    reasons = []
    for fail in (committed, in_commit):
        thing = Thing(failures=99, fail=fail)
        assert (await ask(around(thing.app), "/thing")).status == (
            500 if fail is in_commit else 503
        )
        assert thing.runs == 1
        reasons.append(kinds(heard, ReplayWithheld)[-1].because)

    assert reasons == [Withheld.COMMITTED, Withheld.OUTCOME]


async def test_who_waited_for_a_connection_in_vain_does_not_wait_again(ask, heard):
    """Another wait would only make the queue longer."""

    def full():
        error = PoolTimeout("all in use", retry_after_seconds=1.0)
        current_attempt().failed(error)
        raise error

    thing = Thing(failures=99, fail=full)

    told = await ask(around(thing.app), "/thing")

    assert (told.status, thing.runs) == (503, 1)
    assert kinds(heard, ReplayWithheld)[-1].outcome == "overload"


async def test_an_answer_that_has_begun_is_not_replayed(ask, heard):
    """The client has seen a part of it."""

    async def stream(request):
        async def parts():
            yield b"a"
            lost()

        return StreamingResponse(parts())

    told = await ask(around(Starlette(routes=[Route("/thing", stream)])), "/thing")

    assert (told.status, told.body) == (200, b"a")
    assert kinds(heard, ReplayWithheld)[-1].because == Withheld.BEGUN


async def test_a_failure_after_a_good_answer_is_not_replayed(ask):
    """A background task that fails has been asked for once."""
    runs = []

    async def later():
        runs.append(1)
        lost()

    async def good(request):
        return PlainTextResponse("good", background=BackgroundTask(later))

    told = await ask(around(Starlette(routes=[Route("/thing", good)])), "/thing")

    assert (told.status, told.body, len(runs)) == (200, b"good", 1)


async def test_only_the_methods_that_are_set_are_replayed(ask):
    """Safe ones by default, others for whoever knows what they do."""
    for options, runs in (({}, 1), ({"methods": ("POST",)}, 2)):
        thing = Thing()
        await ask(around(thing.app, **options), "/thing", method="POST", body=[b"a", b"b"])
        assert thing.seen == [b"ab"] * runs


async def test_a_call_that_holds_a_key_is_replayed_whatever_its_method(ask):
    """The header alone is not enough: the guard of the keys must have accepted it."""

    class Accepts:
        def enter(self, call):
            call.keyed = True

    for guards, runs in (((), 1), ((Accepts(),), 2)):
        thing = Thing()
        headers = [(b"idempotency-key", b"k")]
        await ask(around(thing.app, *guards), "/thing", method="POST", headers=headers)
        assert thing.runs == runs


async def test_a_body_that_is_longer_than_is_kept_is_passed_on_and_not_replayed(ask, heard):
    """The application gets all of it, once."""
    thing = Thing()
    parts = [b"x" * 600_000] * 2

    told = await ask(around(thing.app, methods=("POST",)), "/thing", method="POST", body=parts)

    assert sum(map(len, parts)) > KEPT_BYTES
    assert (told.status, thing.runs, len(thing.seen[0])) == (503, 1, 1_200_000)
    assert kinds(heard, ReplayWithheld)[-1].because == Withheld.TORN


async def test_a_client_that_has_left_is_not_worked_for_again(ask, heard):
    """Nobody would hear the answer."""
    thing = Thing()

    await ask(around(thing.app), "/thing", leaves=True)

    assert thing.runs == 1
    assert kinds(heard, ReplayWithheld)[-1].because == Withheld.GONE


async def test_no_replay_begins_after_the_deadline(ask, heard):
    """Of the request, or of the guard."""
    for deadline_seconds, within_seconds in ((0.0, 10.0), (60.0, 0.0)):
        thing = Thing()
        with deadline_scope(SYSTEM_CLOCK.now() + deadline_seconds):
            await ask(around(thing.app, within_seconds=within_seconds), "/thing")
        assert thing.runs == 1
        assert kinds(heard, ReplayWithheld)[-1].because == Withheld.TIME


async def test_replays_are_a_share_of_the_traffic(ask):
    """With every request failing, one in five is run again, and one a second: no storm."""
    line = around((thing := Thing(failures=10**9)).app, budget=RetryBudget(0.2, 0.0))

    for _ in range(100):
        await ask(line, "/thing")

    assert 100 < thing.runs <= 121


async def test_conflicts_between_callers_have_a_budget_of_their_own(ask):
    """A hot row is no outage: each request may be run again once, on the average."""

    def conflict():
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
        current_attempt().failed(error)
        raise error

    budgets = {"budget": RetryBudget(0.0, 0.0), "contention": RetryBudget(1.0, 0.0)}
    line = around((thing := Thing(failures=10**9, fail=conflict)).app, **budgets)

    for _ in range(20):
        await ask(line, "/thing")

    assert thing.runs == 40


async def test_report_says_what_would_be_done_and_does_nothing(ask, heard):
    """And takes nothing from the budget."""
    budget = RetryBudget(1.0, 0.0)
    thing = Thing()

    told = await ask(around(thing.app, mode="report", budget=budget), "/thing")

    assert (told.status, thing.runs) == (503, 1)
    assert [fact.because for fact in kinds(heard, ReplayWithheld)] == [Withheld.REPORTED]
    assert budget.statistics(SYSTEM_CLOCK.now()).spent_total == 0


async def test_one_layer_retries(ask):
    """In its first run the layers inside may repeat by themselves, in a replay they do not."""
    retrying = []

    class Within(Thing):
        async def endpoint(self, request):
            retrying.append(is_retrying())
            return await super().endpoint(request)

    await ask(around(Within(failures=2).app, budget=RetryBudget(1.0, 10.0)), "/thing")

    assert retrying == [False, True, True]


async def test_a_websocket_is_left_alone(ask):
    """What it has said cannot be taken back."""
    attempts = []

    async def app(scope, receive, send):
        attempts.append(current_attempt())
        await send({"type": "websocket.close"})

    await ask(around(app), type="websocket", headers=[(b"idempotency-key", b"k")])

    assert attempts == [None]


async def test_a_call_that_is_cancelled_is_not_run_again():
    """Whoever cancels wants it to end, whatever the database did."""
    runs = []
    begun = asyncio.Event()

    async def app(scope, receive, send):
        runs.append(1)
        current_attempt().failed(ConnectionResetError())
        begun.set()
        await asyncio.Event().wait()

    async def nothing(*_):
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    task = asyncio.create_task(around(app)(scope, nothing, nothing))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert runs == [1]


async def test_where_an_engine_may_be_unguarded_nothing_is_replayed(ask, guarded):
    """Its commits would not be seen: so under `harden` alone."""
    guarded()
    thing = Thing()

    with attempt_scope() as attempt:
        told = await ask(around(thing.app), "/thing")

    assert (told.status, thing.runs, len(attempt.failures)) == (503, 1, 1)


async def test_where_calls_out_are_not_seen_only_safe_methods_are_replayed(ask):
    """A POST may have charged a card."""
    outbound.uninstall()
    runs = []
    for method in ("GET", "POST"):
        thing = Thing()
        await ask(around(thing.app, methods=("GET", "POST")), "/thing", method=method)
        runs.append(thing.runs)

    assert runs == [2, 1]


async def test_a_commit_in_a_plain_thread_withholds_the_replay(ask, heard, tmp_path):
    """It carries nothing of the request, so it may be its own."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")

    def commit():
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))

    def commits_and_fails():
        thread = threading.Thread(target=commit)
        thread.start()
        thread.join()
        lost()

    thing = Thing(fail=commits_and_fails)

    await ask(around(thing.app), "/thing")
    engine.dispose()

    assert thing.runs == 1
    assert kinds(heard, ReplayWithheld)[-1].because == Withheld.STRAY


async def test_an_error_answer_does_not_wait_for_background_work(ask, heard):
    """It is told after a moment, and what works is not begun a second time."""
    answered = asyncio.Event()
    runs = []

    class Looks:
        def ended(self, call):
            answered.set()

    async def works_on():
        async with asyncio.timeout(10):
            await answered.wait()

    async def fails(request):
        runs.append(1)
        try:
            lost()
        except sa.exc.OperationalError:
            return PlainTextResponse("sorry", 503, background=BackgroundTask(works_on))

    told = await ask(around(Starlette(routes=[Route("/thing", fails)]), Looks()), "/thing")

    assert (told.status, told.body, told.error, len(runs)) == (503, b"sorry", None, 1)
    assert answered.is_set()


async def test_a_failed_request_leaves_no_cycle(ask):
    """Of the many that fail in an outage each would be kept until the collector comes."""

    async def app(scope, receive, send):
        try:
            raise ConnectionResetError
        except ConnectionResetError as error:
            current_attempt().failed(error)
            raise

    async def wire(*_):
        return {"type": "http.request"}

    line = around(app, budget=RetryBudget(0.0, 0.0))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with suppress(ConnectionResetError):
                await line(http_scope(), wire, wire)
        left = sum(type(thing) is Attempt for thing in gc.get_objects())
    finally:
        gc.enable()

    assert left == 0
