"""How an engine accepts, leaves, and ends what is left. Real sockets."""

import asyncio
import errno
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect
from wire import PATIENCE_SECONDS, App, Client, certified, running, until

from shipworthy.serve import engine as engine_module, protocol as protocol_module
from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.sockets import listen_tcp

pytestmark = pytest.mark.anyio


async def test_what_the_kernel_had_queued_is_served_and_later_clients_are_refused() -> None:
    """The whole service leaves: a completed connection is a promise, a new one is turned away."""
    async with running(App()) as (engine, sock):
        engine.begin_leaving()
        # Connected by the kernel while the loop stands still, so not yet accepted.
        queued = [socket.create_connection(sock.getsockname(), timeout=5) for _ in range(5)]
        for connection in queued:
            connection.settimeout(0)

        engine.stop_accepting(whole=True)

        for connection in queued:
            client = Client(*await asyncio.open_connection(sock=connection))
            client.ask()
            assert "200 ok" in await client.head()
        with pytest.raises(ConnectionRefusedError):
            await Client.to(sock)


async def test_a_client_that_left_the_queue_takes_no_other_along() -> None:
    """The kernel says so at the accept that would have been his."""

    class Left(socket.socket):
        gone = False

        def accept(self) -> tuple[socket.socket, Any]:
            if not self.gone:
                self.gone = True
                raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
            return super().accept()

    listening, *_ = listen_tcp("127.0.0.1", 0, backlog=5, option="--port")
    with Left(fileno=listening.detach()) as sock:
        sock.settimeout(0)
        with socket.create_connection(sock.getsockname(), timeout=5):
            (served,) = engine_module._queued(sock)
            served.close()


async def test_a_worker_that_retires_leaves_the_queue_to_the_others() -> None:
    """The socket is shared: another worker accepts what this one did not."""
    async with running(App()) as (engine, sock):
        other = UvicornEngine(App())
        engine.stop_accepting(whole=False)
        client = await Client.to(sock)
        client.ask()

        await other.start([sock.dup()], {})

        assert "200 ok" in await client.head()
        await other.close()


async def test_idle_connections_are_cut_and_those_that_ask_are_not() -> None:
    """After the idle grace."""
    app = App()
    async with running(app) as (engine, sock):
        idle, busy, asking = [await Client.to(sock) for _ in range(3)]
        busy.ask("/held")
        asking.writer.write(b"GET / HTTP/1.1\r\n")
        await app.began.wait()
        await until(lambda: engine.census().asking == 1)

        engine.cut_idle(fresh_seconds=0.0)

        assert await idle.ended()
        asking.writer.write(b"Host: x\r\n\r\n")
        assert "200 ok" in await asking.head()
        app.let.set()
        assert "200 ok" in await busy.head()


async def test_a_request_head_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that sends half a head does not hold the drain (scenario L18)."""
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(b"GET / HTTP/1.1\r\nX: ")
        await until(lambda: engine.census().asking == 1)

        engine.cut_half_heads(left_seconds=5.0)
        still_asking = engine.census().asking
        monkeypatch.setattr(engine_module, "HALF_HEAD_SECONDS", 0.0)
        engine.cut_half_heads(left_seconds=5.0)

        assert still_asking == 1
        assert await client.ended()


async def test_an_answer_is_not_cut_because_the_next_head_is_half_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L18 with pipelining: the connection is busy, and ends with the answer that it is owed."""
    monkeypatch.setattr(engine_module, "HALF_HEAD_SECONDS", 0.0)
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()
        client.writer.write(b"GET /next HTTP/1.1\r\nHost: x\r\n")
        (connection,) = engine._connections.connections
        await until(lambda: connection.asking)
        engine.begin_leaving()
        census = engine.census()

        engine.cut_half_heads(left_seconds=5.0)
        app.let.set()

        assert (census.busy, census.asking) == (1, 0)
        assert "200 ok" in await client.head()
        assert await client.ended()


async def test_websockets_are_closed_with_service_restart_when_accepting_stops() -> None:
    """1012 tells the client to come back."""
    async with running(App()) as (engine, sock):
        host, port = sock.getsockname()
        async with connect(f"ws://{host}:{port}/", proxy=None) as client:
            engine.begin_leaving()
            engine.stop_accepting(whole=True)
            engine.close_websockets(drain_seconds=0.0)

            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)

            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012


async def test_cancelling_reaches_what_is_still_running() -> None:
    """The handler sees its cancellation, the client an answer or an end."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()

        engine.cancel()

        await client.head()
        assert app.cancelled


async def test_an_exception_of_the_app_is_not_logged_a_second_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`web.problems` has logged it with the ids; uvicorn's own line adds nothing."""
    async with running(App()) as (_, sock):
        client = await Client.to(sock)
        with caplog.at_level(logging.ERROR, "uvicorn.error"):
            client.ask("/raises")
            head = await client.head()

        assert "500 internal server error" in head
        assert caplog.records == []


async def test_a_client_without_a_word_in_the_queue_does_not_hold_the_drain(
    tmp_path: Path,
) -> None:
    """Its TLS handshake is waited for by nobody; one that speaks no TLS harms nobody."""
    files, _ = certified(tmp_path)
    (sock,) = listen_tcp("127.0.0.1", 0, backlog=50, option="--port")
    address = sock.getsockname()
    engine = UvicornEngine(App(), tls=files)
    await engine.start([sock], {})
    silent = socket.create_connection(address, timeout=5)
    plain = socket.create_connection(address, timeout=5)
    plain.sendall(b"GET / HTTP/1.1\r\n\r\n")

    engine.stop_accepting(whole=True)
    asking = engine.census().asking
    await until(lambda: engine.census().total == 0)

    assert asking == 2
    silent.close()
    plain.close()
    await engine.close()


