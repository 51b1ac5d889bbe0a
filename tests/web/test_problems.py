import asyncio
import io
import json

import fastapi
import orjson
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import RequestRecord, current_request
from shipworthy.errors import Rejected
from shipworthy.resilience import BreakerOpen, DeadlinePassed
from shipworthy.web import (
    AnswerMissing,
    CallRefused,
    Correlation,
    ExceptionUnhandled,
    Line,
    Problems,
    problem,
)

# What the guards add to every answer.
ADDED = {b"x-request-id", b"x-content-type-options"}

pytestmark = pytest.mark.anyio

SECRET = "postgresql://app:hunter2@db.internal/prod"


class Boom(Exception):
    """What the applications of these tests raise."""


def starlette(endpoint, **options) -> Starlette:
    return Starlette(routes=[Route("/items/{id}", endpoint)], **options)


async def boom(request):
    raise Boom(SECRET)


def unhandled(heard):
    return [fact for fact in heard if isinstance(fact, ExceptionUnhandled)]


def is_problem(told) -> dict:
    assert told.one(b"content-type") == b"application/problem+json"
    assert int(told.one(b"content-length")) == len(told.body)
    assert [m["type"] for m in told.sent] == ["http.response.start", "http.response.body"]
    document = json.loads(told.body)
    assert set(document) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert document["status"] == told.status
    assert document["request_id"].encode() == told.one(b"x-request-id")
    return document


async def test_an_unhandled_exception_becomes_a_problem_that_tells_nothing(hull, ask, heard):
    """The client gets a problem with the id, the log gets the exception, the server gets it too."""
    told = await ask(hull(starlette(boom)), "/items/7")

    document = is_problem(told)
    assert (document["status"], document["title"]) == (500, "Internal Server Error")
    assert document["instance"] == "/items/7"
    assert b"Boom" not in told.body
    assert b"hunter2" not in told.body
    assert b".py" not in told.body
    assert isinstance(told.error, Boom)
    (fact,) = unhandled(heard)
    assert (fact.error_type, fact.route, fact.answered) == ("Boom", "/items/{id}", "with a problem")
    assert "in boom" in fact.stack


async def test_an_exception_of_a_raw_application_is_answered_and_raised(hull, ask, heard):
    """Where no framework says anything, the line does, and the server still sees the error."""

    async def app(scope, receive, send):
        raise Boom

    told = await ask(hull(app), "/x")

    assert is_problem(told)["status"] == 500
    assert isinstance(told.error, Boom)
    assert unhandled(heard)[0].route == "_unmatched"


async def test_the_application_s_own_answer_to_an_exception_passes(hull, ask, heard):
    """A handler for 500 or Exception is the application's word, whatever it says."""

    async def sorry(request, error):
        return PlainTextResponse("sorry", status_code=500, headers={"x-own": "1"})

    told = await ask(hull(starlette(boom, exception_handlers={Exception: sorry})), "/items/7")

    assert (told.status, told.body, told.one(b"x-own")) == (500, b"sorry", b"1")
    assert told.one(b"x-request-id")
    assert isinstance(told.error, Boom)
    assert unhandled(heard)[0].answered == "by the application"


@pytest.mark.parametrize("status", [400, 404, 405, 409, 422, 501, 503])
async def test_error_answers_of_the_application_pass_untouched(hull, ask, heard, status):
    """Whoever raises an HTTP exception, or returns a status, has answered."""

    async def fail(request):
        raise HTTPException(status, "my words")

    bare = await ask(starlette(fail), "/items/7")
    told = await ask(hull(starlette(fail)), "/items/7")

    assert (told.status, told.body) == (status, b"my words") == (bare.status, bare.body)
    assert [h for h in told.headers if h[0] not in ADDED] == bare.headers
    assert heard == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/no", 404), ("PUT", "/items/7", 405)]
)
async def test_404_and_405_of_the_router_are_as_without_us(hull, ask, method, path, status):
    """What the framework says about its routes is public behaviour of the application."""

    async def fine(request):
        return PlainTextResponse("fine")

    bare = await ask(starlette(fine), path, method=method)
    told = await ask(hull(starlette(fine)), path, method=method)

    assert told.status == bare.status == status
    assert told.body == bare.body
    assert [h for h in told.headers if h[0] not in ADDED] == bare.headers


