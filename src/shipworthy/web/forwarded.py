"""The client of a request, as the log, the limits, the trail and the application all see it.

Not here: who it is (`client`).
"""

from typing import Annotated, Final, final

from shipworthy.admission import address_of
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.client import ClientRule
from shipworthy.web.client_settings import ClientSettings
from shipworthy.web.line import Call, Scope

# In the scope of a request that came through a proxy which is believed: whom it speaks for
# (`ClientFound`, with the reason), and the peer itself.
CLIENT: Final = "shipworthy.client"
PEER: Final = "shipworthy.peer"

_TEXT_CHARACTERS: Final = 64


@event(severity=Severity.WARNING)
class ForwardedIgnored(Event):
    """A request said for whom it comes and was not believed; said once for each reason.

    Behind a proxy all clients look like that proxy then, so name it in [client].
    """

    reason: Annotated[str, Label]
    because: str


@final
class Forwarded:
    """Find the client of each request, and let the application see it, as its server would.

    Of a peer that is believed, `client` and `scheme` of the scope become those of its client, and
    with `forwarded_host` the Host header becomes what the client asked for.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._rule = ClientRule(settings)
        self._name = b"" if settings.header == "none" else settings.header.encode()
        self._names_host = settings.forwarded_host
        self._beside = settings.header == "x-forwarded-for"
        self._said: set[str] = set()
        # Whether it was not yet said that somebody is not believed.
        self._looks = True

    def address(self, call: Call) -> str:
        """Return the address of the client, `unix` where it has none."""
        client = call.scope.get("client")
        peer: str = client[0] if client else ""
        if self._name and self._rule.believes(peer):
            return self._read(call, peer)
        headers = call.headers
        if self._looks and (b"x-forwarded-for" in headers or b"forwarded" in headers):
            self._looks = False
            self._say("peer", f"{address_of(peer)[:_TEXT_CHARACTERS]} is no proxy of [client]")
        return address_of(peer)

    def from_proxy(self, scope: Scope) -> bool:
        """Whether a proxy that is named in the settings has sent this, so that its words count."""
        return self._rule.is_proxy(peer_of(scope))

    def _read(self, call: Call, peer: str) -> str:
        scope = call.scope
        found = self._rule.client(
            peer,
            _lines(call, self._name),
            scheme=_last(call, b"x-forwarded-proto") if self._beside else b"",
            host=_last(call, b"x-forwarded-host") if self._beside else b"",
        )
        scope[CLIENT], scope[PEER] = found, peer
        if found.address != address_of(peer):
            scope["client"] = (found.address, found.port)
        if found.scheme:
            is_http = scope["type"] == "http"
            scope["scheme"] = found.scheme if is_http else found.scheme.replace("http", "ws")
        if found.host and self._names_host:
            others = [header for header in scope["headers"] if header[0] != b"host"]
            scope["headers"] = [(b"host", found.host), *others]
            call.headers[b"host"] = found.host
        if found.unclear:
            self._say("unclear", found.unclear)
        return found.address

    def _say(self, reason: str, because: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            emit(ForwardedIgnored, reason=reason, because=because)


def peer_of(scope: Scope) -> str:
    """Return the address of who is connected to us, '' of one that has none."""
    if PEER in scope:
        peer: str = scope[PEER]
        return peer
    client = scope.get("client")
    return client[0] if client else ""


def _lines(call: Call, name: bytes) -> list[bytes]:
    if name not in call.headers:
        return []
    raw = call.scope["headers"]
    if len(raw) == len(call.headers):
        return [call.headers[name]]
    return [value for key, value in raw if key == name]


def _last(call: Call, name: bytes) -> bytes:
    """Return what the nearest proxy says: the last of a list, in the last of several lines."""
    return call.headers.get(name, b"").rpartition(b",")[2]
