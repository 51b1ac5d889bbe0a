"""Whether a request that changes something was meant, or made by a foreign page. Pure.

A browser says where a request comes from, in headers that no page can write: `Sec-Fetch-Site`, and
`Origin` where it does not (plain http, old browsers), else `Referer`. A client that says none of it
is no browser of today, and can be abused only through what it sends without being asked: a cookie,
Basic credentials, a certificate. Then a token that is bound to its session tells.

Not here: which headers a request has, and what becomes of one that is refused (`csrf_guard`).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Set as AbstractSet
from enum import StrEnum
from typing import Final, NamedTuple

# What a browser may send as an origin: a scheme, a host (an IPv6 address in brackets), and a port
# where it is not the scheme's own. No path, no user, no upper case.
_ORIGIN: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::(\d{1,5}))?"
)
_PORTS: Final = {"http": 80, "https": 443}
_HTTP: Final = {"ws": "http", "wss": "https"}
SECRET_CHARACTERS_MIN: Final = 32
SALT_BYTES: Final = 9
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{55}=")


class Doubt(StrEnum):
    """The rule by which a request is refused."""

    CROSS_SITE = "cross-site"
    SAME_SITE = "same-site"
    FOREIGN_ORIGIN = "foreign-origin"
    NULL_ORIGIN = "null-origin"
    FOREIGN_REFERER = "foreign-referer"
    NO_ORIGIN = "no-origin"


_SITES: Final = {"cross-site": Doubt.CROSS_SITE, "same-site": Doubt.SAME_SITE}


class Claims(NamedTuple):
    """What a request says of itself, and what we know of it.

    `scheme` and `host` are those it was sent to. `origin` and `referer` are None where there is no
    such header. `ambient` says that it holds what a browser sends without being asked, `explicit`
    that it holds a key which only a program of its sender can have put in. `sealed` says that it
    has a token of its session.
    """

    scheme: str
    host: str
    fetch_site: str | None = None
    origin: str | None = None
    referer: str | None = None
    ambient: bool = False
    explicit: bool = False
    sealed: bool = False


def judge_origin(claims: Claims, trusted: AbstractSet[str]) -> Doubt | None:
    """Return why a request that changes something is refused, None where it is not.

    `trusted` are origins as `normal_origin` writes them.
    """
    if claims.explicit and not claims.ambient:
        return None
    origin = normal_origin(claims.origin or "")
    if claims.fetch_site in {"same-origin", "none"} or origin in trusted:
        return None
    if claims.fetch_site in _SITES:
        return _SITES[claims.fetch_site]
    # There is no such word, or one that is not known yet: what is said besides decides.
    return _judge_words(claims, origin, trusted)


def _judge_words(claims: Claims, origin: str, trusted: AbstractSet[str]) -> Doubt | None:
    own = own_origin(claims.scheme, claims.host)
    if claims.origin is not None:
        if claims.origin == "null":
            return Doubt.NULL_ORIGIN
        return None if origin and origin == own else Doubt.FOREIGN_ORIGIN
    if claims.referer is not None:
        came_from = referer_origin(claims.referer)
        return None if came_from and came_from in {own, *trusted} else Doubt.FOREIGN_REFERER
    return Doubt.NO_ORIGIN if claims.ambient and not claims.sealed else None


def normal_origin(text: str) -> str:
    """Return an origin in the one way to write it, '' for what is none: `null` is none."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return ""
    scheme, host, port = match.groups()
    if port is None or int(port) == _PORTS[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}" if 0 < int(port) < 65536 else ""


def own_origin(scheme: str, host: str) -> str:
    """Return the origin of what was sent to `host` by `scheme`, '' where that is none."""
    return normal_origin(f"{_HTTP.get(scheme, scheme)}://{host}")


def referer_origin(referer: str) -> str:
    """Return the origin in a `Referer`, '' where there is none."""
    scheme, slashes, rest = referer.partition("://")
    return normal_origin(f"{scheme}://{re.split(r'[/?#]', rest, maxsplit=1)[0]}") if slashes else ""


def is_ambient(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the headers hold credentials that a browser sends by itself, whoever asked it to.

    A bearer token is none, nor is any other scheme that a browser does not keep.
    """
    if b"cookie" in headers:
        return True
    scheme = headers.get(b"authorization", b"").lstrip()[:10].partition(b" ")[0].lower()
    return scheme in {b"basic", b"digest", b"negotiate", b"ntlm"}


def is_explicit(headers: Mapping[bytes, bytes], key_headers: AbstractSet[bytes]) -> bool:
    """Whether the headers hold a key that no foreign page can have written.

    A page may send `Authorization`, and headers of other names, to another origin only where that
    origin has allowed it.
    """
    return b"authorization" in headers or not key_headers.isdisjoint(headers)


def token_for(session: str, *, secret: bytes, salt: bytes) -> str:
    """Return a token for `session`; by another `salt` it is another one, and as good.

    That it differs each time keeps a compressed page from telling it byte by byte (BREACH).
    """
    seal = hmac.digest(secret, salt + session.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return base64.urlsafe_b64encode(salt + seal).decode()


def token_fits(token: str, session: str, *, secret: bytes) -> bool:
    """Whether `token` was made for `session`; takes as long whatever is wrong with it."""
    if not session or _TOKEN.fullmatch(token) is None:
        return False
    salt = base64.urlsafe_b64decode(token)[:SALT_BYTES]
    return hmac.compare_digest(token_for(session, secret=secret, salt=salt), token)


def cookie_of(cookies: bytes, name: str) -> str:
    """Return the value of the one cookie of that name, '' where there is none, or more than one.

    Of two, a neighbour under the same domain may have set one, and nobody can say which.
    """
    found = [
        value.strip()
        for key, _, value in (pair.partition("=") for pair in cookies.decode("latin-1").split(";"))
        if key.strip() == name
    ]
    return found[0].strip('"') if len(found) == 1 else ""
