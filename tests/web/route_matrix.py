"""The same service in every framework: 12 ways a request can go, and the template each must have.

What a framework cannot mount by itself stands beside it the way its manual says: in a Starlette, or
in the dispatcher of Werkzeug or Hypercorn.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flask
import quart
from fastapi import APIRouter, FastAPI
from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware
from litestar import Litestar, Request, Router, asgi, get
from litestar.static_files import create_static_files_router
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware

HERE = Path(__file__).parent
FILE = Path(__file__).name
# In every path that has a parameter, and so in a label only if a path has become one.
RAW = "raw7"


class Went(NamedTuple):
    """Where a request is sent, how it is answered, and the label of its route."""

    path: str
    status: int
    route: str
    method: str = "GET"
    # Of the label.
    counted: str = "GET"


class Boom(Exception):
    """What the applications raise."""


async def fine(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("fine")


async def boom(_request: Any) -> PlainTextResponse:
    raise Boom


def small_starlette(slash: str = "") -> Starlette:
    return Starlette(routes=[Route("/things/{thing}" + slash, fine)])


def small_fastapi(slash: str = "") -> FastAPI:
    app, router = FastAPI(), APIRouter(prefix="/deep")

    @router.get("/things/{thing}" + slash)
    async def show(thing: str) -> str:
        return thing

    app.include_router(router)
    return app


def small_flask(prefix: str = "") -> flask.Flask:
    app = flask.Flask("small_flask")
    app.add_url_rule(f"{prefix}/things/<thing>", view_func=lambda thing: thing)
    return app


def starlette_app() -> Starlette:
    small = small_starlette()
    return Starlette(
        routes=[
            Mount("/v1/{org}", routes=[Mount("/in", routes=[Route("/items/{item}", fine)])]),
            Route("/plain/{word}", fine),
            Route("/boom", boom),
            Mount("/sub", small_fastapi()),
            Mount("/one", small),
            Mount("/two/{tenant}", small),
            Mount("/static", StaticFiles(directory=HERE)),
        ]
    )


def fastapi_app() -> FastAPI:
    app = FastAPI()
    items, outer = APIRouter(prefix="/in"), APIRouter(prefix="/v1/{org}")

    @items.get("/items/{item}")
    async def show(org: str, item: str) -> str:
        return item

    @app.get("/plain/{word}")
    def plain(word: str) -> str:
        return word

    @app.get("/boom")
    async def failing() -> None:
        raise Boom

    outer.include_router(items)
    app.include_router(outer)
    small = small_starlette()
    app.mount("/sub", small_fastapi())
    app.mount("/one", small)
    app.mount("/two/{tenant}", small)
    app.mount("/static", StaticFiles(directory=HERE))
    return app


OF_STARLETTE = {
    "nested": Went(f"/v1/{RAW}/in/items/{RAW}", 200, "/v1/{org}/in/items/{item}"),
    "plain": Went(f"/plain/{RAW}", 200, "/plain/{word}"),
    "500": Went("/boom", 500, "/boom"),
    "mounted FastAPI": Went(f"/sub/deep/things/{RAW}", 200, "/sub/deep/things/{thing}"),
    "mounted once": Went(f"/one/things/{RAW}", 200, "/one/things/{thing}"),
    "mounted twice": Went(f"/two/{RAW}/things/{RAW}", 200, "/two/{tenant}/things/{thing}"),
    "static": Went(f"/static/{FILE}", 200, "/static/{path}"),
    "static 404": Went(f"/static/{RAW}.css", 404, "/static/{path}"),
    "404": Went(f"/{RAW}/nowhere", 404, "_unmatched"),
    "slash": Went(f"/plain/{RAW}/", 307, "/plain/{word}"),
    "405": Went(f"/plain/{RAW}", 405, "/plain/{word}", "DELETE", "DELETE"),
    "unknown method": Went(f"/plain/{RAW}", 405, "/plain/{word}", "BREW", "_other"),
}


def litestar_app() -> Litestar:
    @get("/items/{item:str}")
    async def show(request: Request) -> str:
        return "fine"

    @get("/plain/{word:str}")
    async def plain(request: Request) -> str:
        return "fine"

    @get("/boom")
    async def failing() -> None:
        raise Boom

    # Litestar puts a slash at the end of what it hands to a mount.
    small = small_starlette("/")
    return Litestar(
        [
            Router("/v1/{org:str}", route_handlers=[Router("/in", route_handlers=[show])]),
            plain,
            failing,
            asgi("/sub", is_mount=True, copy_scope=True)(small_fastapi("/")),
            asgi("/one", is_mount=True, copy_scope=True)(small),
            asgi("/two", is_mount=True, copy_scope=False)(small),
            create_static_files_router(path="/static", directories=[HERE]),
        ],
        openapi_config=None,
    )


OF_LITESTAR = OF_STARLETTE | {
    "mounted FastAPI": Went(f"/sub/deep/things/{RAW}", 200, "/sub/deep/things/{thing}/"),
    "mounted once": Went(f"/one/things/{RAW}", 200, "/one/things/{thing}/"),
    "mounted twice": Went(f"/two/things/{RAW}", 200, "/two/things/{thing}/"),
    "static": Went(f"/static/{FILE}", 200, "/static/{file_path}"),
    "static 404": Went(f"/static/{RAW}.css", 404, "/static/{file_path}"),
    # Litestar serves both, and redirects nobody.
    "slash": Went(f"/plain/{RAW}/", 200, "/plain/{word}"),
}


def with_rules(app: Any, blueprint: Callable[..., Any]) -> None:
    """Give a Flask or a Quart the routes of the service."""

    def failing() -> None:
        raise Boom

    inner, outer = blueprint("inner", __name__), blueprint("outer", __name__)
    inner.add_url_rule("/items/<item>", "show", lambda org, item: item)
    outer.register_blueprint(inner, url_prefix="/in")
    app.register_blueprint(outer, url_prefix="/v1/<org>")
    app.add_url_rule("/plain/<word>/", "plain", lambda word: word)
    app.add_url_rule("/boom", "failing", failing)


def flask_app() -> flask.Flask:
    app = flask.Flask("of_the_matrix", static_folder=HERE, static_url_path="/static")
    with_rules(app, flask.Blueprint)
    small = small_flask()
    app.wsgi_app = DispatcherMiddleware(
        app.wsgi_app, {"/sub": small_flask("/deep"), "/one": small, "/two/in": small}
    )
    return app


def quart_app() -> Any:
    app = quart.Quart("of_the_matrix", static_folder=HERE, static_url_path="/static")
    with_rules(app, quart.Blueprint)
    small = small_starlette()
    return AsyncioDispatcherMiddleware(
        {"/sub": small_fastapi(), "/one": small, "/two": small, "": app}
    )


OF_QUART = {
    "nested": Went(f"/v1/{RAW}/in/items/{RAW}", 200, "/v1/<org>/in/items/<item>"),
    "plain": Went(f"/plain/{RAW}/", 200, "/plain/<word>/"),
    "500": Went("/boom", 500, "/boom"),
    "mounted FastAPI": Went(f"/sub/deep/things/{RAW}", 200, "/sub/deep/things/{thing}"),
    "mounted once": Went(f"/one/things/{RAW}", 200, "/one/things/{thing}"),
    "mounted twice": Went(f"/two/things/{RAW}", 200, "/two/things/{thing}"),
    "static": Went(f"/static/{FILE}", 200, "/static/<path:filename>"),
    "static 404": Went(f"/static/{RAW}.css", 404, "/static/<path:filename>"),
    "404": Went(f"/{RAW}/nowhere", 404, "_unmatched"),
    "slash": Went(f"/plain/{RAW}", 308, "/plain/<word>/"),
    "405": Went(f"/plain/{RAW}/", 405, "/plain/<word>/", "DELETE", "DELETE"),
    "unknown method": Went(f"/plain/{RAW}/", 405, "/plain/<word>/", "BREW", "_other"),
}
OF_FLASK = OF_QUART | {
    "mounted FastAPI": Went(f"/sub/deep/things/{RAW}", 200, "/sub/deep/things/<thing>"),
    "mounted once": Went(f"/one/things/{RAW}", 200, "/one/things/<thing>"),
    "mounted twice": Went(f"/two/in/things/{RAW}", 200, "/two/in/things/<thing>"),
}


def django_patterns() -> list[Any]:
    """Return the routes of the service; whoever asks has made them the root of Django's table."""
    from django.http import HttpResponse
    from django.urls import include, path, re_path
    from django.views.decorators.http import require_GET
    from django.views.static import serve

    def show(_request: Any, **_arguments: str) -> HttpResponse:
        return HttpResponse("fine")

    def failing(_request: Any) -> HttpResponse:
        raise Boom

    def static(request: Any, path: str) -> HttpResponse:
        answer = serve(request, path, document_root=HERE)
        body = b"".join(answer)
        answer.close()  # Django warns of a file that is read on an event loop
        return HttpResponse(body)

    inner = [path("items/<item>", show)]
    return [
        path("v1/<org>/", include([path("in/", include(inner))])),
        path("plain/<word>/", require_GET(show)),
        path("boom", failing),
        re_path(r"^static/(?P<path>.*)$", static),
    ]


