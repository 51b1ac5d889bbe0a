"""A service to operate, small and truthful, and a client on its operations port."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from operations.shop import deleted_client
from shipworthy.errors import ShipworthyError
from shipworthy.events import Metric
from shipworthy.lifecycle import Answer
from shipworthy.operations import (
    Action,
    BreakerFacts,
    BreakersFacts,
    DatabaseFacts,
    DatabasesFacts,
    Endpoint,
    HolderFacts,
    NameUnknown,
    OperationsSettings,
    PolicyFacts,
    SecurityFacts,
    ServiceFacts,
    WorkerFacts,
    operations_app,
    policy_facts,
    security_facts,
)
from shipworthy.settings import Secret, ShownValue
from shipworthy.telemetry import Registry, Snapshot

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


BREAKER = BreakerFacts(
    worker=4711,
    name="db:main",
    state="closed",
    because="",
    for_seconds=12.5,
    retry_after_seconds=0.0,
    in_flight=0,
    window_calls=20,
    window_failures=1,
    window_slow=0,
    refused_total=0,
    opened_total=2,
)

HOLDER = HolderFacts(
    taken_at="shop.py:12 in order",
    stands_at="shop.py:14 in order",
    held_seconds=3.25,
    request_id="a1",
)

DATABASE = DatabaseFacts(
    worker=4711,
    name="main",
    capacity=None,
    in_use=1,
    waiting=0,
    checkouts=90,
    waits=0,
    wait_seconds=0.0,
    timeouts=0,
    deadlocks=0,
    leaks=0,
    cuts=0,
    slow=0,
    breaker="closed",
    because="",
    for_seconds=12.5,
    retry_after_seconds=0.0,
    holders=(HOLDER,),
)


LEARNED = {
    "mode": "report",
    "policy": "default-src 'self'",
    "seen": [
        {
            "directive": "img-src",
            "source": "https://cdn.example",
            "route": "/docs",
            "reports": 3,
            "clients": 2,
        }
    ],
    "forgotten": 1,
}


TURNED_AWAY = {
    "modes": {"host": "report", "limits": "enforce"},
    "rules": [
        {"guard": "limits", "rule": "login", "mode": "enforce", "requests": 7},
        {"guard": "host", "rule": "unlisted", "mode": "report", "requests": 1},
    ],
    "last": [
        {
            "seconds_ago": 1.5,
            "guard": "limits",
            "rule": "login",
            "mode": "enforce",
            "client": "192.0.2.7",
            "route": "/login",
            "because": "6 of 5 in 15 min",
        }
    ],
}


class OneProcessService:
    """A service in this very process: what is said of it is set, and it can be drained once."""

    def __init__(self, facts: ServiceFacts) -> None:
        self.known = facts
        self.breaker = BREAKER
        self.drained = False

    def facts(self) -> ServiceFacts:
        """Return what was set."""
        return self.known

    async def metrics(self) -> Sequence[Snapshot]:
        """Return one gauge."""
        registry = Registry()
        registry.gauge(Metric("up", "gauge", "Up."), read=lambda: 1.0)
        return [{"up": registry.snapshot()["up"]}]

    async def requests(self) -> Sequence[Mapping[str, Any]]:
        """Return the one request that is always in flight."""
        return [REQUEST]

    async def breakers(self) -> BreakersFacts:
        """Return the one breaker; a second worker is always silent."""
        return BreakersFacts(breakers=(self.breaker,), silent=(4712,))

    async def databases(self) -> DatabasesFacts:
        """Return the one database."""
        return DatabasesFacts(databases=(DATABASE,), silent=())

    async def security(self) -> SecurityFacts:
        """Return what two workers turned away; a third is always silent."""
        return security_facts([TURNED_AWAY, TURNED_AWAY], (4712,))

    async def policy(self) -> PolicyFacts:
        """Return what two workers were told by browsers; a third is always silent."""
        return policy_facts([LEARNED, LEARNED], (4712,))

    async def isolate_breaker(self, name: str, because: str) -> BreakersFacts:
        """Isolate the one breaker."""
        return await self._set(name, state="isolated", because=because)

    async def close_breaker(self, name: str) -> BreakersFacts:
        """Close the one breaker."""
        return await self._set(name, state="closed", because="by hand")

    async def _set(self, name: str, *, state: str, because: str) -> BreakersFacts:
        if name != self.breaker.name:
            raise NameUnknown("breaker", name, [self.breaker.name])
        self.breaker = replace(self.breaker, state=state, because=because)
        return await self.breakers()

    async def command(self, name: str) -> str:
        """Drain or restart, or say why not."""
        if name not in ("drain", "restart"):
            raise ShipworthyError(f"there is no command '{name}'")
        if self.drained:
            raise ShipworthyError("the service is draining already")
        if name == "restart":
            return "1 of 1 workers are replaced"
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
        values: Sequence[ShownValue] = (),
        endpoints: Sequence[Endpoint] = (),
        actions: Sequence[Action] = (),
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
        values: Sequence[ShownValue] = (),
        endpoints: Sequence[Endpoint] = (),
        actions: Sequence[Action] = (),
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        app = operations_app(
            service,
            token=TOKEN,
            settings=OperationsSettings(
                host=host, allowed_hosts=allowed_hosts, scrape_token=Secret(SCRAPE_TOKEN)
            ),
            values=values,
            endpoints=endpoints,
            actions=actions,
        )
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost:9000",
            headers={"Authorization": f"Bearer {TOKEN}"} if signed else {},
        )

    return opened


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The URL of a database with a trail, where a client with two orders was deleted."""
    return deleted_client(tmp_path)