async def test_a_500_chosen_by_the_application_passes_even_in_the_framework_s_words(hull, ask):
    """The same bytes as Starlette's page are the application's when nobody raised."""

    async def choose(request):
        return PlainTextResponse("Internal Server Error", status_code=500)

    told = await ask(hull(starlette(choose)), "/items/7")

    assert (told.status, told.body, told.error) == (500, b"Internal Server Error", None)


async def test_a_500_of_the_application_does_not_wait_for_its_background_task(hull, ask):
    """Only what may be a framework's own page is held back until the application returns."""
    order = []

    async def later():
        order.append("background")

    async def fail(request):
        return PlainTextResponse("mine", status_code=500, background=BackgroundTask(later))

    app = hull(starlette(fail))

    async def watched(scope, receive, send):
        async def seen(message):
            order.append(message["type"])
            await send(message)

        await app(scope, receive, seen)

    await ask(watched, "/items/7")

    assert order == ["http.response.start", "http.response.body", "background"]


async def test_a_streamed_500_is_passed_on_as_it_comes(hull, ask):
    """More than a page is no page: from there on nothing is held back."""

    async def parts():
        for _ in range(3):
            yield b"x" * 3000

    async def fail(request):
        return StreamingResponse(parts(), status_code=500)

    told = await ask(hull(starlette(fail)), "/items/7")

    assert (told.status, len(told.body)) == (500, 9000)
    assert len(told.sent) == 5


@pytest.mark.parametrize("environment", ["development", "production"])
async def test_the_first_part_of_a_500_of_the_application_is_not_held(hull, ask, environment):
    """It cannot be the beginning of a framework's page, so it arrives before there is a second."""
    order = []

    async def parts():
        for number in range(2):
            order.append(f"makes {number}")
            yield b"tick %d" % number

    async def fail(request):
        return StreamingResponse(parts(), status_code=500, media_type="text/event-stream")

    app = hull(starlette(fail), SHIPWORTHY_ENV=environment)

    async def watched(scope, receive, send):
        async def seen(message):
            order.append(message.get("body", message["type"]))
            await send(message)

        await app(scope, receive, seen)

    await ask(watched, "/items/7")

    assert order == [
        "makes 0", "http.response.start", b"tick 0", "makes 1", b"tick 1", b"",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [
        b"Internal Server Error",
        b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error",
    ],
)
async def test_a_framework_s_page_in_many_parts_is_still_replaced(hull, ask, page):
    """As long as it may become one it is held, however small the parts are."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for at in range(0, len(page), 5):
            part = page[at : at + 5]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"</title>" if b"<" in page else b""})
        raise Boom

    is_problem(await ask(hull(app)))


@pytest.mark.parametrize("accept", [b"text/html", b"*/*"])
async def test_a_debug_page_is_shown_in_development_only(hull, ask, accept):
    """debug=True left on by mistake shows no stack to anybody in production."""
    app = starlette(boom, debug=True)
    headers = [(b"accept", accept)]

    shown = await ask(hull(app, SHIPWORTHY_ENV="development"), "/items/7", headers=headers)
    hidden = await ask(hull(app, SHIPWORTHY_ENV="production"), "/items/7", headers=headers)

    assert b"Boom" in shown.body
    assert b"hunter2" not in hidden.body
    assert is_problem(hidden)["status"] == 500


async def test_a_traceback_in_many_parts_is_replaced_too(hull, ask):
    """Only the knowledge that it shows one is kept of a page that will not be sent."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": [(b"etag", b"1")]})
        for part in (
            b"<html>Traceback (most ",
            b"recent call last)",
            b"s" * 100_000,
            SECRET.encode(),
        ):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    told = await ask(hull(app, SHIPWORTHY_ENV="staging"))

    assert is_problem(told)["status"] == 500
    assert told.all(b"etag") == []


