from importlib.metadata import PackageNotFoundError

import flask
import pytest
import quart
from fastapi import APIRouter, FastAPI
from litestar import Litestar, Request, get
from litestar.exceptions import NotAuthorizedException
from starlette.staticfiles import StaticFiles

from shipworthy.errors import TargetInvalid
from shipworthy.web import (
    ExceptionUnhandled,
    asgi_of,
    framework_of,
    observe,
    route_finder,
)

pytestmark = pytest.mark.anyio

PROBLEM = b"application/problem+json"


async def _made_later():
    """Neither an application nor what makes one."""


class Boom(Exception):
    """What the applications of these tests raise."""


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
    sets = app.registry.snapshot()["http_server_request_duration_seconds"]["sets"]
    return {tuple(labels): sum(numbers[:-1]) for labels, numbers in sets}


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
        (7, "is of type int and no application"),
        (lambda: None, r"takes 0 arguments.*write it with \(\) if it makes the application"),
        (lambda a, b, c, d: None, "takes 4 arguments"),
        (lambda config: None, "takes one argument.*give 'config' a default and write it with"),
        (_made_later, r"takes 0 arguments.*write it with \(\) if it makes the application"),
        (lambda *given: None, "takes arguments of its own"),
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
