import asyncio

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from shipworthy.lifecycle import Check
from shipworthy.web import ProbeRouteTaken

pytestmark = pytest.mark.anyio

PROBES = ("/livez", "/readyz", "/startupz")


async def test_before_the_start_only_liveness_is_given(hull, ask):
    """A process that starts is alive; the reason for the others is not told outside."""
    app = hull(FastAPI())
    app._hull._probes._asked = asyncio.get_running_loop().create_future()
    app._hull._probes._asked.set_result(None)

    told = {path: await ask(app, path) for path in PROBES}

    assert {path: t.status for path, t in told.items()} == {
        "/livez": 200, "/readyz": 503, "/startupz": 503,
    }  # fmt: skip
    assert told["/livez"].body == b"ok\n"
    assert told["/readyz"].body == b"not ok\n"
    assert told["/readyz"].one(b"retry-after") == b"1"
    assert told["/readyz"].one(b"cache-control") == b"no-store"
    assert told["/readyz"].one(b"x-request-id")


async def test_a_server_without_lifespan_is_up_at_its_first_probe(hull, ask):
    """Nobody else would ever say so."""
    app = hull(FastAPI())

    statuses = [(await ask(app, path)).status for path in PROBES]

    assert statuses == [200, 200, 200]


async def test_readiness_fails_at_once_when_the_drain_begins_and_liveness_does_not(hull, ask):
    """Nobody should kill a process for leaving in order."""
    app = hull(FastAPI())
    await ask(app, "/readyz")

    app.lifecycle.begin_drain()

    assert [(await ask(app, path)).status for path in PROBES] == [200, 503, 200]


async def test_one_that_others_follow_leaves_and_the_address_stays_ready(hull, ask):
    """Until those leave as well: then nobody is left to send requests to."""
    app = hull(FastAPI())
    await ask(app, "/readyz")

    app.lifecycle.begin_drain(lame_duck=False)
    while_others_go_on = (await ask(app, "/readyz")).status
    app.lifecycle.begin_drain()

    assert while_others_go_on == 200
    assert not app.lifecycle.ready().ok
    assert (await ask(app, "/readyz")).status == 503


async def test_a_failing_check_is_seen_but_not_named(hull, ask):
    """Names of dependencies are for the operations port."""
    app = hull(FastAPI())

    async def refuses():
        return "postgresql://u:hunter2@db is down"

    app.lifecycle.add_check(Check("db", refuses))
    told = await ask(app, "/readyz")

    assert (told.status, told.body) == (503, b"not ok\n")


async def test_head_has_no_body_and_other_methods_are_the_application_s(hull, ask):
    """Only GET and HEAD are probes."""
    app = hull(FastAPI())

    head = await ask(app, "/livez", method="HEAD")
    post = await ask(app, "/livez", method="POST")

    assert (head.status, head.body, head.one(b"content-length")) == (200, b"", b"3")
    assert post.status == 404


async def test_a_probe_is_found_below_a_root_path(hull, ask):
    """Servers put the prefix of the proxy before the path."""
    told = await ask(hull(FastAPI()), "/api/livez", root_path="/api")

    assert (told.status, told.body) == (200, b"ok\n")


async def test_a_probe_without_a_path_is_the_application_s(hull, ask):
    """An empty path in the settings turns a probe off."""
    app = hull(FastAPI(), SHIPWORTHY_WEB__LIVE_PATH="", SHIPWORTHY_WEB__READY_PATH="/ready")

    assert [(await ask(app, path)).status for path in ("/livez", "/readyz", "/ready", "/")] == [
        404, 404, 200, 404,
    ]  # fmt: skip


async def test_probes_are_not_in_flight(hull, ask):
    """A prober must not keep a process from leaving; requests beside it still count."""
    app = hull(FastAPI())
    seen = []

    async def counts(scope, receive, send):
        async def sent(message):
            seen.append(len(app.in_flight))
            await send(message)

        await app(scope, receive, sent)

    await ask(counts, "/livez")

    assert seen == [0, 0]


def own(path, answer):
    async def endpoint(request):
        return answer

    return Starlette(routes=[Route(path, endpoint)])


async def test_a_path_the_application_serves_stays_its_own(hull, ask, heard):
    """Its route wins, and a warning says so once."""
    app = hull(own("/livez", PlainTextResponse("mine")))

    bodies = [(await ask(app, path)).body for path in ("/livez", "/livez", "/readyz")]

    assert bodies == [b"mine", b"mine", b"ok\n"]
    assert [fact.path for fact in heard if isinstance(fact, ProbeRouteTaken)] == ["/livez"]