async def test_an_exception_in_the_middle_of_a_500_of_the_application(hull, ask, heard):
    """What it had said of its own page is passed on; the page stays a half one."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"my own", "more_body": True})
        raise Boom

    told = await ask(hull(app))

    assert (told.status, told.body) == (500, b"my own")
    assert unhandled(heard)[0].answered == "in part"


async def test_headers_of_other_middlewares_stay_on_a_replaced_answer(hull, ask):
    """CORS and cookies belong to the answer; what described the old body does not."""

    async def app(scope, receive, send):
        headers = [
            (b"content-type", b"text/plain"),
            (b"Content-Length", b"21"),
            (b"access-control-allow-origin", b"*"),
            (b"set-cookie", b"a=b"),
        ]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise Boom

    told = await ask(hull(app))

    is_problem(told)
    assert told.one(b"access-control-allow-origin") == b"*"
    assert told.one(b"set-cookie") == b"a=b"
    assert told.one(b"cache-control") == b"no-store"


async def test_an_exception_after_the_answer_began_is_logged_and_raised(hull, ask, heard):
    """Nothing is added to a half answer: the server ends it, and the log has the reason."""

    async def parts():
        yield b"first"
        raise Boom

    async def fail(request):
        return StreamingResponse(parts())

    told = await ask(hull(starlette(fail)), "/items/7")

    assert (told.status, told.body) == (200, b"first")
    assert told.sent[-1]["more_body"] is True
    assert told.error is not None
    assert unhandled(heard)[0].answered == "in part"


async def test_an_exception_in_a_background_task_is_logged(hull, ask, heard):
    """The answer was whole; the log still learns what happened after it."""

    async def later():
        raise Boom

    async def fine(request):
        return PlainTextResponse("fine", background=BackgroundTask(later))

    told = await ask(hull(starlette(fine)), "/items/7")

    assert (told.status, told.body) == (200, b"fine")
    assert unhandled(heard)[0].answered == "before"


async def test_head_is_answered_without_a_body(hull, ask):
    """A problem for HEAD has the headers of the problem and no body."""
    told = await ask(hull(starlette(boom)), "/items/7", method="HEAD")

    assert (told.status, told.body) == (500, b"")
    assert int(told.one(b"content-length")) > 0


async def test_an_application_that_returns_without_an_answer_gets_one(hull, ask, heard):
    """The client is told, and the log, that the application said nothing."""

    async def app(scope, receive, send):
        return

    told = await ask(hull(app))

    assert is_problem(told)["status"] == 500
    assert [(type(f), f.status, f.sent_bytes) for f in heard] == [(AnswerMissing, 0, 0)]


async def test_an_application_that_stops_in_the_middle_is_in_the_log(hull, ask, heard):
    """A half answer cannot be mended, only told."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    told = await ask(hull(app))

    assert (told.body, len(told.sent)) == (b"half", 2)
    assert [(type(f), f.status, f.sent_bytes) for f in heard] == [(AnswerMissing, 200, 4)]


async def test_a_websocket_that_is_left_without_a_word_is_in_the_log(hull, ask, heard):
    """The server refuses the handshake; one that was accepted is simply over."""

    async def app(scope, receive, send):
        if scope["path"] == "/accepted":
            await send({"type": "websocket.accept"})

    told = await ask(hull(app), "/", type="websocket")
    accepted = await ask(hull(app), "/accepted", type="websocket")

    assert told.sent == []
    assert [m["type"] for m in accepted.sent] == ["websocket.accept"]
    assert [(type(f), f.status) for f in heard] == [(AnswerMissing, 0)]


async def test_a_client_that_left_is_no_failure_of_the_service(hull, ask, heard):
    """What a framework raises when its client vanishes during an upload is not ours."""

    async def read(request):
        await request.body()
        return PlainTextResponse("read")

    class Vanishes:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            messages = [
                {"type": "http.request", "body": b"half", "more_body": True},
                {"type": "http.disconnect"},
            ]

            async def vanishing():
                return messages.pop(0)

            await self.app(scope, vanishing, send)

    app = hull(Starlette(routes=[Route("/up", read, methods=["POST"])]))
    told = await ask(Vanishes(app), "/up", method="POST")

    assert unhandled(heard) == []
    assert told.sent == []


