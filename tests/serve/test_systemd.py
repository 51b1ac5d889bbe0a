"""What systemd is told, and that nothing it does can disturb us."""

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shipworthy.events import Event, listen
from shipworthy.serve.systemd import (
    EXTEND_SECONDS,
    Notices,
    Notifier,
    NotifyFacts,
    SystemdUnheard,
    notifier_from,
)

STARTING = NotifyFacts(
    wanted=2,
    ready=0,
    leaving=False,
    fresh=True,
    in_flight=0,
    connections=0,
    phase="starting",
)
READY = replace(STARTING, ready=2, phase="ready")
LEAVING = replace(READY, ready=0, leaving=True, phase="draining", in_flight=3, connections=5)


def test_ready_is_said_once_and_with_a_status() -> None:
    """Not while nobody serves; the status says how many of how many."""
    notices = Notices()

    assert notices.due(STARTING, 0.0) == ["STATUS=not ready: 0 of 2 workers ready"]
    assert notices.due(replace(READY, ready=1), 0.5) == [
        "READY=1",
        "STATUS=ready: 1 of 2 workers ready",
    ]
    assert notices.due(READY, 0.6) == []
    assert notices.due(READY, 1.5) == ["STATUS=ready: 2 of 2 workers ready"]
    assert notices.due(READY, 9.0) == []


def test_the_end_is_said_once_with_what_is_left() -> None:
    """STOPPING=1 first; then the status follows the drain, once a second at most."""
    notices = Notices()
    notices.due(READY, 0.0)

    first = notices.due(LEAVING, 1.0)
    later = notices.due(replace(LEAVING, in_flight=1), 1.5)
    last = notices.due(replace(LEAVING, in_flight=1), 2.5)

    assert first[0] == "STOPPING=1"
    assert first[-1] == "STATUS=draining: 3 requests in flight, 5 connections"
    assert later == []
    assert last[-1] == "STATUS=draining: 1 request in flight, 5 connections"
    assert "STOPPING=1" not in last


def test_systemd_is_asked_to_wait_only_while_the_drain_gets_on() -> None:
    """A drain that stands still is not defended: `TimeoutStopSec=` ends it."""
    notices = Notices()
    extend = f"EXTEND_TIMEOUT_USEC={int(EXTEND_SECONDS * 1e6)}"

    assert extend in notices.due(LEAVING, 0.0)
    assert extend not in notices.due(LEAVING, 2.0)
    assert extend in notices.due(replace(LEAVING, in_flight=2), 3.0)
    assert extend not in notices.due(replace(LEAVING, in_flight=1), 3.5)
    assert extend in notices.due(replace(LEAVING, in_flight=1), 4.0)


def test_a_round_of_replacement_is_a_reload() -> None:
    """With the clock of systemd.service(5), and ready again when the round is over."""
    notices = Notices()
    notices.due(READY, 0.0)

    began = notices.due(replace(READY, round=1, replacing=True), 12.5)
    during = notices.due(replace(READY, round=1, replacing=True), 13.0)
    over = notices.due(replace(READY, round=1), 14.0)
    at_once = notices.due(replace(READY, round=2), 15.0)

    assert began[0] == "RELOADING=1\nMONOTONIC_USEC=12500000"
    assert "STATUS=replacing workers: 2 of 2 workers ready" in began
    assert during == []
    assert over == ["READY=1", "STATUS=ready: 2 of 2 workers ready"]
    assert at_once[:2] == ["RELOADING=1\nMONOTONIC_USEC=15000000", "READY=1"]


def test_a_worker_that_is_replaced_without_a_round_is_no_reload() -> None:
    """A crash or a recycled worker is our affair; nobody asked for a reload."""
    notices = Notices()
    notices.due(READY, 0.0)

    said = notices.due(replace(READY, replacing=True), 1.0)

    assert not any(message.startswith("RELOADING") for message in said)


def test_the_watchdog_is_fed_at_half_its_interval_while_heartbeats_are_fresh() -> None:
    """Withheld while they are not, and fed at once when they are again."""
    notices = Notices(watchdog_seconds=10.0)
    fed = [now for now in range(20) if "WATCHDOG=1" in notices.due(READY, float(now))]
    stale = replace(READY, fresh=False)
    starved = [now for now in range(20, 60) if "WATCHDOG=1" in notices.due(stale, float(now))]

    assert fed == [0, 5, 10, 15]
    assert starved == []
    assert "WATCHDOG=1" in notices.due(READY, 60.0)


def test_the_watchdog_is_fed_during_the_drain_whatever_the_workers_do() -> None:
    """The grace bounds it; SIGABRT from systemd would come in its place, and cut what is left."""
    notices = Notices(watchdog_seconds=4.0)

    assert "WATCHDOG=1" in notices.due(replace(LEAVING, fresh=False), 0.0)
    assert "WATCHDOG=1" in notices.due(replace(LEAVING, fresh=False), 2.0)


def test_without_a_watchdog_none_is_fed() -> None:
    """`WatchdogSec=` is a choice of the unit."""
    notices = Notices(watchdog_seconds=math.inf)

    assert "WATCHDOG=1" not in notices.due(READY, 0.0) + notices.due(READY, 1e6)


