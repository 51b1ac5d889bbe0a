"""The contract with uvicorn: how connections are counted, kept and told. Real sockets."""

import pytest
from websockets.asyncio.client import connect
from wire import PATIENCE_SECONDS, App, Client, running, until

pytestmark = pytest.mark.anyio


async def test_connections_are_counted_by_what_they_do() -> None:
    """Idle, asking (half a head sent), busy, upgraded."""
    app = App()
    async with running(app) as (engine, sock):
        _, asking, busy = [await Client.to(sock) for _ in range(3)]
        asking.writer.write(b"GET / HTTP/1.1\r\nHos")
        busy.ask("/held")
        host, port = sock.getsockname()
        async with connect(f"ws://{host}:{port}/", proxy=None):
            await app.began.wait()
            await until(lambda: engine.census().asking == 1)

            census = engine.census()

            assert (census.idle, census.asking, census.busy, census.upgraded) == (1, 1, 1, 1)
            assert census.total == 4
            app.let.set()
            assert "200 ok" in await busy.head()
            assert engine.census().idle == 2


async def test_while_serving_an_answer_keeps_its_connection() -> None:
    """Two requests on one connection, with a Date that is there."""
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.ask()
        first = await client.head()
        client.ask()
        second = await client.head()

        assert "connection: close" not in first
        assert "date: " in first
        assert "200 ok" in second
        assert engine.quiet_seconds() < PATIENCE_SECONDS


async def test_when_leaving_an_idle_connection_is_answered_once_more_and_told_to_close() -> None:
    """A request that was on its way when the drain began is not lost (scenario L16)."""
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.ask()
        await client.head()

        engine.begin_leaving()
        client.ask()
        last = await client.head()

        assert "200 ok" in last
        assert "connection: close" in last
        assert await client.ended()


async def test_when_leaving_a_new_connection_is_still_answered() -> None:
    """Lame duck: the balancer has not heard yet."""
    async with running(App()) as (engine, sock):
        engine.begin_leaving()
        client = await Client.to(sock)
        client.ask()

        assert "connection: close" in await client.head()


async def test_when_leaving_a_running_request_finishes_and_then_its_connection_ends() -> None:
    """Nothing is cut in the middle."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()

        engine.begin_leaving()
        app.let.set()

        assert "connection: close" in await client.head()
        assert await client.ended()


async def test_a_pipelined_request_is_answered_or_told_by_the_close_before_it() -> None:
    """Never half an answer (scenario L30)."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/held")
        client.ask("/")
        await app.began.wait()

        engine.begin_leaving()
        app.let.set()
        first = await client.head()

        assert "200 ok" in first
        if "connection: close" not in first:
            assert "connection: close" in await client.head()
        assert await client.ended()
