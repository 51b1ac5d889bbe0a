"""The listening sockets: bound by the supervisor, so that they outlive every worker."""

import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

from shipworthy.errors import PortTaken, StartFailed


def listen_tcp(host: str, port: int, *, backlog: int, option: str) -> socket.socket:
    """Listen on `host:port` (port 0: any free one).

    Raises `PortTaken` when another process has it, `StartFailed` when the address is not ours or
    needs rights we lack; `option` is the command-line option the sentence names.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise StartFailed(f"'{host}' is no address this machine knows ({error})") from error
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
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
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StartFailed(f"{path} exists and is no socket; choose another path with --uds")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise StartFailed(f"another process listens on {path}; stop it or change --uds")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise StartFailed(f"cannot listen on {path}: {error.strerror or error}") from error
    sock.listen(backlog)
    sock.settimeout(0)
    return sock


def address_of(sock: socket.socket, *, tls: bool = False) -> str:
    """Return where the socket listens, as people write it: a URL, or `unix:/path`."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"
