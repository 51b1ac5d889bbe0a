"""Who may ask the operations port what: pure decisions about Host, Origin and bearer token.

A web page the operator visits can make their browser send requests to a port on loopback. Three
things stand in its way. The `Host` list stops DNS rebinding, where a foreign name is made to point
here so that the page may read the answer. The `Origin` check stops the page's own form posts and
fetches. The bearer token is never attached by a browser on its own.
"""

import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from shipworthy.access import ADMINS, AccessRole, Bearer, NoBearer, in_words
from shipworthy.errors import SettingsInvalid

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::([0-9]{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Audience(StrEnum):
    """To whom an endpoint is open, in the words of the index page."""

    PROBE = "all"  # an orchestrator comes by address and has no token
    STATUS = "all; details: loopback, token"
    SCRAPE = "loopback, token"
    TOKEN = "token"  # noqa: S105 - words for people


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be answered; `detailed` is whether names, numbers and reasons may be in it.

    `by` is the name of the token that was sent, and '' without one.
    """

    detailed: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call is refused with `status`; `challenge` is the value of `WWW-Authenticate`.

    `wrong_token` is set where a token was sent that opens nothing.
    """

    status: int
    detail: str
    challenge: str = ""
    wrong_token: bool = False


_CROSS_SITE = Refusal(403, "the Origin header is not of this port: cross-site calls are refused")
_NO_TOKEN = Refusal(
    401, "this needs the operations token, as bearer in the Authorization header", "Bearer"
)
_WRONG_TOKEN = NoBearer("the token sent is not the operations token")
_OPERATIONS = Bearer("operations.token", AccessRole.ADMIN)
_SCRAPER = Bearer("operations.scrape_token", AccessRole.VIEWER)


class Door:
    """Decides about one call from its headers. Holds only data; safe to share between threads.

    `host` is the address the port is bound to. An empty token opens nothing. `judge` says who
    sends any other token.
    """

    __slots__ = ("_hosts", "_judge", "_scrape_token", "_token", "_wildcard", "loopback")

    def __init__(
        self,
        *,
        host: str,
        allowed_hosts: Sequence[str] = (),
        token: str,
        scrape_token: str = "",
        judge: Callable[[str], Bearer | NoBearer] | None = None,
    ) -> None:
        self.loopback = is_loopback(host)
        self._wildcard = host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        self._token = token
        self._scrape_token = scrape_token
        self._judge = judge
        problems = []
        self._hosts = {"localhost", "127.0.0.1", "::1", _plain(host)}
        for entry in allowed_hosts:
            authority = (entry, None) if _is_address(entry) else parse_authority(entry)
            if authority is None or authority[1] is not None:
                problems.append(
                    f"operations.allowed_hosts: expected a host name without scheme or port, "
                    f"got '{entry}'"
                )
            else:
                self._hosts.add(_plain(authority[0]))
        if problems:
            raise SettingsInvalid(problems)

    def decide(
        self,
        audience: Audience,
        *,
        method: str,
        hosts: Sequence[str],
        origins: Sequence[str],
        authorizations: Sequence[str],
        roles: frozenset[AccessRole] = ADMINS,
    ) -> Admitted | Refusal:
        """Admit or refuse; the header arguments hold every value that was sent, in order.

        `roles` are those that are let in where a token is asked for.
        """
        sender = self._sender(audience, authorizations)
        foreign = self.refuse_host(hosts)
        open_here = self.loopback and foreign is None

        if audience is Audience.PROBE:
            return Admitted(detailed=open_here or isinstance(sender, Bearer))
        if audience is not Audience.SCRAPE and foreign is not None:
            return foreign
        if method not in _SAFE_METHODS and not _same_origin(hosts, origins):
            return _CROSS_SITE
        return _decide_by_sender(audience, sender, roles, open_here=open_here)

    def refuse_host(self, hosts: Sequence[str]) -> Refusal | None:
        """Refuse a call that names no host, several, or one that is not ours."""
        authority = parse_authority(hosts[0]) if len(hosts) == 1 else None
        if authority is None:
            return Refusal(400, "exactly one well-formed Host header is needed")
        name = authority[0]
        # A rebinding attack needs a name that it can point here; an address is never one.
        if name in self._hosts or (self._wildcard and _is_address(name)):
            return None
        return Refusal(
            421,
            f"'{name[:100]}' is not a host of this port; "
            f"if it should be, add it to the setting operations.allowed_hosts",
        )

    def _sender(
        self, audience: Audience, authorizations: Sequence[str]
    ) -> Bearer | NoBearer | None:
        """Say whose token was sent; None when none was. Takes as long for any wrong one."""
        if not authorizations:
            return None
        scheme, _, sent = authorizations[0].partition(" ")
        given = sent.strip().encode("latin-1", "replace")
        owner = _equal(given, self._token)
        scraper = audience is Audience.SCRAPE and _equal(given, self._scrape_token)
        if scheme.lower() != "bearer" or len(authorizations) > 1:
            return _WRONG_TOKEN
        if owner or scraper:
            return _OPERATIONS if owner else _SCRAPER
        if self._judge is not None and given.startswith(b"sw_"):
            return self._judge(given.decode("latin-1"))
        return _WRONG_TOKEN


def _decide_by_sender(
    audience: Audience,
    sender: Bearer | NoBearer | None,
    roles: frozenset[AccessRole],
    *,
    open_here: bool,
) -> Admitted | Refusal:
    """Decide about a call whose Host and Origin are no objection."""
    open_to_all = open_here and audience is not Audience.TOKEN
    match sender:
        case NoBearer(because):
            # Also where no token is needed: who sends one should learn that it is wrong.
            return Refusal(401, because, 'Bearer error="invalid_token"', wrong_token=True)
        case Bearer(name, role) if open_to_all or role in roles:
            return Admitted(detailed=True, by=name)
        case Bearer(name, role):
            return Refusal(
                403,
                f"this needs the role {in_words(roles)}; the token '{name}' has the role {role}",
                'Bearer error="insufficient_scope"',
            )
        case None if open_to_all or audience is Audience.STATUS:
            return Admitted(detailed=open_to_all)
        case _:
            return _NO_TOKEN


def is_loopback(host: str) -> bool:
    """Whether a port bound to `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    return _is_address(host) and ip_address(host).is_loopback


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Return name and port of a `Host` value, the name in its plain form; None when malformed."""
    found = _AUTHORITY.fullmatch(text) if len(text) <= 300 else None
    if found is None:
        return None
    bracketed, name, port = found.groups()
    if bracketed is not None and not _is_address(bracketed):
        return None
    return _plain(bracketed or name), int(port) if port else None


def _same_origin(hosts: Sequence[str], origins: Sequence[str]) -> bool:
    """No Origin at all (not a browser), or the very host and port that was called."""
    if not origins:
        return True
    scheme, _, rest = origins[0].partition("://")
    origin, host = parse_authority(rest), parse_authority(hosts[0]) if hosts else None
    if len(origins) > 1 or scheme not in _DEFAULT_PORTS or origin is None or host is None:
        return False
    default = _DEFAULT_PORTS[scheme]
    return (origin[0], origin[1] or default) == (host[0], host[1] or default)


def _equal(given: bytes, token: str) -> bool:
    return hmac.compare_digest(given, token.encode()) and token != ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    lowered = name.lower().removesuffix(".")
    return ip_address(lowered).compressed if _is_address(lowered) else lowered
