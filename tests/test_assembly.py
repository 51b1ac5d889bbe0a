import asyncio
import logging
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import Annotated

import flask
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.testclient import TestClient

from shipworthy import harden
from shipworthy.context import current_request, request_scope
from shipworthy.errors import SettingsInvalid, TargetInvalid
from shipworthy.events import listen
from shipworthy.lifecycle import (
    Check,
    CommitRefused,
    Component,
    Phase,
    PhaseChanged,
    commit_fence,
)
from shipworthy.outbound.metrics import call_ended
from shipworthy.settings import load
from shipworthy.telemetry import AccessLog, install_logging
from shipworthy.web import AppLifespan

pytestmark = pytest.mark.anyio


@pytest.fixture
def settled(tmp_path):
    def settings(**environ):
        return load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false", **environ}, directory=tmp_path)

    return settings


def service(**options) -> FastAPI:
    app = FastAPI(**options)

    def who():
        return "nobody"

    @app.get("/who")
    def answer(name: Annotated[str, Depends(who)]):
        return name

    @app.get("/health")
    def health():
        from fastapi import HTTPException

        if app.state.sick:
            raise HTTPException(503)
        return "well"

    app.state.sick = False
    app.state.who = who
    return app


def test_hardening_twice_is_the_same_as_once(settled):
    """The object is the same, with one line of guards."""
    app = harden(service(), settings=settled())

    assert harden(app) is app
    assert harden(app, settings=settled()) is app


def test_the_application_s_attributes_are_there(settled):
    """State, overrides, routes added later: read, set and deleted on the application itself."""
    inner = service()
    app = harden(inner, settings=settled())

    app.state.colour = "green"
    app.dependency_overrides[inner.state.who] = lambda: "somebody"
    app.title = "renamed"
    app.passing = 1
    del app.passing

    @app.get("/late")
    def late():
        return "late"

    client = TestClient(app)
    assert inner.state.colour == "green"
    assert inner.title == "renamed"
    assert not hasattr(inner, "passing")
    assert not hasattr(app, "no_such_thing")
    assert client.get("/who").json() == "somebody"
    assert client.get("/late").json() == "late"
    assert repr(app).startswith("<Hardened <fastapi.applications.FastAPI")


def test_flask_s_test_client_works(settled):
    """It goes to the application directly, past the guards."""
    inner = flask.Flask("inner")
    inner.add_url_rule("/", view_func=lambda: "hello")

    assert harden(inner, settings=settled()).test_client().get("/").text == "hello"


def test_what_is_no_application_is_refused():
    """The reason is a sentence."""
    with pytest.raises(TargetInvalid, match="no application"):
        harden(7)


