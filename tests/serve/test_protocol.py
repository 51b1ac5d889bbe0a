"""The contract with uvicorn: how connections are counted, kept and told. Real sockets."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from raw_requests import BAD, CHUNKED, GOOD
from websockets.asyncio.client import connect
from wire import PATIENCE_SECONDS, App, Client, certified, running, until

from shipworthy import harden
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import listen
from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.heads import TurnedAway
from shipworthy.serve.pace import PaceRule
from shipworthy.serve.protocol import (
    LOOK_SECONDS,
    PIPELINED_MAX,
    RULES,
    ConnectionRules,
    telling,
)
from shipworthy.serve.protocol_settings import ProtocolSettings
from shipworthy.serve.sockets import listen_unix
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


# -- the guard: what clients may do, and for how long. Deadlines are short, waits are not. --

BRIEF = ConnectionRules(
    header_seconds=0.2,
    body=PaceRule(grace_seconds=0.2, bytes_per_second=1000.0),
    write=PaceRule(grace_seconds=0.2, bytes_per_second=1000.0),
)
# One in which nothing that the kernels take at once earns time.
STALLED = replace(BRIEF, write=PaceRule(grace_seconds=0.2, bytes_per_second=1e9))
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
TOLD = list[tuple[str, str, str]]


class Reader:
    """An ASGI app that reads the whole body and says how many bytes and headers there were."""

    def __init__(self) -> None:
        self.asked = 0
        self.ends: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        self.headers = scope["headers"]
        length = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    self.ends.append("client left")
                    return
                length += len(message["body"])
                if not message["more_body"]:
                    break
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        self.ends.append("read")
        body = b"%d" % length
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Endless:
    """An ASGI app that sends for as long as it is let."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                self.sent += 1
                await asyncio.sleep(0)
        finally:
            self.ended.set()


def hearing() -> tuple[TOLD, Any]:
    """A list of what is told of refusals, and who appends to it."""
    told: TOLD = []
    return told, lambda *what: told.append(what)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_head_that_drips_is_refused_when_its_time_is_over(
    tmp_path: Path, tls: bool
) -> None:
    """408, whole and with the close, and the rule is told; a silent one is closed wordlessly."""
    files, context = certified(tmp_path) if tls else (None, None)
    told, hear = hearing()
    async with running(Reader(), rules=BRIEF, told=hear, tls=files) as (_, sock):
        silent = await Client.to(sock, tls=context)
        client = await Client.to(sock, tls=context)
        client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")

        answer = await client.drip(b"a")

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        assert await silent.rest() == b""
    assert [rule for rule, _, _ in told] == ["header-deadline"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [POST + b"Content-Length: 999\r\n\r\n", POST + CHUNKED + b"\r\n999\r\n"]
)
async def test_a_body_that_drips_is_refused_and_its_task_cancelled(head: bytes) -> None:
    """408; the application hears of its end, and is not left waiting."""
    told, hear = hearing()
    app = Reader()
    async with running(app, rules=BRIEF, told=hear) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(head)

        answer = await client.drip(b"a")

        assert answer.startswith(b"HTTP/1.1 408 ")
        await until(lambda: app.ends == ["cancelled"])
    assert [rule for rule, _, _ in told] == ["body-rate"]


@pytest.mark.slow
async def test_under_the_guards_a_refused_body_is_no_exception(tmp_path: Path) -> None:
    """The client is noted as gone; nobody is called for it."""
    heard: list[Any] = []
    stop = listen(heard.append)
    settings = load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false"}, directory=tmp_path)
    hardened = harden(Reader(), settings=settings)
    async with running(
        hardened,
        rules=BRIEF,
        told=telling(hardened.blocked),
        cancel=hardened.in_flight.give_up,
    ) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(POST + b"Content-Length: 999\r\n\r\n")
        answer = await client.drip(b"a")
        await until(lambda: not hardened.in_flight.calls)
    stop()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert [type(fact).__name__ for fact in heard] == ["RequestBlocked"]
    (last,) = hardened.blocked.last()
    assert (last.guard, last.rule, last.mode) == ("protocol", "body-rate", "enforce")


@pytest.mark.slow
async def test_a_slow_upload_within_the_rate_is_served() -> None:
    """2,500 bytes a second where 1,000 are asked for, for several times the grace."""
    app = Reader()
    async with running(app, rules=BRIEF) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(POST + b"Connection: close\r\nContent-Length: 2000\r\n\r\n")

        answer = await client.drip(b"a" * 50)

        assert answer.endswith(b"\r\n\r\n2000")


