"""Which route served a request: the template it has in the application's own table of routes.

A template is never made of a path, so their number is bounded by the application and not by its
clients. Everything is read from what the frameworks leave in the scope and from their tables; what
Flask and Quart tell by signals is heard in `frameworks`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Protocol, final

from shipworthy.web.frameworks import innermost, made_with, within
from shipworthy.web.line import UNMATCHED, Scope

# How a template ends that leads to where we cannot see further.
OPAQUE = "/{path}"


class RouteTable(Protocol):
    """The routes of one application."""

    def template(self, scope: Scope) -> str:
        """Return the template of the route that a scope took, once the application has seen it.

        `_unmatched` where none is known.
        """
        ...

    def match(self, path: str) -> str:
        """Return the template that a path has, whatever the method; `_unmatched` without one."""
        ...


def routes_of(app: Any) -> RouteTable:
    """Return the routes of `app`, of whatever framework it is and wherever it mounts others."""
    inner = innermost(app)
    mounts = _mounts(app)
    if mounts is not None:
        return DispatchedRoutes(mounts, _own_routes(inner))
    return _own_routes(inner)


def route_finder(app: Any) -> Callable[[Scope], str]:
    """Return what tells from a scope, after the application has seen it, which route it took."""
    return routes_of(app).template


def meant(routes: RouteTable, scope: Scope) -> str:
    """Return the template that a request was meant for, which was answered before a route was met.

    That is a redirect to the path with a slash at its end, or without one, and a 405.
    """
    path = _path(scope)
    found = routes.match(path)
    if found == UNMATCHED:
        found = routes.match(path[:-1] if path.endswith("/") else f"{path}/")
    return found


def owner_finder(app: Any) -> Callable[[str], bool]:
    """Return what tells from the table of routes whether one serves `GET path` and not any path.

    False where the table does not say so: there may be none, or a middleware, or an application
    that is mounted, may answer without a route.
    """
    inner = innermost(app)
    serving: Callable[[str], Any]
    match made_with(inner):
        case ("FastAPI" | "Starlette", _):
            serving = StarletteRoutes(inner).serving
        case ("Litestar", _):
            serving = LitestarRoutes(inner).serving
        case ("Flask" | "Quart", _):

            def serving(path: str) -> Any:
                return _rule_serving(inner, path)

        case ("Django", _):
            serving = DjangoRoutes().serving
        case _:
            return lambda _path: False

    def owns(path: str) -> bool:
        found = serving(path)
        return found is not None and found != serving(f"/{os.urandom(6).hex()}")

    return owns


def joined(prefix: str, below: str) -> str:
    """Return the template of what is mounted: `prefix` ends with `/{path}`, which `below` is."""
    return below if below == UNMATCHED else f"{prefix.removesuffix(OPAQUE)}{below}"


def _own_routes(inner: Any) -> RouteTable:
    match made_with(inner):
        case ("FastAPI" | "Starlette", _):
            return StarletteRoutes(inner)
        case ("Litestar", _):
            return LitestarRoutes(inner)
        case ("Django", _):
            return DjangoRoutes()
        case _:
            return NoRoutes()


@final
class NoRoutes:
    """Of what has no table of routes, or tells by itself which route it takes."""

    def template(self, _scope: Scope) -> str:
        return UNMATCHED

    def match(self, _path: str) -> str:
        return UNMATCHED


# A template, what its paths look like, and the routes below it, where those of another framework.
_Known = tuple[str, re.Pattern[str], RouteTable | None]


@final
class StarletteRoutes:
    """The templates of a Starlette application, found by the endpoint it notes in the scope.

    `scope["route"]` knows nothing of mounts and included routers, so the routes are walked once
    and again when their number changes. An endpoint that serves several templates is told apart by
    the route, where that is noted, and one in an application that is mounted twice by its path.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._walked = -1
        self._all: list[_Known] = []
        self._templates: dict[int, str | list[_Known]] = {}
        # Of endpoints with several templates, those of routes that have one.
        self._of_routes: dict[int, str] = {}
        # Kept alive, so that the id of an endpoint, or of a route, stays its own.
        self._endpoints: list[Any] = []

    def template(self, scope: Scope) -> str:
        """Return the template of the route that the scope has taken."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return UNMATCHED
        found = self._templates.get(id(endpoint))
        if found is None:
            self._look()
            found = self._templates.get(id(endpoint))
        if isinstance(found, str):
            return found
        by_route = self._of_routes.get(id(scope.get("route")))
        if by_route is not None:
            return by_route
        path = _path(scope)
        for text, regex, below in found or ():
            # One that is alone need not be told apart, and what is below may have changed the path.
            if len(found or ()) == 1 or regex.match(path):
                return text if below is None else joined(text, below.template(scope))
        return UNMATCHED

    def match(self, path: str) -> str:
        """Return the template of the first route for the path."""
        self._look()
        for text, regex, below in self._all:
            found = regex.match(path)
            if found:
                return text if below is None else joined(text, below.match(f"/{_rest(found)}"))
        return UNMATCHED

    def serving(self, path: str) -> Any:
        """Return the first route that serves `GET path`, None where there is none."""
        # What is served for one host only is not found by a probe, which asks for an address.
        here = [route for route in self._app.routes if not hasattr(route, "host")]
        for route, template in _paths(here, ""):
            # A websocket has no methods at all; an endpoint that is a class takes any.
            methods = getattr(route, "methods", ())
            takes = methods is None or "GET" in methods
            if takes and _compiled(template)[1].match(path):
                return route
        return None

    def _look(self) -> None:
        if len(self._app.routes) != self._walked:
            self._walk()

    def _walk(self) -> None:
        self._walked = len(self._app.routes)
        self._endpoints = []
        self._all = []
        found: dict[int, list[_Known]] = {}
        of_routes: dict[int, set[str]] = {}
        for route, path in _paths(self._app.routes, ""):
            endpoint = route.endpoint if hasattr(route, "endpoint") else route.app
            template, regex = _compiled(path)
            below = None if hasattr(route, "endpoint") else _foreign(endpoint)
            self._endpoints += (endpoint, route)
            self._all.append((template, regex, below))
            found.setdefault(id(endpoint), []).append(self._all[-1])
            if below is None:
                of_routes.setdefault(id(route), set()).add(template)
        self._templates = {
            key: known if len(known) > 1 or known[0][2] is not None else known[0][0]
            for key, known in found.items()
        }
        self._of_routes = {
            key: next(iter(templates))
            for key, templates in of_routes.items()
            if len(templates) == 1
        }


def _paths(routes: Iterable[Any], prefix: str) -> Iterator[tuple[Any, str]]:
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            # What a router became where FastAPI included it.
            yield from _paths((c.starlette_route or c for c in contexts()), prefix)
            continue
        path = prefix + (getattr(route, "path", None) or "")
        is_leaf = hasattr(route, "endpoint")
        below = [] if is_leaf else _routes_below(route)
        if below:
            yield from _paths(below, path)
        elif is_leaf:
            yield route, path
        elif hasattr(route, "app"):
            # A mount of something that has no routes to be known: static files, a WSGI application.
            yield route, f"{path}/{{path:path}}"


_PARAMETER = re.compile(r"\{([a-zA-Z_]\w*)((?::\w+)?)\}")


def _compiled(path: str) -> tuple[str, re.Pattern[str]]:
    """Return the template of a path of nested routes, and what the paths it stands for look like.

    Each route names its own parameters, so a name may stand in it more than once.
    """
    from starlette.routing import compile_path

    number = count()
    numbered = _PARAMETER.sub(lambda found: f"{{p{next(number)}{found[2]}}}", path)
    return _PARAMETER.sub(r"{\1}", path), compile_path(numbered)[0]


def _rest(found: re.Match[str]) -> str:
    """Return what the last parameter stands for: the path below a mount."""
    return str(found[list(found.re.groupindex)[-1]])


def _routes_below(route: Any) -> Any:
    """Return the routes of a mount or a host, also of an application behind a middleware."""
    inner = innermost(getattr(route, "app", None))
    made = made_with(inner)
    if made is None:
        return getattr(route, "routes", None)
    return inner.routes if made[0] in ("FastAPI", "Starlette") else None


def _foreign(app: Any) -> RouteTable | None:
    """Return the routes of an application of another framework that can be asked for them."""
    inner = innermost(app)
    made = made_with(inner)
    return _own_routes(inner) if made is not None and made[0] in ("Litestar", "Django") else None


def _path(scope: Scope) -> str:
    root = scope.get("app_root_path", scope.get("root_path", ""))
    path: str = scope["path"]
    return path.removeprefix(root)


@final
class LitestarRoutes:
    """The templates of a Litestar application, which notes its own in the scope; not of mounts."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._walked = -1
        self._all: list[_Known] = []
        self._mounts: dict[int, _Known] = {}
        # Kept alive, so that the id of a handler stays its own.
        self._handlers: list[Any] = []

    def template(self, scope: Scope) -> str:
        """Return the template that was noted, or that of the mount whose handler was."""
        noted = scope.get("path_template")
        if noted:
            return str(noted)
        handler = scope.get("route_handler")
        if handler is None:
            return UNMATCHED
        self._look()
        text, _, below = self._mounts.get(id(handler), (UNMATCHED, None, None))
        # Litestar takes the prefix off the path, and what is mounted may have had a copy of it.
        return text if below is None else joined(text, below.match(scope["path"]))

    def match(self, path: str) -> str:
        """Return the template of a route for the path, of those with the fewest parameters."""
        self._look()
        for text, regex, below in self._all:
            found = regex.fullmatch(path)
            if found:
                return text if below is None else joined(text, below.match(found["below"] or "/"))
        return UNMATCHED

    def serving(self, path: str) -> Any:
        """Return the path where a route serves GET for it alone."""
        return path if "GET" in self._app.route_handler_method_map.get(path, ()) else None

    def _look(self) -> None:
        routes = self._app.routes
        if len(routes) == self._walked:
            return
        self._walked = len(routes)
        self._handlers, self._mounts, found = [], {}, []
        for route in routes:
            handler = getattr(route, "route_handler", None)
            known: _Known
            if getattr(handler, "is_mount", False):
                prefix = route.path_format.rstrip("/")
                below = routes_of(handler.fn)  # type: ignore[union-attr]
                known = (
                    f"{prefix}{OPAQUE}",
                    re.compile(f"{re.escape(prefix)}(?P<below>/.*)?"),
                    None if isinstance(below, NoRoutes) else below,
                )
                self._handlers.append(handler)
                self._mounts[id(handler)] = known
            else:
                known = (route.path_format, _litestar_pattern(route.path_components), None)
            found.append((bool(known[2]), len(route.path_parameters), known))
        self._all = [known for _, _, known in sorted(found, key=lambda each: each[:2])]


