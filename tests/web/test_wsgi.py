"""WSGI applications behind `WsgiApp`: real frameworks, real sockets, and every way to go wrong."""

import asyncio
import contextvars
import gc
import io
import itertools
import socket
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

import django
import flask
import pytest
import uvicorn
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path as django_path
from hypothesis import given, strategies as st

from shipworthy.errors import Rejected
from shipworthy.web.wsgi import ClientGone, ThreadsBusy, WsgiApp, WsgiInput, environ_of

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
HUNDRED_MB = [b"x" * 65536] * 1600
COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@dataclass
class Client:
    """An ASGI server and its client in one: asks `app`, keeps what comes back."""

    app: Callable[..., Any]
    chunks: Iterable[bytes] = ()
    scope: dict[str, Any] = field(default_factory=dict)
    vanish: bool = False  # after the last chunk of an unfinished body
    messages: list[dict[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    keep: bool = True

    async def ask(self, method: str = "GET", path: str = "/", **headers: str) -> "Client":
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin-1"))
                for name, value in headers.items()
            ],
            "client": ("203.0.113.9", 4711),
            "server": ("testserver", 8080),
        } | self.scope
        self._rest = iter(self.chunks)
        self._next = next(self._rest, None)
        self._over = False
        await self.app(self.scope, self._receive, self._send)
        return self

    async def _receive(self) -> dict[str, Any]:
        if self._over:
            await self.left.wait()
            return {"type": "http.disconnect"}
        chunk, self._next = self._next or b"", next(self._rest, None)
        more = self._next is not None or self.vanish
        if self._next is None:
            self._over = True
            if self.vanish:
                self.left.set()
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def _send(self, message: dict[str, Any]) -> None:
        if self.keep or message["type"] != "http.response.body":
            self.messages.append(message)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        ends = [message for message in self.messages[1:] if not message.get("more_body")]
        return len(ends) == 1 and self.messages[-1] is ends[0]


