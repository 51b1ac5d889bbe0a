"""Bodies are refused while they come, their clients are told at once, and all others pass as is."""

import asyncio
import gzip
import json
from contextlib import suppress

import pytest
from fastapi import FastAPI
from flask import Flask, request as flask_request, stream_with_context
from hypothesis import given, settings, strategies as st
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from shipworthy.clock import SYSTEM_CLOCK, ManualClock
from shipworthy.telemetry import Registry
from shipworthy.web import (
    BLOCKED,
    Blocked,
    BodyGuard,
    BodyRefused,
    BodySettings,
    Correlation,
    ExceptionUnhandled,
    Line,
    Problems,
    RequestBlocked,
)
from shipworthy.web.exchange import KeptRequest
from web.conftest import ask_once, http_scope

pytestmark = pytest.mark.anyio

JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
UPLOAD = (b"content-type", b"multipart/form-data; boundary=XX")
GZIP = (b"content-encoding", b"gzip")
KIB = 1024


class Reading:
    """An application that reads all of its body and says how much that was."""

    def __init__(self):
        self.asked = 0
        self.body = None

    async def __call__(self, scope, receive, send):
        self.asked += 1
        parts = []
        while True:
            message = await receive()
            assert message["type"] == "http.request"
            parts.append(message["body"])
            if not message["more_body"]:
                break
        self.body = b"".join(parts)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(self.body)})


def behind(app, *more, registry=None, now=SYSTEM_CLOCK.now, **chosen):
    """The application behind the guard of bodies, and other guards behind that."""
    made = BodySettings(**chosen)
    blocked = Blocked(registry or Registry(), now=now)
    return Line(
        app,
        (Correlation(), BodyGuard(made, blocked, now=now, template_of=lambda _: "/meant"), *more),
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: scope.get("route", "_unmatched"),
        now=now,
    )


def length(size):
    return (b"content-length", b"%d" % size)


def refused(told):
    """The rule's words, of an answer that refuses and ends the connection."""
    assert told.error is None
    assert told.one(b"connection") == b"close"
    assert told.one(b"content-type") == b"application/problem+json"
    assert not told.sent[-1].get("more_body", False)
    problem = json.loads(told.body)
    assert problem["type"] == "urn:shipworthy:problem:bodyrefused"
    assert problem["status"] == told.status
    return told.status, problem["detail"]


def cut(body, sizes):
    """A body in parts, of these sizes in turn."""
    parts, at = [], 0
    for size in sizes * (len(body) + 1):
        parts.append(body[at : at + size])
        at += size
        if at >= len(body):
            return parts
    return parts


WITHIN = st.sampled_from(
    [
        ([JSON], json.dumps([{"a": ["b" * n, n]} for n in range(40)]).encode()),
        ([FORM], b"&".join(b"a%d=b" % n for n in range(40))),
        (
            [UPLOAD],
            b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 9 + b"--XX--",
        ),
        ([JSON, GZIP], gzip.compress(json.dumps(["a" * 50] * 99).encode())),
        ([(b"content-encoding", b"br")], b"no brotli at all"),
        ([(b"content-encoding", b"aws-chunked")], b"5;chunk-signature=x\r\nhello"),
        ([], bytes(range(256))),
    ]
)


@settings(max_examples=60)
@given(WITHIN, st.lists(st.integers(1, 300), min_size=1, max_size=4), st.booleans())
def test_a_body_within_the_limits_passes_byte_for_byte(what, sizes, promises):
    """However it was cut, and whether its length was said before."""
    headers, body = what
    app = Reading()
    headers = [*headers, length(len(body))] if promises else headers
    told = asyncio.run(ask_once(behind(app), method="POST", headers=headers, body=cut(body, sizes)))
    assert (told.status, app.body) == (200, body)