def test_without_settings_they_are_read_from_the_working_directory(tmp_path, monkeypatch):
    """Misspelt keys in shipworthy.toml are found; those of `serve` are for `run` to judge."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipworthy.toml").write_text("[web]\nproblem = 'off'\n[log]\nlevl = 'info'\n")

    with pytest.raises(SettingsInvalid) as error:
        harden(service())

    assert len(error.value.problems) == 2


def test_every_client_of_a_test_has_a_life_of_its_own(settled):
    """Start and stop, and again: nothing of the first drain is left in the second life."""
    starts = []

    @asynccontextmanager
    async def lifespan(app):
        starts.append(1)
        yield {"number": len(starts)}

    app = harden(service(lifespan=lifespan), settings=settled())
    for _ in range(3):
        with TestClient(app) as client:
            answer = client.get("/who")
            ready = client.get("/readyz")
        assert (answer.status_code, ready.status_code) == (200, 200)
        assert "connection" not in answer.headers

    assert len(starts) == 3
    assert app.lifecycle.phase is Phase.STOPPED


async def _in_a_life(app, play):
    """Let `play` run between start-up and shutdown."""
    inbox, heard = asyncio.Queue(), asyncio.Queue()
    living = asyncio.create_task(app({"type": "lifespan", "asgi": {}}, inbox.get, heard.put))
    inbox.put_nowait({"type": "lifespan.startup"})
    await heard.get()
    await play()
    inbox.put_nowait({"type": "lifespan.shutdown"})
    await living


async def test_each_life_ends_its_event_streams_one_after_the_other(settled):
    """That the life before has drained its own does not send the clients of this one as a wave."""

    async def stream(scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (await receive())["type"] != "http.disconnect":
            pass

    app = harden(stream, settings=settled(SHIPWORTHY_LIFECYCLE__DRAIN="15s"))
    at_once = []

    async def play():
        ended = []

        async def send(message):
            if message["type"] == "http.response.body":
                ended.append(message)

        async def receive():
            return await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}
        # 10 ms apart: the last of 300 is due after 3 s.
        asked = [asyncio.create_task(app(dict(scope), receive, send)) for _ in range(300)]
        while len(app.in_flight) < len(asked):
            await asyncio.sleep(0)
        app.follow(Phase.DRAINING)
        while not ended:
            await asyncio.sleep(0.001)
        at_once.append(len(ended))
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)

    await _in_a_life(app, play)
    await _in_a_life(app, play)

    assert max(at_once) < 300


async def test_a_new_life_keeps_nothing_of_the_requests_that_the_last_one_cancelled(settled):
    """Until then no COMMIT of theirs begins, in a thread that goes on; kept, they would add up."""
    records = []
    inner = FastAPI()

    @inner.get("/")
    async def long():
        records.append(current_request())
        await asyncio.Event().wait()

    app = harden(inner, settings=settled())

    async def play():
        asking = asyncio.create_task(_get(app, "/"))
        while not records:
            await asyncio.sleep(0)
        app.in_flight.cancel()
        await asyncio.wait({asking})

    async def nothing():
        with request_scope(records[0]), commit_fence():
            begun.append("COMMIT")

    begun = []
    await _in_a_life(app, play)
    with pytest.raises(CommitRefused):
        await nothing()
    await _in_a_life(app, nothing)

    assert begun == ["COMMIT"]


def test_a_start_that_fails_reaches_the_server(settled):
    """The lifespan protocol's word for it, with the sentence."""

    @asynccontextmanager
    async def lifespan(app):
        raise ConnectionError("no route to host")
        yield

    app = harden(FastAPI(lifespan=lifespan), settings=settled())
    sent = asyncio.run(_live(app))

    assert sent[-1]["type"] == "lifespan.startup.failed"
    assert "ConnectionError: no route to host" in sent[-1]["message"]


def test_a_stop_that_fails_reaches_the_server(settled):
    """The component and what it said are named."""

    async def stop():
        raise ConnectionError("gone")

    app = harden(FastAPI(), settings=settled())
    app.lifecycle.add(Component("pool", None, stop))
    sent = asyncio.run(_live(app))

    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete", "lifespan.shutdown.failed",
    ]  # fmt: skip
    assert "pool: ConnectionError: gone" in sent[-1]["message"]


def test_a_server_without_lifespan_state_gets_none(settled):
    """Only what the server hands over is handed on."""
    app = harden(FastAPI(), settings=settled())

    assert [m["type"] for m in asyncio.run(_live(app, state=None))] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip


async def _live(app, state=()):
    sent = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    await app({**scope, "state": {}} if state is not None else scope, receive, send)
    return sent


async def test_settings_given_later_hold_and_what_was_added_stays(settled):
    """`run` on an application that is hardened already: its settings, what the app added."""
    started = []

    async def start():
        started.append(1)

    app = harden(service(), settings=settled())
    app.lifecycle.add(Component("pool", start))
    app.lifecycle.add_check(Check("db", _well))

    harden(app, settings=settled(SHIPWORTHY_WEB__LIVE_PATH="/alive"))

    with TestClient(app) as client:
        assert client.get("/alive").text == "ok\n"
        assert client.get("/livez").status_code == 404
    assert started == [1]
    assert [check.name for check in app.lifecycle.health().checks] == ["db"]
    harden(app, settings=settled(SHIPWORTHY_WEB__LIVE_PATH="/later"))
    assert TestClient(app).get("/alive").text == "ok\n"