class Closing:
    """An answer that counts how often it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def wsgi(app: Callable[..., Any], **options: Any) -> AsyncIterator[WsgiApp]:
    adapted = WsgiApp(app, **options)
    try:
        yield adapted
    finally:
        await asyncio.wait_for(adapted.stop(), 10)


def plain(body: bytes = b"hello", status: str = "200 OK", *headers: tuple[str, str]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return [body]

    return app


# --- the answer


async def test_an_answer_of_one_known_piece_is_one_message_with_its_length() -> None:
    """A list of one chunk gets a Content-Length and is sent as one body message."""
    async with wsgi(plain(b"hello", "201 Created", ("X-Who", "caf\xe9"))) as app:
        seen = await Client(app).ask()

    assert (seen.status, seen.body, len(seen.messages)) == (201, b"hello", 2)
    assert seen.headers == {b"x-who": b"caf\xe9", b"content-length": b"5"}
    assert seen.complete


async def test_every_chunk_is_taken_before_the_next_is_asked_for() -> None:
    """A chunk is with the server before the application makes the next one."""
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for number in (b"1", b"2", b"3"):
            seen.append(f"made {number.decode()}")
            yield number

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            seen.append(f"took {message['body'].decode()}")

    async with wsgi(app) as adapted:
        client = Client(adapted)
        client._send = send  # type: ignore[method-assign]
        await client.ask()

    assert seen == ["made 1", "took 1", "made 2", "took 2", "made 3", "took 3"]


async def test_the_end_of_a_promised_length_ends_the_message_and_the_code_after_it_runs() -> None:
    """The chunk that fulfils Content-Length is the last message; the generator still finishes."""
    finished = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        yield b"ab"
        yield b"cd"
        finished.append(True)

    async with wsgi(app) as adapted:
        seen = await Client(adapted).ask()

    assert [m["more_body"] for m in seen.messages[1:]] == [True, False]
    assert finished == [True]


@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"abc", b"def", b"ghi"]], ids=["one", "more"])
async def test_what_is_more_than_the_promised_length_is_left_out_and_said(
    chunks: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """No byte beyond Content-Length is sent, and a warning says that there were some."""
    answer = Closing(chunks)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        return answer

    async with wsgi(app) as adapted:
        seen = await Client(adapted).ask()

    assert (seen.body, seen.complete, answer.closed) == (b"abcd", True, 1)
    assert "more than its Content-Length" in caplog.text


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", "200 OK", b"5"), ("GET", "204 No Content", None), ("GET", "304 Not Modified", None)],
)
async def test_an_answer_that_has_no_body_gets_none(
    method: str, status: str, length: bytes | None
) -> None:
    """HEAD, 204 and 304 send the head and an empty end, and `close` is called."""
    answer = Closing([b"hello"])

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, [("Content-Length", "5")] if length else [])
        return answer

    async with wsgi(app) as adapted:
        seen = await Client(adapted).ask(method)

    assert (seen.body, seen.complete, answer.closed) == (b"", True, 1)
    assert seen.headers.get(b"content-length") == length


async def test_head_of_an_endless_stream_ends() -> None:
    """HEAD sends the head after the first chunk and does not wait for a stream to end."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return itertools.repeat(b"tick")

    async with wsgi(app) as adapted:
        seen = await asyncio.wait_for(Client(adapted).ask("HEAD"), 5)

    assert (seen.status, seen.body, seen.complete) == (200, b"", True)


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]], ids=["none", "one", "two"])
async def test_an_empty_answer_has_a_length_of_zero(chunks: list[bytes]) -> None:
    """No chunk, or only empty ones: the head says that nothing comes."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return chunks

    async with wsgi(app) as adapted:
        seen = await Client(adapted).ask()

    assert (seen.headers, seen.body, seen.complete) == ({b"content-length": b"0"}, b"", True)


async def test_write_sends_at_once_and_before_what_is_returned() -> None:
    """The callable of `start_response` sends; the iterable comes after it."""
    taken: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"first ")
        taken.append(len(client.messages))
        return [b"second"]

    async with wsgi(app) as adapted:
        client = Client(adapted)
        await client.ask()

    assert (client.body, taken, client.complete) == (b"first second", [2], True)


async def test_hop_by_hop_headers_stay_behind() -> None:
    """What a server says to its peer, an application cannot say."""
    headers = (("Connection", "close"), ("Transfer-Encoding", "chunked"), ("X-Kept", "1"))

    async with wsgi(plain(b"x", "200 OK", *headers)) as app:
        seen = await Client(app).ask()

    assert seen.headers == {b"x-kept": b"1", b"content-length": b"1"}


# --- errors


async def test_an_error_before_start_response_is_the_callers_and_nothing_was_sent() -> None:
    """The exception comes out of the ASGI call, so that the guard for problems answers."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise LookupError("no such thing")

    async with wsgi(app) as adapted:
        client = Client(adapted)
        with pytest.raises(LookupError, match="no such thing"):
            await client.ask()

    assert client.messages == []


async def test_an_error_before_the_first_chunk_is_the_callers_and_nothing_was_sent() -> None:
    """`start_response` alone sends nothing (PEP 3333), so there is still time for a 500."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        raise LookupError("too late for 200")

    async with wsgi(app) as adapted:
        client = Client(adapted)
        with pytest.raises(LookupError):
            await client.ask()

    assert client.messages == []


async def test_an_error_after_the_first_chunk_leaves_the_answer_unfinished_and_closed() -> None:
    """A broken stream is never made to look whole; `close` is called once."""
    answer = Closing(1 // (2 - number) * b"x" for number in (1, 2))

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer

    async with wsgi(app) as adapted:
        client = Client(adapted)
        with pytest.raises(ZeroDivisionError):
            await client.ask()

    assert (client.body, client.complete, answer.closed) == (b"x", False, 1)


async def test_start_response_with_an_error_replaces_the_head_while_nothing_was_sent() -> None:
    """An application may change its mind with `exc_info` until the first chunk."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise LookupError
        except LookupError as error:
            start_response("500 Oops", [], (LookupError, error, error.__traceback__))
        return [b"sorry"]

    async with wsgi(app) as adapted:
        seen = await Client(adapted).ask()

    assert (seen.status, seen.headers, seen.body) == (500, {b"content-length": b"5"}, b"sorry")


