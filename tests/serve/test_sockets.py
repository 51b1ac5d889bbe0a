"""Listening, and the sentences when that cannot be."""

import socket
from pathlib import Path

import pytest

from shipworthy.errors import PortTaken, StartFailed
from shipworthy.serve.sockets import address_of, listen_tcp, listen_unix


def test_port_zero_is_any_free_port_and_the_address_says_which() -> None:
    """What was bound is what is printed."""
    with listen_tcp("127.0.0.1", 0, backlog=5, option="--port") as sock:
        port = sock.getsockname()[1]

        assert port > 0
        assert address_of(sock) == f"http://127.0.0.1:{port}"
        assert address_of(sock, tls=True) == f"https://127.0.0.1:{port}"


def test_an_ipv6_address_is_written_in_brackets() -> None:
    """As a URL needs it."""
    with listen_tcp("::1", 0, backlog=5, option="--port") as sock:
        assert address_of(sock).startswith("http://[::1]:")


def test_a_taken_port_is_said_with_the_option_to_change() -> None:
    """The sentence has the address and the way out."""
    with listen_tcp("127.0.0.1", 0, backlog=5, option="--port") as sock:
        port = sock.getsockname()[1]

        with pytest.raises(PortTaken, match=rf"127.0.0.1:{port} is in use .*--ops-port"):
            listen_tcp("127.0.0.1", port, backlog=5, option="--ops-port")


def test_an_address_that_is_not_ours_is_said() -> None:
    """A documentation address (RFC 5737), and a name nobody knows."""
    with pytest.raises(StartFailed, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen_tcp("192.0.2.1", 0, backlog=5, option="--port")
    with pytest.raises(StartFailed, match="'no such host' is no address"):
        listen_tcp("no such host", 0, backlog=5, option="--port")


def test_a_unix_socket_is_listened_on_and_an_abandoned_one_replaced(tmp_path: Path) -> None:
    """A socket file that nobody listens on is what a killed process leaves."""
    path = tmp_path / "app.sock"
    listen_unix(path, backlog=5).close()

    with listen_unix(path, backlog=5) as sock:
        assert address_of(sock) == f"unix:{path}"
        with pytest.raises(StartFailed, match="another process listens"):
            listen_unix(path, backlog=5)


def test_a_file_in_the_way_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    """It is no socket, so it is somebody's data."""
    path = tmp_path / "data"
    path.write_text("precious")

    with pytest.raises(StartFailed, match="is no socket"):
        listen_unix(path, backlog=5)
    assert path.read_text() == "precious"


def test_a_unix_path_that_cannot_be_is_said(tmp_path: Path) -> None:
    """No such directory; too long for the kernel."""
    with pytest.raises(StartFailed, match="cannot listen on"):
        listen_unix(tmp_path / "nowhere" / "app.sock", backlog=5)
    with pytest.raises(StartFailed, match="cannot listen on"):
        listen_unix(tmp_path / ("x" * 200), backlog=5)


def test_what_is_accepted_on_is_a_plain_listening_socket() -> None:
    """A client gets through."""
    sock = listen_tcp("127.0.0.1", 0, backlog=5, option="--port")
    with sock, socket.create_connection(sock.getsockname(), timeout=5) as client:
        assert client.getpeername() == sock.getsockname()
