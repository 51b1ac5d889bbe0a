"""Sockets handed over: taken when they are ours, refused in one sentence when they cannot serve."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.serve.handed import take_handed
from shipworthy.serve.sockets import address_of

# Far above what the tests have open, so that nothing of theirs is in the way.
FIRST = 400
Hand = Callable[..., dict[str, str]]


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Put descriptors where a service manager would, and return the variables it would set."""
    put: list[int] = []

    def give(*fds: int, names: str | None = None) -> dict[str, str]:
        for place, fd in enumerate(fds, FIRST):
            os.dup2(fd, place)
            put.append(place)
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "HOME": "/"}
        return environ | ({} if names is None else {"LISTEN_FDNAMES": names})

    yield give
    for fd in put:
        try:
            os.close(fd)
        except OSError:
            continue  # the test closed it


def listener(family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen(5)
    return sock


def test_listening_sockets_of_each_family_are_taken_with_their_names(
    hand: Hand, tmp_path: Path
) -> None:
    """IPv4, IPv6, Unix and abstract; the variables are gone then, and children do not inherit."""
    with ExitStack() as stack:
        given = [
            stack.enter_context(listener()),
            stack.enter_context(listener(socket.AF_INET6, ("::1", 0))),
            stack.enter_context(listener(socket.AF_UNIX, str(tmp_path / "app.sock"))),
            stack.enter_context(listener(socket.AF_UNIX, f"\0shipworthy-{os.getpid()}")),
        ]
        environ = hand(*(sock.fileno() for sock in given), names="a:b:operations:unknown")
        handed = take_handed(environ, first_fd=FIRST)
        addresses = [address_of(one.sock) for one in handed]
        inherited = [os.get_inheritable(one.sock.fileno()) for one in handed]
        for one in handed:
            one.sock.close()
        ports = [sock.getsockname()[1] for sock in given[:2]]

    assert environ == {"HOME": "/"}
    assert [one.name for one in handed] == ["a", "b", "operations", "unknown"]
    assert "as 'a'" in handed[0].origin
    assert inherited == [False] * 4
    assert addresses == [
        f"http://127.0.0.1:{ports[0]}",
        f"http://[::1]:{ports[1]}",
        f"unix:{tmp_path}/app.sock",
        f"unix:@shipworthy-{os.getpid()}",
    ]


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    """A parent that was activated and forgot to clean up; the variables go all the same."""
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}

    assert take_handed(environ, first_fd=FIRST) == []
    assert environ == {}
    assert take_handed({}, first_fd=FIRST) == []
    assert take_handed({"LISTEN_FDS": "1"}, first_fd=FIRST) == []


def test_each_descriptor_that_cannot_serve_is_named_with_what_it_is(
    hand: Hand, tmp_path: Path
) -> None:
    """All at once, so that a unit is mended once; none is closed, for it is not ours."""
    reading, writing = os.pipe()
    with (
        ExitStack() as stack,
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as silent,
    ):
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        good = stack.enter_context(listener())
        environ = hand(
            file.fileno(), reading, datagrams.fileno(), silent.fileno(), good.fileno(), names="::::"
        )
        with pytest.raises(SettingsInvalid) as refused:
            take_handed(environ, first_fd=FIRST)
        still_open = [os.fstat(FIRST + place) for place in range(5)]

    file_, pipe, udp, stream = refused.value.problems
    assert f"descriptor {FIRST}, handed over by LISTEN_FDS, is a file;" in file_
    assert f"descriptor {FIRST + 1}," in pipe
    assert "is a pipe" in pipe
    assert "is a datagram socket" in udp
    assert "is a socket that does not listen" in stream
    assert "Accept=no" in stream
    assert len(still_open) == 5


def test_a_socket_of_another_family_is_named(hand: Hand) -> None:
    """Netlink, which a unit can hand over too (`ListenNetlink=`)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        environ = hand(netlink.fileno(), names="events")
        with pytest.raises(SettingsInvalid, match=r"\('events'\).* another family \(16\)"):
            take_handed(environ, first_fd=FIRST)


def test_a_descriptor_that_is_not_open_is_said_and_a_long_list_is_short(hand: Hand) -> None:
    """Five are shown, the rest is counted."""
    environ = hand() | {"LISTEN_FDS": "20"}

    with pytest.raises(SettingsInvalid) as refused:
        take_handed(environ, first_fd=FIRST)

    assert "is not open" in refused.value.problems[0]
    assert refused.value.problems[5:] == ("and 15 more",)


@pytest.mark.parametrize(
    "count", ["", "two", "-1", "99999999999", pytest.param("9" * 5000, id="5000 digits")]
)
def test_a_count_that_is_none_is_said(hand: Hand, count: str) -> None:
    """Whoever sets the variables by hand gets them wrong; nothing is guessed."""
    with pytest.raises(SettingsInvalid, match="LISTEN_FDS is"):
        take_handed(hand() | {"LISTEN_FDS": count}, first_fd=FIRST)


def test_names_that_do_not_match_the_count_are_said(hand: Hand) -> None:
    """Which of them would be the operations port?"""
    with (
        listener() as sock,
        pytest.raises(SettingsInvalid, match="announces 1 sockets and LISTEN_FDNAMES names 2"),
    ):
        take_handed(hand(sock.fileno(), names="a:operations"), first_fd=FIRST)