class Life(RuleBasedStateMachine):
    """Any order of facts: what systemd hears stays a story that systemd.service(5) allows."""

    def __init__(self) -> None:
        super().__init__()
        self.notices = Notices(watchdog_seconds=6.0)
        self.now = 0.0
        self.round = 0
        self.leaving = False
        self.said: list[str] = []

    @rule(
        seconds=st.floats(0.05, 3),
        ready=st.integers(0, 2),
        fresh=st.booleans(),
        replacing=st.booleans(),
    )
    def passes(self, seconds: float, ready: int, fresh: bool, replacing: bool) -> None:
        self.now += seconds
        facts = replace(
            READY,
            ready=ready,
            fresh=fresh,
            replacing=replacing,
            round=self.round,
            leaving=self.leaving,
        )
        found = self.notices.due(facts, self.now)
        assert len(found) == len(set(found))
        if found == [] and fresh and not self.leaving:
            assert self.now - self.notices._watchdog_at <= 3.0
        self.said += [line for line in found if line.split("=")[0] not in ("STATUS", "WATCHDOG")]

    @rule()
    def a_round_begins(self) -> None:
        self.round += 1

    @rule(really=st.integers(0, 4))
    def it_leaves(self, really: int) -> None:
        self.leaving = self.leaving or really == 4

    @invariant()
    def the_story_is_told_in_order(self) -> None:
        words = [line.split("=")[0] for line in self.said]
        assert words.count("STOPPING") <= 1
        if "STOPPING" in words:
            after = words[words.index("STOPPING") + 1 :]
            assert set(after) <= {"EXTEND_TIMEOUT_USEC"}
        states = [word for word in words if word in ("READY", "RELOADING")]
        for one, other in pairwise(states):
            assert (one, other) != ("READY", "READY")
        assert states[:1] in ([], ["READY"])


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@contextmanager
def unheard() -> Iterator[list[Event]]:
    found: list[Event] = []
    stop = listen(found.append, SystemdUnheard)
    try:
        yield found
    finally:
        stop()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_what_is_due_arrives_as_datagrams(tmp_path: Path, abstract: bool) -> None:
    """Both kinds of address that systemd uses."""
    name = f"@shipworthy-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(5)
        notifier = Notifier(name)
        notifier.tell(READY, 1.0)
        heard = [systemd.recv(4096) for _ in range(2)]
        notifier.close()
        notifier.close()

    assert heard == [b"READY=1", b"STATUS=ready: 2 of 2 workers ready"]


@pytest.mark.parametrize("name", ["/no/such/notify", "relative", "vsock:2:1", "/" + "x" * 200])
def test_a_broken_socket_is_one_event_and_never_an_error(name: str) -> None:
    """The service serves on; the reason is said once, not with each tick."""
    notifier = Notifier(name)
    with unheard() as events:
        for now in range(5):
            notifier.tell(replace(READY, ready=now % 3), float(now))
    notifier.close()

    (event,) = events
    assert name in str(event)


def test_what_was_not_heard_is_said_again_when_somebody_listens(tmp_path: Path) -> None:
    """A lost READY=1 would end the unit at `TimeoutStartSec=`."""
    path = tmp_path / "notify"
    notifier = Notifier(str(path))
    with unheard() as events, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        notifier.tell(READY, 0.0)
        systemd.bind(str(path))
        systemd.settimeout(5)
        notifier.tell(READY, 0.1)
        heard = systemd.recv(4096)
        path.unlink()
        notifier.tell(LEAVING, 0.2)
    notifier.close()

    assert heard == b"READY=1"
    assert len(events) == 2


def test_a_full_queue_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """systemd that does not read costs no time and no event; it hears when it reads again."""
    path = str(tmp_path / "notify")
    with unheard() as events, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        stuffing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stuffing.settimeout(0)
        try:
            while True:
                stuffing.sendto(b"x" * 1000, path)
        except BlockingIOError:
            pass
        stuffing.close()
        notifier = Notifier(path)
        notifier.tell(READY, 0.0)
        while systemd.recv(4096).startswith(b"x"):
            notifier.tell(READY, 0.1)
        notifier.close()

    assert events == []


def test_a_watchdog_that_could_not_be_fed_is_not_fed_later_when_nobody_moves(
    tmp_path: Path,
) -> None:
    """What is sent again must still be true."""
    path = tmp_path / "notify"
    notifier = Notifier(str(path), watchdog_seconds=1.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        for now in range(5):
            notifier.tell(READY, float(now))
        systemd.bind(str(path))
        systemd.settimeout(0)
        notifier.tell(replace(READY, fresh=False), 5.0)
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(systemd.recv(4096))
    notifier.close()

    assert heard == [b"READY=1", b"STATUS=ready: 2 of 2 workers ready"]


def test_the_variables_are_taken_from_the_environment() -> None:
    """A child of ours must not speak for us (`NotifyAccess=main` would not hear it anyway)."""
    environ = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }

    notifier = notifier_from(environ)

    assert environ == {"HOME": "/"}
    assert notifier is not None
    assert notifier._notices.watchdog_seconds == 3.0


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "9" * 400},
        {"WATCHDOG_USEC": "9" * 5000},
    ],
    ids=["for another", "no number", "zero", "no float", "no integer"],
)
def test_a_watchdog_that_is_not_ours_is_none(environ: dict[str, str]) -> None:
    """The rest is still said."""
    notifier = notifier_from(environ | {"NOTIFY_SOCKET": "/run/x"})

    assert notifier is not None
    assert notifier._notices.watchdog_seconds == math.inf


def test_nobody_is_told_who_does_not_ask() -> None:
    """Outside a unit there is no `NOTIFY_SOCKET`; a watchdog alone has nowhere to go."""
    environ = {"WATCHDOG_USEC": "3000000"}

    assert notifier_from({}) is None
    assert notifier_from(environ) is None
    assert environ == {}
