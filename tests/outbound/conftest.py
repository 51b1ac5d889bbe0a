"""What tests of outbound calls get: services to call, clients to call with, and the hook."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from outbound.play import ByAsyncHttpx, ByHttpx, ByHttpx2, ByRequests, Service, served
from shipworthy import outbound
from shipworthy.context import RequestRecord, request_scope
from shipworthy.outbound import Installed, OutboundSettings
from shipworthy.resilience import ResilienceSettings


@pytest.fixture
def service() -> Iterator[Service]:
    """A service on a port of its own."""
    with served() as running:
        yield running


@pytest.fixture
def other_service() -> Iterator[Service]:
    """A second one: another target."""
    with served() as running:
        yield running


@pytest.fixture
def nobody() -> str:
    """The URL of a port where nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(params=[ByHttpx, ByHttpx2, ByAsyncHttpx, ByRequests], ids=lambda by: by.__name__)
def client(request: pytest.FixtureRequest) -> Any:
    """A client as an unmodified app has it; a test that asks for it runs with each."""
    return request.param()


@pytest.fixture
def install() -> Iterator[Callable[..., Installed]]:
    """Install with these settings; taken back after the test."""

    def go(*, attempts: int = 3, reserve: float = 100.0, **settings: Any) -> Installed:
        installed = outbound.install(
            OutboundSettings(**{"mode": "enforce", **settings}),
            ResilienceSettings(attempts=attempts, retry_reserve=reserve),
        )
        assert installed is not None
        return installed

    yield go
    outbound.uninstall()


@pytest.fixture
def record() -> Iterator[RequestRecord]:
    """The test is work for this request."""
    with request_scope(
        RequestRecord("request-1", "request-1", "a" * 32, "b" * 16, tracestate="x=1")
    ) as record:
        yield record
