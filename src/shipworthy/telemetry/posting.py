"""One POST, bounded in all: who is told of something outside, in whatever form.

By hand over `http.client`: no proxy of the environment stands between, no redirect takes a token
elsewhere, nothing that guards or traces the calls of the application sees it, and a server that
sends byte after byte is cut off.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from shipworthy import __version__


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

    Takes at most `timeout_seconds` for each address of the host until it is connected, and as long
    once more from there on. Raises `OSError` (`TimeoutError` for too late) or
    `http.client.HTTPException` where there is no answer. Blocks; safe from any thread.
    """
    to = urlsplit(url)
    path = (to.path or "/") + (f"?{to.query}" if to.query else "")
    sent = {"User-Agent": f"shipworthy/{__version__}", "Connection": "close", **headers}
    connection = _connection(to.scheme, to.hostname or "", to.port, timeout_seconds)
    try:
        connection.connect()
        with cut_after(timeout_seconds, lambda: connection.sock):
            connection.request("POST", path, body, sent)
            answer = connection.getresponse()
            return PostAnswer(answer.status, answer.read(answer_bytes) if answer_bytes else b"")
    finally:
        connection.close()


def _connection(
    scheme: str, host: str, port: int | None, timeout_seconds: float
) -> http.client.HTTPConnection:
    if scheme == "https":
        secure = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=secure)
    return http.client.HTTPConnection(host, port, timeout=timeout_seconds)


@contextmanager
def cut_after(seconds: float, sock_of: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Cut a connection that takes longer in all, however lively each of its bytes is.

    Raises `TimeoutError` then, also where what was cut could be taken for an answer.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        sock = sock_of()
        if sock is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which is not for another thread to call.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise TimeoutError(f"it took longer than {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError(f"it took longer than {seconds:g} s")
