"""One POST: what arrives, what comes back, and that it ends."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from otlp_receiver import collector
from shipworthy import outbound
from shipworthy.telemetry.posting import post


@contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Hand the first connection to `serve`, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            try:
                connection, _ = listening.accept()
                with connection:
                    serve(connection)
            except OSError:
                pass

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x?y=z"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_what_is_posted_arrives_and_what_is_answered_comes_back() -> None:
    """Path, query, headers and body; any status is an answer; its body only where it is wanted."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(b"")
        while not heard[0].endswith(b"hello"):
            heard[0] += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 418 No\r\nContent-Length: 6\r\n\r\nteapot")

    with server(serve) as url:
        answered = post(url, b"hello", {"X-A": "b"}, timeout_seconds=5, answer_bytes=3)

    assert (answered.status, answered.body) == (418, b"tea")
    assert heard[0].startswith(b"POST /x?y=z HTTP/1.1\r\n")
    assert b"\r\nX-A: b\r\n" in heard[0]
    assert heard[0].endswith(b"\r\n\r\nhello")


def test_a_server_that_sends_byte_after_byte_is_cut() -> None:
    """The bound is on all of it, not on the next byte."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X")
            time.sleep(0.02)

    with server(drip) as url:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"longer than 0\.3 s"):
            post(url, b"", {}, timeout_seconds=0.3)

    assert time.monotonic() - began < 3


def test_a_silent_server_is_given_up() -> None:
    """It has accepted, and says nothing."""
    over = threading.Event()
    with server(lambda _: over.wait(10)) as url:
        with pytest.raises(OSError, match=r"longer|timed out"):
            post(url, b"", {}, timeout_seconds=0.2)
        over.set()


def test_nobody_there_and_no_http_are_errors_to_catch() -> None:
    """Those that the docstring names."""
    with (
        server(lambda connection: connection.sendall(b"hello\r\n\r\n")) as url,
        pytest.raises(http.client.HTTPException),
    ):
        post(url, b"", {}, timeout_seconds=5)
    with pytest.raises(OSError, match="refused"):
        post(url, b"", {}, timeout_seconds=5)


def test_no_guard_and_no_proxy_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no call of the application: neither counted, nor traced, nor sent another way."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    installed = outbound.install()
    try:
        with collector() as there:
            assert post(there.url, b"", {}, timeout_seconds=5).status == 200
        assert installed is not None
        assert installed.statistics() == ()
        assert "traceparent" not in there.headers[0]
    finally:
        outbound.uninstall()
