import asyncio
import functools
import sys
import types

import flask
import pytest
import quart
from django.test import override_settings
from fastapi import APIRouter, FastAPI
from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware
from litestar import Litestar, Request, get
from starlette.applications import Starlette
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from shipworthy.web import owner_finder, route_finder, routes_of
from web.conftest import http_scope
from web.route_matrix import MATRIX, RAW, django_patterns, litestar_app, starlette_app

pytestmark = pytest.mark.anyio


def fastapi_app() -> FastAPI:
    app = FastAPI()
    tasks = APIRouter(prefix="/tasks")
    projects = APIRouter(prefix="/projects/{project}")

    @tasks.get("/{task}")
    def task(task: str, project: str = ""):
        return {"task": task}

    projects.include_router(tasks)
    app.include_router(projects)
    app.include_router(tasks, prefix="/all")

    below = FastAPI()

    @below.get("/inner/{x:path}")
    async def inner(x: str):
        return x

    app.mount("/below", below)
    app.mount("/tenants/{tenant}", below)
    app.mount("/static", StaticFiles(directory="."))
    return app


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/projects/9/tasks/1", "/projects/{project}/tasks/{task}"),
        ("/all/tasks/1", "/all/tasks/{task}"),
        ("/below/inner/a/b", "/below/inner/{x}"),
        ("/tenants/t1/inner/a", "/tenants/{tenant}/inner/{x}"),
        ("/openapi.json", "/openapi.json"),
        ("/static/no-such-file", "/static/{path}"),
        ("/below/nothing", "_unmatched"),
        ("/nothing", "_unmatched"),
        ("/all/tasks/1/", "_unmatched"),
    ],
)
async def test_fastapi_s_templates_have_the_prefixes_of_routers_and_mounts(ask, path, template):
    """The template names the whole way; a 404 and a redirect to the right slash are unmatched."""
    app = fastapi_app()

    told = await ask(app, path)

    assert route_finder(app)(told.scope) == template


async def test_a_template_is_found_below_a_root_path(ask):
    """The prefix of a proxy is in the path, not in the template, with mounts and without."""
    app = fastapi_app()
    find = route_finder(app)

    plain = await ask(app, "/api/all/tasks/1", root_path="/api")
    mounted = await ask(app, "/api/tenants/t1/inner/a", root_path="/api")

    assert find(plain.scope) == "/all/tasks/{task}"
    assert find(mounted.scope) == "/tenants/{tenant}/inner/{x}"


async def test_starlette_s_templates_are_found_through_hosts_and_routers(ask):
    """Every way Starlette nests routes, and a method it does not serve."""

    async def page(request):
        return PlainTextResponse("page")

    app = Starlette(
        routes=[
            Mount("/m/{tenant}", routes=[Route("/c/{d:int}", page)]),
            Host("admin.test", Router([Route("/a/{b}", page)])),
            Route("/p/{q}", functools.partial(page)),
        ]
    )
    find = route_finder(app)

    async def template(path, **scope):
        return find((await ask(app, path, **scope)).scope)

    assert await template("/m/1/c/2") == "/m/{tenant}/c/{d}"
    assert await template("/m/1/c/x") == "_unmatched"
    assert await template("/m/1/c/2", method="DELETE") == "/m/{tenant}/c/{d}"
    assert await template("/a/1", headers=[(b"host", b"admin.test")]) == "_unmatched"
    assert await template("/p/1") == "/p/{q}"


async def test_a_route_that_is_added_later_is_found(ask):
    """The routes are walked again when their number has changed."""
    app = FastAPI()
    find = route_finder(app)
    assert find((await ask(app, "/late")).scope) == "_unmatched"

    @app.get("/late")
    async def late():
        return 1

    assert find((await ask(app, "/late")).scope) == "/late"


@pytest.fixture
def django_matrix(django_urls):
    """The matrix's routes in the place of the others of this module."""
    urls = types.ModuleType("urls_of_the_matrix")
    urls.urlpatterns = django_patterns()
    sys.modules["urls_of_the_matrix"] = urls
    slashes = "django.middleware.common.CommonMiddleware"
    with override_settings(ROOT_URLCONF="urls_of_the_matrix", MIDDLEWARE=[slashes]):
        yield
    del sys.modules["urls_of_the_matrix"]


@pytest.mark.parametrize("name", MATRIX)
async def test_twelve_ways_of_a_request_have_the_right_labels_in_every_framework(
    django_matrix, hull, ask, name
):
    """Nested, mounted, static, redirected, refused: each is counted once, none by its path."""
    make, ways = MATRIX[name]
    app = hull(make())
    assert len(ways) == 12
    wrong, before = {}, {}

    for way, went in ways.items():
        told = await ask(app, went.path, method=went.method)
        after = counted(app)
        (labels,) = [one for one in after if after[one] != before.get(one, 0.0)]
        if (told.status, labels) != (went.status, (went.counted, went.route, str(went.status))):
            wrong[way] = (told.status, labels)
        before = after

    assert wrong == {}
    told = [text for series in app.registry.snapshot().values() for text, _ in series["sets"]]
    assert RAW not in str(told)


