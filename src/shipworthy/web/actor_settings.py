"""Where the actor of a request is found, in an application that does not name it: section [actor].

The trail and the access line name who a request is made by.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shipworthy.settings import Loaded, Secret, option, secret, section
from shipworthy.web.client_settings import ClientSettings

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
        "(of the bearer token), header:NAME (from client.trusted_proxies alone), flask-login, or "
        "package:function, which is called with the ASGI scope",
    )
    jwt_key: Secret = secret(  # noqa: RUF009 - it makes a field
        "what tokens are verified with: a shared secret (HS256) or a public key in PEM (RS256, "
        "ES256, EdDSA); without it a token's claim is recorded as claimed, not as known"
    )
    service: str = option(
        "", "the actor of what nobody is named for, as `service:NAME`; else the application's name"
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what could never name anybody."""
        del environment
        return [
            f"actor.from: '{source}' is no place to look; write scope.NAME, jwt:CLAIM, "
            f"header:NAME, flask-login or package:function"
            for source in self.from_
            if not _SOURCE.fullmatch(source)
        ]

    def refusals_beside(self, others: Loaded) -> Iterator[str]:
        """Say what would let anybody name himself."""
        headers = [source for source in self.from_ if source.startswith("header:")]
        if headers and not others.of(ClientSettings).trusted_proxies:
            yield (
                f"actor.from: {headers[0]} could be sent by anybody; name the proxies that set it "
                f"in client.trusted_proxies"
            )