async def test_start_response_with_an_error_raises_it_once_the_head_is_out() -> None:
    """Too late to replace: the application gets its own error back (PEP 3333)."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x"
        error = LookupError("late")
        start_response("500 Oops", [], (LookupError, error, None))

    async with wsgi(app) as adapted:
        client = Client(adapted)
        with pytest.raises(LookupError, match="late"):
            await client.ask()

    assert not client.complete


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("OK", [], "three digits, got 'OK'"),
        ("200 OK", [("X-A", "b\r\nSet-Cookie: c=1")], "'X-A' holds a line break"),
        ("200 OK", [("X-A\n", "b")], "holds a line break"),
        ("200 OK", [("X-A", "snow \u2603")], "latin-1"),
    ],
    ids=["status", "value", "name", "encoding"],
)
async def test_a_head_that_cannot_be_is_refused(
    status: str, headers: list[tuple[str, str]], error: str
) -> None:
    """A status that is none, an injected line, a character beyond latin-1: an error, not a head."""
    async with wsgi(plain(b"x", status, *headers)) as app:
        client = Client(app)
        with pytest.raises(ValueError, match=error):
            await client.ask()

    assert client.messages == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("twice", "start_response a second time"),
        ("never", "without calling start_response"),
        ("nothing", "without calling start_response"),
        ("text", "answers in bytes, got str"),
        ("stop", "raised StopIteration"),
        ("exit", "raised SystemExit"),
    ],
)
async def test_what_pep_3333_forbids_is_an_error_that_says_so(kind: str, error: str) -> None:
    """A broken application costs its own request, and the message says how it is broken."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[Any]:
        if kind in {"twice", "text"}:
            start_response("200 OK", [])
        match kind:
            case "twice":
                start_response("200 OK", [])
            case "stop":
                raise StopIteration
            case "exit":
                raise SystemExit(3)
        return [] if kind == "nothing" else ["text"] if kind == "text" else [b"x"]

    async with wsgi(app) as adapted:
        with pytest.raises((RuntimeError, TypeError), match=error):
            await asyncio.wait_for(Client(adapted).ask(), 5)


# --- the request


async def test_the_validator_of_the_standard_library_finds_nothing() -> None:
    """wsgiref's validator passes for reading, streaming and an empty answer."""

    @validator
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        body = environ["wsgi.input"]
        lines = [body.readline(), *body.readlines(2), body.read(3), *body]
        environ["wsgi.errors"].flush()
        return [b"|".join(line for line in lines if line)]

    async with wsgi(app) as adapted:
        sent = Client(adapted, chunks=[b"one\ntw", b"o\nthr", b"ee\nfour\nfive"])
        posted = await sent.ask("POST", "/a", content_type="text/plain", content_length="24")
        got = await Client(adapted).ask("GET", "")

    assert posted.body == b"one\n|two\n|thr|ee\n|four\n|five"
    assert got.body == b""


