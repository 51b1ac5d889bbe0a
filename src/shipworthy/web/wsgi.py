"""A WSGI application as an ASGI one: in threads, streamed both ways, and bounded.

The application's whole work for a request (the call, the iteration over its answer, `close()`)
happens in one thread and in one copy of the caller's context. The thread hands messages to the
event loop and waits until each was taken, so a slow client holds its thread and nobody's memory.

Not here: how long a client may take (the server), and how large a body may be (a guard).
"""

import asyncio
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Any, TypeVar, final
from urllib.parse import unquote_to_bytes

from typing_extensions import override

from shipworthy.errors import Rejected
from shipworthy.web.line import Message, Receive, Scope, Send

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WsgiCallable = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
T = TypeVar("T")

# A server's business between it and the client, not the application's (PEP 3333, RFC 9110).
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "trailers", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_FORBIDDEN = re.compile(r"[\r\n\0]")
_RETRY_AFTER_SECONDS = 1.0
_GONE = "the client left, or its request was cancelled"

_log = logging.getLogger("shipworthy.web")


class ThreadsBusy(Rejected):
    """Every thread works and the line for one is full, or did not move in time."""

    def __init__(self, because: str) -> None:
        super().__init__(because, retry_after_seconds=_RETRY_AFTER_SECONDS)

    @property
    @override
    def public_detail(self) -> str:
        """Return what a client may be told: not how many threads there are."""
        return "the service has more work than it can take at the moment; send the request again"


class ClientGone(ConnectionError):
    """The client left, or the request was cancelled; raised where the application reads or sends.

    An `OSError`, because that is what WSGI frameworks expect from a broken connection.
    """