async def _well():
    return None


def test_the_application_s_health_route_joins_readiness(settled):
    """lifecycle.ready_route: any answer below 400 is good, and it is asked in the background."""
    app = harden(
        service(),
        settings=settled(
            SHIPWORTHY_LIFECYCLE__READY_ROUTE="/health",
            SHIPWORTHY_LIFECYCLE__CHECK_INTERVAL="100ms",
        ),
    )

    with TestClient(app) as client:
        assert _until(lambda: client.get("/readyz").status_code == 200)
        app.state.sick = True
        assert _until(lambda: client.get("/readyz").status_code == 503)
        assert "GET /health" in app.lifecycle.ready().because
        assert "503" in app.lifecycle.ready().because
        assert client.get("/livez").status_code == 200
    with TestClient(app) as client:
        app.state.sick = False
        assert _until(lambda: client.get("/readyz").status_code == 200)


def test_a_function_joins_readiness(settled, tmp_path, monkeypatch):
    """lifecycle.ready_check names a function of the application."""
    (tmp_path / "ready_of_the_test.py").write_text("def ready():\n    return 'the cache is cold'\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = harden(
        service(), settings=settled(SHIPWORTHY_LIFECYCLE__READY_CHECK="ready_of_the_test:ready")
    )

    for _ in range(2):
        with TestClient(app) as client:
            assert _until(lambda: "cold" in app.lifecycle.ready().because)
            assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize("host", ["localhost", "shop.example.org"])
def test_a_health_route_behind_allowed_hosts_is_asked_for_the_host_of_the_settings(settled, host):
    """Without the setting the reason names it; a redirect to https is no answer either."""
    inner = service()
    inner.add_middleware(TrustedHostMiddleware, allowed_hosts=["shop.example.org", "testserver"])
    inner.add_middleware(HTTPSRedirectMiddleware)
    app = harden(
        inner,
        settings=settled(
            SHIPWORTHY_LIFECYCLE__READY_ROUTE="/health", SHIPWORTHY_LIFECYCLE__READY_HOST=host
        ),
    )

    with TestClient(app):
        if host == "localhost":
            assert _until(lambda: "it answered 400" in app.lifecycle.ready().because)
            assert "for the host localhost, see lifecycle.ready_host" in (
                app.lifecycle.ready().because
            )
        else:
            assert _until(lambda: app.lifecycle.ready().ok)
    app.state.sick = True
    with TestClient(app):
        assert _until(lambda: "fails" in app.lifecycle.ready().because)


def _until(true):
    import time

    give_up = time.monotonic() + 10
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def test_under_another_server_events_go_to_the_application_s_logging(settled, caplog):
    """With the ids of the request, and without secrets."""
    app = harden(FastAPI(), settings=settled())

    @app.get("/boom")
    def boom():
        raise KeyError("postgresql://u:hunter2@h/d")

    with caplog.at_level(logging.INFO):
        answer = TestClient(app, raise_server_exceptions=False).get("/boom")

    (record,) = [r for r in caplog.records if "did not handle" in r.getMessage()]
    assert record.name == "shipworthy.web"
    assert record.levelname == "ERROR"
    assert f"request_id={answer.headers['x-request-id']}" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_events_are_not_written_twice_where_our_own_lines_are(settled, capfd, caplog):
    """`run` writes each event as a line; logging does not get it again."""
    log = AccessLog(1, human=False)
    uninstall = install_logging(log, level="info")
    app = harden(FastAPI(), settings=settled())

    with TestClient(app):
        pass
    uninstall()
    log.close(5.0)

    lines = capfd.readouterr().out.splitlines()
    assert sum('"after":"ready"' in line for line in lines) == 1
    assert not [r for r in caplog.records if r.name == "shipworthy.lifecycle"]


