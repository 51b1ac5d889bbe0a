"""Which hosts a service answers for, and whether over https alone: sections [hosts], [https]."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import option, section
from shipworthy.web.authority import host_of

ANY_HOST = "*"
_BELOW = "*."


@section("hosts")
@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """Which hosts the service answers for; a Host header that cannot be one is always judged."""

    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "enforce: a request for another host is answered 421, one without a proper Host 400; "
        "report only says which",
    )
    allowed: tuple[str, ...] = option(
        (),
        "the hosts by which clients call the service, without ports; *.shop.example is all below "
        "it, * is any; with none only what is no host is found",
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what no request could ever name."""
        del environment
        return [
            f"hosts.allowed: '{host}' is no host; write shop.example, *.shop.example or 192.0.2.7, "
            f"without scheme, port and path"
            for host in self.allowed
            if host != ANY_HOST and named(host.removeprefix(_BELOW)) is None
        ]

    def names(self) -> tuple[frozenset[str | None], tuple[str, ...]] | None:
        """Return the hosts themselves, and the ends of those below one; None where any may be."""
        if not self.allowed or ANY_HOST in self.allowed:
            return None
        exact = [host for host in self.allowed if not host.startswith(_BELOW)]
        below = [host.removeprefix(_BELOW) for host in self.allowed if host.startswith(_BELOW)]
        return (
            frozenset(map(named, exact)),
            tuple(f".{named(host)}" for host in below),
        )


@section("https")
@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsSettings:
    """What becomes of requests over plain http, in staging and production."""

    mode: Literal["off", "report", "enforce"] = option(
        "off",
        "enforce: a page that is asked for over http is redirected to https, anything else is "
        "answered 403; report only says which; without effect in development",
    )

    def mode_in(self, environment: str) -> Literal["off", "report", "enforce"]:
        """Return the mode in an environment: where one develops there is no https to go to."""
        return "off" if environment == "development" else self.mode


def named(host: str) -> str | None:
    """Return a host of the settings as `host_of` has it; None for what is none, or has a port."""
    if host.startswith("["):
        return host_of(host.encode()) if host.endswith("]") else None
    return host_of((f"[{host}]" if ":" in host else host).encode())
