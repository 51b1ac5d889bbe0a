"""A pytest plugin: the test clients of Flask and Starlette talk to `harden(app)` instead of `app`.

For `pytest -p hardened_clients` in the suite of an application that knows nothing of us. What a
client sends passes the guards, and what it gets has passed them; the suite's own files, the
application and its settings are as they were. The run fails when no request passed the guards.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar, copy_context
from typing import Any
from urllib.parse import quote

import pytest

from shipworthy import harden

# Frameworks keep what their test client and they say to each other in these keys of the environ.
_PRIVATE = ("werkzeug.", "flask.")
_HEADS = ("http.response.start", "websocket.accept")
_inside: ContextVar[Mapping[str, Any] | None] = ContextVar("inside", default=None)
_passed = 0


def pytest_configure() -> None:
    """Put the guards between the clients and their applications."""
    _between_flask()
    _between_starlette()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many requests went through the guards, so that the run proves what it claims."""
    terminalreporter.write_line(f"requests through the guards: {_passed}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a run in which no guard was passed fail: it would show nothing."""
    if not _passed:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def _between_starlette() -> None:
    try:
        from starlette.testclient import TestClient
    except (ImportError, RuntimeError):  # the latter when its client's own parts are missing
        return
    bare = TestClient.__init__

    def with_guards(self: TestClient, app: Any, *args: Any, **options: Any) -> None:
        bare(self, _counted(harden(app)), *args, **options)

    TestClient.__init__ = with_guards  # type: ignore[method-assign]


def _between_flask() -> None:
    try:
        from flask import Flask
    except ImportError:
        return
    bare = Flask.__call__
    hardened: dict[Flask, Any] = {}

    def with_guards(self: Flask, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        private = _inside.get()
        if private is not None:  # called by the guards
            return bare(self, {**environ, **private}, start)
        if self not in hardened:
            hardened[self] = _counted(harden(self))
        return _ask(hardened[self], environ, start)

    Flask.__call__ = with_guards  # type: ignore[assignment, method-assign]


def _counted(app: Any) -> Callable[..., Awaitable[None]]:
    async def counted(scope: Any, receive: Any, send: Any) -> None:
        async def seen(message: Any) -> None:
            global _passed  # noqa: PLW0603 - it is one for the run
            # The mark of the guards on an answer: exactly one id.
            if message["type"] in _HEADS:
                names = [name.lower() for name, _ in message["headers"]]
                assert names.count(b"x-request-id") == 1
                _passed += 1
            await send(message)

        await app(scope, receive, seen)

    return counted


def _ask(app: Any, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Ask an ASGI application as a WSGI client asks, in the context of the caller."""
    private = {key: value for key, value in environ.items() if key.startswith(_PRIVATE)}
    context = copy_context()
    context.run(_inside.set, private)
    said: list[dict[str, Any]] = []

    async def ask() -> None:
        body = [environ["wsgi.input"].read()]

        async def receive() -> dict[str, Any]:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        await app(_scope(environ), receive, send)

    asyncio.run_coroutine_threadsafe(_in(context, ask()), _loop()).result()
    head, parts = said[0], said[1:]
    start(
        f"{head['status']} -",
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head["headers"]],
    )
    return [part.get("body", b"") for part in parts]


async def _in(context: Any, work: Any) -> None:
    await asyncio.get_running_loop().create_task(work, context=context)


def _scope(environ: Mapping[str, Any]) -> dict[str, Any]:
    headers = [
        (name[5:].replace("_", "-").lower().encode(), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    headers += [
        (name.replace("_", "-").lower().encode(), environ[name].encode("latin-1"))
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    ]
    root, path = (environ[name].encode("latin-1") for name in ("SCRIPT_NAME", "PATH_INFO"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": (root + path).decode(),
        "raw_path": quote(root + path).encode(),
        "root_path": root.decode(),
        "query_string": environ["QUERY_STRING"].encode("latin-1"),
        "headers": headers,
        "client": (environ["REMOTE_ADDR"], 0) if environ.get("REMOTE_ADDR") else None,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
    }


_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop that all requests are served in, in a thread of its own."""
    if not _loops:
        _loops.append(asyncio.new_event_loop())
        threading.Thread(target=_loops[0].run_forever, daemon=True).start()
    return _loops[0]
