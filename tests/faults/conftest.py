"""Servers to stand in front of: one that echoes, one that the test is itself, and real ones."""

import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ends import Listening


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:  # the test harms it; what it sees is looked at elsewhere
            return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a connection that was harmed ends as it can."""


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again what it hears."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def listening() -> Iterator[Listening]:
    """A server whose end of each connection the test holds itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Listening(listener)
