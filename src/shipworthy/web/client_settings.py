"""Whose word counts for who a client is: section [client], the one place that names proxies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final, Literal

from shipworthy.admission import UNIX
from shipworthy.settings import option, section

# Nobody owns a wider range of public addresses: whoever names one, names strangers. By version.
_WIDEST: Final = {4: 8, 6: 16}
# Where IPv6 writes an IPv4 address, as a socket that listens for both does (RFC 4291, 2.5.5.2).
_MAPPED: Final = IPv6Network("::ffff:0:0/96")

Network = IPv4Network | IPv6Network


@section("client")
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Which proxies say who the client is, and in which header; by default none does."""

    trusted_proxies: tuple[str, ...] = option(
        (),
        "addresses or networks of the proxies in front, `unix` for one that comes through a Unix "
        "socket; what others say of a client is ignored",
    )
    header: Literal["none", "x-forwarded-for", "forwarded"] = option(
        "none",
        "where the proxies write whom they serve: x-forwarded-for (with x-forwarded-proto) or "
        "forwarded (RFC 7239), never both; none takes whoever connects",
    )
    hops: int = option(
        0,
        "how many proxies stand in front, where their addresses are not all known: the client is "
        "that entry of the header, from the right; 0 goes by trusted_proxies",
        minimum=0,
        maximum=16,
    )
    forwarded_host: bool = option(
        default=False,
        help="whether the proxies also say which host was asked for (x-forwarded-host, or host= of "
        "forwarded); only where each of them sets it, for others pass on what a client sent",
    )
    trust_everybody: bool = option(
        default=False,
        help="say so a second time where trusted_proxies or hops let anybody be a proxy: then each "
        "client chooses its own address",
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what could never have an effect, and what would let clients name themselves."""
        unknown = list(self._unknown())
        return unknown or [
            *self._idle(),
            *(self._open() if environment == "production" and not self.trust_everybody else ()),
        ]

    @property
    def networks(self) -> tuple[Network, ...]:
        """The trusted networks but for the Unix socket, as few as say it."""
        read = [network_named(text) for text in self.trusted_proxies if text != UNIX]
        return (
            *collapse_addresses([one for one in read if isinstance(one, IPv4Network)]),
            *collapse_addresses([one for one in read if isinstance(one, IPv6Network)]),
        )

    def _unknown(self) -> Iterator[str]:
        for text in self.trusted_proxies:
            if text != UNIX and not _is_network(text):
                yield (
                    f"client.trusted_proxies: '{text}' is no address and no network; write "
                    f"10.0.0.7, 10.0.0.0/8 or {UNIX}"
                )

    def _idle(self) -> Iterator[str]:
        if self.header == "none":
            if self.hops or self.forwarded_host:
                name = "hops" if self.hops else "forwarded_host"
                yield (
                    f"client.{name}: no header is read that it could count in; set client.header "
                    f"to x-forwarded-for or forwarded, whichever the proxies write"
                )
        elif not self.trusted_proxies and not self.hops:
            yield (
                f"client.header: {self.header} could be sent by anybody; name the proxies that "
                f"write it in client.trusted_proxies, or how many there are in client.hops"
            )

    def _open(self) -> Iterator[str]:
        if self.hops and not self.trusted_proxies:
            yield (
                f"client.hops: {self.hops} proxies are counted, and whoever reaches this service "
                f"past them writes what it likes; name them in client.trusted_proxies too, or set "
                f"client.trust_everybody = true where nobody else can connect"
            )
        for network in strangers(self.networks):
            yield (
                f"client.trusted_proxies: {network} trusts {network.num_addresses:.1e} addresses, "
                f"so clients are among them and choose their own; name the proxies alone, or set "
                f"client.trust_everybody = true where nobody else can connect"
            )


def network_named(text: str) -> Network:
    """Return the network of an address or a range, one of IPv4 where IPv6 only writes it.

    Raises `ValueError` for what is neither.
    """
    network = ip_network(text.partition("%")[0], strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        address = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((address, network.prefixlen - _MAPPED.prefixlen))
    return network


def strangers(networks: Sequence[Network]) -> list[Network]:
    """Return those networks that are too wide to be anybody's own; private ones never are."""
    return [
        network
        for network in networks
        if network.prefixlen < _WIDEST[network.version] and not network.is_private
    ]


def _is_network(text: str) -> bool:
    try:
        network_named(text)
    except ValueError:
        return False
    return True