@pytest.mark.slow
async def test_who_is_kept_waiting_by_the_application_is_not_slow() -> None:
    """Neither an upload that nobody reads on, nor a client that waits for its 100 Continue."""
    app = App()

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await app.let.wait()
        while (await receive()).get("more_body"):
            pass
        await app({**scope, "path": "/"}, receive, send)

    told, hear = hearing()
    async with running(later, rules=BRIEF, told=hear) as (engine, sock):
        large, expecting = await Client.to(sock), await Client.to(sock)
        large.writer.write(POST + b"Content-Length: 500000\r\n\r\n" + b"a" * 500_000)
        expecting.writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        await until(lambda: engine.census().busy == 2)
        # Somebody else is told that his time is over, three times: so it is over for these, too.
        for _ in range(3):
            slow = await Client.to(sock)
            slow.writer.write(b"G")
            assert "408" in await slow.head()
        app.let.set()

        assert "200 ok" in await large.head()
        assert "100 continue" in await expecting.head()
        expecting.writer.write(b"a")
        assert "200 ok" in await expecting.head()
    assert {rule for rule, _, _ in told} == {"header-deadline"}


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_who_takes_nothing_of_an_answer_is_cut_and_the_work_for_it_ends(
    tmp_path: Path, tls: bool
) -> None:
    """A generator does not go on into nothing."""
    files, context = certified(tmp_path) if tls else (None, None)
    told, hear = hearing()
    app = Endless()
    async with running(app, rules=STALLED, told=hear, tls=files) as (engine, sock):
        client = await Client.to(sock, tls=context)
        client.ask()

        await asyncio.wait_for(app.ended.wait(), PATIENCE_SECONDS)
        await until(lambda: engine.census().total == 0)
    assert [rule for rule, _, _ in told] == ["write-stall"]


@pytest.mark.slow
async def test_who_takes_nothing_through_a_unix_socket_is_cut_too(tmp_path: Path) -> None:
    """There the kernel tells nobody what has arrived."""
    app = Endless()
    engine = UvicornEngine(app, rules=STALLED)
    await engine.start([listen_unix(tmp_path / "s", backlog=5)], {})
    client = Client(*await asyncio.open_unix_connection(str(tmp_path / "s")))
    client.ask()

    await asyncio.wait_for(app.ended.wait(), PATIENCE_SECONDS)

    await engine.close()
    await client.close()