async def leaves(scope, receive):
    """Read the request until its client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    "error",
    [
        Boom("the data is broken"),
        FileNotFoundError(2, "no such file"),
        ConnectionRefusedError(111, "the database"),
        ExceptionGroup("several", [ConnectionResetError(), Boom()]),
        SystemExit(4),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_raised_after_the_client_left_is_logged(hull, heard, ask, error):
    """A rollback that failed matters, whoever was waiting for the answer."""

    async def app(scope, receive, send):
        await leaves(scope, receive)
        raise error

    sent, raised = await raising(hull(app), leaves=True)

    assert (sent, raised) == ([], error)
    (fact,) = unhandled(heard)
    assert (fact.error_type, fact.answered) == (type(error).__name__, "not at all")


class ClientDisconnect(Exception):
    """As Starlette names it."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(),
        ConnectionResetError(104, "reset by peer"),
        BrokenPipeError(32, "broken pipe"),
        ClientDisconnect(),
        ExceptionGroup("both", [OSError(), ClientDisconnect()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_only_says_that_the_client_left_is_not_logged(hull, heard, error):
    """The access line has it already."""

    async def app(scope, receive, send):
        await leaves(scope, receive)
        raise error

    _, raised = await raising(hull(app), leaves=True)

    assert raised is error
    assert unhandled(heard) == []


@pytest.mark.parametrize("last", [False, True], ids=["a part", "the last part"])
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_the_servers_send_raises_says_that_the_client_left(hull, heard, grouped, last):
    """An `OSError` of any number (ASGI 2.4); one of the application's own is a failure."""
    error = OSError(9, "Bad file descriptor")

    async def send(message):
        if message["type"] == "http.response.body":
            raise error

    async def receive():
        return {"type": "http.request"}

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": b"1", "more_body": not last})
        except OSError as gone:
            if grouped:
                raise ExceptionGroup("as a task group tells it", [gone]) from None
            raise

    async def fails(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError(9, "Bad file descriptor")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ExceptionGroup if grouped else OSError):
        await hull(app)(dict(scope), receive, send)
    assert unhandled(heard) == []

    with pytest.raises(OSError):
        await hull(fails)(dict(scope), receive, send)
    (fact,) = unhandled(heard)
    assert (fact.error_type, fact.answered) == ("OSError", "in part")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("leaving", [False, True])
async def test_what_is_no_exception_is_logged_answered_and_raised(hull, heard, kind, leaving):
    """A handler that calls `sys.exit`, or awaits what was cancelled, fails its request."""

    async def fail(request):
        raise kind

    app = hull(starlette(fail))
    if leaving:
        app.lifecycle.begin_drain()
    sent, raised = await raising(app, "/items/7")

    assert type(raised) is kind
    assert sent[0]["status"] == 500
    (fact,) = unhandled(heard)
    assert (fact.error_type, fact.answered) == (kind.__name__, "with a problem")
    assert (
        json.loads(sent[1]["body"])["request_id"].encode()
        == dict(sent[0]["headers"])[b"x-request-id"]
    )


async def test_a_call_that_is_cancelled_because_its_client_left_is_not_logged(hull, heard):
    """Some servers end the task of a client that has vanished."""

    async def app(scope, receive, send):
        await leaves(scope, receive)
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    task = asyncio.create_task(raising(hull(app), leaves=True))
    sent, raised = await task

    assert (sent, type(raised)) == ([], asyncio.CancelledError)
    assert unhandled(heard) == []


async def test_an_answer_that_the_drain_cuts_stays_cut(hull, heard):
    """Nothing can be added to it; who was cancelled is told by `run`."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    hardened = hull(app)
    hardened.lifecycle.begin_drain()
    sent, raised = await asyncio.create_task(raising(hardened))

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert type(raised) is asyncio.CancelledError
    assert unhandled(heard) == []


async def test_an_exception_after_the_first_half_of_a_page_that_was_held(hull, ask, heard):
    """HTML may become a page with a traceback; this one did not, so it is the application's."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>mine", "more_body": True})
        raise Boom

    told = await ask(hull(app, SHIPWORTHY_ENV="production"))

    assert (told.status, told.body) == (500, b"<html>mine")
    assert unhandled(heard)[0].answered == "in part"


async def test_a_call_that_is_thrown_away_is_left_in_peace(hull, heard):
    """Nothing can be awaited while a coroutine is closed."""

    async def app(scope, receive, send):
        await receive()

    async def never():
        await asyncio.sleep(0)

    calling = hull(app)({**_scope(), "http_version": "1.1"}, never, None)
    calling.send(None)
    calling.close()

    assert unhandled(heard) == []


async def raising(app, path="/", *, leaves=False):
    """Ask once; return what was sent and whatever was raised, also what is no exception."""
    sent = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    messages += [{"type": "http.disconnect"}] if leaves else []

    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    raised = None
    try:
        await app({**_scope(), "path": path, "raw_path": path.encode()}, receive, send)
    except BaseException as error:
        raised = error
    return sent, raised


@pytest.mark.parametrize("mode", ["report", "off"])
async def test_in_the_other_modes_the_answer_is_the_framework_s(hull, ask, heard, mode):
    """The exception is logged in every mode; the answer is left as it is."""
    told = await ask(hull(starlette(boom), SHIPWORTHY_WEB__PROBLEMS=mode), "/items/7")

    assert (told.status, told.body) == (500, b"Internal Server Error")
    assert isinstance(told.error, Boom)
    assert unhandled(heard)[0].answered == "by the application"


@pytest.mark.parametrize("mode", ["report", "off"])
async def test_in_the_other_modes_a_raw_exception_gets_the_server_s_words(hull, ask, heard, mode):
    """What uvicorn says by itself, which would not have the id."""

    async def app(scope, receive, send):
        raise Boom

    told = await ask(hull(app, SHIPWORTHY_WEB__PROBLEMS=mode))
    second = await ask(hull(app, SHIPWORTHY_WEB__PROBLEMS=mode), http_version="2")

    assert (told.status, told.body, type(told.error)) == (500, b"Internal Server Error", Boom)
    assert told.one(b"x-request-id")
    assert told.one(b"content-type") == b"text/plain; charset=utf-8"
    assert told.one(b"content-length") == b"21"
    assert (told.all(b"connection"), second.all(b"connection")) == ([b"close"], [])
    assert unhandled(heard)[0].answered == "in plain words"


async def test_in_the_other_modes_a_missing_answer_gets_the_server_s_words(hull, ask, heard):
    """The same for an application that returns without a word."""

    async def app(scope, receive, send):
        return

    told = await ask(hull(app, SHIPWORTHY_WEB__PROBLEMS="report"))

    assert (told.status, told.body) == (500, b"Internal Server Error")
    assert told.one(b"x-request-id")
    assert [type(fact) for fact in heard] == [AnswerMissing]


class Busy(Rejected):
    """A refusal as later guards make them."""


async def test_a_refusal_after_the_answer_began_is_an_exception(hull, ask, heard):
    """It refuses nothing any more: it is logged with its stack, and the server ends the answer."""

    async def parts():
        yield b"abc"
        raise Busy("too late", retry_after_seconds=1)

    async def fail(request):
        return StreamingResponse(parts())

    told = await ask(hull(starlette(fail)), "/items/7")

    assert (told.status, told.body) == (200, b"abc")
    assert told.error is not None
    (fact,) = heard
    assert (type(fact), fact.answered) == (ExceptionUnhandled, "in part")
    assert "in parts" in fact.stack


class Refuses:
    """A guard that lets nobody in."""

    def enter(self, call):
        raise Busy("all seats are taken", retry_after_seconds=1.2)


def line_of(app, *guards):
    return Line(
        app,
        (Correlation(), *guards),
        answers=Problems(mode="enforce", development=False, leaving=lambda: False),
        route_of=lambda scope: "/items/{id}",
        now=SYSTEM_CLOCK.now,
    )


async def refuse(scope, receive, send):
    raise Busy("all seats are taken", retry_after_seconds=1.2)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refusal_is_a_503_with_the_time_to_come_back_and_is_not_raised(ask, heard, method):
    """Rejected by a guard means: not begun, send it again later."""
    told = await ask(line_of(refuse, Refuses()), "/items/7", method=method)

    document = is_problem(told)
    assert told.status == 503
    assert told.one(b"retry-after") == b"2"
    assert document["type"] == "urn:shipworthy:problem:busy"
    assert document["detail"] == "all seats are taken"
    assert told.error is None
    assert [(type(f), f.refusal) for f in heard] == [(CallRefused, "Busy")]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_rejection_midway_is_told_in_one_line(ask, heard, method):
    """A breaker or a full pool, met by the application: in an outage that is every request."""
    told = await ask(line_of(refuse), "/items/7", method=method)

    assert (told.status, is_problem(told)["detail"]) == (503, "all seats are taken")
    assert told.one(b"retry-after") == b"2"
    assert told.error is None
    assert [(type(fact), fact.refusal) for fact in heard] == [(CallRefused, "Busy")]


async def test_the_context_reaches_exception_handlers_threads_and_background_tasks(hull, ask):
    """One id everywhere: middleware, sync handler in a thread, background task, error handler."""
    seen = {}

    def note(where):
        seen[where] = current_request().request_id

    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            note("middleware")
            return await call_next(request)

    def sync(request):
        note("thread")
        raise KeyError

    async def caught(request, error):
        note("exception handler")
        return PlainTextResponse(
            "caught", status_code=418, background=BackgroundTask(note, "after")
        )

    app = starlette(sync, middleware=[Middleware(Outer)], exception_handlers={KeyError: caught})
    told = await ask(hull(app), "/items/7")

    assert set(seen) == {"middleware", "thread", "exception handler", "after"}
    assert set(seen.values()) == {told.one(b"x-request-id").decode()}


async def test_a_cancelled_request_is_told_so_when_the_process_leaves(hull, ask):
    """Cancelled by the drain before it answered: 503, but nobody says that it was not begun."""
    entered = asyncio.Event()

    async def wait(request):
        entered.set()
        await asyncio.Event().wait()

    app = hull(starlette(wait))
    task = asyncio.create_task(ask(app, "/items/7"))
    told = {}

    async def keep(scope, receive, send):
        async def sent(message):
            told.setdefault("sent", []).append(message)

        await app(scope, receive, sent)

    task.cancel()
    task = asyncio.create_task(ask(keep, "/items/7"))
    await entered.wait()
    app.lifecycle.begin_drain()
    assert len(app.in_flight.cancel()) == 1
    with pytest.raises(asyncio.CancelledError):
        await task

    assert told["sent"][0]["status"] == 503
    assert (b"retry-after", b"1") in told["sent"][0]["headers"]
    document = json.loads(told["sent"][1]["body"])
    assert document["type"] == "urn:shipworthy:problem:interrupted"
    assert document["detail"] == (
        "the instance is shutting down and broke off this request; "
        "whether it took effect is not known"
    )
    assert (b"connection", b"close") in told["sent"][0]["headers"]
    assert len(app.in_flight) == 0


async def test_a_handshake_that_is_cancelled_when_the_process_leaves_is_refused(hull, ask):
    """No connection was made, so it may be tried again elsewhere."""
    entered = asyncio.Event()
    sent = []

    async def wait(scope, receive, send):
        entered.set()
        await asyncio.Event().wait()

    app = hull(wait)

    async def keep(scope, receive, send):
        async def seen(message):
            sent.append(message)

        await app(scope, receive, seen)

    extension = {"websocket.http.response": {}}
    task = asyncio.create_task(ask(keep, "/ws", type="websocket", extensions=extension))
    await entered.wait()
    app.lifecycle.begin_drain()
    app.in_flight.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["type"] == "urn:shipworthy:problem:draining"


async def test_a_request_that_somebody_cancels_is_left_to_them_and_logged(hull, ask, heard):
    """A middleware with a time limit has an answer of its own; the log says where it stood."""
    entered = asyncio.Event()

    async def wait(request):
        entered.set()
        await asyncio.Event().wait()

    app = hull(starlette(wait))
    sent = []

    async def keep(scope, receive, send):
        async def seen(message):
            sent.append(message)

        await app(scope, receive, seen)

    task = asyncio.create_task(ask(keep, "/items/7"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sent == []
    (fact,) = unhandled(heard)
    assert (fact.error_type, fact.answered) == ("CancelledError", "not at all")
    assert "in wait" in fact.stack


async def test_a_handler_that_swallows_its_cancellation_answers_and_is_seen_meanwhile(hull, ask):
    """It stays in the list of calls in flight, with the line it stands in, until it ends."""
    entered, swallowed, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn(request):
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await go.wait()
        return PlainTextResponse("late")

    app = hull(starlette(stubborn))
    task = asyncio.create_task(ask(app, "/items/7"))
    await entered.wait()
    app.in_flight.cancel()
    await swallowed.wait()
    await asyncio.sleep(0)

    (call,) = app.in_flight.describe()
    assert call["route"] == "/items/{id}"
    assert "in stubborn" in call["task"]
    go.set()
    assert (await task).body == b"late"
    assert len(app.in_flight) == 0


def test_test_clients_see_the_exception_as_without_us(hull):
    """Starlette's client raises what the application raised, or shows the answer, as asked."""
    app = hull(starlette(boom))

    with pytest.raises(Boom):
        TestClient(app).get("/items/7")
    answer = TestClient(app, raise_server_exceptions=False).get("/items/7")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_exception_in_a_websocket_s_handshake_is_a_problem_where_that_can_be_said(
    hull, ask, heard
):
    """Servers that let us write the answer get a 500 with its id, others write their own."""

    async def fail(websocket):
        raise Boom

    app = hull(Starlette(routes=[WebSocketRoute("/ws", fail)]))
    extension = {"websocket.http.response": {}}

    told = await ask(app, "/ws", type="websocket", extensions=extension)
    plain = await ask(app, "/ws", type="websocket")

    assert told.status == 500
    assert told.one(b"x-request-id")
    assert told.sent[-1]["type"] == "websocket.http.response.body"
    assert plain.sent == []
    assert [fact.answered for fact in unhandled(heard)] == ["with a problem"] * 2


def test_a_problem_keeps_whatever_a_client_sends_inside_a_string():
    """Quotes, line ends and lone surrogates of a path cannot leave the JSON."""
    record = RequestRecord("id", "id", "t", "s", path='/"\r\n\ud800<x>')

    document = orjson.loads(problem(418, "short and stout", record=record))

    assert document["instance"].startswith('/"\r\n')
    assert document["title"] == "I'm a Teapot"
    assert document["request_id"] == "id"


async def test_a_server_that_raises_while_it_is_answered_does_not_hide_the_error(hull):
    """A broken connection during the problem is not what went wrong."""

    async def app(scope, receive, send):
        raise Boom

    async def broken(message):
        raise ConnectionResetError

    with pytest.raises(Boom):
        await hull(app)({**_scope(), "type": "http"}, io.BytesIO, broken)


def _scope():
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "http_version": "1.1",
        "query_string": b"",
        "scheme": "http",
        "root_path": "",
    }


async def test_what_a_pipeline_refuses_or_gives_up_is_told_with_its_status(hull, ask):
    """An open breaker is a 503 that says when to come back, a passed deadline a 504."""
    inner = fastapi.FastAPI()

    @inner.get("/open")
    async def is_open():
        raise BreakerOpen(
            "ledger-db", because="4 of the last 4 calls failed", retry_after_seconds=3.2
        )

    @inner.get("/late")
    async def is_late():
        raise DeadlinePassed("ledger-db", seconds=0.5, begun=True)

    app = hull(inner)
    refused, late = await ask(app, "/open"), await ask(app, "/late")

    assert is_problem(refused)["status"] == 503
    assert refused.one(b"retry-after") == b"4"
    assert is_problem(late)["status"] == 504
    assert b"ledger" not in refused.body + late.body