def counted(app):
    sets = app.registry.snapshot()["http_server_request_duration_seconds"]["sets"]
    return {tuple(labels): sum(numbers[:-1]) for labels, numbers in sets}


class Wrapper:
    """A middleware of the plainest kind."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


async def test_what_is_mounted_is_seen_through_its_middlewares_and_in_its_own_framework(ask):
    """A FastAPI behind a middleware and a Litestar below a mount keep their prefix; 404 is 404."""
    app = Starlette(
        routes=[
            Mount("/new/{tenant}", Wrapper(fastapi_app())),
            Mount("/old/{tenant}", Litestar([litestar_item], openapi_config=None)),
            Mount("/older", Litestar([litestar_item], openapi_config=None)),
        ]
    )
    find = route_finder(app)

    async def template(path):
        return find((await ask(app, path)).scope)

    assert await template("/new/t1/all/tasks/1") == "/new/{tenant}/all/tasks/{task}"
    # Each mount takes its own part of the path, so that a name may stand in a template twice.
    twice = "/new/{tenant}/tenants/{tenant}/inner/{x}"
    assert await template("/new/t1/tenants/t2/inner/a") == twice
    assert await template("/old/t1/items/7") == "/old/{tenant}/items/{item}"
    assert await template("/older/items/7") == "/older/items/{item}"
    assert await template("/old/t1/nothing") == "_unmatched"


async def test_an_endpoint_of_many_routes_is_found_without_matching_paths(ask):
    """What a request costs must not grow with their number: the route that is noted decides."""
    app = FastAPI()

    async def one_for_all(x: str):
        return x

    for number in range(50):
        app.add_api_route(f"/r{number}/{{x}}", one_for_all)
    find = route_finder(app)
    scope = (await ask(app, "/r49/a")).scope
    assert find(scope) == "/r49/{x}"

    scope["path"] = "/r7/a"

    assert find(scope) == "/r49/{x}"


@get("/items/{item:str}")
async def litestar_item(request: Request) -> str:
    return "fine"


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/all/tasks/1", "/all/tasks/{task}"),
        ("/all/tasks/1/", "/all/tasks/{task}"),
        ("/tenants/t1/inner/a", "/tenants/{tenant}/inner/{x}"),
        ("/static/a.css", "/static/{path}"),
        ("/no/such/page", "_unmatched"),
        ("/", "_unmatched"),
        ("", "_unmatched"),
    ],
)
async def test_a_redirect_by_a_middleware_is_counted_where_it_leads(hull, ask, path, template):
    """As one to https, which comes before any route; a path that leads nowhere stays unmatched."""
    app = fastapi_app()
    app.add_middleware(HTTPSRedirectMiddleware)
    app = hull(app)

    await ask(app, f"/api{path}", root_path="/api")

    assert list(counted(app)) == [("GET", template, "307")]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/o/in/items/7", "/v1/{org}/in/items/{item}"),
        ("/v1/o/in/items/7/", "/v1/{org}/in/items/{item}"),
        ("/files/a/b", "/files/{path}"),
        ("/one/things/7/", "/one/things/{thing}/"),
        ("/nothing", "_unmatched"),
    ],
)
def test_litestar_s_routes_match_paths_as_litestar_does(path, template):
    """What was answered by its router alone, as a 405, is known by its path."""

    @get("/files/{path:path}")
    async def file(request: Request) -> str:
        return "fine"

    app = litestar_app()
    app.register(file)

    assert routes_of(app).match(path) == template


async def test_who_asks_before_the_route_is_known_decides_nothing(hull, ask):
    """An operator who looks at what is in flight must not have it counted as unmatched."""
    seen = []

    class Looking(Wrapper):
        async def __call__(self, scope, receive, send):
            seen.extend(call["route"] for call in app.in_flight.describe())
            await self.app(scope, receive, send)

    app = hull(Looking(fastapi_app()))

    await ask(app, "/all/tasks/1")

    assert seen == ["_unmatched"]
    assert list(counted(app)) == [("GET", "/all/tasks/{task}", "200")]


async def test_what_stands_below_a_dispatcher_of_prefixes_has_them_in_its_templates(ask):
    """Also an application that nobody can look into, and one that has no prefix."""

    async def raw(scope, receive, send): ...

    app = AsyncioDispatcherMiddleware({"/raw": raw, "/api": fastapi_app(), "": starlette_app()})
    routes = routes_of(app)

    def template(path):
        return routes.template({"path": f"/up{path}", "root_path": "/up"})

    assert template("/raw/any/thing") == "/raw/{path}"
    assert template("/raw") == "/raw/{path}"
    assert template("/rawer") == "_unmatched"
    assert template("/api/all/tasks/1") == "/api/all/tasks/{task}"
    assert template("/api") == "_unmatched"
    assert routes.match("/plain/1") == "/plain/{word}"
    assert routes.match("/api/all/tasks/1") == "/api/all/tasks/{task}"


async def test_a_quart_websocket_has_the_template_of_its_rule(hull):
    """Its signal is another than that of requests."""
    app = quart.Quart("talking")

    @app.websocket("/talk/<room>")
    async def talk(room):
        await quart.websocket.send("hello")

    app = hull(app)
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    over = asyncio.Event()

    async def receive():
        if len(incoming) == 1:
            await over.wait()
        return incoming.pop(0)

    async def send(message):
        if message["type"] == "websocket.close":
            over.set()

    await app(http_scope("/talk/7", type="websocket", scheme="ws", subprotocols=[]), receive, send)

    found = app.registry.snapshot()["shipworthy_websocket_messages_total"]["sets"]
    assert found == [
        (["/talk/<room>", "received"], [0.0]),
        (["/talk/<room>", "sent"], [1.0]),
    ]


def fine_starlette(path, **options):
    async def fine(request):
        return PlainTextResponse("fine")

    return Route(path, fine, **options)


def included_fastapi():
    app, router = FastAPI(), APIRouter()

    @router.get("/livez")
    def live():
        return "fine"

    app.include_router(router)
    app.include_router(router, prefix="/api")
    return app


def bare_fastapi():
    app = FastAPI()

    @app.post("/livez")
    def post():
        return "fine"

    @app.websocket("/livez")
    async def talk(socket):
        pass

    return app


class EndpointOfAnyMethod:
    """Starlette takes a class for an endpoint, and then no methods are known."""


@get("/livez")
async def litestar_live() -> str:
    return "fine"


@get("/{name:str}")
async def litestar_any() -> str:
    return "fine"


def django_app():
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def with_rule(app, path):
    app.add_url_rule(path, view_func=lambda **_: "fine")
    return app


OWNERS = {
    "route": (lambda: Starlette(routes=[fine_starlette("/livez")]), True),
    "any method": (lambda: Starlette(routes=[Route("/livez", EndpointOfAnyMethod)]), True),
    "mounted": (
        lambda: Starlette(routes=[Mount("/", routes=[fine_starlette("/livez")])]),
        True,
    ),
    "before a catch-all": (
        lambda: Starlette(routes=[fine_starlette("/livez"), fine_starlette("/{path:path}")]),
        True,
    ),
    "after a catch-all": (
        lambda: Starlette(routes=[fine_starlette("/{path:path}"), fine_starlette("/livez")]),
        False,
    ),
    "a parameter": (lambda: Starlette(routes=[fine_starlette("/{name}")]), False),
    "POST": (lambda: Starlette(routes=[fine_starlette("/livez", methods=["POST"])]), False),
    "of one host": (
        lambda: Starlette(routes=[Host("x.org", Router(routes=[fine_starlette("/livez")]))]),
        False,
    ),
    "of a mount we cannot see into": (
        lambda: Starlette(routes=[Mount("/", StaticFiles(directory="."))]),
        False,
    ),
    "FastAPI": (included_fastapi, True),
    "FastAPI without": (bare_fastapi, False),
    "Litestar": (lambda: Litestar([litestar_live]), True),
    "Litestar without": (lambda: Litestar([litestar_any]), False),
    "Flask": (lambda: with_rule(flask.Flask("x"), "/livez"), True),
    "Flask with a slash": (lambda: with_rule(flask.Flask("x"), "/livez/"), True),
    "Flask with any slash": (lambda: with_rule(flask.Flask("x"), "/<name>/"), False),
    "Flask without": (lambda: with_rule(flask.Flask("x"), "/<name>"), False),
    "Quart": (lambda: with_rule(quart.Quart("x"), "/livez"), True),
    "Quart without": (lambda: quart.Quart("x"), False),
    "Django": (django_app, True),
    "no framework": (lambda: raw, False),
}


async def raw(scope, receive, send):
    pass


@pytest.mark.parametrize("made", OWNERS)
def test_the_table_of_routes_says_whether_a_path_has_a_route_of_its_own(django_urls, made):
    """One that serves GET, and not every other path too; where it is not known, it is no."""
    make, expected = OWNERS[made]
    owns = owner_finder(make())

    assert owns("/livez") is expected
    assert not owns("/readyz")
