"""What an application is made with, and what only its framework can tell about a request.

Everything is read or heard through what the frameworks document: their scopes, routes, signals and
hooks. Nothing is patched, and no framework is imported that the application has not imported.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, final

from shipworthy.context import current_request
from shipworthy.errors import TargetInvalid
from shipworthy.web.line import App, Receive, Scope, Send

# What no route serves: one value, so that no client can make more of them.
UNMATCHED = "_unmatched"
Kind = Literal["asgi", "wsgi"]

# Wrappers around an application are followed this far to find its framework.
_DEEPEST = 10

# FastAPI is a Starlette, so the nearest class in the order of inheritance decides.
_KNOWN: Mapping[tuple[str, str], tuple[str, Kind]] = {
    ("fastapi", "FastAPI"): ("FastAPI", "asgi"),
    ("starlette", "Starlette"): ("Starlette", "asgi"),
    ("litestar", "Litestar"): ("Litestar", "asgi"),
    ("quart", "Quart"): ("Quart", "asgi"),
    ("flask", "Flask"): ("Flask", "wsgi"),
    ("django", "ASGIHandler"): ("Django", "asgi"),
    ("django", "WSGIHandler"): ("Django", "wsgi"),
}


@dataclass(frozen=True, slots=True)
class Framework:
    """What an application is made with; `ASGI` or `WSGI` and no version where that is all known."""

    name: str
    kind: Kind
    version: str


def framework_of(app: Any) -> Framework:
    """Tell what `app` is made with, also through wrappers that keep it in `.app`.

    Raises `TargetInvalid` for what is neither an ASGI nor a WSGI application.
    """
    inner = innermost(app)
    made = _made_with(inner)
    if made is None:
        kind = _interface(app)
        return Framework(kind.upper(), kind, "")
    name = made[0]
    kind = made[1] if inner is app else _interface(app)
    try:
        return Framework(name, kind, version(name))
    except PackageNotFoundError:
        return Framework(name, kind, "")


def innermost(app: Any) -> Any:
    """Return the application of a known framework that `app` is or wraps, else `app` itself."""
    inner = app
    for _ in range(_DEEPEST):
        if _made_with(inner):
            return inner
        inner = getattr(inner, "app", None)
    return app


def asgi_of(app: Any) -> App:
    """Return `app` as it is called today, also when it is of ASGI 2 and called twice."""
    if inspect.isclass(app) or _parameters(app) == 1:
        return partial(_call_double, app)
    asgi: App = app
    return asgi


def observe(app: Any) -> None:
    """Hear from the loaded frameworks which route serves a request and what they caught.

    Flask and Quart keep both from the server, Django and Litestar the exception. It is noted in
    the record of the request. May be called more than once.
    """
    if "flask" in sys.modules:
        import flask

        flask.request_started.connect(_flask_route)
        flask.got_request_exception.connect(_flask_error)
    if "quart" in sys.modules:
        import quart.signals

        quart.signals.request_started.connect(_quart_route)
        quart.signals.got_request_exception.connect(_quart_error)
    if "django.core.signals" in sys.modules:
        from django.core.signals import got_request_exception

        got_request_exception.connect(_django_error, dispatch_uid="shipworthy")
    inner = innermost(app)
    if _made_with(inner) == ("Litestar", "asgi") and _litestar_error not in inner.after_exception:
        inner.after_exception.append(_litestar_error)


def route_finder(app: Any) -> Callable[[Scope], str]:
    """Return what tells from a scope, after the application has seen it, which route it took.

    The answer is a template, never a path: their number is bounded by the application, not by its
    clients. Where there is none to be known it is `_unmatched`.
    """
    inner = innermost(app)
    match _made_with(inner):
        case ("FastAPI" | "Starlette", _):
            return StarletteRoutes(inner).template
        case ("Litestar", _):
            return _litestar_template
        case ("Django", _):
            return _django_template
        case _:
            return _no_template


def owner_finder(app: Any) -> Callable[[str], bool]:
    """Return what tells from the table of routes whether one serves `GET path` and not any path.

    False where the table does not say so: there may be none, or a middleware, or an application
    that is mounted, may answer without a route.
    """
    inner = innermost(app)
    match _made_with(inner):
        case ("FastAPI" | "Starlette", _):
            serving = StarletteRoutes(inner).serving
        case ("Litestar", _):
            serving = partial(_litestar_serving, inner)
        case ("Flask" | "Quart", _):
            serving = partial(_flask_serving, inner)
        case ("Django", _):
            serving = _django_serving
        case _:
            return lambda _path: False

    def owns(path: str) -> bool:
        found = serving(path)
        return found is not None and found != serving(f"/{os.urandom(6).hex()}")

    return owns


@final
class StarletteRoutes:
    """The templates of a Starlette application, found by the endpoint it notes in the scope.

    `scope["route"]` knows nothing of mounts and included routers, so the routes are walked once
    and again when their number changes. An endpoint that serves several templates is told apart by
    matching the path.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._walked = -1
        self._templates: dict[int, str | list[tuple[str, re.Pattern[str]]]] = {}
        # Kept alive, so that the id of an endpoint stays its own.
        self._endpoints: list[Any] = []

    def template(self, scope: Scope) -> str:
        """Return the template of the route that the scope has taken."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return UNMATCHED
        found = self._templates.get(id(endpoint))
        if found is None and len(self._app.routes) != self._walked:
            self._walk()
            found = self._templates.get(id(endpoint))
        if isinstance(found, str):
            return found
        root = scope.get("app_root_path", scope.get("root_path", ""))
        path = scope["path"].removeprefix(root)
        return next((text for text, regex in found or () if regex.match(path)), UNMATCHED)

    def serving(self, path: str) -> Any:
        """Return the first route that serves `GET path`, None where there is none."""
        from starlette.routing import compile_path

        # What is served for one host only is not found by a probe, which asks for an address.
        here = [route for route in self._app.routes if not hasattr(route, "host")]
        for route, template in _paths(here, ""):
            # A websocket has no methods at all; an endpoint that is a class takes any.
            methods = getattr(route, "methods", ())
            if methods is None or "GET" in methods:
                regex, _, _ = compile_path(template)
                if regex.match(path):
                    return route
        return None

    def _walk(self) -> None:
        from starlette.routing import compile_path

        self._walked = len(self._app.routes)
        self._endpoints = []
        found: dict[int, list[tuple[str, re.Pattern[str]]]] = {}
        for route, path in _paths(self._app.routes, ""):
            endpoint = route.endpoint if hasattr(route, "endpoint") else route.app
            regex, template, _ = compile_path(path)
            self._endpoints.append(endpoint)
            found.setdefault(id(endpoint), []).append((template, regex))
        self._templates = {
            key: templates if len(templates) > 1 else templates[0][0]
            for key, templates in found.items()
        }


def _paths(routes: Iterable[Any], prefix: str) -> Iterator[tuple[Any, str]]:
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            # What a router became where FastAPI included it.
            yield from _paths((c.starlette_route or c for c in contexts()), prefix)
            continue
        path = prefix + (getattr(route, "path", None) or "")
        below = getattr(route, "routes", None)
        if below:
            yield from _paths(below, path)
        elif hasattr(route, "endpoint"):
            yield route, path
        elif hasattr(route, "app"):
            # A mount of something that has no routes to be known: static files, a WSGI application.
            yield route, f"{path}/{{path:path}}"


def _made_with(app: Any) -> tuple[str, Kind] | None:
    for cls in type(app).__mro__:
        found = _KNOWN.get((cls.__module__.partition(".")[0], cls.__name__))
        if found is not None:
            return found
    return None


def _interface(app: Any) -> Kind:
    if not callable(app):
        raise TargetInvalid(
            f"a {type(app).__name__} is no application: expected something to call, ASGI with "
            f"(scope, receive, send) or WSGI with (environ, start_response)"
        )
    call = app if inspect.isroutine(app) or inspect.isclass(app) else type(app).__call__
    count = _parameters(app)
    if inspect.iscoroutinefunction(call) or count in (1, 3):
        return "asgi"
    if count == 2:
        return "wsgi"
    name = getattr(app, "__qualname__", type(app).__qualname__)
    raise TargetInvalid(
        f"{name} takes {count} arguments, so it is neither ASGI, called with (scope, receive, "
        f"send), nor WSGI, called with (environ, start_response)"
        + ("; write it with () if it makes the application" if count == 0 else "")
    )


def _parameters(app: Any) -> int:
    """Count the arguments that a call must give by place."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return -1
    placed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in placed and p.default is p.empty for p in parameters)