async def test_the_environ_says_what_pep_3333_asks_for() -> None:
    """Every variable of the specification, from the scope that holds something else in each."""
    environ: dict[str, Any] = {}

    def app(seen: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.update(seen)
        return plain()(seen, start_response)

    async with wsgi(app) as adapted:
        client = Client(
            adapted,
            scope={
                "root_path": "/mount",
                "query_string": b"q=%E2%98%83&x=\xe9",
                "scheme": "https",
                "headers": [
                    (b"host", b"example.org"),
                    (b"content-type", b"text/plain"),
                    (b"content-length", b"0"),
                    (b"cookie", b"a=1"),
                    (b"cookie", b"b=2"),
                    (b"accept", b"text/html"),
                    (b"accept", b"*/*"),
                    (b"x-caf\xe9", b"\xe9"),
                    (b"x_forwarded_for", b"10.0.0.1"),
                ],
            },
        )
        await client.ask("PUT", "/mount/caf\u00e9")

    assert client.scope["wsgi.environ"]["PATH_INFO"] == environ["PATH_INFO"]
    del environ["wsgi.input"], environ["wsgi.errors"]
    assert environ == {
        "REQUEST_METHOD": "PUT",
        "SCRIPT_NAME": "/mount",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "q=%E2%98%83&x=\xe9",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "4711",
        "HTTPS": "on",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "0",
        "HTTP_HOST": "example.org",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_ACCEPT": "text/html,*/*",
        "HTTP_X_CAF\xc9": "\xe9",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


@pytest.mark.parametrize(
    ("root", "path", "raw", "script_name", "path_info"),
    [
        ("", "/a", b"/a", "", "/a"),
        ("/m", "/m/a", b"/m/a", "/m", "/a"),
        ("/m/", "/m/a", b"/m/a", "/m", "/a"),
        ("/m", "/m", b"/m", "/m", ""),
        ("/m", "/mother", b"/mother", "/m", "/mother"),
        ("/m", "/a", b"/a", "/m", "/a"),
        ("", "/\ufffd", b"/%FF?q", "", "/\xff"),
    ],
    ids=["root", "mounted", "slash", "exact", "prefix", "stripped", "not UTF-8"],
)
def test_a_mount_is_the_script_name_and_the_path_keeps_its_bytes(
    root: str, path: str, raw: bytes, script_name: str, path_info: str
) -> None:
    """SCRIPT_NAME and PATH_INFO are the parts of the path as bytes, carried in latin-1."""
    scope = {"method": "GET", "root_path": root, "path": path, "raw_path": raw, "headers": []}

    environ = environ_of(scope, WsgiInput(lambda: (b"", False)))

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_a_unix_socket_has_a_name_a_port_and_no_client() -> None:
    """Without an address there is still a valid environ."""
    scope = {"method": "GET", "path": "/", "headers": [], "server": None, "client": None}

    environ = environ_of(scope, WsgiInput(lambda: (b"", False)))

    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


@given(
    chunks=st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\x00", b"\n")), max_size=6),
    steps=st.lists(
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.integers(-1, 9)),
        max_size=8,
    ),
)
def test_the_input_reads_as_a_file_does(chunks: list[bytes], steps: list[tuple[str, int]]) -> None:
    """However the body is cut into messages, reads give what a file with that content gives."""
    messages = iter([*chunks, b""])
    left = len(chunks)

    def next_chunk() -> tuple[bytes, bool]:
        nonlocal left
        left -= 1
        return next(messages), left >= 0

    body, file = WsgiInput(next_chunk), io.BytesIO(b"".join(chunks))

    assert [getattr(body, name)(size) for name, size in steps] == [
        getattr(file, name)(size) for name, size in steps
    ]
    assert list(body) == list(file)
    assert body.read(None) == b""


async def test_a_body_that_is_not_read_is_not_asked_for() -> None:
    """No message is taken from the server, so a client that waits for 100 Continue waits."""
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(10):
            asked += 1
            yield b"x"

    async with wsgi(plain(b"no", "413 Too Large")) as app:
        seen = await Client(app, chunks=chunks()).ask("POST")

    assert (seen.status, asked) == (413, 1)  # the one that the test's client holds


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_hundred_megabytes_pass_in_bounded_memory(direction: str) -> None:
    """A body of 100 MB, in either direction, never has more than a few chunks in memory."""
    received = 0

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        nonlocal received
        while chunk := environ["wsgi.input"].read(65536):
            received += len(chunk)
        start_response("200 OK", [])
        yield from HUNDRED_MB if direction == "down" else [b"ok"]

    async with wsgi(app) as adapted:
        client = Client(adapted, chunks=HUNDRED_MB if direction == "up" else (), keep=False)
        sent = 0

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += len(message.get("body", b""))

        client._send = send  # type: ignore[method-assign]
        tracemalloc.start()
        try:
            await client.ask("POST")
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert (received, sent) == ((104857600, 2) if direction == "up" else (0, 104857600))
    assert peak_bytes < 4 * MIB


# --- the context


async def test_the_context_of_the_caller_holds_in_the_call_the_iteration_and_close() -> None:
    """Context variables reach all of the application's work, in one thread, and stay there."""
    seen: list[tuple[str, str]] = []

    def note(where: str) -> None:
        seen.append((where, COLOUR.get()))
        threads.add(threading.get_ident())

    class Answer(Closing):
        def close(self) -> None:
            note("close")

    def chunks() -> Iterator[bytes]:
        note("iteration")
        yield b"x"

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        note("call")
        COLOUR.set("of the request")
        start_response("200 OK", [])
        return Answer(chunks())

    threads: set[int] = set()
    COLOUR.set("of the caller")
    async with wsgi(app) as adapted:
        await Client(adapted).ask()

    assert seen == [
        ("call", "of the caller"),
        ("iteration", "of the request"),
        ("close", "of the request"),
    ]
    assert COLOUR.get() == "of the caller"
    assert len(threads) == 1
    assert threading.get_ident() not in threads


# --- clients that leave


async def test_a_client_that_leaves_in_its_body_is_an_error_where_it_is_read() -> None:
    """No truncated body is read as a whole one, and the request ends without noise."""
    caught: list[OSError] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            caught.append(error)
            raise
        return plain()(environ, start_response)

    async with wsgi(app) as adapted:
        client = Client(adapted, chunks=[b"half"], vanish=True)
        await client.ask("POST")

    assert [type(error) for error in caught] == [ClientGone]
    assert client.messages == []


async def test_a_client_that_leaves_a_stream_ends_it_and_it_is_closed_once() -> None:
    """An endless stream notices that nobody listens, though the server takes every message."""
    answer = Closing(itertools.repeat(b"tick"))

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer

    async with wsgi(app) as adapted:
        client = Client(adapted, keep=False)
        asking = asyncio.create_task(client.ask())
        await asyncio.sleep(0)
        client.left.set()
        await asyncio.wait_for(asking, 5)

    assert answer.closed == 1


async def test_a_server_that_raises_on_a_lost_connection_ends_the_answer_too() -> None:
    """`OSError` out of `send`, which ASGI allows, is the client's leaving."""
    answer = Closing([b"a", b"b"])

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer

    async def send(message: dict[str, Any]) -> None:
        raise BrokenPipeError

    async with wsgi(app) as adapted:
        client = Client(adapted)
        client._send = send  # type: ignore[method-assign]
        await client.ask()

    assert answer.closed == 1


async def test_what_a_stream_found_while_looking_for_the_client_is_still_read() -> None:
    """An application that answers while it reads gets every message of the body, in order."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"echo:"
        yield b" "
        while chunk := environ["wsgi.input"].read(3):
            yield chunk

    async with wsgi(app) as adapted:
        seen = await Client(adapted, chunks=[b"one", b"two", b"six"]).ask("POST")

    assert (seen.body, seen.complete) == (b"echo: onetwosix", True)


async def test_a_request_leaves_nothing_for_the_garbage_collector() -> None:
    """What the application put into its environ is free as soon as the request is over."""

    class Cargo:
        pass

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["cargo"] = cargo = Cargo()
        kept.append(weakref.ref(cargo))
        environ["wsgi.input"].read()
        return plain()(environ, start_response)

    kept: list[weakref.ref[Cargo]] = []
    gc.disable()
    try:
        async with wsgi(app) as adapted:
            client = await Client(adapted).ask()
            assert kept[0]() is not None
            client.scope.clear()

        assert kept[0]() is None
    finally:
        gc.enable()


# --- bounds


class Gate:
    """An application whose requests wait inside until told."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.open = threading.Event()
        self.most = self.now = 0
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.inside.release()
        self.open.wait(10)
        with self.lock:
            self.now -= 1
        return plain()(environ, start_response)

    async def entered(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.inside.acquire, timeout=5)


async def test_threads_and_the_line_for_them_are_bounded() -> None:
    """Two work, three wait, the next is refused at once; and all that waited are served."""
    gate = Gate()

    async with wsgi(gate, threads=2, waiting=3) as app:
        asked = [asyncio.create_task(Client(app).ask()) for _ in range(5)]
        await gate.entered(2)
        with pytest.raises(ThreadsBusy, match="all 2 threads work and 3 requests wait") as refused:
            await Client(app).ask()
        gate.open.set()
        answers = await asyncio.gather(*asked)

    assert isinstance(refused.value, Rejected)
    assert (refused.value.status, refused.value.retry_after_seconds) == (503, 1.0)
    assert [answer.status for answer in answers] == [200] * 5
    assert gate.most == 2


async def test_a_wait_for_a_thread_ends_in_time_and_costs_no_seat() -> None:
    """Whoever waited too long is refused, and later requests are served as before."""
    gate = Gate()

    async with wsgi(gate, threads=1, waiting=5, wait_seconds=0.01) as app:
        first = asyncio.create_task(Client(app).ask())
        await gate.entered(1)
        with pytest.raises(ThreadsBusy, match=r"none of 1 threads was free within 0\.01 s"):
            await Client(app).ask()
        gate.open.set()
        await first
        again = await Client(app).ask()

    assert again.status == 200


async def test_a_cancelled_wait_passes_the_seat_on() -> None:
    """Requests cancelled in line, also in the moment they are seated, lose no seat."""
    gate = Gate()

    async with wsgi(gate, threads=1, waiting=5) as app:
        first = asyncio.create_task(Client(app).ask())
        await gate.entered(1)
        waiting = [asyncio.create_task(Client(app).ask()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        app._seats.give()  # the second is seated,
        waiting[1].cancel()  # and cancelled before it runs
        gate.open.set()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [type(answer) for answer in answers] == [
        Client,
        asyncio.CancelledError,
        asyncio.CancelledError,
        Client,
    ]


@pytest.mark.parametrize("steps", [0, 1, 2], ids=["before", "seated", "at work"])
async def test_a_seat_given_to_a_request_that_is_cancelled_is_not_lost(steps: int) -> None:
    """Whether it was on its way, already given or in use: it is free again."""
    gate = Gate()

    async with wsgi(gate, threads=1) as app:
        first = asyncio.create_task(Client(app).ask())
        await gate.entered(1)
        second = asyncio.create_task(Client(app).ask())
        await asyncio.sleep(0)
        app._seats.give()
        for _ in range(steps):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.open.set()
        await first

    assert app._seats._free == 2  # its own, and the one given by hand


async def test_cancelling_returns_at_once_and_the_thread_hears_it_and_counts_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller need not wait for a thread that cannot be stopped; nothing more is sent by it."""
    gate = Gate()
    answer = Closing([b"late"])

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate(environ, lambda *_: None)
        start_response("200 OK", [])
        return answer

    async with wsgi(app, threads=1) as adapted:
        client = Client(adapted)
        asking = asyncio.create_task(client.ask())
        await gate.entered(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asking, 1)
        busy = adapted.busy
        gate.open.set()

    assert (busy, adapted.busy) == (1, 0)
    assert (client.messages, answer.closed) == ([], 1)
    assert caplog.records == []


async def test_an_error_after_the_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody can be told any more is at least in the log."""
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate(environ, lambda *_: None)
        raise LookupError("after the end")

    async with wsgi(app, threads=1) as adapted:
        asking = asyncio.create_task(Client(adapted).ask())
        await gate.entered(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gate.open.set()

    assert "failed after its client had gone" in caplog.text
    assert "after the end" in caplog.text


async def test_cancelling_wakes_a_thread_that_waits_for_a_slow_client() -> None:
    """A thread held by a client that takes nothing is let go with the request."""
    answer = Closing(itertools.repeat(b"x"))
    stuck = asyncio.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer

    async def send(message: dict[str, Any]) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with wsgi(app) as adapted:
        client = Client(adapted)
        client._send = send  # type: ignore[method-assign]
        asking = asyncio.create_task(client.ask())
        await stuck.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(adapted.stop(), 5)

    assert answer.closed == 1


def test_a_loop_that_is_gone_ends_the_thread_and_keeps_the_seats() -> None:
    """An event loop closed within a request leaves no thread waiting and no seat taken."""
    gate = Gate()
    app = WsgiApp(gate, threads=1)

    async def abandon() -> None:
        waiting = [asyncio.create_task(Client(app).ask()) for _ in range(2)]
        await gate.entered(1)
        del waiting

    loop = asyncio.new_event_loop()
    loop.run_until_complete(abandon())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gate.open.set()

    async def again() -> Client:
        answer = await asyncio.wait_for(Client(app).ask(), 5)
        await app.stop()
        return answer

    assert asyncio.run(again()).status == 200


# --- not HTTP


async def test_lifespan_waits_for_the_threads_and_may_begin_again() -> None:
    """Shutdown is complete when no thread works; the same adapter then starts anew."""
    gate = Gate()
    app = WsgiApp(gate)
    messages: list[str] = []
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: Any) -> None:
        messages.append(message["type"])

    life = asyncio.create_task(app({"type": "lifespan"}, received.get, send))
    await received.put({"type": "lifespan.startup"})
    asking = asyncio.create_task(Client(app).ask())
    await gate.entered(1)
    await received.put({"type": "lifespan.shutdown"})
    await asyncio.sleep(0.01)
    assert messages == ["lifespan.startup.complete"]
    gate.open.set()
    await asking
    await life

    assert messages == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (await Client(app).ask()).status == 200
    await app.stop()


async def test_a_websocket_is_refused() -> None:
    """WSGI has no websockets: the handshake is closed before it is accepted."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await WsgiApp(plain())({"type": "websocket"}, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1000}]


# --- frameworks


def flask_app() -> Any:
    app = flask.Flask("harbour")

    @app.post("/echo/<name>")
    def echo(name: str) -> Any:
        return {"name": name, "got": flask.request.get_data(as_text=True), "colour": COLOUR.get()}

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(f"{number}\n" for number in range(3))

    @app.get("/broken")
    def broken() -> Any:
        raise LookupError

    return app


class DjangoUrls:
    """A Django URL configuration, as an object, so that no other test's is in its way."""

    @staticmethod
    def echo(request: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse(f"{name} {request.body.decode()} {COLOUR.get()}")

    @staticmethod
    def stream(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(f"{number}\n" for number in range(3))


DjangoUrls.urlpatterns = [  # type: ignore[attr-defined]
    django_path("echo/<str:name>", DjangoUrls.echo),
    django_path("stream", DjangoUrls.stream),
]


@pytest.fixture
def django_app() -> Iterator[Any]:
    if not django_settings.configured:
        django_settings.configure(SECRET_KEY="for tests only")
    django.setup()
    with override_settings(
        ROOT_URLCONF=DjangoUrls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], LOGGING_CONFIG=None
    ):
        yield get_wsgi_application()


async def test_flask_echoes_streams_and_answers_its_own_errors() -> None:
    """A Flask application behaves as under any WSGI server, with the caller's context."""
    COLOUR.set("blue")
    async with wsgi(flask_app()) as app:
        echoed = await Client(app, chunks=[b"on", b"e"]).ask(
            "POST", "/echo/b\u00f8je", content_length="3"
        )
        streamed = await Client(app).ask("GET", "/stream")
        head = await Client(app).ask("HEAD", "/stream")
        broken = await Client(app).ask("GET", "/broken")
        missing = await Client(app).ask("GET", "/none")

    assert flask.json.loads(echoed.body) == {"name": "b\u00f8je", "got": "one", "colour": "blue"}
    assert (streamed.body, streamed.complete) == (b"0\n1\n2\n", True)
    assert (head.status, head.body) == (200, b"")
    assert (broken.status, missing.status) == (500, 404)


async def test_django_echoes_and_streams(django_app: Any) -> None:
    """A Django WSGI application behaves as under any WSGI server, with the caller's context."""
    COLOUR.set("blue")
    async with wsgi(django_app) as app:
        echoed = await Client(app, chunks=[b"on", b"e"]).ask(
            "POST", "/echo/b\u00f8je", content_length="3"
        )
        streamed = await Client(app).ask("GET", "/stream")
        missing = await Client(app).ask("GET", "/none")

    assert echoed.body.decode() == "b\u00f8je one blue"
    assert (streamed.body, streamed.complete) == (b"0\n1\n2\n", True)
    assert missing.status == 404


# --- real sockets


@asynccontextmanager
async def served(app: WsgiApp) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve with uvicorn and connect to it."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", loop="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await asyncio.wait_for(serving, 10)


@pytest.mark.slow
async def test_a_client_that_does_not_read_stops_the_application() -> None:
    """Over a real connection the application runs ahead of its reader by socket buffers only."""
    made = 0
    gone = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        try:
            while made < 200 * MIB:
                made += 65536
                yield b"x" * 65536
        finally:
            gone.set()

    async with wsgi(app) as adapted, served(adapted) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != made:  # until it stands still
            before = made
            await asyncio.sleep(0.2)
        writer.transport.abort()
        ended = await asyncio.to_thread(gone.wait, 5)

    assert before < 32 * MIB
    assert ended


@pytest.mark.slow
async def test_a_client_that_breaks_off_its_upload_frees_the_thread() -> None:
    """Over a real connection a lost upload is an error in the application, at once."""
    caught: list[str] = []
    reading = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        reading.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            caught.append(type(error).__name__)
            raise
        return plain()(environ, start_response)

    async with wsgi(app) as adapted, served(adapted) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf")
        assert await asyncio.to_thread(reading.wait, 5)
        writer.transport.abort()
        await asyncio.wait_for(adapted.stop(), 5)

    assert caught == ["ClientGone"]


def test_how_many_threads_there_are_is_not_for_clients():
    """The log has it."""
    error = ThreadsBusy("all 40 threads work and 200 requests wait for one")

    assert "40" in str(error)
    assert "thread" not in error.public_detail
