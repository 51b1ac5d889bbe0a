"""Where the actor of a request is found, in an application that does not name it: section [actor].

The trail and the access line name who a request is made by.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from shipworthy.settings import Secret, option, secret, section

# What a peer without an address is called, as of a Unix socket.
UNIX: Final = "unix"
_SOURCE: Final = re.compile(
    r"scope(?:\.\w+)+|flask-login|jwt:[\w.:/-]+|header:[A-Za-z0-9-]+|[A-Za-z_][\w.]*:[A-Za-z_]\w*"
)


@section("actor")
@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSettings:
    """Who a request is made by: the first place of `from` that knows."""

    # The underscore is not part of the key: `from` is a word of Python.
    from_: tuple[str, ...] = option(
        ("scope.user", "scope.state.user", "flask-login"),
        "where to look, in order: scope.NAME (as authentication middleware leaves it), jwt:CLAIM "
        "(of the bearer token), header:NAME (from trusted_proxies alone), flask-login, or "
        "package:function, which is called with the ASGI scope",
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        "addresses or networks whose header names the actor, `unix` for a Unix socket; from others "
        "it is ignored",
    )
    jwt_key: Secret = secret(  # noqa: RUF009 - it makes a field
        "what tokens are verified with: a shared secret (HS256) or a public key in PEM (RS256, "
        "ES256, EdDSA); without it a token's claim is recorded as claimed, not as known"
    )
    service: str = option(
        "", "the actor of what nobody is named for, as `service:NAME`; else the application's name"
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what could never name anybody, or would let anybody name himself."""
        del environment
        return [*self._unknown(), *self._unsafe()]

    def _unknown(self) -> Iterator[str]:
        for source in self.from_:
            if not _SOURCE.fullmatch(source):
                yield (
                    f"actor.from: '{source}' is no place to look; write scope.NAME, jwt:CLAIM, "
                    f"header:NAME, flask-login or package:function"
                )
        for network in self.trusted_proxies:
            if network != UNIX and not _is_network(network):
                yield (
                    f"actor.trusted_proxies: '{network}' is no address and no network; write "
                    f"10.0.0.7, 10.0.0.0/8 or {UNIX}"
                )

    def _unsafe(self) -> Iterator[str]:
        headers = [source for source in self.from_ if source.startswith("header:")]
        if headers and not self.trusted_proxies:
            yield (
                f"actor.from: {headers[0]} could be sent by anybody; name the proxies that set it "
                f"in actor.trusted_proxies"
            )


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
