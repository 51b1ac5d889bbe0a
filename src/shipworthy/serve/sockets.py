"""The listening sockets: bound by the supervisor, so that they outlive every worker."""

import errno
import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from shipworthy.errors import PortTaken, StartFailed


def listen_tcp(host: str, port: int, *, backlog: int, option: str) -> list[socket.socket]:
    """Listen on every address of `host` at `port` (port 0: any free one, the same for all).

    Raises `PortTaken` when another process has it, `StartFailed` when the address is not ours or
    needs rights we lack; `option` is the command-line option the sentence names.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartFailed(f"'{host}' is no address this machine knows ({error})") from error
    listening: list[socket.socket] = []
    # A name with several addresses (localhost has two) may be called by any of them.
    for family, _, _, _, address in dict.fromkeys(found):
        if listening and port == 0:
            address = (address[0], listening[0].getsockname()[1], *address[2:])  # noqa: PLW2901
        try:
            listening.append(_listen(family, address, host, backlog=backlog, option=option))
        except StartFailed as error:
            cause = error.__cause__
            if listening and isinstance(cause, OSError) and cause.errno in _NO_SUCH_FAMILY:
                continue  # the machine has no IPv6, say, and the name still has its address
            for sock in listening:
                sock.close()
            raise
    return listening


_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _listen(family: int, address: Any, host: str, *, backlog: int, option: str) -> socket.socket:
    port = address[1]
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, option=option) from error
        if error.errno == errno.EACCES:
            raise StartFailed(
                f"port {port} needs rights this user does not have; choose one above 1023 with "
                f"{option}, or grant CAP_NET_BIND_SERVICE"
            ) from error
        raise StartFailed(f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.settimeout(0)
    return sock


def listen_unix(path: Path, *, backlog: int) -> socket.socket:
    """Listen on a Unix socket at `path`; a socket file that nobody listens on any more is replaced.

    Raises `StartFailed` when somebody listens there or the path is another kind of file.
    """
    try:
        with suppress(FileNotFoundError):
            _make_room(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            # As uvicorn does: a proxy under another user must be able to connect. Who may reach
            # the socket is decided by the directory it is in.
            path.chmod(0o666)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise StartFailed(f"cannot listen on {path}: {error.strerror or error}") from error
    sock.settimeout(0)
    return sock


def remove_unix(path: Path, *, inode: int) -> None:
    """Remove the socket file that is ours by its inode; another process may have replaced it."""
    with suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


def _make_room(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise StartFailed(f"{path} exists and is no socket; choose another path with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)  # one whose queue is full does not answer, and is in use
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (TimeoutError, BlockingIOError):
            pass
    raise StartFailed(f"another process listens on {path}; stop it or change --uds")


def address_of(sock: socket.socket, *, tls: bool = False) -> str:
    """Return where the socket listens, as people write it: a URL, `unix:/path`, `unix:@name`."""
    if sock.family == socket.AF_UNIX:
        path = sock.getsockname()
        # An abstract one comes as bytes that begin with a zero; systemd writes it with an @.
        return f"unix:{path if isinstance(path, str) else '@' + os.fsdecode(path[1:])}"
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


# Where Linux keeps `tcpi_bytes_acked` in what it tells of a connection, since 4.1.
_ACKED: Final = struct.Struct("=120xQ")


def bytes_taken(sock: Any) -> int | None:
    """Return how much of what was sent the other machine has; None where nobody knows.

    That is not what its program has read, but it takes no more when that does not read.
    """
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return None
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
    except OSError:
        return None
    return int(_ACKED.unpack(told)[0]) if len(told) == _ACKED.size else None


def is_local(address: str) -> bool:
    """Say whether an address is of this machine, where proxies stand."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
