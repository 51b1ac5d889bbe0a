"""What a client may take its time for, and how large and how odd its requests may be."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import duration, option, section, size


@section("protocol")
@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolSettings:
    """Settings of the guard of connections, under `shipworthy run`."""

    # No report: a client that is let go on holds its connection, and a request that two parties
    # read differently has no harmless reading.
    mode: Literal["off", "enforce"] = option(
        "enforce",
        "end connections whose clients are too slow, and refuse requests that two parties could "
        "read differently; there is no report, see the guard's page",
    )
    # A head is a packet or two. nginx waits 60 s, Apache 20 s and more.
    header_seconds: float = duration(
        "10s",
        "from the first byte of a request to the end of its headers, and from the connection to "
        "the end of its first; also for the TLS handshake",
        minimum="1s",
        maximum="10m",
    )
    body_grace_seconds: float = duration(
        "10s",
        "how long a body may bring nothing, before and beside what bytes_per_second earns it",
        minimum="1s",
        maximum="10m",
    )
    write_stall_seconds: float = duration(
        "20s",
        "how long a client may take nothing of an answer that waits for it, before and beside what "
        "bytes_per_second earns it",
        minimum="1s",
        maximum="10m",
    )
    # A telephone at the edge of its cell has 1,000 and more. Below it a body of 8 MiB takes 4.7
    # hours, which no client waits for.
    bytes_per_second: int = option(
        500,
        "the slowest that a client may send a body or take an answer, on average; what it is "
        "faster earns it time for a pause, up to a minute",
        minimum=1,
        maximum=1_000_000,
    )
    # Browsers send some 20, behind proxies and a service mesh some 40.
    head_count: int = option(
        100, "the most headers of a request; more are answered 431", minimum=16, maximum=10_000
    )
    # RFC 9110, 4.1 asks for 8,000 at the least.
    url_bytes: int = size(
        "8KiB", "the longest target of a request; a longer one is answered 414", minimum="1KiB"
    )
    # Behind a balancer, or in an office, hundreds of people have one address.
    connections_per_client: int = option(
        0,
        "the most connections of one address (of IPv6, of its /64) to a worker; more are answered "
        "429; 0 is no limit, and peers on this machine and client.trusted_proxies are not counted",
        minimum=0,
        maximum=65_536,
    )
