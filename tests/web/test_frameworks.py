import functools
from importlib.metadata import PackageNotFoundError

import django
import flask
import pytest
import quart
from django.conf import settings as django_settings
from django.test import override_settings
from fastapi import APIRouter, FastAPI
from litestar import Litestar, Request, get
from litestar.exceptions import NotAuthorizedException
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from shipworthy.errors import TargetInvalid
from shipworthy.web import (
    ExceptionUnhandled,
    asgi_of,
    framework_of,
    observe,
    owner_finder,
    route_finder,
)

pytestmark = pytest.mark.anyio

PROBLEM = b"application/problem+json"


class Boom(Exception):
    """What the applications of these tests raise."""


@pytest.fixture(scope="module")
def django_urls():
    # Another module may have been first, in the same process; the routes are ours all the same.
    if not django_settings.configured:
        django_settings.configure(SECRET_KEY="for tests only")
        django.setup()
    import sys
    import types

    from django.http import HttpResponse
    from django.urls import path, re_path

    def fine(request, **arguments):
        return HttpResponse("fine")

    def boom(request):
        raise Boom

    urls = types.ModuleType("urls_of_the_test")
    urls.urlpatterns = [
        path("clients/<int:pk>/", fine),
        path("boom/", boom),
        re_path(r"^old/(?P<id>\d+)$", fine),
        path("livez", fine),
    ]
    sys.modules["urls_of_the_test"] = urls
    with override_settings(ROOT_URLCONF="urls_of_the_test", ALLOWED_HOSTS=["*"]):
        yield
    del sys.modules["urls_of_the_test"]


def fastapi_app() -> FastAPI:
    app = FastAPI()
    tasks = APIRouter(prefix="/tasks")
    projects = APIRouter(prefix="/projects/{project}")

    @tasks.get("/{task}")
    def task(task: str, project: str = ""):
        return {"task": task}

    @app.get("/boom")
    async def boom():
        raise Boom

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


def litestar_app(**options) -> Litestar:
    @get("/items/{item:int}")
    async def item(request: Request) -> int:
        return request.path_params["item"]

    @get("/boom")
    async def boom() -> None:
        raise Boom("hunter2")

    @get("/private")
    async def private() -> None:
        raise NotAuthorizedException

    return Litestar([item, boom, private], **options)


def quart_app():
    app = quart.Quart("quart_of_the_test")

    @app.get("/items/<int:item>")
    async def item(item):
        return str(item)

    @app.get("/boom")
    async def boom():
        raise Boom

    return app


def flask_app():
    app = flask.Flask("flask_of_the_test")

    @app.get("/items/<int:item>")
    def item(item):
        return str(item)

    @app.get("/boom")
    def boom():
        raise Boom

    return app


def django_app(kind):
    if kind == "asgi":
        from django.core.asgi import get_asgi_application

        return get_asgi_application()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


