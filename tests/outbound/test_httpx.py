"""The transports an app hands to its own clients."""

import httpx
import pytest

from outbound.play import answer
from shipworthy.outbound import AsyncGuardedTransport, GuardedTransport, Outbound


@pytest.mark.parametrize("hooked", [False, True])
def test_a_transport_guards_one_client(service, install, record, hooked):
    """It guards alone where nothing is installed, and where `run` does, nothing is done twice."""
    installed = install() if hooked else None
    out = Outbound()
    service.then(answer(503))

    with httpx.Client(transport=GuardedTransport(outbound=out)) as client:
        assert client.get(service.url).status_code == 200

    assert [one.headers["x-request-id"] for one in service.seen] == ["request-1"] * 2
    (target,) = out.statistics()
    assert (target.failed_total, target.repeated_total) == (1, 1)
    assert installed is None or installed.statistics() == ()


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.anyio
async def test_an_async_transport_guards_one_client(service, install, record, hooked):
    """The same with an async client."""
    installed = install() if hooked else None
    out = Outbound()
    service.then(answer(503))

    async with httpx.AsyncClient(transport=AsyncGuardedTransport(outbound=out)) as client:
        assert (await client.get(service.url)).status_code == 200

    assert [one.headers["x-request-id"] for one in service.seen] == ["request-1"] * 2
    (target,) = out.statistics()
    assert (target.failed_total, target.repeated_total) == (1, 1)
    assert installed is None or installed.statistics() == ()


@pytest.mark.anyio
async def test_the_inner_transport_is_entered_and_closed():
    """Whoever holds connections gets to give them back, however the client is closed."""
    told = []

    class Inner(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def __enter__(self):
            told.append("enter")
            return self

        def __exit__(self, *_):
            told.append("exit")

        def close(self):
            told.append("close")

        async def __aenter__(self):
            told.append("aenter")
            return self

        async def __aexit__(self, *_):
            told.append("aexit")

        async def aclose(self):
            told.append("aclose")

    with httpx.Client(transport=GuardedTransport(Inner())):
        pass
    httpx.Client(transport=GuardedTransport(Inner())).close()
    async with httpx.AsyncClient(transport=AsyncGuardedTransport(Inner())):
        pass
    await httpx.AsyncClient(transport=AsyncGuardedTransport(Inner())).aclose()

    assert told == ["enter", "exit", "close", "aenter", "aexit", "aclose"]


def test_any_transport_can_be_guarded():
    """The inner one need not be of the network."""
    answers = iter([httpx.Response(503), httpx.Response(200, text="second")])
    inner = httpx.MockTransport(lambda request: next(answers))

    with httpx.Client(transport=GuardedTransport(inner, outbound=Outbound())) as client:
        assert client.get("http://a.example/").text == "second"