def django_asgi() -> Starlette:
    from django.core.asgi import get_asgi_application

    small = small_starlette()
    return Starlette(
        routes=[
            Mount("/sub", small_fastapi()),
            Mount("/one", small),
            Mount("/two/{tenant}", small),
            Mount("/", get_asgi_application()),
        ]
    )


def django_wsgi() -> DispatcherMiddleware:
    from django.core.wsgi import get_wsgi_application

    small = small_flask()
    return DispatcherMiddleware(
        get_wsgi_application(), {"/sub": small_flask("/deep"), "/one": small, "/two/in": small}
    )


_OF_DJANGO = {
    "nested": Went(f"/v1/{RAW}/in/items/{RAW}", 200, "/v1/<org>/in/items/<item>"),
    "static": Went(f"/static/{FILE}", 200, "/^static/(?P<path>.*)$"),
    "static 404": Went(f"/static/{RAW}.css", 404, "/^static/(?P<path>.*)$"),
    "slash": Went(f"/plain/{RAW}", 301, "/plain/<word>/"),
}
OF_DJANGO_ASGI = (
    OF_QUART
    | _OF_DJANGO
    | {"mounted twice": Went(f"/two/{RAW}/things/{RAW}", 200, "/two/{tenant}/things/{thing}")}
)
OF_DJANGO_WSGI = OF_FLASK | _OF_DJANGO

MATRIX: Mapping[str, tuple[Callable[[], Any], Mapping[str, Went]]] = {
    "Starlette": (starlette_app, OF_STARLETTE),
    "FastAPI": (fastapi_app, OF_STARLETTE),
    "Litestar": (litestar_app, OF_LITESTAR),
    "Quart": (quart_app, OF_QUART),
    "Django ASGI": (django_asgi, OF_DJANGO_ASGI),
    "Flask": (flask_app, OF_FLASK),
    "Django WSGI": (django_wsgi, OF_DJANGO_WSGI),
}
