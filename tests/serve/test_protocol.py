"""The contract with uvicorn: how connections are counted, kept and told. Real sockets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from wire import PATIENCE_SECONDS, App, Client, certified, running, until

from shipworthy import harden
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.serve.protocol import telling
from shipworthy.settings import load
from shipworthy.telemetry import Registry
from shipworthy.web import Blocked

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


@pytest.mark.parametrize("background", [False, True])
async def test_an_exception_after_a_whole_answer_costs_no_other_request(
    tmp_path: Path, *, background: bool
) -> None:
    """A problem answer of ours, or a background task: the connection was promised to stay."""
    app = App()

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if scope["path"] == "/later":
            await app.let.wait()
            raise RuntimeError("on purpose")

    settings = load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false"}, directory=tmp_path)
    path = "/later" if background else "/raises"
    async with running(raises if background else harden(app, settings=settings)) as (_, sock):
        client = await Client.to(sock)
        client.ask(path)
        first = await client.head()
        client.ask("/held")
        await app.began.wait()
        app.let.set()  # both go on: what raises does it first
        second = await client.head()

        assert "connection: close" not in first
        assert "200 ok" in second
        assert ("200 ok" if background else "500 internal") in first


async def test_one_connection_too_many_closes_the_one_that_has_been_quiet_for_the_longest() -> None:
    """So clients that open and say nothing keep nobody out, and cost a bounded number of sockets.

    The one that is being answered stays, though it is the oldest.
    """
    app = App()
    async with running(app, connections_max=3) as (engine, sock):
        busy = await Client.to(sock)
        busy.ask("/held")
        await app.began.wait()
        silent = await Client.to(sock)
        await until(lambda: engine.census().idle == 1)
        half = await Client.to(sock)
        half.writer.write(b"GET / HTTP/1.1\r\nHos")
        await until(lambda: engine.census().asking == 1)

        for _ in range(2):
            newest = await Client.to(sock)
            newest.ask()
            assert "200 ok" in await newest.head()

        assert await silent.ended()
        assert await half.ended()
        assert engine.census().total == 3
        app.let.set()
        assert "200 ok" in await busy.head()


async def test_where_all_are_being_answered_the_newest_is_closed() -> None:
    """What was begun is finished."""
    app = App()
    async with running(app, connections_max=1) as (_, sock):
        busy = await Client.to(sock)
        busy.ask("/held")
        await app.began.wait()

        assert await (await Client.to(sock)).ended()
        app.let.set()
        assert "200 ok" in await busy.head()


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


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_pipelined_under_the_guards_no_answer_is_half(tmp_path: Path, tls: bool) -> None:
    """L30: what was received is answered whole, or the connection ends with the close before it."""
    files, context = certified(tmp_path) if tls else (None, None)
    app = App()
    settings = load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false"}, directory=tmp_path)
    hardened = harden(app, settings=settings)
    async with running(hardened, tls=files) as (engine, sock):
        client = await Client.to(sock, tls=context)
        client.ask("/held")
        client.ask("/")
        await app.began.wait()

        hardened.lifecycle.begin_drain()
        engine.begin_leaving()
        engine.stop_accepting(whole=True)
        app.let.set()
        told = (await client.rest()).lower()

    answers = told.split(b"http/1.1 200 ok")[1:]
    assert answers
    for answer in answers:
        assert answer.partition(b"\r\n\r\n")[2] == b"ok"
    assert b"connection: close" in answers[-1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_first_byte_that_comes_late_is_answered(tmp_path: Path, tls: bool) -> None:
    """L16: accepted, and silent until after the drain began; within the idle grace it counts."""
    files, context = certified(tmp_path) if tls else (None, None)
    async with running(App(), tls=files) as (engine, sock):
        client = await Client.to(sock, tls=context)
        await until(lambda: engine.census(fresh_seconds=5.0).fresh == 1)
        engine.begin_leaving()
        engine.stop_accepting(whole=True)
        engine.cut_idle(fresh_seconds=5.0)
        client.ask()

        assert "connection: close" in await client.head()
        assert await client.ended()


async def test_an_answer_that_promised_keep_alive_before_the_drain_keeps_it() -> None:
    """Its head is out and cannot be taken back; the next answer says the goodbye."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.ask("/begun")
        await app.began.wait()
        engine.begin_leaving()
        app.let.set()
        first = await client.head()
        fresh = engine.census(fresh_seconds=60.0)
        engine.cut_idle(fresh_seconds=60.0)
        client.ask("/")
        second = await client.head()

        assert "connection: close" not in first
        assert (fresh.fresh, fresh.idle) == (1, 0)
        assert "connection: close" in second
        assert await client.ended()


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 2**20 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + b"X-Many: 1234567890\r\n" * 5000 + b"\r\n"),
        (414, b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nX-Never-Ends: " + b"a" * 2**20),
        (414, b"GET /never-ends" + b"a" * 2**20),
    ],
    ids=["one header", "many headers", "path", "no end", "no end of the path"],
)
async def test_a_head_that_is_too_large_is_refused_with_an_id(status: int, head: bytes) -> None:
    """414 or 431 in a problem, at the limit and not after all of it; the app is not asked."""
    async with running(App()) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(head)

        answer = await client.head()

        assert answer.startswith(f"http/1.1 {status} ")
        assert "content-type: application/problem+json" in answer
        assert answer.count("x-request-id: ") == 1
        assert await client.ended()
        await client.close()
        await until(lambda: engine.census().total == 0)


async def test_what_is_no_http_is_refused_with_an_id() -> None:
    """400, and what is remembered of it has the same id."""
    blocked = Blocked(Registry(), now=SYSTEM_CLOCK.now)
    async with running(App(), told=telling(blocked)) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(b"\x16\x03\x01 what is this\r\n\r\n")

        answer = await client.head()

    (last,) = blocked.last()
    assert answer.startswith("http/1.1 400 ")
    assert (last.guard, last.rule, last.client) == ("protocol", "unreadable", "127.0.0.1")
    assert f"x-request-id: {last.because.split()[-1]}" in answer


async def test_a_head_within_the_limit_passes() -> None:
    """30 KiB of cookies are unusual and no attack."""
    async with running(App()) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 30 * 1024 + b"\r\n\r\n"
        )

        assert "200 ok" in await client.head()


async def test_an_upload_that_is_cancelled_is_answered_though_it_goes_on(tmp_path: Path) -> None:
    """L05: what the client still sends must not reset the answer that it has not read yet."""
    began = asyncio.Event()

    async def uploads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            began.set()

    settings = load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false"}, directory=tmp_path)
    hardened = harden(uploads, settings=settings)
    async with running(hardened) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n1")
        await began.wait()
        hardened.lifecycle.begin_drain()
        engine.begin_leaving()
        engine.cancel()
        for _ in range(10):
            client.writer.write(b"2")
            await asyncio.sleep(0.01)
        lingering = engine.census().busy

        head = await client.head()

    assert "503 service unavailable" in head
    assert "connection: close" in head
    assert lingering == 1
