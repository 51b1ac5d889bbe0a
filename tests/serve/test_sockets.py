"""Listening, and the sentences when that cannot be."""

import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from shipworthy.errors import PortTaken, StartFailed
from shipworthy.serve.sockets import (
    address_of,
    bytes_taken,
    is_local,
    listen_tcp,
    listen_unix,
    remove_unix,
)


def listening(host: str) -> socket.socket:
    (sock,) = listen_tcp(host, 0, backlog=5, option="--port")
    return sock


def test_a_name_is_listened_on_at_all_its_addresses() -> None:
    """`localhost` is called by either of its two, at the same port."""
    sockets = listen_tcp("localhost", 0, backlog=5, option="--port")

    addresses = {sock.getsockname()[:2] for sock in sockets}
    known = {found[4][0] for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}

    assert {host for host, _ in addresses} <= known
    assert len({port for _, port in addresses}) == 1
    for address in addresses:
        socket.create_connection(address, timeout=5).close()
    for sock in sockets:
        sock.close()


def test_port_zero_is_any_free_port_and_the_address_says_which() -> None:
    """What was bound is what is printed."""
    with listening("127.0.0.1") as sock:
        port = sock.getsockname()[1]

        assert port > 0
        assert address_of(sock) == f"http://127.0.0.1:{port}"
        assert address_of(sock, tls=True) == f"https://127.0.0.1:{port}"


def test_an_ipv6_address_is_written_in_brackets() -> None:
    """As a URL needs it."""
    with listening("::1") as sock:
        assert address_of(sock).startswith("http://[::1]:")


def test_a_taken_port_is_said_with_the_option_to_change() -> None:
    """The sentence has the address and the way out."""
    with listening("127.0.0.1") as sock:
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


def test_everybody_may_connect_as_with_uvicorn(tmp_path: Path) -> None:
    """A proxy under another user; the directory decides who gets that far."""
    with listen_unix(tmp_path / "app.sock", backlog=5):
        assert (tmp_path / "app.sock").stat().st_mode & 0o777 == 0o666


def test_a_socket_whose_queue_is_full_is_in_use(tmp_path: Path) -> None:
    """It does not answer, and the start does not wait for it."""
    path = tmp_path / "app.sock"
    with listen_unix(path, backlog=0), ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(0)
            with suppress(BlockingIOError):
                client.connect(str(path))

        with pytest.raises(StartFailed, match="another process listens"):
            listen_unix(path, backlog=5)


def test_only_the_own_socket_file_is_removed(tmp_path: Path) -> None:
    """The next process may have put its own there already."""
    path = tmp_path / "app.sock"
    old = listen_unix(path, backlog=5)
    inode = path.stat().st_ino
    path.rename(tmp_path / "old.sock")
    new = listen_unix(path, backlog=5)

    remove_unix(path, inode=inode)
    still_there = path.exists()
    remove_unix(path, inode=path.stat().st_ino)
    remove_unix(path, inode=inode)
    old.close()
    new.close()

    assert still_there
    assert not path.exists()


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
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFailed, match="cannot listen on"):
        listen_unix(tmp_path / "file" / "app.sock", backlog=5)


def test_what_the_other_machine_has_taken_is_known() -> None:
    """By its kernel; of a Unix socket, and of one that is closed, nobody knows."""
    with (
        listening("127.0.0.1") as sock,
        socket.create_connection(sock.getsockname(), timeout=5) as client,
    ):
        client.sendall(b"x" * 1000)
        give_up = time.monotonic() + 5
        while (bytes_taken(client) or 0) < 1000:
            assert time.monotonic() < give_up
    assert bytes_taken(client) is None
    assert bytes_taken(None) is None
    one, other = socket.socketpair()
    with one, other:
        assert bytes_taken(one) is None


def test_local_is_this_machine() -> None:
    """Where proxies stand, each of which speaks for many clients."""
    assert [is_local(address) for address in ("127.0.0.9", "::1", "192.0.2.7", "nobody")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_accepted_on_is_a_plain_listening_socket() -> None:
    """A client gets through."""
    with (
        listening("127.0.0.1") as sock,
        socket.create_connection(sock.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == sock.getsockname()
