"""Listening sockets that were handed over instead of bound: sd_listen_fds(3), without a library.

Who hands over keeps a socket open while the service is started anew, so no client is refused.
"""

import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass

from shipworthy.errors import SettingsInvalid

# sd-daemon.h's SD_LISTEN_FDS_START.
FIRST_FD = 3
# The name (FileDescriptorName=) of a socket that is meant for the operations port.
OPERATIONS = "operations"

_SHOWN = 5
# Of 64 bits; no kernel counts further.
_DIGITS_MAX = 20
_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_TYPES = {
    socket.SOCK_DGRAM: "a datagram socket",
    socket.SOCK_SEQPACKET: "a socket of packets",
    socket.SOCK_RAW: "a raw socket",
}
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


@dataclass(frozen=True, slots=True)
class Handed:
    """A listening socket that was handed over, with the name it came with, or ''."""

    sock: socket.socket
    name: str

    @property
    def origin(self) -> str:
        """Return where it is from, for the line that says where the service answers."""
        called = f" as '{self.name}'" if self.name else ""
        return f"(handed over{called}; serve.host, serve.port and serve.uds are not used)"


def take_handed(environ: MutableMapping[str, str], *, first_fd: int = FIRST_FD) -> list[Handed]:
    """Return the sockets handed to this process; none is the usual case.

    The variables leave `environ`, so that no child takes the sockets for its own. Raises
    `SettingsInvalid` with a sentence for each descriptor on which nobody can be accepted: to
    bind a port instead would be a service where nobody looks for it. Call it before anything else
    opens a descriptor.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    named = environ.pop("LISTEN_FDNAMES", "")
    environ.pop("LISTEN_PIDFDID", None)
    if not pid or pid != str(os.getpid()):
        return []  # they are not for us: whoever they were for has started us
    # Python refuses to read a number of thousands of digits, with an error that is nobody's.
    plain = count.isdecimal() and len(count) <= _DIGITS_MAX
    if not plain or int(count) > os.sysconf("SC_OPEN_MAX"):
        raise SettingsInvalid([f"LISTEN_FDS is {count[:40]!r}, which is no count of open sockets"])
    fds = range(first_fd, first_fd + int(count))
    names = named.split(":") if named else ["" for _ in fds]
    if len(names) != len(fds):
        raise SettingsInvalid(
            [f"LISTEN_FDS announces {len(fds)} sockets and LISTEN_FDNAMES names {len(names)}"]
        )
    handed: list[Handed] = []
    problems: list[str] = []
    for fd, name in zip(fds, names, strict=True):
        found = _open(fd)
        if isinstance(found, str):
            called = f" ('{name}')" if name else ""
            problems.append(
                f"file descriptor {fd}{called}, handed over by LISTEN_FDS, {found}; it must be a "
                "stream socket that listens, as a unit with ListenStream= and Accept=no hands over"
            )
        else:
            handed.append(Handed(found, name))
    if problems:
        for one in handed:
            one.sock.detach()
        more = len(problems) - _SHOWN
        shown = problems[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise SettingsInvalid(shown)
    return handed


def _open(fd: int) -> socket.socket | str:
    """Return the listening socket `fd` is, or what it is instead."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return "is not open"
    if not stat.S_ISSOCK(mode):
        return "is " + next((kind for test, kind in _KINDS if test(mode)), "no socket")
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    problem = ""
    if sock.family not in _FAMILIES:
        problem = f"is a socket of another family ({int(sock.family)})"
    elif sock.type != socket.SOCK_STREAM:
        problem = "is " + _TYPES.get(sock.type, f"a socket of the type {sock.type!s}")
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        problem = "is a socket that does not listen"
    if problem:
        sock.detach()  # not ours to close
        return problem
    os.set_inheritable(fd, False)
    sock.settimeout(0)
    return sock