def test_the_access_line_and_the_metrics_are_there_by_default(tmp_path, capfd):
    """With no setting at all, a request writes a line to standard output and is counted."""
    app = harden(service(), settings=load(environ={}, directory=tmp_path))

    answer = TestClient(app).get("/who")
    app.close_log(5.0)

    line = capfd.readouterr().out
    assert answer.headers["x-request-id"] in line
    assert '"route":"/who"' in line
    snapshot = app.registry.snapshot()
    ((labels, numbers),) = snapshot["http_server_request_duration_seconds"]["sets"]
    assert (labels, sum(numbers[:-1])) == (["GET", "/who", "200"], 1.0)
    assert snapshot["http_server_active_requests"]["sets"] == [(["GET"], [0.0])]
    assert "process_cpu_seconds_total" in snapshot


def test_calls_to_other_services_are_counted_beside_the_requests(settled):
    """By address, method and status, whichever of the process's requests or jobs made them."""
    app = harden(service(), settings=settled())

    call_ended("api.example.org", "GET", 200, 0.2)

    ((labels, numbers),) = app.registry.snapshot()["http_client_request_duration_seconds"]["sets"]
    assert labels == ["api.example.org", "GET", "200"]
    assert (sum(numbers[:-1]), numbers[-1]) == (1.0, 0.2)


def test_the_application_has_its_components_from_its_start_to_its_end(settled):
    """A broker that was added is up before the app's start-up and stops after its shutdown."""
    order = []

    @asynccontextmanager
    async def lifespan(_app):
        order.append("app starts")
        yield
        order.append("app stops")

    def step(word):
        async def hook():
            order.append(word)

        return hook

    app = harden(FastAPI(lifespan=lifespan), settings=settled())
    app.lifecycle.add(Component("broker", step("broker starts"), step("broker stops")))

    with TestClient(app):
        pass

    assert order == ["broker starts", "app starts", "app stops", "broker stops"]


async def test_under_a_server_that_says_shutdown_early_the_drain_is_still_seen_through(settled):
    """A background task ends before the app's own shutdown; readiness fails meanwhile."""
    order = []
    working, release = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app):
        yield
        order.append("app stops")

    inner = FastAPI(lifespan=lifespan)

    @inner.get("/")
    async def soon(tasks: BackgroundTasks):
        async def later():
            working.set()
            await release.wait()
            order.append("task ends")

        tasks.add_task(later)

    app = harden(inner, settings=settled())
    inbox = asyncio.Queue()
    heard = asyncio.Queue()
    living = asyncio.create_task(app({"type": "lifespan", "asgi": {}}, inbox.get, heard.put))
    inbox.put_nowait({"type": "lifespan.startup"})
    await heard.get()
    asking = asyncio.create_task(_get(app, "/"))
    await working.wait()
    inbox.put_nowait({"type": "lifespan.shutdown"})
    while app.lifecycle.phase is Phase.READY:
        await asyncio.sleep(0)
    ready = app.lifecycle.ready()
    release.set()
    await asking
    last = await heard.get()
    await living

    assert not ready.ok
    assert order == ["task ends", "app stops"]
    assert last["type"] == "lifespan.shutdown.complete"


async def test_under_such_a_server_what_outlasts_the_drain_is_cancelled(settled):
    """Once, and then the shutdown goes on."""
    cancelled = []
    inner = FastAPI()

    @inner.get("/")
    async def long():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    times = {"IDLE_GRACE": "10ms", "DRAIN": "50ms", "CANCEL": "50ms"}
    app = harden(
        inner, settings=settled(**{f"SHIPWORTHY_LIFECYCLE__{k}": v for k, v in times.items()})
    )
    inbox = asyncio.Queue()
    heard = asyncio.Queue()
    living = asyncio.create_task(app({"type": "lifespan", "asgi": {}}, inbox.get, heard.put))
    inbox.put_nowait({"type": "lifespan.startup"})
    await heard.get()
    asking = asyncio.create_task(_get(app, "/"))
    while not len(app.in_flight):
        await asyncio.sleep(0)
    inbox.put_nowait({"type": "lifespan.shutdown"})
    last = await heard.get()
    await living
    await asyncio.wait({asking})

    assert asking.cancelled()
    assert cancelled == [1]
    assert last["type"] == "lifespan.shutdown.complete"