TOO_MUCH = {
    "size of json": ([JSON], [b" " * KIB] * 9, 413, "this body is larger than 8KiB"),
    "size of a form": ([FORM], [b"a" * KIB] * 9, 413, "this body is larger than 8KiB"),
    "size of another": ([], [b"a" * KIB] * 17, 413, "this body is larger than 16KiB"),
    "size of what says two things": (
        [(b"content-type", b"text/plain"), JSON],
        [b" " * KIB] * 9,
        413,
        "this body is larger than 8KiB",
    ),
    "depth": ([JSON], [b"[" * 10, b'{"a":'], 400, "this JSON is nested more than 10 deep"),
    "digits": (
        [JSON],
        [b"[1" * 1, b"1" * 20],
        400,
        "a number of this JSON has more than 20 digits",
    ),
    "fields": ([FORM], [b"a&b", b"&c&d"], 400, "this form has more than 3 fields"),
    "parts": ([UPLOAD], [b"--XX\n\n\n" * 4], 400, "this upload has more than 3 parts"),
    "head": (
        [UPLOAD],
        [b"--XX\r\n", b"a" * 300],
        400,
        "a part of this upload has a head of over 256B",
    ),
    "boundary": (
        [(b"content-type", b"multipart/form-data; boundary=" + b"b" * 8000)],
        [b"x"],
        400,
        "the boundary of this upload has over 70 bytes (RFC 2046, 5.1.1)",
    ),
    "ratio": (
        [GZIP],
        [gzip.compress(bytes(3 * 2**20))],
        413,
        "this body becomes more than 50 times its size",
    ),
    "ratio, packed twice": (
        [(b"content-encoding", b"gzip, gzip")],
        [gzip.compress(gzip.compress(bytes(3 * 2**20)))],
        413,
        "this body becomes more than 50 times its size",
    ),
    "what it becomes": (
        [GZIP, (b"content-type", b"x")],
        cut(gzip.compress(bytes(2**20 + 1)), [100]),
        413,
        "this body becomes more than 1MiB",
    ),
    "codings": (
        [(b"content-encoding", b"gzip,gzip"), GZIP],
        [b"x"],
        415,
        "this body was compressed 3 times; 2 times at most",
    ),
    "zstd that is none": (
        [(b"content-encoding", b"zstd")],
        [b"no frame at all", b"none"],
        415,
        "this body is no zstd that needs a window of 8 MiB at most (RFC 9659)",
    ),
    "depth, packed": (
        [JSON, GZIP],
        [gzip.compress(b'{"a":' * 11)],
        400,
        "this JSON is nested more than 10 deep",
    ),
}
SMALL = {
    "json_bytes": 8 * KIB,
    "form_bytes": 8 * KIB,
    "other_bytes": 16 * KIB,
    "json_depth": 10,
    "json_digits": 20,
    "fields": 3,
    "parts": 3,
    "part_head_bytes": 256,
    "ratio": 50,
}


@pytest.mark.parametrize(
    ("headers", "body", "status", "detail"), TOO_MUCH.values(), ids=TOO_MUCH.keys()
)
async def test_what_is_too_much_is_refused_and_counted(headers, body, status, detail, ask):
    """The client gets a problem, the connection ends, and one more is counted for the rule."""
    registry, app = Registry(), Reading()
    chosen = {**SMALL, "decoded_bytes": 2**20, "ratio": 10**5} if "MiB" in detail else SMALL
    line = behind(app, registry=registry, **chosen)
    told = await ask(line, method="POST", headers=headers, body=[*body, b""])
    assert refused(told) == (status, detail)
    assert app.body is None
    assert sum(numbers[0] for _, numbers in registry.snapshot()[BLOCKED.name]["sets"]) == 1


@pytest.mark.parametrize(
    ("headers", "body", "status", "detail"), TOO_MUCH.values(), ids=TOO_MUCH.keys()
)
async def test_in_mode_report_everything_passes_and_is_told_once(
    headers, body, status, detail, heard
):
    """The application gets every byte of what would have been refused."""
    app = Reading()
    chosen = {**SMALL, "decoded_bytes": 2**20, "ratio": 10**5} if "MiB" in detail else SMALL
    line = behind(app, mode="report", **chosen)
    told = await ask_once(line, method="POST", headers=headers, body=[*body, b"end"])
    assert status >= 400
    assert (told.status, app.body) == (200, b"".join(body) + b"end")
    assert [(one.mode, one.because) for one in heard if isinstance(one, RequestBlocked)] == [
        ("report", detail)
    ]