def _litestar_pattern(components: Iterable[Any]) -> re.Pattern[str]:
    """Return what the paths of a route look like; a slash at the end means nothing to Litestar."""
    parts = []
    for component in components:
        if isinstance(component, str):
            parts.append(re.escape(component))
        else:
            parts.append(".*" if component.full.endswith(":path") else "[^/]+")
    return re.compile("".join(f"/{part}" for part in parts) + "/?")


@final
class DjangoRoutes:
    """The templates of Django, which keeps one table for the process."""

    def template(self, scope: Scope) -> str:
        """Return the template of the path: Django shows its own finding to nobody outside."""
        return self.match(scope["path"].removeprefix(scope.get("root_path", "")))

    def match(self, path: str) -> str:
        """Return the template of the first pattern for the path."""
        found = _django_match(path)
        return UNMATCHED if found is None else f"/{found.route}"

    def serving(self, path: str) -> Any:
        """Return the pattern for the path, None where there is none."""
        found = _django_match(path)
        return None if found is None else found.route


def _django_match(path: str) -> Any:
    from django.urls import Resolver404, resolve

    try:
        return resolve(path)
    except Resolver404:
        return None


@final
class DispatchedRoutes:
    """The templates of applications that stand beside each other under prefixes of the path.

    As the dispatchers of Werkzeug and Hypercorn have them, which leave no trace in the scope.
    """

    def __init__(self, mounts: Mapping[str, Any], rest: RouteTable) -> None:
        # The longest first, which is how Werkzeug looks.
        below = [
            (prefix.rstrip("/"), routes_of(app))
            for prefix, app in sorted(mounts.items(), key=lambda item: -len(item[0]))
        ]
        # What is below no prefix serves the rest.
        self._rest = next((routes for prefix, routes in below if not prefix), rest)
        self._below = [entry for entry in below if entry[0]]

    def template(self, scope: Scope) -> str:
        """Return the template by the path, or what the application without a prefix noted."""
        found = self._found(_path(scope))
        return self._rest.template(scope) if found is None else found

    def match(self, path: str) -> str:
        """Return the template by the path."""
        found = self._found(path)
        return self._rest.match(path) if found is None else found

    def _found(self, path: str) -> str | None:
        for prefix, below in self._below:
            if path == prefix or path.startswith(f"{prefix}/"):
                if isinstance(below, NoRoutes):
                    return f"{prefix}{OPAQUE}"
                return joined(prefix, below.match(path[len(prefix) :] or "/"))
        return None


def _mounts(app: Any) -> Mapping[str, Any] | None:
    """Return what a dispatcher around or within `app` has under which prefix, None without one."""
    for layer in within(app):
        mounts = getattr(layer, "mounts", None)
        if isinstance(mounts, Mapping):
            return mounts
    return None


def _rule_serving(app: Any, path: str) -> Any:
    # A rule that ends with a slash redirects to itself.
    for rule in app.url_map.iter_rules():
        is_get = not rule.websocket and (rule.methods is None or "GET" in rule.methods)
        if rule.rule in (path, f"{path}/") and is_get:
            return rule
    return None
