"""Who a request comes from, by what proxies that are trusted say of it. Pure.

A proxy writes the address that called it at the right end of its header, so reading begins there:
an entry is believed because whoever wrote it is, and reading ends at the first address that is no
proxy's. What a client sent itself stands further to the left, where nobody looks.

Not here: which proxies are trusted (`client_settings`), and who is told (`forwarded`).
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, final

from shipworthy.admission import UNIX, address_of, read_address
from shipworthy.web.authority import host_of
from shipworthy.web.client_settings import ClientSettings

# How many entries are looked at, from the right: more than any chain of proxies is long.
ENTRIES_MAX: Final = 32
# An IPv6 address with a zone, brackets and a port is shorter.
ENTRY_BYTES: Final = 96
# Of `Forwarded`: for, by, proto and host, each with room.
ELEMENT_BYTES: Final = 1024
# What is remembered of addresses that were read.
_REMEMBERED: Final = 4096
_PORT_MAX: Final = 65535

_PORT: Final = re.compile(r"(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?")
_PAIR: Final = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb"(?:\"((?:[^\"\\]|\\.)*)\"|([^\",;\s\\]*))[ \t]*(?:;|\Z)"
)
_QUOTE: Final = re.compile(rb"(?<!\\)(\\*)\"")
_ESCAPED: Final = re.compile(rb"\\(.)")
_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


class ClientFound(NamedTuple):
    """Who a request comes from, and why that is believed.

    `scheme` is http or https as the proxies say, '' where they do not, and `host` likewise; `port`
    is 0 where nobody knows. `unclear` says why reading ended before the client was found, '' where
    it was: then `address` is the nearest one that is known, a proxy's.
    """

    address: str
    port: int
    scheme: str
    host: bytes
    because: str
    unclear: str = ""


class Hop(NamedTuple):
    """What one proxy wrote: who called it, '' where it does not say, and how."""

    address: str
    port: int = 0
    scheme: str = ""
    host: bytes = b""


_UNNAMED: Final = Hop("")


@final
class ClientRule:
    """Decide who a client is, by the section [client]; safe in any thread."""

    def __init__(self, settings: ClientSettings) -> None:
        self._networks = settings.networks
        self._unix = UNIX in settings.trusted_proxies
        self._hops = settings.hops
        self._header = settings.header
        self._read = _elements if settings.header == "forwarded" else _entries
        # Whoever connects may be one of the proxies that are counted, if none is named.
        self._anybody = bool(settings.hops) and not settings.trusted_proxies
        self.is_proxy = lru_cache(_REMEMBERED)(self._is_proxy)

    def believes(self, peer: str) -> bool:
        """Whether what a peer says of others counts; '' is one without an address."""
        return self._anybody or self.is_proxy(peer)

    def client(
        self, peer: str, lines: Sequence[bytes], *, scheme: bytes = b"", host: bytes = b""
    ) -> ClientFound:
        """Return who a peer that is believed speaks for, by the `lines` of its header, in order.

        `scheme` and `host` are what it says in headers of their own.
        """
        writer, port, entries = address_of(peer), 0, 0
        scheme_said, host_said = scheme_named(scheme), authority_named(host)
        because = unclear = ""
        for entry, hop in enumerate(self._read(lines), start=1):
            if hop is None:
                unclear = f"entry {entry} from the right, of {writer}, is no address"
                break
            scheme_said, host_said = hop.scheme or scheme_said, hop.host or host_said
            if not hop.address:
                unclear = f"{writer} does not say who called it"
                break
            because = f"{writer} wrote it, as entry {entry} from the right"
            writer, port, entries = hop.address, hop.port, entry
            if entries == self._hops or not (self._hops or self.is_proxy(writer)):
                break
        else:
            if entries < self._hops:
                unclear = f"{self._header} has {entries} entries of client.hops = {self._hops}"
        return ClientFound(
            writer, port, scheme_said, host_said, because or "it connected itself", unclear
        )

    def _is_proxy(self, peer: str) -> bool:
        if not peer or peer == UNIX:
            return self._unix
        address = read_address(peer)
        return address is not None and any(address in network for network in self._networks)


def scheme_named(text: bytes) -> str:
    """Return http or https, also for the scheme of a websocket; '' for anything else."""
    return _SCHEMES.get(text.strip().lower(), "")


def authority_named(text: bytes) -> bytes:
    """Return what names a host, with its port; nothing for what does not."""
    text = text.strip()
    return text if host_of(text) is not None else b""


def _entries(lines: Sequence[bytes]) -> Iterator[Hop | None]:
    """Give the entries of `X-Forwarded-For` from the right, None for what is none."""
    left = ENTRIES_MAX
    for line in reversed(lines):
        end = len(line)
        while end >= 0 and left:
            comma = line.rfind(b",", 0, end)
            is_long = end - comma > ENTRY_BYTES
            entry = b"-" if is_long else line[comma + 1 : end].strip(b" \t")
            # What is empty is no entry (RFC 9110, 5.6.1), and costs as much.
            if entry:
                yield _read_hop(entry)
            end, left = comma, left - 1


def _elements(lines: Sequence[bytes]) -> Iterator[Hop | None]:
    """Give the elements of `Forwarded` from the right, None for what is none."""
    left = ENTRIES_MAX
    for line in reversed(lines):
        end = len(line)
        while end >= 0 and left:
            start = _beginning(line, end)
            is_long = start < 0
            element = b"-" if is_long else line[start:end].strip(b" \t")
            if element:
                yield _element(element)
            end, left = start - 1, left - 1


def _beginning(line: bytes, end: int) -> int:
    """Return where the element begins that ends at `end`: behind a comma outside of quotes.

    Quotes are counted from the right: one that a client opened, and never closed, must not swallow
    what the proxy wrote behind it. -1 where it is too long.
    """
    floor, comma, open_ = max(0, end - ELEMENT_BYTES), end, False
    while True:
        before, comma = comma, line.rfind(b",", floor, comma)
        quotes = _QUOTE.findall(line, max(comma + 1, floor), before)
        open_ ^= sum(len(escapes) % 2 == 0 for escapes in quotes) % 2 == 1
        if comma < 0:
            return -1 if floor else 0
        if not open_:
            return comma + 1


def _element(element: bytes) -> Hop | None:
    said: dict[bytes, bytes] = {}
    at = 0
    while at < len(element):
        found = _PAIR.match(element, at)
        if found is None or found[1].lower() in said:
            return None
        quoted = found[2]
        said[found[1].lower()] = found[3] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        at = found.end()
    node = said.get(b"for", b"unknown")
    hop = _read_hop(node) if len(node) <= ENTRY_BYTES else None
    if hop is None:
        return None
    scheme, host = scheme_named(said.get(b"proto", b"")), authority_named(said.get(b"host", b""))
    return hop._replace(scheme=scheme, host=host)


@lru_cache(_REMEMBERED)
def _read_hop(entry: bytes) -> Hop | None:
    """Read a node of RFC 7239, which is what `X-Forwarded-For` holds, too, without its quotes."""
    text = entry.decode("latin-1")
    if text.lower() == "unknown" or text.startswith("_"):
        return _UNNAMED
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        is_whole = bool(bracket) and ":" in name
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
        rest, is_whole = f":{port}", True
    else:
        name, rest, is_whole = text, "", True
    address, found = read_address(name), _PORT.fullmatch(rest)
    if not is_whole or address is None or found is None:
        return None
    port_said = int(found[1] or 0)
    return Hop(str(address), port_said) if port_said <= _PORT_MAX else None