async def test_what_promises_too_much_is_refused_before_the_application_is_asked(ask, heard):
    """And a request with a length that is within the limit is asked as ever."""
    app = Reading()
    line = behind(app, **SMALL)
    told = await ask(line, method="POST", headers=[JSON, length(9 * KIB)], body=[b""])
    assert refused(told) == (413, "this body is larger than 8KiB")
    assert app.asked == 0
    (blocked,) = [one for one in heard if isinstance(one, RequestBlocked)]
    assert (blocked.guard, blocked.rule, blocked.route) == ("body", "size", "/meant")
    assert blocked.client == "10.0.0.7"
    assert (await ask(line, method="POST", headers=[JSON, length(2)], body=[b"[]"])).status == 200
    assert (await ask(line, method="POST", headers=[length(0)])).status == 200


async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked(ask):
    """`Expect: 100-continue`: a server asks with its first receive, and there is none."""
    app = Reading()
    line = behind(app, **SMALL)
    scope = http_scope(method="POST", headers=[JSON, length(9 * KIB), (b"expect", b"100-continue")])
    sent = []

    async def receive():
        raise AssertionError

    async def send(message):
        sent.append(message)

    await line(scope, receive, send)
    assert sent[0]["status"] == 413


async def test_what_is_still_sent_is_thrown_away_until_the_client_has_its_answer(ask):
    """Closed at once, the connection would be reset under a client that still sends."""
    line = behind(Reading(), **SMALL)
    scope = http_scope(method="POST", headers=[JSON])
    order = []
    parts = [b" " * 9 * KIB, b"x", b"y"]

    async def receive():
        order.append("receive")
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": True}
        return {"type": "http.disconnect"}

    async def send(message):
        order.append(message["type"][14:] + (" and more" if message.get("more_body") else ""))

    await line(scope, receive, send)
    assert order == ["receive", "start", "body and more", "receive", "receive", "receive", "body"]


async def test_in_http_2_there_is_no_connection_to_close(ask):
    """The header is forbidden there (RFC 9113, 8.2.2)."""
    line = behind(Reading(), **SMALL)
    told = await ask(line, method="POST", headers=[JSON], body=[b" " * 9 * KIB], http_version="2")
    assert told.status == 413
    assert told.all(b"connection") == []


async def test_sizes_of_routes_hold_whatever_the_body_is(ask):
    """By method and path, as the client says it or below the root path; the first that fits."""
    routes = ("POST /big/* = 20KiB", "/big/{id} = 1KiB", "/small = 1KiB")
    line = behind(Reading(), routes=routes, **SMALL)

    async def status(path, size, **more):
        return (await ask(line, path, body=[b" " * size], **{"method": "POST", **more})).status

    assert await status("/big/one", 20 * KIB, headers=[JSON]) == 200
    assert await status("/big/one", 20 * KIB + 1) == 413
    assert await status("/big/one", KIB + 1, method="PUT") == 413
    assert await status("/small", KIB + 1) == 413
    assert await status("/api/small", KIB + 1, root_path="/api") == 413
    assert await status("/other", KIB + 1) == 200


async def asked_with(app, headers, parts, **chosen):
    registry = Registry()
    line = behind(app, registry=registry, **{**SMALL, **chosen})
    return await ask_once(line, "/", method="POST", headers=headers, body=parts)


BIG = [b'["', b"a" * 9 * KIB, b'"]']


async def test_a_framework_that_answers_by_itself_does_not_change_the_answer(heard):
    """FastAPI makes a 400 of whatever is raised while it reads a body."""
    app = FastAPI()

    @app.post("/")
    async def take(items: list[str]):
        return len(items)

    told = await asked_with(app, [JSON], BIG)
    assert refused(told)[0] == 413
    assert not [one for one in heard if isinstance(one, ExceptionUnhandled)]


