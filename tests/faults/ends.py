"""The two ends of a connection through a proxy, and how each says what became of it."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shipworthy.faults import FaultProxy

# Every wait of a test is bounded by this; none is meant to last so long.
PATIENCE_SECONDS = 10.0
QUIET_SECONDS = 0.1


@dataclass
class Listening:
    """A listener, and the accepted ends of its connections."""

    listener: socket.socket

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        self.listener.settimeout(PATIENCE_SECONDS)
        end, _ = self.listener.accept()
        end.settimeout(PATIENCE_SECONDS)
        return end

    @contextmanager
    def through(self, proxy: FaultProxy) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Yield a client's end and the server's end of one connection through the proxy."""
        with connected(proxy) as client, self.accept() as server:
            yield client, server


def connected(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_SECONDS)


def read(end: socket.socket, count: int) -> bytes:
    """Return that many bytes, or those that came before the end of the stream."""
    read_bytes = bytearray()
    while len(read_bytes) < count and (data := end.recv(count - len(read_bytes))):
        read_bytes += data
    return bytes(read_bytes)


def fate(end: socket.socket) -> str:
    """Say what the end sees next: "closed", "reset", "quiet" for a while, or bytes."""
    end.settimeout(QUIET_SECONDS)
    try:
        data = end.recv(65536)
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "quiet"
    finally:
        end.settimeout(PATIENCE_SECONDS)
    return f"{data!r}" if data else "closed"


def ends(end: socket.socket) -> str:
    """Read to the end, however long that takes, and say how it ended."""
    try:
        while end.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    return "closed"


def met(proxy: FaultProxy) -> str:
    """Say how a new client is sent away; a reset may be there before its connect has returned."""
    try:
        client = connected(proxy)
    except ConnectionResetError:
        return "reset"
    with client:
        return ends(client)


def until(condition, *, what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.002)


def echoes(proxy: FaultProxy, said: bytes = b"hello") -> bytes:
    """Open a connection, say something, and return what comes back."""
    with connected(proxy) as client:
        client.sendall(said)
        return read(client, len(said))