async def test_a_failing_route_of_the_application_is_still_its_own(hull, ask):
    """A 503 that other paths do not give is an answer."""
    app = hull(own("/readyz", PlainTextResponse("warming up", status_code=503)))

    assert (await ask(app, "/readyz")).body == b"warming up"


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: PlainTextResponse("<html>the one page</html>"),
        lambda request: PlainTextResponse(f"no {request.url.path} here", status_code=200),
        lambda request: RedirectResponse(f"/login?next={request.url.path}"),
        lambda request: PlainTextResponse(
            f"token {id(request)} {asyncio.get_running_loop().time()}"
        ),
    ],
    ids=["page", "echo", "login", "unlike"],
)
async def test_a_catch_all_route_does_not_own_the_probes(hull, ask, answer, heard):
    """A page for every path, a redirect to the login, a page that is never twice the same."""

    async def anything(request):
        return answer(request)

    app = hull(Starlette(routes=[Route("/{path:path}", anything)]))

    assert [(await ask(app, path)).body for path in PROBES] == [b"ok\n"] * 3
    assert not any(isinstance(fact, ProbeRouteTaken) for fact in heard)


async def test_a_catch_all_beside_an_own_route_leaves_that_route(hull, ask):
    """The one path that answers otherwise is the application's."""

    async def page(request):
        return PlainTextResponse("the one page")

    async def live(request):
        return PlainTextResponse("mine")

    app = hull(Starlette(routes=[Route("/livez", live), Route("/{path:path}", page)]))

    assert [(await ask(app, path)).body for path in PROBES] == [b"mine", b"ok\n", b"ok\n"]


async def test_an_application_that_raises_when_asked_keeps_no_path(hull, ask):
    """It has no answer there, so ours is the only one."""

    async def app(scope, receive, send):
        raise KeyError

    assert (await ask(hull(app), "/livez")).body == b"ok\n"


async def test_many_first_probes_ask_the_application_once(hull, ask):
    """Probers that come together share the question."""
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    hardened = hull(app)
    await asyncio.gather(*(ask(hardened, path) for path in PROBES * 3))

    assert len(asked) == 3


class Login:
    """A middleware that lets nobody in who does not say who they are."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        who = self.app if b"authorization" in dict(scope["headers"]) else PlainTextResponse("", 401)
        await who(scope, receive, send)


@pytest.mark.parametrize(
    ("middleware", "known"),
    [
        (Middleware(TrustedHostMiddleware, allowed_hosts=["test"]), {}),
        (Middleware(HTTPSRedirectMiddleware), {"scheme": "https"}),
        (Middleware(Login), {"headers": [(b"authorization", b"me")]}),
    ],
    ids=["hosts", "https", "login"],
)
@pytest.mark.parametrize("outside", [False, True])
async def test_a_route_wins_behind_a_middleware_that_judges_first(
    hull, ask, heard, *, middleware, known, outside
):
    """The application may refuse our question; its table of routes says whose the path is."""
    inner = own("/livez", PlainTextResponse("mine"))
    if outside:
        app = hull(middleware.cls(inner, *middleware.args, **middleware.kwargs))
    else:
        inner.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
        app = hull(inner)

    bodies = [(await ask(app, path, **known)).body for path in ("/livez", "/readyz")]

    assert bodies == [b"mine", b"ok\n"]
    assert [fact.path for fact in heard if isinstance(fact, ProbeRouteTaken)] == ["/livez"]


async def test_a_middleware_that_answers_by_itself_still_owns_the_path(hull, ask):
    """It has no route; the question tells."""

    class Answers:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            who = PlainTextResponse("mine") if scope["path"] == "/livez" else self.app
            await who(scope, receive, send)

    app = hull(Starlette(middleware=[Middleware(Answers)]))

    assert [(await ask(app, path)).body for path in PROBES] == [b"mine", b"ok\n", b"ok\n"]


async def test_the_application_is_asked_for_the_host_of_the_settings(hull, ask):
    """`lifecycle.ready_host` is one that it accepts."""
    seen = set()

    async def app(scope, receive, send):
        seen.add(dict(scope["headers"])[b"host"])
        await PlainTextResponse("no", 404)(scope, receive, send)

    await ask(hull(app, SHIPWORTHY_LIFECYCLE__READY_HOST="shop.example.org"), "/livez")

    assert seen == {b"shop.example.org"}


async def test_questions_that_are_called_off_end_and_may_be_asked_again(hull):
    """A process that is told to leave while it asks; a test client that starts it once more."""
    entered, ended = asyncio.Event(), []

    async def app(scope, receive, send):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(scope["path"])

    probes = hull(app)._hull._probes
    for _ in range(2):
        entered.clear()
        ended.clear()
        asking = asyncio.create_task(probes.find_owned())
        await entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(ended) == 3


async def test_a_prober_that_gives_up_does_not_end_the_question_of_the_others(hull, ask):
    """They share it."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        entered.set()
        await go.wait()
        await PlainTextResponse("no", 404)(scope, receive, send)

    hardened = hull(app)
    first, second = (asyncio.create_task(ask(hardened, "/livez")) for _ in range(2))
    await entered.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()

    assert (await second).body == b"ok\n"