async def test_what_a_handler_catches_is_answered_all_the_same(heard):
    """Whatever it says then goes nowhere, and its second look finds its client gone."""
    met = []

    async def take(request):
        try:
            await request.body()
        except OSError as error:
            met.append(error)
        met.append((await request.receive())["type"])
        return JSONResponse("fine", status_code=500)

    app = Starlette(routes=[Route("/", take, methods=["POST"])])
    told = await asked_with(app, [JSON], BIG)
    assert refused(told)[0] == 413
    assert isinstance(met[0], BodyRefused)
    assert str(met[0]) == "this body is larger than 8KiB"
    assert met[1] == "http.disconnect"
    assert not [one for one in heard if isinstance(one, ExceptionUnhandled)]


async def test_middlewares_that_wrap_what_is_raised_say_nothing_of_it(heard):
    """Another that is raised from it, or a group of such, is still the refusal."""

    async def body(request):
        try:
            return JSONResponse(len(await request.body()))
        except OSError as error:
            raise RuntimeError("no body") from error

    app = Starlette(routes=[Route("/", body, methods=["POST"])])
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go: go(request))

    async def grouped(scope, receive, send):
        async with asyncio.TaskGroup() as group:
            group.create_task(app(scope, receive, send))

    told = await asked_with(grouped, [JSON], BIG)
    assert refused(told)[0] == 413
    assert not [one for one in heard if isinstance(one, ExceptionUnhandled)]


async def test_what_an_application_raises_of_its_own_after_that_is_told(heard):
    """Only what comes of the refusal is silent."""

    async def app(scope, receive, send):
        with suppress(OSError):
            await receive()
        raise KeyError("bug")

    told = await asked_with(app, [JSON], [b" " * 9 * KIB])
    assert told.status == 413
    assert isinstance(told.error, KeyError)
    assert [one.error_type for one in heard if isinstance(one, ExceptionUnhandled)] == ["KeyError"]


async def test_where_the_answer_has_begun_the_application_gets_the_exception(heard):
    """There is no other answer any more; the server ends the connection."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            part = (await receive())["body"]
            await send({"type": "http.response.body", "body": part, "more_body": True})

    told = await asked_with(app, [], [b"a" * KIB] * 17)
    assert told.status == 200
    assert len(told.body) == 16 * KIB
    assert isinstance(told.error, BodyRefused)


async def test_a_wsgi_application_meets_the_end_of_its_input(hull, ask, heard):
    """In its thread, as where a client has left; what its framework makes of that goes nowhere."""
    app = Flask(__name__)

    @app.post("/")
    def take():
        return str(len(flask_request.get_data()))

    hardened = hull(app, SHIPWORTHY_BODY__JSON="8KiB")
    told = await ask(hardened, method="POST", headers=[JSON], body=[b" " * KIB] * 9)
    assert refused(told)[0] == 413
    assert not [one for one in heard if isinstance(one, ExceptionUnhandled)]
    within = await ask(hardened, method="POST", headers=[JSON, length(7)], body=[b" " * 7])
    assert (within.status, within.body) == (200, b"7")


async def test_a_wsgi_answer_that_has_begun_ends_with_the_body_it_came_of(hull, ask):
    """Somebody looks there whether the client has left, and is nobody's task to hear of more."""
    app = Flask(__name__)

    @app.post("/")
    def take():
        def parts():
            for _ in range(200):
                yield b"x"
            yield flask_request.stream.read()

        return app.response_class(stream_with_context(parts()))

    hardened = hull(app, SHIPWORTHY_BODY__OTHER="1KiB")
    told = await ask(hardened, method="POST", body=[b" " * KIB] * 9)
    assert told.status == 200
    assert told.sent[-1].get("more_body", False)


class Keeping:
    """A guard that keeps the body before the application reads it, as that of the keys does."""

    def __init__(self):
        self.kept = None

    def around(self, call, app):
        async def serve(scope, receive, send):
            request = KeptRequest(receive)
            self.kept = await request.read()
            await app(scope, request.receive, send)
            request.rewind()
            await app(scope, request.receive, send)

        return serve


