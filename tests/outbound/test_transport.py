"""What is particular to httpx: bodies under a deadline, pools, transports that retry, loops."""

import asyncio
import gc
import time
import weakref

import httpx
import httpx2
import pytest

from outbound.play import answer, drip, silence
from shipworthy.context import deadline_scope
from shipworthy.outbound import Outbound
from shipworthy.outbound.transport import send, send_async

LATE_SECONDS = 1.0


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.slow
def test_a_body_is_not_read_beyond_the_deadline(service, install, library):
    """A target that answers byte by byte holds the work no longer than it may take."""
    install()
    service.then(drip)
    began = time.monotonic()

    with (
        library.Client(trust_env=False) as client,
        deadline_scope(began + 1.0),
        pytest.raises(library.ReadTimeout, match="deadline"),
    ):
        client.get(service.url)

    assert 0.99 <= time.monotonic() - began < 1.0 + LATE_SECONDS


@pytest.mark.anyio
@pytest.mark.slow
async def test_an_async_body_is_not_read_beyond_the_deadline(service, install):
    """The same with an async client, between parts and in the wait for one."""
    install()
    service.then(drip)
    began = time.monotonic()

    async with httpx.AsyncClient(trust_env=False) as client:
        with deadline_scope(began + 1.0), pytest.raises(httpx.ReadTimeout, match="deadline"):
            await client.get(service.url)

    assert 0.99 <= time.monotonic() - began < 1.0 + LATE_SECONDS


@pytest.mark.anyio
async def test_bodies_within_the_deadline_arrive_whole(service, install):
    """A deadline that is kept changes nothing: streamed or read, sync or async."""
    install()
    service.then(*[answer(200, b"x" * 300_000)] * 4)

    with deadline_scope(time.monotonic() + 30):
        with httpx.Client(trust_env=False) as client:
            read = client.get(service.url).content
            with client.stream("GET", service.url) as response:
                streamed = b"".join(response.iter_raw())
        async with httpx.AsyncClient(trust_env=False) as client:
            read_async = (await client.get(service.url)).content
            async with client.stream("GET", service.url) as response:
                streamed_async = b"".join([part async for part in response.aiter_raw()])

    assert {read, streamed, read_async, streamed_async} == {b"x" * 300_000}


def test_without_a_deadline_the_body_is_the_librarys_own(service, install):
    """Nothing of ours stands between the app and its bytes."""
    install()

    with httpx.HTTPTransport() as transport:
        response = transport.handle_request(httpx.Request("GET", service.url))
        response.read()

    assert type(response.stream).__module__.startswith("httpx.")


def test_an_attempt_gives_its_connection_back_before_the_next(service, install):
    """A pool of one is enough to call twice."""
    install()
    service.then(answer(503, b"x" * 100))
    limits = httpx.Limits(max_connections=1)

    with httpx.Client(trust_env=False, limits=limits, timeout=2) as client:
        assert client.get(service.url).status_code == 200


@pytest.mark.anyio
async def test_an_async_attempt_gives_its_connection_back_before_the_next(service, install):
    """The same with an async client."""
    install()
    service.then(answer(503, b"x" * 100))
    limits = httpx.Limits(max_connections=1)

    async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=2) as client:
        assert (await client.get(service.url)).status_code == 200


def test_a_full_pool_of_the_apps_own_is_not_held_against_the_target(service, install):
    """Who asks for more than its pool holds gets its own error, once."""
    installed = install()
    limits = httpx.Limits(max_connections=1)

    with (
        httpx.Client(trust_env=False, limits=limits, timeout=httpx.Timeout(1, pool=0.02)) as client,
        client.stream("GET", service.url),
        pytest.raises(httpx.PoolTimeout),
    ):
        client.get(service.url)

    (target,) = installed.statistics()
    assert target.repeated_total == 0
    breaker = installed.outbound.target("http", "127.0.0.1", int(service.url[-5:])).breaker
    assert breaker.statistics().failure_total == 0


def test_the_apps_own_timeout_holds_where_it_is_shorter(service, install):
    """A deadline lengthens nothing."""
    install()
    service.then(silence)
    began = time.monotonic()

    with (
        httpx.Client(trust_env=False, timeout=0.1) as client,
        deadline_scope(began + 30),
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post(service.url)

    assert time.monotonic() - began < 0.1 + LATE_SECONDS


def test_a_transport_that_retries_is_not_retried(service, install):
    """`HTTPTransport(retries=1)` is a decision of the app; ours does not multiply it."""
    install()
    service.then(answer(503))

    with httpx.Client(transport=httpx.HTTPTransport(retries=1)) as client:
        assert client.get(service.url).status_code == 503

    assert len(service.seen) == 1


def test_the_apps_request_can_be_sent_again(service, install, record):
    """The object the app built is as it was: no header, no extension, no timeout of ours."""
    install()

    with httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", service.url)
        before = dict(request.headers), dict(request.extensions)
        with deadline_scope(time.monotonic() + 30):
            client.send(request)
            client.send(request)

    assert (dict(request.headers), dict(request.extensions)) == before
    assert [one.headers["x-request-id"] for one in service.seen] == ["request-1"] * 2


def test_an_error_is_raised_as_the_library_raised_it(service, nobody, install):
    """Type, cause and request are httpx's own; nothing of ours is in the chain of causes."""
    install(attempts=1)

    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError) as caught:
        client.get(nobody)

    chain = []
    error = caught.value
    while error is not None:
        chain.append(type(error).__module__.split(".")[0])
        error = error.__cause__
    assert chain[0] == "httpx"
    assert "shipworthy" not in chain
    assert str(caught.value.request.url).startswith(nobody)


def test_an_error_that_was_dropped_is_freed_at_once():
    """No frame and no exception of ours ties the app's error into a ring."""
    out = Outbound()

    def inner(request):
        raise httpx.ReadError("lost")

    gc.disable()
    try:
        try:
            send(out, httpx, None, httpx.Request("POST", "http://a.example/"), inner)
        except httpx.ReadError as error:
            alive = weakref.ref(error)
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_a_cancelled_call_is_cancelled_and_counts_for_nothing(service, install):
    """Who called it off gets its cancellation; the target has not failed."""
    installed = install()
    service.then(silence)

    async with httpx.AsyncClient(trust_env=False) as client:
        task = asyncio.create_task(client.get(service.url))
        while not service.seen:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    (target,) = installed.statistics()
    assert (target.failed_total, target.repeated_total) == (0, 0)


def test_on_another_loop_a_call_is_left_alone():
    """The pipeline waits on asyncio only; under trio the call goes as the app made it."""
    request = httpx.Request("GET", "http://a.example/")

    async def inner(got):
        return got

    call = send_async(Outbound(), httpx, None, request, inner)
    with pytest.raises(StopIteration) as ended:
        call.send(None)

    assert ended.value.value is request