MADE = {
    "FastAPI": (fastapi_app, "/all/tasks/7", "/all/tasks/{task}", "/boom", "asgi"),
    "Litestar": (litestar_app, "/items/7", "/items/{item}", "/boom", "asgi"),
    "Quart": (quart_app, "/items/7", "/items/<int:item>", "/boom", "asgi"),
    "Flask": (flask_app, "/items/7", "/items/<int:item>", "/boom", "wsgi"),
    "Django": (
        lambda: django_app("asgi"), "/clients/7/", "/clients/<int:pk>/", "/boom/", "asgi",
    ),
    "Django WSGI": (
        lambda: django_app("wsgi"), "/clients/7/", "/clients/<int:pk>/", "/boom/", "wsgi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
async def test_each_framework_s_routes_and_exceptions_are_known(
    django_urls, hull, ask, heard, name
):
    """Its template is the label, its own page for an exception becomes a problem, 404 stays."""
    make, path, template, boom, kind = MADE[name]
    app = hull(make(), SHIPWORTHY_ENV="production")

    fine = await ask(app, path)
    missing = await ask(app, "/no/such/page")
    broken = await ask(app, boom)

    assert framework_of(app).name == name.split()[0]
    assert framework_of(app).version == framework_of(app.app).version != ""
    assert (framework_of(app).kind, framework_of(app.app).kind) == ("asgi", kind)
    assert (fine.status, missing.status, broken.status) == (200, 404, 500)
    assert missing.all(b"content-type") != [PROBLEM]
    assert broken.one(b"content-type") == PROBLEM
    assert all(told.one(b"x-request-id") for told in (fine, missing, broken))
    assert len({told.one(b"x-request-id") for told in (fine, missing, broken)}) == 3
    (fact,) = [fact for fact in heard if isinstance(fact, ExceptionUnhandled)]
    assert (fact.error_type, fact.answered) == ("Boom", "with a problem")
    assert fact.route == boom
    counted = _counted(app)
    assert counted["GET", template, "200"] == 1
    assert counted["GET", "_unmatched", "404"] == 1
    assert counted["GET", boom, "500"] == 1


def _counted(app):
    sets = app.registry.snapshot()["shipworthy_web_requests_total"]["sets"]
    return {tuple(labels): numbers[0] for labels, numbers in sets}


@pytest.mark.parametrize("make", [flask_app, quart_app])
async def test_a_page_of_the_application_for_its_exceptions_passes(hull, ask, heard, make):
    """An error handler for 500 is the application's own word."""
    app = make()

    @app.errorhandler(500)
    def sorry(error):
        return "sorry", 500

    told = await ask(hull(app), "/boom")

    assert (told.status, told.body) == (500, b"sorry")
    assert [f.answered for f in heard if isinstance(f, ExceptionUnhandled)] == [
        "by the application"
    ]


async def test_a_500_page_the_application_asked_for_passes(hull, ask, heard):
    """abort(500) is no exception nobody handled, although the page looks the same."""
    app = flask_app()

    @app.get("/abort")
    def abort():
        flask.abort(500)

    told = await ask(hull(app), "/abort")

    assert b"500 Internal Server Error" in told.body
    assert heard == []


async def test_litestar_s_answers_are_no_unhandled_exceptions(hull, ask, heard):
    """Litestar tells of every exception; one that is an answer is not noted."""
    told = await ask(hull(litestar_app()), "/private")

    assert told.status == 401
    assert heard == []


async def test_litestar_s_debug_page_stays_inside(hull, ask):
    """debug=True shows its page in development and nowhere else."""
    app = litestar_app(debug=True)
    headers = [(b"accept", b"text/html")]

    hidden = await ask(hull(app, SHIPWORTHY_ENV="production"), "/boom", headers=headers)
    shown = await ask(hull(app, SHIPWORTHY_ENV="development"), "/boom", headers=headers)

    assert b"hunter2" in shown.body
    assert hidden.one(b"content-type") == PROBLEM


@pytest.mark.parametrize("method", ["PROPFIND", "X" * 300, "get"])
async def test_methods_nobody_knows_are_one_label(hull, ask, method):
    """A client cannot make label sets by inventing methods."""
    app = hull(fastapi_app())

    await ask(app, "/all/tasks/7", method=method)

    assert list(_counted(app)) == [("_other", "/all/tasks/{task}", "405")]


async def test_a_framework_is_found_through_wrappers(ask):
    """Middlewares keep what they wrap in `.app`; the outermost decides how it is called."""

    class Wrapper:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    wrapped = Wrapper(Wrapper(fastapi_app()))

    told = await ask(wrapped, "/all/tasks/1")

    assert framework_of(wrapped).name == "FastAPI"
    assert route_finder(wrapped)(told.scope) == "/all/tasks/{task}"


async def test_applications_of_no_framework_are_told_by_their_parameters(ask):
    """Three are ASGI, two are WSGI, one is the older ASGI, which is called twice."""

    async def asgi(scope, receive, send): ...

    def wsgi(environ, start_response): ...

    def double(scope):
        async def inner(receive, send):
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return inner

    class Double:
        def __init__(self, scope): ...

        async def __call__(self, receive, send):
            await double({})(receive, send)

    kinds = {name: framework_of(app).kind for name, app in locals().items() if callable(app)}

    assert kinds == {
        "asgi": "asgi",
        "wsgi": "wsgi",
        "double": "asgi",
        "Double": "asgi",
        "ask": "asgi",
    }
    assert (framework_of(asgi).name, framework_of(wsgi).name) == ("ASGI", "WSGI")
    assert asgi_of(asgi) is asgi
    assert (await ask(asgi_of(double))).status == 204
    assert (await ask(asgi_of(Double))).status == 204
    assert route_finder(asgi)({}) == "_unmatched"


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (7, "a int is no application"),
        (lambda: None, r"takes 0 arguments.*write it with \(\) if it makes the application"),
        (lambda a, b, c, d: None, "takes 4 arguments"),
    ],
)
def test_what_is_no_application_is_refused_with_the_reason(thing, words):
    """The sentence says what was expected."""
    with pytest.raises(TargetInvalid, match=words):
        framework_of(thing)


def test_a_framework_without_a_distribution_has_no_version(monkeypatch):
    """It may have been copied into a project; that is no reason to fail."""

    def nowhere(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("shipworthy.web.frameworks.version", nowhere)

    assert framework_of(FastAPI()).version == ""


def test_observing_twice_is_the_same_as_once(django_urls):
    """Each exception is noted once, however often applications are hardened."""
    app = litestar_app()

    observe(app)
    observe(app)

    assert len(app.after_exception) == 1


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
    "Django": (lambda: django_app("asgi"), True),
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