async def test_who_keeps_a_body_before_the_application_gets_the_refusal_too(ask):
    """And what is read a second time from there is not counted a second time."""
    keeping = Keeping()
    line = behind(Reading(), keeping, **SMALL)
    told = await ask(line, method="POST", headers=[JSON], body=[b" " * KIB] * 9)
    assert refused(told)[0] == 413
    assert keeping.kept is None
    twice = await ask(line, method="POST", headers=[JSON], body=[b" " * KIB] * 8)
    assert twice.status == 200
    assert len(keeping.kept) == 8 * KIB


async def test_a_look_that_is_broken_off_loses_nothing():
    """Who waits for a message with a bound gets it the next time, looked at to its end."""
    body = gzip.compress(json.dumps(["a" * 50] * 200_000).encode(), 1)
    got, cancelled = [], 0

    async def app(scope, receive, send):
        nonlocal cancelled
        while True:
            # Cancelled at its first wait, as Starlette's `is_disconnected` does, or in its midst.
            waiting = asyncio.ensure_future(receive())
            for _ in range(3):
                await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
            try:
                message = await waiting
            except asyncio.CancelledError:
                cancelled += 1
                continue
            got.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    told = await asked_with(app, [JSON, GZIP], cut(body, [40 * KIB]), json_bytes=2**20, ratio=1000)
    assert told.status == 200
    assert b"".join(got) == body
    assert cancelled > 3


async def test_a_look_that_is_broken_off_still_finds_what_is_too_much():
    """The next who waits gets the refusal."""

    async def app(scope, receive, send):
        while True:
            waiting = asyncio.ensure_future(receive())
            for _ in range(3):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                message = await waiting
            except asyncio.CancelledError:
                continue
            assert message["type"] == "http.disconnect"
            return

    body = [gzip.compress(bytes(20 * 2**20), 1)]
    told = await asked_with(app, [GZIP], body, other_bytes=2**20, ratio=10**5, decoded_bytes=2**24)
    assert refused(told) == (413, "this body becomes more than 16MiB")


async def test_long_looks_take_turns_with_all_others(ask):
    """A turn ends with the clock, and what is larger than a turn lets others go on in between."""
    clock = ManualClock()
    steps = 0

    def now():
        clock.advance(0.001)  # each step takes so long
        return clock.now()

    body = gzip.compress(json.dumps(["a" * 50] * 100_000).encode(), 1)
    app = Reading()
    line = behind(app, now=now, ratio=1000)
    asked = asyncio.ensure_future(
        ask_once(line, method="POST", headers=[JSON, GZIP], body=cut(body, [64 * KIB]))
    )
    while not asked.done():
        await asyncio.sleep(0)
        steps += 1
    assert (await asked).status == 200
    # Five megabytes are eighty windows at least, and a turn has two or three.
    assert steps > 30


def test_loops_one_after_the_other_have_turns_of_their_own():
    """As the clients that test an application have, each with a loop."""
    line = behind(Reading())
    body = gzip.compress(b"a" * 100)
    for _ in range(3):
        told = asyncio.run(ask_once(line, method="POST", headers=[GZIP], body=[body]))
        assert told.status == 200


async def test_with_the_guard_off_there_is_none(hull, ask):
    """Then it is not in the line at all."""
    app = Reading()
    hardened = hull(app, SHIPWORTHY_BODY__MODE="off", SHIPWORTHY_BODY__JSON="1KiB")
    told = await ask(hardened, method="POST", headers=[JSON], body=[b"[" * 3000])
    assert told.status == 200
    (enforced,) = [await ask(hull(app), method="POST", headers=[JSON], body=[b"[" * 3000])]
    assert enforced.status == 400


async def test_a_websocket_has_no_body(ask):
    """Its messages are another matter."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    told = await ask(behind(app), type="websocket", headers=[length(10**12)])
    assert told.sent[0]["type"] == "websocket.accept"
