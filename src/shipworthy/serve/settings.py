"""How the service is served: the addresses, the loop, the bounds on start-up."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.serve.supervision import WORKERS_MAX
from shipworthy.settings import duration, option, section, size


@section("serve")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of `shipworthy run`."""

    host: str = option("127.0.0.1", "address the app listens on; 0.0.0.0 for every interface")
    port: int = option(
        8000, "port the app listens on; 0 for any free one", minimum=0, maximum=65535
    )
    uds: str = option("", "path of a Unix socket to listen on instead of host and port")
    tls_cert: str = option("", "file with the certificate chain (PEM); needs tls_key")
    tls_key: str = option("", "file with the private key (PEM); needs tls_cert")
    root_path: str = option("", "path prefix that a proxy strips before the app")
    loop: Literal["uvloop", "asyncio"] = option("uvloop", "event loop of the worker")
    backlog: int = option(
        2048, "connections the kernel holds until they are accepted", minimum=1, maximum=65535
    )
    head_bytes: int = size(
        "32KiB", "the largest head of a request; a larger one is answered 431", minimum="4KiB"
    )
    workers: int = option(
        1,
        "processes that serve; 0 for as many as the CPUs this service may use, at most 256",
        minimum=0,
        maximum=WORKERS_MAX,
    )
    max_requests: int = option(
        0, "requests after which a worker is replaced by a fresh one; 0 is never", minimum=0
    )
    max_requests_jitter_ratio: float = option(
        0.1,
        "a worker is replaced up to this part of max_requests earlier, drawn by chance, so that "
        "workers that began together are not due together",
        minimum=0.0,
        maximum=1.0,
    )
    spare: bool = option(
        True,  # noqa: FBT003
        "whether a process waits that has imported the libraries of the application, and takes the "
        "place of a worker that is lost; not under --reload, and not where memory is scarce",
    )
    recycle_interval_seconds: float = duration(
        "10s", "from one worker that is recycled, or ended because its loop stands, to the next"
    )
    wedged_seconds: float = duration(
        "10s",
        "how long the event loop of a worker may stand before it is ended and followed by another; "
        "at least 2s, or 0 for ever, as under --reload",
    )
    # nginx keeps an idle upstream connection for 60 s. If we close it first, a request that is on
    # its way is lost, and one that is no GET is not sent again: through nginx 24 of 100 in the
    # worst case of docs/reference/evidence-balancers.md. An idle connection costs 8 KiB.
    keep_alive_seconds: float = duration(
        "75s",
        "how long an idle connection is kept between requests; longer than a balancer in front "
        "keeps it, or requests are lost",
        minimum="1s",
    )
