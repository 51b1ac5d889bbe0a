import asyncio

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
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

    assert len(asked) == 5
