"""What of an address is the client's own to change, and what is not: one way to write both. Pure.

Not here: whose word says which address a client has (`web.client`).
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

# What a peer without an address is called, as of a Unix socket.
UNIX: Final = "unix"
# What is remembered of addresses that were read, and how much of what is none.
_REMEMBERED: Final = 4096
_CHARACTERS: Final = 64
# What one customer has, and may change within as he likes (RFC 6177).
_CUSTOMER_BITS: Final = 64
# Where a translator puts IPv4 addresses (RFC 6052): as one /64 they would all be one client.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address, IPv4 where IPv6 only writes it; None for what is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # A zone says by which of its interfaces a machine was reached, and nothing of the client.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


@lru_cache(_REMEMBERED)
def address_of(peer: str) -> str:
    """Return the one way to write an address: IPv4 as such, no zone, as RFC 5952 asks.

    A peer without an address is `unix`; what is none stays as it is.
    """
    address = read_address(peer)
    return (peer or UNIX) if address is None else str(address)


@lru_cache(_REMEMBERED)
def network_of(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, of IPv6 the /64 around it.

    What is no address is a network of its own, up to 64 characters: `unix`, for all that come
    through a socket.
    """
    found = read_address(address)
    if isinstance(found, IPv6Address):
        if found in _TRANSLATED:
            return str(IPv4Address(int(found) & 0xFFFF_FFFF))
        return str(IPv6Network((found, _CUSTOMER_BITS), strict=False))
    return address[:_CHARACTERS] if found is None else str(found)
