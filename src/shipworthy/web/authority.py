"""The host that a request names, or that it cannot be one. Pure.

Stricter than RFC 3986, which lets a name hold quotes and commas: what is no name of a machine is
only ever sent to be written into a page, a link or a mail.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

# What is remembered of hosts that were read, none of them longer than `AUTHORITY_BYTES`.
_REMEMBERED: Final = 1024
# A name has 253 characters (RFC 1035), and there may be a dot and a port behind it.
AUTHORITY_BYTES: Final = 260
_NAME_CHARACTERS: Final = 253
_PORT_MAX: Final = 65535
# The underscore is in no host name, and in many names of containers.
_AUTHORITY: Final = re.compile(
    r"(?:([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)


def host_of(authority: bytes) -> str | None:
    """Return the host of a Host header, lower case and without port and last dot.

    None is for what is no host. An IPv6 address is in brackets and written as RFC 5952 asks.
    """
    return _host_of(authority) if len(authority) <= AUTHORITY_BYTES else None


@lru_cache(_REMEMBERED)
def _host_of(authority: bytes) -> str | None:
    # What is not ASCII becomes a character that the pattern does not know.
    found = _AUTHORITY.fullmatch(authority.decode("latin-1"))
    if found is None or (found[3] and int(found[3]) > _PORT_MAX):
        return None
    if found[2] is None:
        return found[1].lower() if len(found[1]) <= _NAME_CHARACTERS else None
    try:
        return f"[{IPv6Address(found[2])}]"
    except ValueError:
        return None
