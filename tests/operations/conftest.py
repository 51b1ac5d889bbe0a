"""A service to operate, small and truthful, and a client on its operations port."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol

import httpx
import pytest

from shipworthy.errors import ShipworthyError
from shipworthy.lifecycle import Answer
from shipworthy.operations import (
    Endpoint,
    OperationsSettings,
    ServiceFacts,
    WorkerFacts,
    operations_app,
)
from shipworthy.settings import Secret, Value

TOKEN = "correct-horse-battery-staple-42"
SCRAPE_TOKEN = "only-metrics-may-be-read-with-me"

CHECK = {
    "name": "orders-db",
    "kinds": ["ready"],
    "status": "pass",
    "status_seconds": 60.0,
    "age_seconds": 1.5,
    "took_seconds": 0.0021,
    "output": "",
}

WORKER = WorkerFacts(
    pid=4711,
    generation=1,
    phase="ready",
    heartbeat_age_seconds=0.25,
    in_flight=3,
    connections=12,
    rss_bytes=87 * 2**20,
    restarts=0,
    health={"phase": "ready", "checks": [CHECK]},
)

FACTS = ServiceFacts(
    target="orders.main:app",
    version="0.1.0",
    environment="production",
    started_wall=1_700_000_000.0,
    phase="ready",
    live=Answer(ok=True),
    ready=Answer(ok=True),
    startup=Answer(ok=True),
    workers=(WORKER,),
)

REQUEST = {"method": "GET", "route": "/orders/{id}", "age_seconds": 2.5, "request_id": "a1"}


class OneProcessService:
    """A service in this very process: what is said of it is set, and it can be drained once."""

    def __init__(self, facts: ServiceFacts) -> None:
        self.known = facts
        self.drained = False

    def facts(self) -> ServiceFacts:
        """Return what was set."""
        return self.known

    async def metrics(self) -> bytes:
        """Return one gauge."""
        return b"# TYPE up gauge\nup 1\n"

    async def requests(self) -> Sequence[Mapping[str, Any]]:
        """Return the one request that is always in flight."""
        return [REQUEST]

    async def command(self, name: str) -> str:
        """Drain, or say why not."""
        if name != "drain":
            raise ShipworthyError(f"there is no command '{name}'")
        if self.drained:
            raise ShipworthyError("the service is draining already")
        self.drained = True
        self.known = replace(self.known, phase="draining", ready=Answer(False, "draining"))
        return "draining: requests in flight are finished"


class Connect(Protocol):
    """Open the operations port; the options say where it is bound and whether a token is sent."""

    def __call__(
        self,
        *,
        signed: bool = False,
        host: str = "127.0.0.1",
        allowed_hosts: tuple[str, ...] = (),
        values: Sequence[Value] = (),
        endpoints: Sequence[Endpoint] = (),
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]: ...


@pytest.fixture
def facts() -> ServiceFacts:
    """What is known of a service that is ready, with one worker and one passing check."""
    return FACTS


@pytest.fixture
def service(facts: ServiceFacts) -> OneProcessService:
    """A service that is ready."""
    return OneProcessService(facts)


@pytest.fixture
def token() -> str:
    """The operations token."""
    return TOKEN


@pytest.fixture
def scrape_token() -> str:
    """The token that opens the metrics only."""
    return SCRAPE_TOKEN


@pytest.fixture
def connect(service: OneProcessService) -> Connect:
    """The way to the operations port of `service`."""

    def opened(
        *,
        signed: bool = False,
        host: str = "127.0.0.1",
        allowed_hosts: tuple[str, ...] = (),
        values: Sequence[Value] = (),
        endpoints: Sequence[Endpoint] = (),
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        app = operations_app(
            service,
            token=TOKEN,
            settings=OperationsSettings(
                host=host, allowed_hosts=allowed_hosts, scrape_token=Secret(SCRAPE_TOKEN)
            ),
            values=values,
            endpoints=endpoints,
        )
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost:9000",
            headers={"Authorization": f"Bearer {TOKEN}"} if signed else {},
        )

    return opened