async def test_a_call_that_was_cancelled_is_refused_its_commit_until_the_next_life(settled):
    """A thread of it may outlive the stop; a suite of many lives keeps nothing of the last one."""
    inner, records = FastAPI(), []

    @inner.get("/")
    async def long():
        records.append(current_request())
        await asyncio.Event().wait()

    times = {"IDLE_GRACE": "0s", "DRAIN": "0s", "CANCEL": "50ms"}
    app = harden(
        inner, settings=settled(**{f"SHIPWORTHY_LIFECYCLE__{k}": v for k, v in times.items()})
    )

    def refused():
        try:
            with request_scope(records[0]), commit_fence():
                return False
        except CommitRefused:
            return True

    found = []
    for _ in range(2):
        life = AppLifespan(app)
        await life.start()
        found.append(bool(records) and refused())
        asking = asyncio.create_task(_get(app, "/"))
        while not len(app.in_flight):
            await asyncio.sleep(0)
        await life.stop()
        await asyncio.wait({asking})
        found.append(refused())

    assert found == [False, True, False, False]


@pytest.mark.parametrize("led", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_signals_of_another_server_begin_the_drain(settled, number, led):
    """SIGTERM and Ctrl-C: that server waits for its connections before it says shutdown.

    A worker of ours hears of Ctrl-C from its supervisor, though the signal reaches it as well.
    """
    reached = []
    before = signal.signal(number, lambda *_: reached.append("the server"))
    try:
        app = harden(FastAPI(), settings=settled())
        if led:
            app.lead()
        life = AppLifespan(app)
        await life.start()
        signal.raise_signal(number)
        for _ in range(3):
            await asyncio.sleep(0)
        leaves = app.lifecycle.draining
        await life.stop()
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)

    assert reached == ["the server"] * 2
    assert leaves == (number is signal.SIGTERM or not led)


async def test_leaving_while_the_application_is_asked_for_its_probes_stops_it(settled):
    """A catch-all route that is slow: SIGTERM comes meanwhile, and the shutdown still runs."""
    diary, asked = [], asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app):
        diary.append("start")
        yield
        diary.append("stop")

    inner = FastAPI(lifespan=lifespan)

    @inner.get("/{path:path}")
    async def every(path: str):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            diary.append("question ends")

    app = harden(inner, settings=settled())
    outer = AppLifespan(app)
    outer.state = {}
    starting = asyncio.create_task(outer.start())
    await asked.wait()
    starting.cancel()
    await asyncio.wait({starting, outer.task()})

    assert diary[0] == "start"
    assert diary[-1] == "stop"
    assert set(diary[1:-1]) == {"question ends"}
    assert app.lifecycle.phase is Phase.STOPPED


class Mid:
    """A middleware of the application's own, around what it has hardened itself."""

    def __init__(self, app):
        self.inner = app

    async def __call__(self, scope, receive, send):
        await self.inner(scope, receive, send)


def hardened_twice(settled, **options):
    inner = harden(service(**options), settings=settled())
    return inner, harden(Mid(inner), settings=settled(SHIPWORTHY_ENV="production"))


def test_what_is_hardened_behind_a_middleware_is_guarded_once(settled):
    """One id, one count, one set of probes: the outermost guards."""
    inner, outer = hardened_twice(settled)

    with TestClient(outer, raise_server_exceptions=False) as client:
        answer = client.get("/who")
        assert client.get("/livez").text == "ok\n"
        assert len(answer.headers.get_list("x-request-id")) == 1

    requests = "http_server_request_duration_seconds"
    assert len(outer.registry.snapshot()[requests]["sets"]) == 1
    assert not inner.registry.snapshot().get(requests, {"sets": []})["sets"]