async def _call_double(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope)(receive, send)


def _no_template(_scope: Scope) -> str:
    return UNMATCHED


def _litestar_template(scope: Scope) -> str:
    return scope.get("path_template") or UNMATCHED


def _django_template(scope: Scope) -> str:
    from django.urls import Resolver404, resolve

    try:
        match = resolve(scope["path"].removeprefix(scope.get("root_path", "")))
    except Resolver404:
        return UNMATCHED
    return f"/{match.route}"


def _litestar_serving(app: Any, path: str) -> Any:
    return path if "GET" in app.route_handler_method_map.get(path, ()) else None


def _flask_serving(app: Any, path: str) -> Any:
    # A rule that ends with a slash redirects to itself.
    for rule in app.url_map.iter_rules():
        is_get = not rule.websocket and (rule.methods is None or "GET" in rule.methods)
        if rule.rule in (path, f"{path}/") and is_get:
            return rule
    return None


def _django_serving(path: str) -> Any:
    from django.urls import Resolver404, resolve

    try:
        return resolve(path).route
    except Resolver404:
        return None


def _note_route(rule: Any) -> None:
    record = current_request()
    if record is not None and rule is not None:
        record.route = rule.rule


def _note_error(error: BaseException | None) -> None:
    record = current_request()
    if record is not None:
        record.error = error


def _flask_route(_sender: Any, **_extra: Any) -> None:
    import flask

    _note_route(flask.request.url_rule)


def _flask_error(_sender: Any, *, exception: BaseException, **_extra: Any) -> None:
    _note_error(exception)


# Quart would call a plain function in a thread.
async def _quart_route(_sender: Any, **_extra: Any) -> None:
    import quart

    _note_route(quart.request.url_rule)


async def _quart_error(_sender: Any, *, exception: BaseException, **_extra: Any) -> None:
    _note_error(exception)


def _django_error(**_extra: Any) -> None:
    _note_error(sys.exc_info()[1])


async def _litestar_error(error: Exception, _scope: Any) -> None:
    from litestar.exceptions import HTTPException

    # Litestar tells of every exception; these are answers.
    if not isinstance(error, HTTPException):
        _note_error(error)
