"""The server engine of a worker: accepts, answers, and leaves in steps when told.

`ServerEngine` is the seam; uvicorn embedded is the one engine behind it. uvicorn parses HTTP and
websockets, ours are the listening, the draining and the counting.
"""

import asyncio
import contextlib
import inspect
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence, Set as AbstractSet
from email.utils import formatdate
from typing import Any, Protocol

import uvicorn

from shipworthy.lifecycle import cancel_outside_commits
from shipworthy.serve.protocol import (
    Cancel,
    Census,
    ConnectionRules,
    Connections,
    LeavingHttpProtocol,
    Told,
    cancel_at_once,
    close_websocket,
    end_connection,
    told_nobody,
)
from shipworthy.serve.sockets import is_local
from shipworthy.web import spread_seconds

# A request head that has not ended this long after the listeners closed is given up (L18); while
# serving it has `ConnectionRules.header_seconds`.
HALF_HEAD_SECONDS = 1.0


class ServerEngine(Protocol):
    """What a worker asks of the thing that speaks HTTP. All methods belong to the worker's loop."""

    async def start(self, sockets: Sequence[socket.socket], state: dict[str, Any]) -> None:
        """Accept on `sockets`; `state` is the lifespan state each request gets a copy of."""
        ...

    def census(self, *, fresh_seconds: float = 0.0) -> Census:
        """Count the open connections; those answered within `fresh_seconds` are `fresh`."""
        ...

    def quiet_seconds(self) -> float:
        """Return how long ago the last request began."""
        ...

    def served(self) -> int:
        """Return how many requests have been answered so far."""
        ...

    def begin_leaving(self) -> None:
        """From now on each answer ends its connection; connections are still accepted."""
        ...

    def stop_accepting(self, *, whole: bool) -> None:
        """Accept no more; with `whole` also serve what the kernel has queued and refuse the rest.

        Without `whole` the queue is left to the other workers that listen on the same socket.
        """
        ...

    def cut_idle(self, *, fresh_seconds: float) -> None:
        """Close the connections on which nobody asks, but for those that are `fresh`."""
        ...

    def cut_half_heads(self, *, left_seconds: float) -> None:
        """Close the connections that began a request head and did not end it in time.

        Their time begins with theirs or, `left_seconds` ago, with the end of the listening.
        """
        ...

    def close_websockets(self, *, drain_seconds: float) -> None:
        """Tell the websockets to come back elsewhere (1012), spread over a part of the drain.

        To be called again and again: one whose handshake ended since then is told at once, and with
        no time left all are.
        """
        ...

    def cancel(self, *, spared: AbstractSet["asyncio.Task[Any] | None"] = frozenset()) -> None:
        """Cancel what is still being answered, but for the tasks in `spared`.

        To be called again and again: each is cancelled once, and none that has not begun: it could
        not even say that it was. It is spared until it has.
        """
        ...

    async def close(self) -> None:
        """Close every connection that is left."""
        ...