async def test_an_answer_that_waits_for_a_slow_reader_is_not_idle() -> None:
    """Its last byte is handed over, and is not sent: a cut would lose it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"x" * 20_000_000
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask()
        await until(lambda: engine.census().busy == 1)
        engine.begin_leaving()
        engine.cut_idle(fresh_seconds=0.0)

        await client.head()

        assert await client.ended()


async def test_websockets_are_told_one_after_the_other() -> None:
    """L04: all at once would be a wave on those they come back to."""
    count = 40
    told: list[float] = []
    loop = asyncio.get_running_loop()

    async def client(address: tuple[str, int]) -> None:
        async with connect(f"ws://{address[0]}:{address[1]}/", proxy=None) as websocket:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            told.append(loop.time())

    async with running(App()) as (engine, sock):
        clients = [asyncio.create_task(client(sock.getsockname())) for _ in range(count)]
        await until(lambda: engine.census().upgraded == count)
        engine.begin_leaving()
        engine.stop_accepting(whole=True)
        before = engine.census().upgraded
        for _ in range(3):  # asked for again and again, they are told once
            engine.close_websockets(drain_seconds=30.0)
        await asyncio.wait_for(asyncio.gather(*clients), PATIENCE_SECONDS)

    assert before == count
    # 10 ms for each. A busy loop may be late, and then closes several at once.
    assert max(told) - min(told) > 0.5 * 0.01 * count
    assert sum(later - told[0] < 0.01 for later in told) < count / 2


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MESSAGE = b"\x81\x82\0\0\0\0hi"
SERVICE_RESTART = b"\x88\x02\x03\xf4"


async def test_a_websocket_that_talks_when_it_is_closed_reads_the_close_and_an_end() -> None:
    """L04: a reset would take the close from a client that is writing, and it would see 1006."""
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(HANDSHAKE)
        await client.reader.readuntil(b"\r\n\r\n")
        await until(lambda: engine.census().upgraded == 1)
        engine.close_websockets(drain_seconds=30.0)
        await until(lambda: client.reader.at_eof() or len(client.reader._buffer) == 4)
        for _ in range(5):  # who was told reads later, and is still writing
            client.writer.write(MESSAGE)
            await asyncio.sleep(0.01)
        told = await client.rest()
        before = engine.census().upgraded
        await client.close()
        await until(lambda: engine.census().upgraded == 0)

    assert told == SERVICE_RESTART
    assert before == 1


async def test_a_websocket_whose_client_does_not_close_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L04: it is closed a moment after it was told."""
    monkeypatch.setattr(protocol_module, "LINGER_SECONDS", 0.05)
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(HANDSHAKE)
        await client.reader.readuntil(b"\r\n\r\n")
        await until(lambda: engine.census().upgraded == 1)
        engine.close_websockets(drain_seconds=30.0)
        await until(lambda: engine.census().upgraded == 0)

        assert await client.rest() == SERVICE_RESTART


async def test_with_no_time_left_every_websocket_is_told_at_once() -> None:
    """L08: a second SIGTERM comes before the turn of most."""
    async with running(App()) as (engine, sock):
        host, port = sock.getsockname()
        async with AsyncExitStack() as open_:
            clients = [
                await open_.enter_async_context(connect(f"ws://{host}:{port}/", proxy=None))
                for _ in range(3)
            ]
            engine.begin_leaving()
            engine.close_websockets(drain_seconds=1000.0)
            for _ in range(2):
                engine.close_websockets(drain_seconds=0.0)
            engine.cancel()
            codes = []
            for client in clients:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
                codes.append(closed.value.rcvd and closed.value.rcvd.code)

    assert codes == [1012] * 3


async def test_a_request_whose_task_has_not_begun_is_spared_until_it_has() -> None:
    """It could not answer; the next look finds it, and no look cancels anything twice."""
    met = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            met.append("cancelled")
            await asyncio.sleep(0.01)  # a rollback, say
            head = {"status": 503, "headers": [(b"content-length", b"0")]}
            await send({"type": "http.response.start", **head})
            await send({"type": "http.response.body", "body": b""})

    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        await until(lambda: engine.census().idle == 1)
        (connection,) = engine._connections.connections
        connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        engine.cancel()
        await asyncio.sleep(0)
        for _ in range(3):
            engine.cancel()
            await asyncio.sleep(0)

        assert "503" in await client.head()
        assert met == ["cancelled"]


async def test_cancelling_spares_what_others_cancel() -> None:
    """L07: those that belong to a call are cancelled by who asks the commit fence."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()
        (task,) = engine._connections.tasks

        engine.cancel(spared={task})
        await asyncio.sleep(0)
        app.let.set()

        assert "200 ok" in await client.head()


async def test_a_tls_handshake_holds_the_drain_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L16: who is shaking hands believes to be connected; who never ends it is not waited for."""
    files, context = certified(tmp_path)
    async with running(App(), tls=files) as (engine, sock):
        with socket.create_connection(sock.getsockname(), timeout=5):
            await until(lambda: engine.census().asking == 1)
            client = await Client.to(sock, tls=context)
            await until(lambda: (engine.census().asking, engine.census().total) == (1, 2))
            monkeypatch.setattr(engine_module, "HALF_HEAD_SECONDS", 0.0)
            late = engine.census().asking
            client.ask()
            head = await client.head()

    assert "200 ok" in head
    assert late == 0
