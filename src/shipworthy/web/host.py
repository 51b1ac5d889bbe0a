"""The Host header: one, well-formed, and of a host that this service answers for.

Applications make links, redirects and mails from it, and caches keep answers under it, so whoever
may choose it writes into them.

Not here: which hosts those are (`host_settings`), and a host that a proxy passes on (`forwarded`).
"""

from typing import Final, Literal, final

from shipworthy.errors import RequestInvalid
from shipworthy.web.authority import host_of
from shipworthy.web.blocked import Blocked
from shipworthy.web.host_settings import HostSettings
from shipworthy.web.line import Call

HOST_RULES: Final = ("missing", "repeated", "malformed", "unlisted")
_SHOWN_BYTES: Final = 100


@final
class HostMalformed(RequestInvalid):
    """A request names no host, two, or what is none: 400, as RFC 9112 (3.2) asks."""

    told = True

    def __init__(self) -> None:
        super().__init__("a request must name one host, in one Host header")


@final
class HostUnlisted(RequestInvalid):
    """A request is for a host that is somebody else's: 421, as RFC 9110 (7.4) asks.

    Not 400, for nothing is wrong with it, but with where it was sent: a client that had taken this
    connection for several hosts sends it again on one of its own.
    """

    status = 421
    told = True

    def __init__(self) -> None:
        super().__init__("this service does not answer for the host that the request names")


@final
class HostRule:
    """Say what is wrong with the host of a request; safe in any thread."""

    def __init__(self, settings: HostSettings) -> None:
        self._names = settings.names()

    def wrong(self, call: Call) -> str:
        """Return which of `HOST_RULES` a request breaks, '' for none."""
        scope, host = call.scope, call.headers.get(b"host")
        if host is None:
            # HTTP/1.0 has no Host; only who must know the host needs one then.
            is_old = scope.get("http_version") == "1.0"
            return "" if is_old and self._names is None else "missing"
        raw = scope["headers"]
        if len(raw) != len(call.headers) and sum(header[0] == b"host" for header in raw) > 1:
            return "repeated"
        name = host_of(host)
        if name is None:
            return "malformed"
        if self._names is None or name in self._names[0] or name.endswith(self._names[1]):
            return ""
        return "unlisted"


@final
class HostGuard:
    """Refuse requests and websockets whose host is wrong, or with mode report tell of them.

    Probes pass: a balancer asks for them by the address of the machine.
    """

    def __init__(self, settings: HostSettings, blocked: Blocked) -> None:
        self._wrong = HostRule(settings).wrong
        self._mode: Literal["report", "enforce"]
        self._mode = "enforce" if settings.mode == "enforce" else "report"
        self._blocked = blocked
        # Of a list that names nobody, nothing can be off it.
        for rule in HOST_RULES if settings.names() else HOST_RULES[:-1]:
            blocked.expect("host", rule, self._mode)

    def enter(self, call: Call) -> None:
        """Let a request pass whose host is right."""
        rule = "" if call.probe else self._wrong(call)
        if rule:
            self._blocked.tell(
                "host",
                rule,
                self._mode,
                f"its Host is {call.headers.get(b'host', b'')[:_SHOWN_BYTES]!r}",
                client=call.record.client,
                route=call.route(),
            )
            if self._mode == "enforce":
                raise host_refused(rule)


def host_refused(rule: str) -> RequestInvalid:
    """Return what a request is refused with that breaks `rule`."""
    return HostUnlisted() if rule == "unlisted" else HostMalformed()