def test_the_inner_one_alone_is_guarded_as_ever(settled):
    """Stepping aside is for where another one is around it."""
    inner, _ = hardened_twice(settled)

    with TestClient(inner) as client:
        assert client.get("/who").headers["x-request-id"]
        assert client.get("/livez").text == "ok\n"


def test_the_inner_life_is_lived_once_within_the_outer(settled, heard):
    """Components start and stop once, checks count, the drain reaches it and is waited for once."""
    order = []

    def step(word):
        async def hook():
            order.append(word)

        return hook

    said = ["the cache is cold"]

    async def ask():
        return said[0]

    @asynccontextmanager
    async def lifespan(_app):
        order.append("app starts")
        yield
        order.append("app stops")

    inner, outer = hardened_twice(settled, lifespan=lifespan)
    inner.lifecycle.add(Component("pool", step("pool starts"), step("pool stops")))
    inner.lifecycle.add_check(Check("cache", ask, interval_seconds=0.02))
    inner.lifecycle.on_drain(lambda: order.append("drain"))
    for _ in range(2):
        order.clear()
        heard.clear()
        said[0] = "the cache is cold"
        with TestClient(outer) as client:
            assert _until(lambda: "cold" in outer.lifecycle.ready().because)
            assert client.get("/readyz").status_code == 503
            said[0] = None
            assert _until(lambda: client.get("/readyz").status_code == 200)
            assert [check.name for check in outer.lifecycle.health().checks] == ["cache"]

        assert order == ["pool starts", "app starts", "drain", "app stops", "pool stops"]
        phases = [fact.after for fact in heard if isinstance(fact, PhaseChanged)]
        assert phases == ["ready", "lame_duck", "draining", "stopping", "stopped"]


def test_the_checks_of_the_settings_are_asked_once(settled, tmp_path, monkeypatch):
    """Both read the same settings; only the outer one goes by them."""
    (tmp_path / "ready_of_two.py").write_text("def ready():\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    both = settled(
        SHIPWORTHY_LIFECYCLE__READY_CHECK="ready_of_two:ready",
        SHIPWORTHY_LIFECYCLE__READY_ROUTE="/health",
    )
    outer = harden(Mid(harden(service(), settings=both)), settings=both)

    for _ in range(2):
        with TestClient(outer):
            assert _until(lambda: outer.lifecycle.ready().ok)
            names = [check.name for check in outer.lifecycle.health().checks]
            assert sorted(names) == ["GET /health", "ready_of_two:ready"]


@pytest.fixture
def heard():
    facts = []
    stop = listen(facts.append)
    yield facts
    stop()


async def _get(app, path):
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    async def send(message):
        pass

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        },
        receive,
        send,
    )


async def test_keys_need_a_database_to_keep_the_answers_in(settled, tmp_path):
    """Said at once, with what to set and what to run."""
    with pytest.raises(SettingsInvalid, match="and run `shipworthy db migrate` there"):
        harden(service(), settings=settled(SHIPWORTHY_IDEMPOTENCY__MODE="enforce"))


def test_the_guard_of_the_keys_lives_and_ends_with_the_application(settled, tmp_path, heard):
    """Its table is not there, which is said; requests with a key are refused until it is."""
    environ = {
        "SHIPWORTHY_IDEMPOTENCY__MODE": "enforce",
        "SHIPWORTHY_DB__URL": f"sqlite:///{tmp_path / 'keys.db'}",
    }
    app = harden(service(), settings=settled(**environ))

    with TestClient(app) as client:
        refused = client.post("/who", headers={"Idempotency-Key": "abc"})
        components = app.lifecycle.components

    assert refused.status_code == 503
    assert {"application", "databases", "idempotency"} <= set(components)
    assert app.lifecycle.phase is Phase.STOPPED


