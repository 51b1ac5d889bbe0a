"""Which heads of requests are refused: too large, or open to two readings. Pure.

What the parser cannot read it refuses by itself. Here is what it reads and a proxy in front could
read in another way (RFC 9112, 3.2 and 6), so that one request becomes two.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

Headers = Sequence[tuple[bytes, bytes]]

# What a header takes on the wire beside its name and value.
_AROUND_BYTES: Final = len(b": \r\n")
# Of what RFC 3986 lets a name hold, what names of machines do; no more can stand for something
# else where the URL is put together again.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_END_OF_AUTHORITY: Final = re.compile(rb"[/?]")
_JUDGED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


class TurnedAway(NamedTuple):
    """Why a request is refused: the rule's name, the status, and what its client is told."""

    rule: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """How large a head may be, and whether its meaning is looked at."""

    head_bytes: int = 32 * 1024
    head_count: float = 100
    url_bytes: float = 8 * 1024
    strict: bool = True

    def refusal(self, version: str, url: bytes, headers: Headers) -> TurnedAway | None:
        """Judge the head of a request whose header names are in lower case; None for a good one."""
        if len(url) > self.url_bytes:
            return self.too_long(url)
        if len(headers) > self.head_count:
            return TurnedAway("head-count", 431, f"a request may have {self.head_count} headers")
        size_bytes = len(url) + _AROUND_BYTES * len(headers)
        judged = []
        for header in headers:
            name, value = header
            size_bytes += len(name) + len(value)
            if name in _JUDGED:
                judged.append(header)
        if size_bytes > self.head_bytes:
            return self.too_large()
        return _meaning(version, judged) if self.strict else None

    def too_large(self) -> TurnedAway:
        """Refuse a head for its size."""
        return TurnedAway(
            "head-bytes", 431, f"the head of a request may have {self.head_bytes:,} bytes"
        )

    def too_long(self, url: bytes) -> TurnedAway:
        """Refuse a head for its target, as much of it as has come."""
        return TurnedAway(
            "url",
            414,
            f"the target of a request may have {self.url_bytes:,} bytes, and this one has "
            f"{len(url):,} or more",
        )


def _meaning(version: str, judged: Headers) -> TurnedAway | None:
    """Judge the headers that say whom a request is for and where it ends."""
    if version not in ("1.1", "1.0"):
        return TurnedAway("version", 505, "this service speaks HTTP/1.1")
    hosts = [value for name, value in judged if name == b"host"]
    if len(hosts) != 1 and (hosts or version == "1.1"):
        return TurnedAway("host", 400, f"a request has one Host, and this one has {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return TurnedAway("host", 400, "the Host of this request names no host")
    return _end(version, judged) if len(judged) > len(hosts) else None


def _end(version: str, judged: Headers) -> TurnedAway | None:
    """Judge where the body ends; the parser has judged a Content-Length that stands alone."""
    codings = [value for name, value in judged if name == b"transfer-encoding"]
    if not codings:
        return None
    if any(name == b"content-length" for name, _ in judged):
        return TurnedAway(
            "framing", 400, "Content-Length and Transfer-Encoding together have two meanings"
        )
    if version == "1.0":
        return TurnedAway("framing", 400, "HTTP/1.0 knows no Transfer-Encoding")
    if len(codings) > 1 or codings[0].strip().lower() != b"chunked":
        return TurnedAway("framing", 501, "of transfer codings this service knows chunked alone")
    return None


def target_refusal(method: bytes, url: bytes, headers: Headers) -> TurnedAway | None:
    """Judge a target that is no path, or has a fragment: None for one with a single meaning."""
    if b"#" in url:
        return TurnedAway("url", 400, "the target of a request has no fragment")
    if method == b"CONNECT":
        return TurnedAway("url", 501, "this service is no proxy")
    if url.startswith(b"/") or (url == b"*" and method == b"OPTIONS"):
        return None
    return _authority(url, headers)


def _authority(url: bytes, headers: Headers) -> TurnedAway | None:
    """Judge a target that should be a URL: of the host in it and in Host the first counts."""
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() not in (b"http", b"https"):
        return TurnedAway(
            "url", 400, "the target of a request is a path or an http URL; * is for OPTIONS"
        )
    authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0].lower()
    if not _HOST.fullmatch(authority):
        return TurnedAway("url", 400, "the target of this request names no host")
    if any(name == b"host" and value.lower() != authority for name, value in headers):
        return TurnedAway("host", 400, "the target of this request and its Host name two hosts")
    return None


def handshake_refusal(headers: Headers) -> TurnedAway | None:
    """Judge a websocket's handshake: one with a body would be read as frames by somebody."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            return TurnedAway("framing", 400, "the handshake of a websocket has no body")
    return None
