"""One POST, bounded in all: who is told of something outside, in whatever form. And the bound.

By hand over `http.client`: no proxy of the environment stands between, no redirect takes a token
elsewhere, nothing that guards or traces the calls of the application sees it, and a server that
sends byte after byte is cut off.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final, Self, final
from urllib.parse import urlsplit

from shipworthy import __version__

_LEAST_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """What a server said: its status, and as much of its answer as is looked at."""

    status: int
    body: bytes


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    answer_bytes: int = 0,
) -> PostAnswer:
    """Post `body` to `url` and return the answer, whatever its status is.

    Of its body at most `answer_bytes` are read; none by default, so that nobody waits for it.

    Takes at most `timeout_seconds`, and what the system's resolver takes beyond that. Raises
    `OSError` (`TimeoutError` for too late) or `http.client.HTTPException` where there is no answer.
    Blocks; safe from any thread.
    """
    to = urlsplit(url)
    path = (to.path or "/") + (f"?{to.query}" if to.query else "")
    sent = {"User-Agent": f"shipworthy/{__version__}", "Connection": "close", **headers}
    host = to.hostname or ""
    usual_port = 443 if to.scheme == "https" else 80
    port = to.port or usual_port
    connection = http.client.HTTPConnection(host, port)
    # Named in the Host header where it is another.
    connection.default_port = usual_port
    with TimeBound(timeout_seconds) as cut, closing(connection):
        sock = cut.connected(host, port)
        connection.sock = secured(sock, host) if to.scheme == "https" else sock
        connection.request("POST", path, body, sent)
        answer = connection.getresponse()
        said = answer.read(answer_bytes) if answer_bytes else b""
        # What is cut ends, as an answer does.
        cut.check()
        return PostAnswer(answer.status, said)


@final
class TimeBound:
    """Ends an exchange that takes longer in all, however lively each of its bytes is.

    An `OSError` or `http.client.HTTPException` that is raised within is `TimeoutError` then. For
    one thread.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._late = threading.Event()
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None
        if isinstance(error, OSError | http.client.HTTPException):
            self.check(error)

    def check(self, error: Exception | None = None) -> None:
        """Raise `TimeoutError` where the time is over."""
        if self._late.is_set():
            raise TimeoutError(f"it took longer than {self._seconds:g} s") from error

    def connected(self, host: str, port: int) -> socket.socket:
        """Return a connection to the first address of the host that answers.

        How long the system's resolver takes cannot be cut; nothing is sent after it was too long.
        """
        trouble: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            self.check()
            sock = socket.socket(family, kind, protocol)
            # No single wait is for ever, also where the cut comes between two of its steps.
            sock.settimeout(max(self._until - time.monotonic(), _LEAST_SECONDS))
            try:
                sock.connect(address)
            except OSError as error:
                sock.close()
                trouble = error
                continue
            with self._lock:
                # Of our own: TLS takes the other one over, from within its handshake on.
                self._sock = sock.dup()
            self.check()
            return sock
        raise trouble

    def _cut(self) -> None:
        with self._lock:
            self._late.set()
            if self._sock is not None:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)


def secured(sock: socket.socket, host: str) -> ssl.SSLSocket:
    """Return the connection under TLS, with a certificate of `host` that is vouched for."""
    return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