@pytest.mark.slow
async def test_a_slow_reader_within_the_rate_reads_all_of_it() -> None:
    """For five times the grace, with more on its way than the kernel takes."""
    size = 8 * 1024 * 1024

    async def large(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    told, hear = hearing()
    async with running(large, rules=BRIEF, told=hear) as (_, sock):
        client = await Client.to(sock)
        client.ask()
        await client.reader.readuntil(b"\r\n\r\n")
        read = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        while read < size:
            part = await asyncio.wait_for(client.reader.read(65536), PATIENCE_SECONDS)
            assert part
            read += len(part)
            if loop.time() - began < 1.0:
                await asyncio.sleep(0.02)
    assert not told


@pytest.mark.slow
async def test_a_task_that_must_not_be_cancelled_yet_is_asked_again() -> None:
    """As long as a COMMIT is under way, say."""
    asked: list[Any] = []

    def at_the_third(task: Any) -> bool:
        asked.append(task)
        if len(asked) < 3:
            return False
        task.cancel()
        return True

    app = Reader()
    async with running(app, rules=BRIEF, cancel=at_the_third) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(POST + b"Content-Length: 999\r\n\r\n")
        await client.drip(b"a")
        await until(lambda: len(asked) == 3)
    assert app.ends in (["client left"], ["cancelled"])


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_refused_whole_and_ends_its_connection(name: str) -> None:
    """A problem of 4xx or 5xx with an id; what follows on the connection is not looked at."""
    told, hear = hearing()
    app = Reader()
    async with running(app, told=hear) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(BAD[name] + GOOD["GET"])

        told_client = await client.rest()

    head, _, body = told_client.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 ", b"HTTP/1.1 505 "))
    assert b"connection: close" in head
    assert orjson.loads(body)["request_id"].encode() in head
    assert "read" not in app.ends
    assert len(told) == 1
    assert told[0][0] in RULES


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_request_is_served_and_so_is_the_next(name: str) -> None:
    """And nothing is told."""
    told, hear = hearing()
    app = Reader()
    async with running(app, told=hear) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(GOOD[name])
        answer = await client.reader.readuntil(b"\r\n\r\n")
        if b" 100 " in answer:
            answer = await client.reader.readuntil(b"\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert app.ends == ["read"]
    assert not told


async def test_trailers_are_no_headers() -> None:
    """RFC 9112, 7.1.2: they never become what the application or a guard reads as a header."""
    app = Reader()
    async with running(app) as (_, sock):
        client = await Client.to(sock)
        client.writer.write(POST + CHUNKED + b"\r\n0\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")

        assert "200 ok" in await client.head()
    assert app.headers == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_a_bad_head_behind_a_request_waits_for_its_answer() -> None:
    """Never half an answer, and never one for another request: both are whole, in their order."""
    app = App()
    async with running(app) as (_, sock):
        client = await Client.to(sock)
        client.ask("/begun")
        await app.began.wait()
        client.writer.write(BAD["no Host"])
        client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0)
        app.let.set()
        first, second = await client.head(), await client.head()

        assert "200 ok" in first
        assert "400 bad request" in second
        assert await client.ended()


async def test_a_bad_body_of_a_request_that_waits_takes_nothing_from_those_before_it() -> None:
    """The application never hears of it."""
    app = App()
    told, hear = hearing()
    async with running(app, told=hear) as (_, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()
        client.writer.write(POST + CHUNKED + b"\r\nno size\r\n")
        await until(lambda: told)
        app.let.set()

        assert "200 ok" in await client.head()
        assert "400 bad request" in await client.head()
        assert await client.ended()


async def test_a_bad_body_under_an_answer_that_has_begun_ends_the_connection() -> None:
    """What is left of it cannot be told from an answer to something else."""
    app = App()
    async with running(app) as (engine, sock):
        client = await Client.to(sock)
        client.writer.write(b"POST /begun HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        await app.began.wait()
        told = engine._connections.tasks.copy()
        (connection,) = engine._connections.connections
        connection.turn_away(TurnedAway("body-rate", 408, "too slow"))

        assert b" 408 " not in await client.drip(b"a")
        await until(lambda: all(task.done() for task in told))


async def test_more_pipelined_requests_than_are_kept_are_refused_after_those() -> None:
    """Each takes memory before it is its turn."""
    app = App()
    async with running(app) as (_, sock):
        client = await Client.to(sock)
        client.ask("/held")
        await app.began.wait()
        client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (PIPELINED_MAX + 5))
        await asyncio.sleep(0)
        app.let.set()
        answers = [await client.head() for _ in range(PIPELINED_MAX + 2)]

        assert ["200 ok" in answer for answer in answers] == [True] * (PIPELINED_MAX + 1) + [False]
        assert "429 too many requests" in answers[-1]


async def test_line_ends_between_requests_do_not_keep_a_connection() -> None:
    """uvicorn stops its timer for each byte, and they begin no request."""
    async with running(Reader(), rules=BRIEF, keep_alive_seconds=0.05) as (engine, sock):
        client = await Client.to(sock)
        client.ask()
        await client.head()
        engine._connections.keep_alive_seconds -= LOOK_SECONDS

        assert await client.drip(b"\r\n") == b""


async def test_an_address_has_no_more_connections_than_it_may() -> None:
    """429 for the next; what is closed counts no longer, and proxies are not clients."""
    told, hear = hearing()
    rules = ConnectionRules(connections_per_client=2)
    async with running(Reader(), rules=rules, told=hear, shared=lambda _: False) as (engine, sock):
        first, _ = [await Client.to(sock) for _ in range(2)]
        await until(lambda: engine.census().total == 2)
        third = await Client.to(sock)
        refused = await third.head()
        await third.close()
        await first.close()
        await until(lambda: engine.census().total == 1)
        fourth = await Client.to(sock)
        fourth.ask()

        assert "429 too many requests" in refused
        assert "200 ok" in await fourth.head()
        assert [rule for rule, _, _ in told] == ["connections-per-client"]
        assert engine._connections.clients == {"127.0.0.1": 2}

    async with running(Reader(), rules=rules) as (engine, sock):
        clients = [await Client.to(sock) for _ in range(5)]
        clients[-1].ask()
        assert "200 ok" in await clients[-1].head()


async def test_in_a_full_house_the_slow_make_room() -> None:
    """After those who ask nothing: so slow bodies keep nobody out before their time is over."""
    told, hear = hearing()
    rules = replace(BRIEF, body=PaceRule(grace_seconds=60.0, bytes_per_second=1000.0))
    app = Reader()
    async with running(app, rules=rules, told=hear, connections_max=3) as (engine, sock):
        for _ in range(3):
            slow = await Client.to(sock)
            slow.writer.write(POST + b"Content-Length: 99\r\n\r\n")
        await until(lambda: engine.census().busy == 3)
        client = await Client.to(sock)
        client.ask()
        at_once = await client.head()
        await client.close()
        slow = await Client.to(sock)
        slow.writer.write(POST + b"Content-Length: 99\r\n\r\n")
        await until(lambda: engine.census().busy == 3)
        await until(
            lambda: all((c.standing or (0,))[0] == 1 for c in engine._connections.connections)
        )
        client = await Client.to(sock)
        client.ask()

        assert "200 ok" in at_once
        assert "200 ok" in await client.head()
    assert [rule for rule, _, _ in told] == ["connections"] * 2


def test_switched_off_only_the_largest_head_is_left() -> None:
    """As it was before there was a guard."""
    rules = ConnectionRules.of(ProtocolSettings(mode="off"), head_bytes=5000)

    assert rules.look_seconds == LOOK_SECONDS
    assert rules.head.refusal("1.1", b"/" * 4000, []) is None
    assert rules.head.refusal("1.1", b"/" * 6000, []) == rules.head.too_large()


def test_the_defaults_of_an_engine_are_those_of_the_settings() -> None:
    """The operations port has them, and has no settings of its own."""
    assert ConnectionRules.of(ProtocolSettings(), head_bytes=32 * 1024) == ConnectionRules()