def test_door_and_replay_can_be_left_out(settled):
    """What is off is not in the line; by default both are."""
    standing = harden(service(), settings=settled())
    off = harden(
        service(), settings=settled(SHIPWORTHY_WEB__DOOR="off", SHIPWORTHY_WEB__REPLAY="off")
    )
    unguarded = harden(service(), settings=settled(SHIPWORTHY_DB__MODE="off"))

    def names(app):
        text = app.registry.snapshot()
        return {name for name in ("shipworthy_web_replays_total",) if name in str(text)}

    assert names(standing)
    assert not names(off)
    assert not names(unguarded)


def test_settings_given_later_bring_their_own_keys(settled, tmp_path, heard):
    """What is started and stopped is the guard in the line, not the one before it."""
    environ = {"SHIPWORTHY_IDEMPOTENCY__MODE": "enforce"}
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in ("first", "second"))
    app = harden(service(), settings=settled(**environ, SHIPWORTHY_DB__URL=first))
    app = harden(app, settings=settled(**environ, SHIPWORTHY_DB__URL=second))

    with TestClient(app):
        pass

    assert not (tmp_path / "first.db").exists()
    assert len([fact for fact in heard if type(fact).__name__ == "KeysUnkept"]) == 1


def test_what_the_settings_refuse_is_refused_here_too(settled):
    """As by `run`: a probe at what is no path would never be asked."""
    with pytest.raises(SettingsInvalid, match="'livez' is no path"):
        harden(service(), settings=settled(SHIPWORTHY_WEB__LIVE_PATH="livez"))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_under_uvicorn_an_event_stream_does_not_hold_the_end(tmp_path, number):
    """L03 under a server of others: it waits for its connections, and we end the stream."""
    (tmp_path / "shop.py").write_text(
        "import asyncio, pathlib\n"
        "from contextlib import asynccontextmanager\n"
        "from starlette.applications import Starlette\n"
        "from starlette.responses import StreamingResponse\n"
        "from starlette.routing import Route\n"
        "from shipworthy import harden, lifecycle\n"
        "def note(line):\n"
        "    with pathlib.Path('diary.txt').open('a') as diary:\n        diary.write(line)\n"
        "@asynccontextmanager\nasync def lifespan(_):\n    yield\n    note('stop.')\n"
        "async def work():\n"
        "    await lifecycle.until_draining()\n    await asyncio.sleep(0.2)\n"
        "    note('work ends.')\n"
        "async def events(request):\n"
        "    lifecycle.start_background('work', work())\n"
        "    async def endless():\n"
        "        yield 'data: 1\\n\\n'\n        await asyncio.sleep(3600)\n"
        "    return StreamingResponse(endless(), media_type='text/event-stream')\n"
        "app = harden(Starlette(routes=[Route('/', events)], lifespan=lifespan))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "shop:app", "--fd", str(listening.fileno())],
            cwd=tmp_path,
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with socket.create_connection(listening.getsockname(), timeout=40) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                told = b""
                while b"data: 1" not in told:
                    told += client.recv(4096)
                server.send_signal(number)
                client.settimeout(20)
                while part := client.recv(4096):
                    told += part
            server.wait(20)
        finally:
            server.kill()
            server.wait(10)

    assert told.endswith(b"\r\n0\r\n\r\n")
    assert (tmp_path / "diary.txt").read_text() == "work ends.stop."


@pytest.mark.parametrize("mode", ["off", "report", "enforce"])
def test_the_trail_is_watched_unless_it_is_off(settled, tmp_path, mode):
    """Its check stands in the health of the process; what it decides is the mode's matter."""
    url = f"sqlite:///{tmp_path}/shop.db"
    app = harden(service(), settings=settled(SHIPWORTHY_DB__URL=url, SHIPWORTHY_AUDIT__MODE=mode))
    with TestClient(app):
        names = [check.name for check in app.lifecycle.health().checks]
    assert ("audit" in names) is (mode != "off")
