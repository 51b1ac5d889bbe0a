"""How the service is served: the addresses, the loop, the bounds on start-up."""

from dataclasses import dataclass
from typing import Literal

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
    keep_alive_seconds: float = duration(
        "5s", "how long an idle connection is kept between requests", minimum="1s"
    )