@final
class WsgiApp:
    """Serve a WSGI application from ASGI, with at most `threads` requests at work at once.

    Up to `waiting` more stand in line, each for at most `wait_seconds`; whoever comes after them
    gets `ThreadsBusy`. A thread cannot be stopped from outside: when the request is cancelled this
    returns at once, the application hears it on its next read or send, and the thread counts as
    busy until then. The environ of a request is left in `scope["wsgi.environ"]`.
    """

    def __init__(
        self,
        app: WsgiCallable,
        *,
        threads: int = 40,
        waiting: int = 200,
        wait_seconds: float = 10.0,
    ) -> None:
        self.app = app
        self._seats = _Seats(threads, waiting=waiting, wait_seconds=wait_seconds)
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._at_work: set[Future[None]] = set()

    @property
    def busy(self) -> int:
        """How many threads work for a request, also for one that was cancelled."""
        return len(self._at_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.stop()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            # WSGI knows no websockets: to refuse one before it is accepted is a 403.
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def stop(self) -> None:
        """Wait until no thread works; the caller bounds the wait. It may serve again after that."""
        works = [asyncio.wrap_future(work) for work in list(self._at_work)]
        await asyncio.gather(*works, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._seats.take()
        try:
            exchange = _Exchange(receive, send, is_head=scope["method"] == "HEAD")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "shipworthy-wsgi")
            work = self._pool.submit(copy_context().run, exchange.run, self.app, scope)
        except BaseException:
            self._seats.give()
            raise
        self._at_work.add(work)
        work.add_done_callback(self._done)
        try:
            await asyncio.wrap_future(work)
        except ClientGone:
            # Nobody is there to be answered; the application has had its chance to clean up.
            return
        finally:
            exchange.leave()

    def _done(self, work: Future[None]) -> None:
        # In the thread itself, because the loop may be gone by then.
        self._at_work.discard(work)
        self._seats.give()


@final
class _Seats:
    """A bounded number of seats and a bounded line for them. `give` may come from any thread."""

    def __init__(self, seats: int, *, waiting: int, wait_seconds: float) -> None:
        self._all = seats
        self._free = seats
        self._waiting = waiting
        self._wait_seconds = wait_seconds
        self._line: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    async def take(self) -> None:
        """Take a seat, in the order of asking; raises `ThreadsBusy`."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            if len(self._line) >= self._waiting:
                raise ThreadsBusy(
                    f"all {self._all} threads work and {self._waiting} requests wait for one"
                )
            mine = asyncio.get_running_loop().create_future()
            self._line.append(mine)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await mine
        except BaseException as error:
            self._withdraw(mine)
            if isinstance(error, TimeoutError):
                raise ThreadsBusy(
                    f"none of {self._all} threads was free within {self._wait_seconds:g} s"
                ) from None
            raise

    def give(self) -> None:
        """Give a seat back, to the first in line."""
        with self._lock:
            while self._line:
                first = self._line.popleft()
                try:
                    first.get_loop().call_soon_threadsafe(self._seat, first)
                except RuntimeError:
                    # Its loop was closed under it: nobody waits there any more.
                    continue
                return
            self._free += 1

    def _seat(self, first: "asyncio.Future[None]") -> None:
        if first.done():
            self.give()
        else:
            first.set_result(None)

    def _withdraw(self, mine: "asyncio.Future[None]") -> None:
        with self._lock:
            if mine in self._line:
                self._line.remove(mine)
        if mine.done() and not mine.cancelled():
            # Seated and cancelled in the same moment.
            self.give()


@final
class _Exchange:
    """One request between the loop, where its messages are, and the thread, where its work is.

    Coroutines and `leave` run in the loop, everything else in the thread. `_gone` is set by either
    and read by both.
    """

    def __init__(self, receive: Receive, send: Send, *, is_head: bool) -> None:
        # Not the scope: it holds the environ, which holds us, and would wait for the collector.
        self._is_head = is_head
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self._pending: Future[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        # A message of the request that came while we looked for the end of the connection.
        self._ahead: Message | None = None
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._started = False
        self._ended = False
        self._bodiless = False
        # Bytes of the body that may still be sent; None when its length is not known.
        self._room_bytes: int | None = None

    def run(self, app: WsgiCallable, scope: Scope) -> None:
        """Do the whole of the application's work for this request."""
        environ = environ_of(scope, WsgiInput(self._next_chunk))
        scope["wsgi.environ"] = environ
        try:
            self._answer(app(environ, self._start_response))
        except (StopIteration, SystemExit) as error:
            # The one cannot travel through a future, the other would stop the event loop.
            raise RuntimeError(f"the WSGI application raised {error!r}") from error
        except Exception as error:
            if self._gone and not isinstance(error, ClientGone):
                _log.exception("a WSGI application failed after its client had gone")
            raise

    def leave(self) -> None:
        """End what still happens in the loop for this request, and let the thread know."""
        self._lose()
        if self._watch is not None:
            self._watch.cancel()

    def _answer(self, answer: Iterable[bytes]) -> None:
        try:
            alone = isinstance(answer, list | tuple) and len(answer) == 1
            for chunk in answer:
                if not self._write(chunk, alone=alone):
                    break
            self._end()
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Write:
        error = exc_info[1] if exc_info else None
        try:
            if error is not None and self._started:
                raise error
            if error is None and self._head is not None:
                raise RuntimeError("the WSGI application called start_response a second time")
            self._head = _head_of(status, headers)
            return self._write
        finally:
            # The traceback holds this frame, which would hold the traceback.
            del error, exc_info

    def _write(self, chunk: bytes, *, alone: bool = False) -> bool:
        """Send a chunk and wait until it was taken; False when there is no place for more.

        An empty chunk sends nothing, not even the head, which may still be replaced (PEP 3333).
        """
        if not isinstance(chunk, bytes):
            raise TypeError(f"a WSGI application answers in bytes, got {type(chunk).__name__}")
        if not chunk:
            return True
        head = [] if self._started else [self._start(len(chunk) if alone else None)]
        fits = chunk[: self._room_bytes]
        if self._room_bytes is not None:
            self._room_bytes -= len(fits)
        if not self._ended:
            self._ended = self._room_bytes == 0
            self._deliver(*head, _body(fits, more=not self._ended))
        if len(fits) < len(chunk) and not self._bodiless:
            _log.warning("a WSGI application sent more than its Content-Length; that was left out")
        return len(fits) == len(chunk)

    def _end(self) -> None:
        if not self._ended:
            head = [] if self._started else [self._start(0)]
            self._ended = True
            self._deliver(*head, _body(b"", more=False))

    def _start(self, length_bytes: int | None) -> Message:
        """Return the head to send now; `length_bytes` is the whole body's, where it is known."""
        if self._head is None:
            raise RuntimeError("the WSGI application answered without calling start_response")
        status, headers = self._head
        never = status < 200 or status in (204, 304)
        self._bodiless = self._is_head or never
        promised = next((value for name, value in headers if name == b"content-length"), None)
        if promised is None and length_bytes is not None and not never:
            if length_bytes or not self._is_head:
                headers.append((b"content-length", b"%d" % length_bytes))
            promised = b"%d" % length_bytes
        if self._bodiless:
            self._room_bytes = 0
        elif promised is not None:
            self._room_bytes = int(promised)
        self._started = True
        return {"type": "http.response.start", "status": status, "headers": headers}

    def _deliver(self, *messages: Message) -> None:
        self._in_loop(self._send_all(messages))

    def _next_chunk(self) -> tuple[bytes, bool]:
        """Return the next bytes of the request's body and whether more come."""
        message = self._in_loop(self._next_message())
        if message["type"] == "http.disconnect":
            raise ClientGone("the client left before its request was complete")
        return message.get("body", b""), message.get("more_body", False)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do `work` and wait for it; raises `ClientGone` once nobody is served."""
        try:
            pending = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            # The loop was closed under us.
            work.close()
            raise ClientGone(_GONE) from None
        self._pending = pending
        if self._gone:
            # `_lose` came before there was anything to cancel.
            pending.cancel()
        try:
            return pending.result()
        except CancelledError:
            raise ClientGone(_GONE) from None
        finally:
            self._pending = None

    async def _send_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if self._gone:
                raise ClientGone(_GONE)
            if message.get("more_body") and self._watch is None:
                # Servers drop in silence what is sent to a client that left, so a stream looks
                # itself. Not earlier: asking for the request's body makes the client send it.
                self._watch = self._loop.create_task(self._look())
            try:
                await self._send(message)
            except OSError as error:
                self._gone = True
                raise ClientGone("the client left during the answer") from error

    async def _next_message(self) -> Message:
        if self._gone:
            raise ClientGone(_GONE)
        if self._ahead is None and self._watch is not None:
            await self._watch
        if self._ahead is None:
            return await self._receive()
        message, self._ahead = self._ahead, None
        if message.get("more_body"):
            self._watch = None
        return message

    async def _look(self) -> None:
        try:
            self._ahead = message = await self._receive()
        except OSError:
            # The rest of the body was refused, and nobody may be there to hear of it.
            self._lose()
            return
        if message["type"] == "http.disconnect":
            self._lose()
        elif not message.get("more_body"):
            # The body is complete, so what comes next can only be the end of the connection.
            self._watch = self._loop.create_task(self._look())

    def _lose(self) -> None:
        self._gone = True
        pending = self._pending
        if pending is not None:
            pending.cancel()


@final
class WsgiInput:
    """`wsgi.input`: the request's body as a file, of which one message at a time is held.

    Ends where the body ends, whatever `Content-Length` says. `read` and `readline` return less
    than asked for only at the end, and raise `ClientGone` when the client left before it.
    """

    def __init__(self, next_chunk: Callable[[], tuple[bytes, bool]]) -> None:
        self._next_chunk = next_chunk
        self._held = bytearray()
        self._over = False

    def read(self, size: int | None = -1) -> bytes:
        bound = _bound(size)
        while len(self._held) < bound and self._more():
            pass
        return self._take(bound)

    def readline(self, size: int | None = -1) -> bytes:
        bound = _bound(size)
        searched = 0
        while True:
            end = self._held.find(b"\n", searched) + 1
            searched = len(self._held)
            if end or searched >= bound or not self._more():
                return self._take(min(end or searched, bound))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        lines: list[bytes] = []
        left = _bound(hint or -1)
        for line in self:
            lines.append(line)
            left -= len(line)
            if left <= 0:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _more(self) -> bool:
        if self._over:
            return False
        chunk, more = self._next_chunk()
        self._held += chunk
        self._over = not more
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


def environ_of(scope: Scope, body: WsgiInput) -> dict[str, Any]:
    """Return the WSGI environ of an ASGI request (PEP 3333: bytes are carried as latin-1 text)."""
    root = scope.get("root_path", "").rstrip("/").encode("utf-8", "surrogateescape")
    path = _path_bytes(scope)
    if root and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :]
    scheme = scope.get("scheme", "http")
    server_name, server_port = scope.get("server") or ("localhost", None)
    client_host, client_port = scope.get("client") or ("", None)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": server_name,
        # A Unix socket has no port: the one the scheme implies.
        "SERVER_PORT": str(server_port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": client_host,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        # Not known here; True is what an application can rely on.
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client_port:
        environ["REMOTE_PORT"] = str(client_port)
    if scheme == "https":
        environ["HTTPS"] = "on"
    for raw_name, raw_value in scope["headers"]:
        if b"_" in raw_name:
            # `X_Real_IP` would arrive under the name of `X-Real-IP`, which only a proxy may set.
            continue
        key = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            key = f"HTTP_{key}"
        if key in environ:
            value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        environ[key] = value
    return environ


def _path_bytes(scope: Scope) -> bytes:
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw and "\ufffd" in path:
        # The path was not UTF-8, and the server put a sign in the place of what it could not read.
        return unquote_to_bytes(raw.partition(b"?")[0])
    return path.encode("utf-8", "surrogateescape")


def _body(chunk: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def _bound(size: int | None) -> int:
    return sys.maxsize if size is None or size < 0 else size


def _head_of(
    status: str, headers: Iterable[tuple[str, str]]
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Return the parts of an ASGI head; raises `ValueError` for what no head may hold."""
    code = status[:3]
    if len(code) != 3 or not code.isdecimal():
        raise ValueError(f"a WSGI status begins with three digits, got {status[:40]!r}")
    found = []
    for name, value in headers:
        if _FORBIDDEN.search(name) or _FORBIDDEN.search(value):
            raise ValueError(f"the response header {name[:40]!r} holds a line break or a NUL")
        key = name.lower()
        if key not in _HOP_BY_HOP:
            found.append((key.encode("latin-1"), value.strip().encode("latin-1")))
    return int(code), found
