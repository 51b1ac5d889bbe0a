"""What an application is made with, and what only its framework can tell about a request.

Everything is read or heard through what the frameworks document: their scopes, routes, signals and
hooks. Nothing is patched, and no framework is imported that the application has not imported.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from shipworthy.context import current_request
from shipworthy.errors import TargetInvalid
from shipworthy.web.line import UNMATCHED, App, Receive, Scope, Send

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
    made = made_with(inner)
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
        if made_with(inner):
            return inner
        inner = getattr(inner, "app", None)
    return app


def within(app: Any) -> Iterator[Any]:
    """Yield `app` and what it wraps, layer by layer, also what Flask and Quart are wrapped in.

    Those are wrapped inside out: what is called stands in `.wsgi_app` or `.asgi_app`.
    """
    for _ in range(_DEEPEST):
        yield app
        for name in ("app", "wsgi_app", "asgi_app"):
            below = getattr(app, name, None)
            if below is not None:
                app = below
                break
        else:
            return


def asgi_of(app: Any) -> App:
    """Return `app` as it is called today, also when it is of ASGI 2 and called twice."""
    if inspect.isclass(app) or _parameters(app) == ["scope"]:
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
        quart.signals.websocket_started.connect(_quart_websocket)
        quart.signals.got_request_exception.connect(_quart_error)
    if "django.core.signals" in sys.modules:
        from django.core.signals import got_request_exception

        got_request_exception.connect(_django_error, dispatch_uid="shipworthy")
    inner = innermost(app)
    if made_with(inner) == ("Litestar", "asgi") and _litestar_error not in inner.after_exception:
        inner.after_exception.append(_litestar_error)


def made_with(app: Any) -> tuple[str, Kind] | None:
    """Return the name and kind of the framework that `app` is an application of."""
    for cls in type(app).__mro__:
        found = _KNOWN.get((cls.__module__.partition(".")[0], cls.__name__))
        if found is not None:
            return found
    return None


def _interface(app: Any) -> Kind:
    if not callable(app):
        raise TargetInvalid(
            f"what was found is of type {type(app).__name__} and no application: expected "
            f"something to call, ASGI with (scope, receive, send) or WSGI with (environ, "
            f"start_response)"
        )
    call = app if inspect.isroutine(app) or inspect.isclass(app) else type(app).__call__
    names = _parameters(app)
    count = -1 if names is None else len(names)
    # ASGI 2 is called twice, first with the scope; one argument of another name makes something.
    if count == 3 or names == ["scope"] or (inspect.iscoroutinefunction(call) and count != 0):
        return "asgi"
    if count == 2:
        return "wsgi"
    name = getattr(app, "__qualname__", type(app).__qualname__)
    raise TargetInvalid(
        f"{name} takes {_counted(count)}, so it is neither ASGI, called with (scope, receive, "
        f"send), nor WSGI, called with (environ, start_response)" + _made_by(names)
    )


def _counted(count: int) -> str:
    if count < 0:
        return "arguments of its own"
    return "one argument" if count == 1 else f"{count} arguments"


def _made_by(names: list[str] | None) -> str:
    if names == []:
        return "; write it with () if it makes the application"
    if names is not None and len(names) == 1:
        return f"; if it makes the application, give '{names[0]}' a default and write it with ()"
    return ""


def _parameters(app: Any) -> list[str] | None:
    """Return the names of what a call must give by place, None where nobody can tell."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    placed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in placed and p.default is p.empty]


async def _call_double(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope)(receive, send)


def _note_route(rule: Any) -> None:
    record = current_request()
    if record is None or rule is None:
        return
    # What it is mounted in may know its place, as `/shop/{path}`.
    facts = record.facts
    place = UNMATCHED if facts is None else facts.route_of(record.scope)
    prefix = place.removesuffix("/{path}") if place.endswith("/{path}") else ""
    record.route = f"{prefix}{rule.rule}"


def _rule_of(request: Any, adapter: Any) -> Any:
    """Return the rule of a request, also of one that the router itself answers: 308 and 405."""
    error = request.routing_exception
    if error is None or adapter is None:
        return request.url_rule
    methods, target = getattr(error, "valid_methods", None), getattr(error, "new_url", None)
    try:
        if methods:
            rule, _ = adapter.match(method=next(iter(methods)), return_rule=True)
        elif target:
            below = urlsplit(target).path.removeprefix(adapter.script_name.rstrip("/"))
            rule, _ = adapter.match(unquote(below), return_rule=True)
        else:
            return None
    except Exception:  # noqa: BLE001 - its word for a path without a route, which this is then
        return None
    return rule


def _note_error(error: BaseException | None) -> None:
    record = current_request()
    if record is not None:
        record.error = error


def _flask_route(_sender: Any, **_extra: Any) -> None:
    import flask

    _note_route(_rule_of(flask.request, flask.globals.request_ctx.url_adapter))


def _flask_error(_sender: Any, *, exception: BaseException, **_extra: Any) -> None:
    _note_error(exception)


# Quart would call a plain function in a thread.
async def _quart_route(_sender: Any, **_extra: Any) -> None:
    import quart

    _note_route(_rule_of(quart.request, quart.globals.request_ctx.url_adapter))


async def _quart_websocket(_sender: Any, **_extra: Any) -> None:
    import quart

    _note_route(quart.websocket.url_rule)


async def _quart_error(_sender: Any, *, exception: BaseException, **_extra: Any) -> None:
    _note_error(exception)


def _django_error(**_extra: Any) -> None:
    _note_error(sys.exc_info()[1])


async def _litestar_error(error: Exception, _scope: Any) -> None:
    from litestar.exceptions import HTTPException

    # Litestar tells of every exception; these are answers.
    if not isinstance(error, HTTPException):
        _note_error(error)
