"""A server of the simplest kind: it asks an application once and keeps what it was told."""

import asyncio
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from shipworthy import db, outbound
from shipworthy.assembly import Hardened, harden
from shipworthy.events import listen
from shipworthy.settings import load


@dataclass
class Told:
    """What an application told the server: its messages, and what it raised."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    scope: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.sent if m["type"].endswith("response.start")), 0)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [tuple(h) for m in self.sent for h in m.get("headers", ())]

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    def one(self, name: bytes) -> bytes:
        (value,) = self.all(name)
        return value


class Boom(Exception):
    """What the applications of these tests raise."""


Ask = Callable[..., Any]


def http_scope(path: str = "/", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": ("10.0.0.7", 40000),
        "server": ("127.0.0.1", 80),
        "state": {},
        **more,
    }


async def ask_once(
    app: Any,
    path: str = "/",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: Iterable[bytes] = (b"",),
    leaves: bool = False,
    **scope: Any,
) -> Told:
    """Send one request; the client `leaves` after its body or waits for the whole answer."""
    told = Told(scope=http_scope(path, **scope))
    if told.scope["type"] == "websocket":
        del told.scope["method"]
    told.scope["headers"] = [(b"host", b"test"), *headers]
    parts = list(body)
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if told.scope["type"] == "websocket" and parts:
            parts.clear()
            return {"type": "websocket.connect"}
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        if not leaves:
            await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        told.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            over.set()

    try:
        await app(told.scope, receive, send)
    except Exception as error:
        told.error = error
    return told


@pytest.fixture
def ask() -> Ask:
    return ask_once


@pytest.fixture
def hull(tmp_path: Path) -> Iterator[Callable[..., Hardened]]:
    """Harden an application with settings of the test's own, and without access lines."""

    made = []

    def make(app: Any, **environ: str) -> Hardened:
        said = {"SHIPWORTHY_WEB__ACCESS_LOG": "false", **environ}
        made.append(harden(app, settings=load(environ=said, directory=tmp_path)))
        return made[-1]

    yield make
    for hardened in made:
        # Without a lifespan nobody tells the threads of a WSGI application to end.
        pool = getattr(hardened._hull.served, "_pool", None)
        if pool is not None:
            pool.shutdown()


@pytest.fixture
def heard() -> Any:
    """Every event stated during the test."""
    facts: list[Any] = []
    stop = listen(facts.append)
    yield facts
    stop()


@pytest.fixture
def guarded():
    """As under `run`: every engine of the process is protected, and calls out are seen."""
    undo = db.install()
    outbound.install()
    yield undo
    outbound.uninstall()
    undo()


@pytest.fixture(scope="module")
def django_urls():
    # Another module may have been first, in the same process; the routes are ours all the same.
    if not django_settings.configured:
        django_settings.configure(SECRET_KEY="for tests only")
        django.setup()
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