class UvicornEngine:
    """uvicorn's protocols on listeners of ours, and clients held to `rules`.

    With more than `connections_max` (0 is no bound) the one that has been quiet for the longest is
    closed, then the slowest, and where all keep pace, the newest. See `Connections` for the rest.
    """

    def __init__(
        self,
        app: Any,
        *,
        root_path: str = "",
        keep_alive_seconds: float = 5.0,
        backlog: int = 2048,
        tls: tuple[str, str] | None = None,
        connections_max: int = 0,
        rules: ConnectionRules | None = None,
        told: Told = told_nobody,
        cancel: Cancel = cancel_at_once,
        shared: Callable[[str], bool] = is_local,
    ) -> None:
        certificate, key = tls or (None, None)
        self._config = uvicorn.Config(
            app,
            http=LeavingHttpProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            # Who the client is says the section [client], and nobody else before it.
            proxy_headers=False,
            root_path=root_path,
            timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # used as a delay
            backlog=backlog,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        rules = rules or ConnectionRules()
        self._connections = Connections(
            rules=rules,
            keep_alive_seconds=keep_alive_seconds,
            connections_max=connections_max,
            told=told,
            cancel=cancel,
            shared=shared,
        )
        self._look_seconds = rules.look_seconds
        # None is asyncio's own, and only for TLS may there be any.
        bounded = tls and rules.header_seconds < math.inf
        self._shaking_seconds = rules.header_seconds if bounded else None
        self._listening: list[tuple[asyncio.Server, socket.socket]] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._taking: set[asyncio.Task[Any]] = set()
        self._told: set[Any] = set()
        self._handshake = {"ssl_handshake_timeout": HALF_HEAD_SECONDS} if tls else {}
        self._state: dict[str, Any] = {}

    async def start(self, sockets: Sequence[socket.socket], state: dict[str, Any]) -> None:
        """Accept on `sockets`."""
        self._state = state
        # uvicorn logs a second time, and without ids, what `web.problems` and the protocol have
        # stated with the ids of the request.
        logging.getLogger("uvicorn.error").addFilter(_said_already)
        self._config.load()
        loop = asyncio.get_running_loop()
        self._connections.last_request_at = loop.time()
        self._tick()
        for sock in sockets:
            server = await loop.create_server(
                self._accepted,
                sock=sock.dup(),
                ssl=self._config.ssl,
                backlog=self._config.backlog,
                ssl_handshake_timeout=self._shaking_seconds,
            )
            self._listening.append((server, sock))

    def _accepted(self) -> LeavingHttpProtocol:
        connection = self._connection()
        if self._config.ssl is not None:
            self._connections.accepted[connection] = asyncio.get_running_loop().time()
        return connection

    def _connection(self) -> LeavingHttpProtocol:
        return LeavingHttpProtocol(self._config, self._connections, self._state)

    def _tick(self) -> None:
        """Keep the Date header within its second of truth (RFC 9110, 6.6.1); look at clients.

        The one timer of all connections, so that none costs a request anything.
        """
        loop = asyncio.get_running_loop()
        date = formatdate(time.time(), usegmt=True).encode()
        self._connections.default_headers = [(b"date", date), *self._config.encoded_headers]
        self._ticking = loop.call_later(self._look_seconds, self._tick)
        self._connections.look(loop.time())

    def census(self, *, fresh_seconds: float = 0.0) -> Census:
        """Count the open connections."""
        now = asyncio.get_running_loop().time()
        return self._connections.census(
            fresh_since=now - fresh_seconds, shaking_since=now - HALF_HEAD_SECONDS
        )

    def quiet_seconds(self) -> float:
        """Return how long ago the last request began."""
        return asyncio.get_running_loop().time() - self._connections.last_request_at

    def served(self) -> int:
        """Return how many requests have been answered so far."""
        return self._connections.total_requests

    def begin_leaving(self) -> None:
        """From now on each answer ends its connection."""
        self._connections.leaving = True
        for connection in self._https():
            connection.leave()

    def stop_accepting(self, *, whole: bool) -> None:
        """Accept no more, see `ServerEngine`."""
        listening, self._listening = self._listening, []
        for server, sock in listening:
            if whole:
                # New SYNs are turned away by the kernel from here on; those it has completed
                # belong to clients that believe they are connected, so they are served.
                sock.listen(0)
            server.close()
            if whole:
                accepted = _queued(sock)
                with contextlib.suppress(OSError):
                    # Ends the listening for every process that shares the socket. At once after
                    # the last accept: whoever gets in between is reset.
                    sock.shutdown(socket.SHUT_RDWR)
                for one in accepted:
                    self._take_over(one)
            sock.close()

    def _take_over(self, accepted: socket.socket) -> None:
        """Serve an accepted connection; its TLS handshake is waited for by nobody."""
        loop = asyncio.get_running_loop()
        taking = loop.create_task(
            loop.connect_accepted_socket(
                self._connection, accepted, ssl=self._config.ssl, **self._handshake
            )
        )
        self._taking.add(taking)
        self._connections.shaking += 1
        taking.add_done_callback(self._taken)

    def _taken(self, taking: asyncio.Task[Any]) -> None:
        self._taking.discard(taking)
        self._connections.shaking -= 1
        if not taking.cancelled():
            taking.exception()  # a handshake that failed is the client's affair

    def cut_idle(self, *, fresh_seconds: float) -> None:
        """Close the connections on which nobody asks, but for those that are `fresh`."""
        since = asyncio.get_running_loop().time() - fresh_seconds
        for connection in self._https():
            connection.cut_if_idle(since)

    def cut_half_heads(self, *, left_seconds: float) -> None:
        """Close the connections that began a request head and did not end it in time."""
        if left_seconds < HALF_HEAD_SECONDS:
            return
        instant = asyncio.get_running_loop().time() - HALF_HEAD_SECONDS
        for connection in self._https():
            connection.cut_if_asking_since(instant)

    def close_websockets(self, *, drain_seconds: float) -> None:
        """Close the websockets with 1012, see `ServerEngine`."""
        fresh = [
            connection
            for connection in self._connections.connections
            if not isinstance(connection, LeavingHttpProtocol)
            and (connection not in self._told or not drain_seconds)
            # One in the middle of its handshake would get a 500.
            and getattr(connection, "handshake_complete", True)
        ]
        loop = asyncio.get_running_loop()
        after = spread_seconds(len(fresh), drain_seconds=0.0 if self._told else drain_seconds)
        for connection, seconds in zip(fresh, after, strict=True):
            self._told.add(connection)
            if drain_seconds:
                loop.call_later(seconds, close_websocket, connection)
            else:  # before its task is cancelled, which comes next
                close_websocket(connection)

    def cancel(self, *, spared: AbstractSet["asyncio.Task[Any] | None"] = frozenset()) -> None:
        """Cancel what is still being answered, see `ServerEngine`."""
        for connection in self._https():
            connection.linger_after_answer()
        for task in self._connections.tasks - spared:
            if _has_begun(task):
                cancel_outside_commits(task)

    async def close(self) -> None:
        """Close every connection that is left."""
        if self._ticking is not None:
            self._ticking.cancel()
        for server, sock in self._listening:
            server.close()
            sock.close()
        self._listening = []
        for taking in self._taking:
            taking.cancel()
        for connection in list(self._connections.connections):
            end_connection(connection)
        await asyncio.sleep(0)  # let the closes reach their sockets

    def _https(self) -> list[LeavingHttpProtocol]:
        return [c for c in self._connections.connections if isinstance(c, LeavingHttpProtocol)]


def _has_begun(task: "asyncio.Task[Any]") -> bool:
    coroutine = task.get_coro()
    return (
        not inspect.iscoroutine(coroutine)
        or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
    )


def _queued(sock: socket.socket) -> list[socket.socket]:
    """Accept what the kernel has queued on a listening socket."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = sock.accept()
        except BlockingIOError:
            return accepted
        except ConnectionError:
            continue  # a client that left the queue again; who stands behind it has not
        except OSError:
            return accepted  # no descriptor is left, so nobody can be served
        connection.settimeout(0)
        accepted.append(connection)


_SAID = (
    "Exception in ASGI application",
    "ASGI callable returned without",
    "Invalid HTTP request received",
)


def _said_already(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_SAID)
