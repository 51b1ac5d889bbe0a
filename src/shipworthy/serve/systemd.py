"""What systemd is told about the service: sd_notify(3), without a library.

`Notices` decides what to say and is pure; `Notifier` owns the socket and never raises. Outside a
unit with `NotifyAccess=` there is no `NOTIFY_SOCKET`, and nothing is said.
"""

import math
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from shipworthy.events import Event, Severity, emit, event

# A status line is for people; once a second is more often than anybody looks.
STATUS_SECONDS = 1.0
# How much longer systemd is asked to wait when the drain got on. The next one is asked for after a
# second, so a drain that stands still for this long is no longer defended by us.
EXTEND_SECONDS = 10.0
_WATCHDOG = "WATCHDOG"
# systemd counts microseconds in 64 bits.
_DIGITS_MAX = 20


@event(severity=Severity.WARNING)
class SystemdUnheard(Event):
    """systemd could not be told about the service; said once until it hears again."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyFacts:
    """The service at one moment, as far as systemd is told of it.

    `round` counts the rounds of replacement begun so far, and `replacing` says that the last one
    is under way. `fresh` says that the workers' heartbeats are.
    """

    wanted: int
    ready: int
    leaving: bool
    fresh: bool
    in_flight: int
    connections: int
    phase: str
    round: int = 0
    replacing: bool = False

    @property
    def status(self) -> str:
        """Return the one line that `systemctl status` shows."""
        if self.leaving:
            requests = "request" if self.in_flight == 1 else "requests"
            return (
                f"{self.phase}: {self.in_flight} {requests} in flight, "
                f"{self.connections} connections"
            )
        doing = "replacing workers" if self.replacing else "ready" if self.ready else "not ready"
        return f"{doing}: {self.ready} of {self.wanted} workers ready"


@dataclass(slots=True)
class Notices:
    """Decide what to say next; call it often, at least every tenth of a second.

    `watchdog_seconds` is what the unit's `WatchdogSec=` gives us, infinite without one.
    """

    watchdog_seconds: float = math.inf
    _ready: bool = False
    _stopping: bool = False
    _round: int = 0
    _reloading: bool = False
    _status: str = ""
    _status_at: float = -math.inf
    _watchdog_at: float = -math.inf
    _progress: tuple[str, int, int] | None = None
    _extended_at: float = -math.inf

    def due(self, facts: NotifyFacts, now: float) -> list[str]:
        """Return the messages that are due, each a whole datagram; often none.

        `now` is CLOCK_MONOTONIC in seconds, the clock that `MONOTONIC_USEC=` is in.
        """
        found: list[str] = []
        if facts.leaving:
            if not self._stopping:
                self._stopping = True
                found.append("STOPPING=1")
            found += self._extension(facts, now)
        else:
            found += self._state(facts, now)
        # At half the interval, as sd_watchdog_enabled(3) recommends; without a pause as soon as
        # the heartbeats are fresh again. While leaving, the grace is the bound: a blocked loop
        # must not turn an orderly end into SIGABRT before it.
        due_at = self._watchdog_at + self.watchdog_seconds / 2
        fed = facts.fresh or facts.leaving
        if fed and math.isfinite(self.watchdog_seconds) and now >= due_at:
            self._watchdog_at = now
            found.append(f"{_WATCHDOG}=1")
        status = facts.status
        changed = status != self._status
        if changed and (bool(found) or now - self._status_at >= STATUS_SECONDS):
            self._status, self._status_at = status, now
            found.append(f"STATUS={status}")
        return found

    def _state(self, facts: NotifyFacts, now: float) -> list[str]:
        found: list[str] = []
        if facts.round > self._round and self._ready:
            self._reloading = True
            found.append(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}")
        self._round = facts.round
        if self._reloading and not facts.replacing:
            self._reloading = False
            found.append("READY=1")
        if facts.ready and not self._ready:
            self._ready = True
            found.append("READY=1")
        return found

    def _extension(self, facts: NotifyFacts, now: float) -> list[str]:
        progress = (facts.phase, facts.in_flight, facts.connections)
        if progress == self._progress or now - self._extended_at < 1.0:
            return []
        self._progress, self._extended_at = progress, now
        return [f"EXTEND_TIMEOUT_USEC={int(EXTEND_SECONDS * 1e6)}"]


class Notifier:
    """Tells systemd what is due. Belongs to one loop; never raises and never waits."""

    def __init__(self, path: str, *, watchdog_seconds: float = math.inf) -> None:
        self._path = path
        self._notices = Notices(watchdog_seconds)
        self._socket: socket.socket | None = None
        # By kind, in order; what comes later of a kind stands for what could not be sent before.
        self._unsent: dict[str, str] = {}
        self._unheard = False

    def tell(self, facts: NotifyFacts, now: float) -> None:
        """Send what is due, after what could not be sent before."""
        if not facts.fresh and not facts.leaving:
            # That they were fresh when it could not be sent must not feed the watchdog now.
            self._unsent.pop(_WATCHDOG, None)
        for message in self._notices.due(facts, now):
            kind = message.partition("=")[0]
            self._unsent.pop(kind, None)
            self._unsent[kind] = message
        try:
            for kind, message in list(self._unsent.items()):
                self._send(message)
                del self._unsent[kind]
                self._unheard = False
        except BlockingIOError:
            return  # its queue is full; the next tick tries again
        except OSError as error:
            if not self._unheard:
                self._unheard = True
                because = f"NOTIFY_SOCKET={self._path}: {error.strerror or error}"
                emit(SystemdUnheard, because=because)

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._path[0] not in "/@":
            raise OSError("is no path and no abstract socket")
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(0)
        # Not connected: systemd may make its socket anew when it is executed anew.
        address = "\0" + self._path[1:] if self._path[0] == "@" else self._path
        self._socket.sendto(message.encode(), address)


def notifier_from(environ: MutableMapping[str, str]) -> Notifier | None:
    """Take systemd's variables out of `environ`, so that no child speaks for us, and obey them.

    None when nobody wants to be told (there is no `NOTIFY_SOCKET`). A watchdog that is meant for
    another process (`WATCHDOG_PID`) or is no number is none.
    """
    path = environ.pop("NOTIFY_SOCKET", "")
    pid = environ.pop("WATCHDOG_PID", "")
    text = environ.pop("WATCHDOG_USEC", "")
    mine = pid in ("", str(os.getpid()))
    number = int(text) if text.isdecimal() and len(text) <= _DIGITS_MAX else 0
    seconds = number / 1e6 if mine and number else math.inf
    return Notifier(path, watchdog_seconds=seconds) if path else None
