import asyncio

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDisconnect

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import Rejected, RequestInvalid
from shipworthy.web import Line, Problems

pytestmark = pytest.mark.anyio

EXTENSION = {"websocket.http.response": {}}


class Refused(Rejected):
    """What the refusing guard of these tests raises."""


def line(app, *guards):
    return Line(
        app,
        guards,
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: "",
        now=SYSTEM_CLOCK.now,
    )


class Diary:
    """A guard with every hook, which writes down what it sees."""

    def __init__(self, name, page, refuses=False):
        self.name = name
        self.page = page
        self.refuses = refuses

    def enter(self, call):
        self.page.append(f"{self.name} enter")
        if self.refuses:
            raise Refused("no", retry_after_seconds=1)

    def received(self, call, message):
        self.page.append(f"{self.name} {message['type']}")

    def starting(self, call, message):
        self.page.append(f"{self.name} starting {call.status}")
        message["headers"] = [*message["headers"], (b"x-by", self.name.encode())]

    def ended(self, call):
        self.page.append(f"{self.name} ended {call.sent_bytes}")

    def leave(self, call):
        self.page.append(f"{self.name} leave")


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"!"})


async def test_guards_are_entered_in_order_and_left_in_reverse(ask):
    """Each hook is called once for each thing that happens, around the application."""
    page = []

    told = await ask(line(echo, Diary("a", page), Diary("b", page)), body=[b"hi"])

    assert (told.status, told.body, told.all(b"x-by")) == (200, b"hi!", [b"a", b"b"])
    assert page == [
        "a enter", "b enter", "a http.request", "b http.request",
        "a starting 200", "b starting 200", "b ended 3", "a ended 3", "b leave", "a leave",
    ]  # fmt: skip


async def test_a_guard_that_refuses_is_answered_and_the_application_not_asked(ask):
    """The refusal passes the guards on its way out like any answer."""
    page = []

    told = await ask(line(echo, Diary("a", page), Diary("b", page, refuses=True), Diary("c", page)))

    assert (told.status, told.error) == (503, None)
    assert told.all(b"x-by") == [b"a", b"b", b"c"]
    assert page[:2] == ["a enter", "b enter"]
    assert page[-3:] == ["c leave", "b leave", "a leave"]


async def test_what_a_guard_returns_is_awaited(ask):
    """A guard may have to wait before the application is asked."""
    order = []

    class Waits:
        def enter(self, call):
            return self._wait()

        async def _wait(self):
            order.append("guard")

    async def app(scope, receive, send):
        order.append("application")
        await echo(scope, receive, send)

    await ask(line(app, Waits()))

    assert order == ["guard", "application"]


async def test_a_guard_may_put_another_application_in_its_place(ask):
    """`call.app` is who is asked."""

    async def other(scope, receive, send):
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"other"})

    class Turns:
        def enter(self, call):
            call.app = other

    assert (await ask(line(echo, Turns()))).status == 418


async def test_guards_around_the_application_stand_in_their_order(ask):
    """The first is the outermost; each may call what is within once, more than once or not at all.

    They are asked when every guard has been entered, so each knows what the others found out.
    """
    page = []

    class Around(Diary):
        def around(self, call, app):
            self.page.append(f"{self.name} around")

            async def twice(scope, receive, send):
                for _ in range(2):
                    self.page.append(self.name)
                    await app(scope, receive, send)

            return twice

    async def app(scope, receive, send):
        page.append("application")

    await ask(line(app, Around("a", page), Around("b", page)))

    assert page[:4] == ["a enter", "b enter", "b around", "a around"]
    assert page[4:10] == ["a", "b", "application", "b", "application", "a"]
    assert page.count("application") == 4


async def test_what_is_wrong_with_a_request_is_a_refusal_too(ask):
    """The server sees no error where the client made it."""

    async def app(scope, receive, send):
        raise RequestInvalid("no such page")

    told = await ask(line(app))

    assert (told.status, told.error) == (400, None)
    assert b"no such page" in told.body


async def test_a_client_that_leaves_is_noted_unless_the_answer_was_whole(ask):
    """`gone` tells a vanished client from one that just hangs up after its answer."""
    gone = []

    class Notes:
        def leave(self, call):
            gone.append(call.gone)

    async def reads_on(scope, receive, send):
        await receive()
        if scope["path"] == "/early":
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        await receive()

    app = line(reads_on, Notes())
    await ask(app, "/early", leaves=True)
    await ask(app, "/late")

    assert gone == [True, False]


async def test_a_client_that_left_unheard_is_noted_where_the_server_knows():
    """uvicorn drops in silence what is sent to it; the object whose `send` it is says so."""
    gone = []

    class Cycle:
        disconnected = False

        async def send(self, message):
            self.disconnected = True

    class Notes:
        def leave(self, call):
            gone.append(call.gone)

    async def answers(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/parts":
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/parts", "headers": []}
    await line(answers, Notes())(scope, receive, Cycle().send)

    assert gone == [True]


async def test_messages_of_extensions_pass_and_a_sent_file_ends_the_answer(ask):
    """Trailers, early hints and pathsend are the server's business."""
    page = []

    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": []})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/file"})

    told = await ask(line(app, Diary("a", page)))

    assert [m["type"].rpartition(".")[2] for m in told.sent] == ["early_hint", "start", "pathsend"]
    assert page[-2:] == ["a ended 0", "a leave"]


async def test_the_server_s_own_coroutines_are_handed_through():
    """Applications may make a task of receive() and of send()."""
    sent = []

    async def app(scope, receive, send):
        await asyncio.create_task(receive())
        await asyncio.create_task(
            send({"type": "http.response.start", "status": 500, "headers": []})
        )
        await asyncio.create_task(send({"type": "http.response.body", "body": b"mine"}))

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await line(app)(scope, receive, send)

    assert sent == ["http.response.start", "http.response.body"]


async def accepts(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000})


async def closes(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "not you"})


async def denies(scope, receive, send):
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
    await send({"type": "websocket.http.response.body", "body": b"who are you"})


@pytest.mark.parametrize(
    ("app", "sent", "headers"),
    [
        (accepts, ["websocket.accept", "websocket.close"], 1),
        (closes, ["websocket.http.response.start", "websocket.http.response.body"], 1),
        (denies, ["websocket.http.response.start", "websocket.http.response.body"], 1),
    ],
)
async def test_every_answer_to_a_websocket_s_handshake_has_its_id(hull, ask, app, sent, headers):
    """Also a refusal, where the server lets us write it."""
    told = await ask(hull(app), type="websocket", extensions=EXTENSION)

    assert [message["type"] for message in told.sent] == sent
    assert len(told.all(b"x-request-id")) == headers


async def test_a_refused_handshake_is_the_403_that_servers_make_of_it(hull, ask):
    """Written by us or, where that is not possible, by the server as before."""
    ours = await ask(hull(closes), type="websocket", extensions=EXTENSION)
    theirs = await ask(hull(closes), type="websocket", extensions=None)

    assert (ours.status, ours.body) == (403, b"")
    assert theirs.sent == [{"type": "websocket.close", "code": 1008, "reason": "not you"}]


def test_tests_of_an_application_see_its_close_code_and_its_websocket(hull):
    """Starlette's client shows the code of a close before the handshake, which no wire can."""

    async def talk(websocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text() + "!")
        await websocket.close()

    with pytest.raises(WebSocketDisconnect) as refused:
        TestClient(hull(closes)).websocket_connect("/").__enter__()
    client = TestClient(hull(Starlette(routes=[WebSocketRoute("/", talk)])))
    with client.websocket_connect("/") as socket:
        socket.send_text("hi")
        heard = socket.receive_text()

    assert (refused.value.code, refused.value.reason) == (1008, "not you")
    assert heard == "hi!"


async def test_a_refusal_of_a_websocket_is_a_close_where_it_cannot_be_written(ask):
    """1013 asks to try again later; the server makes a 403 of it."""
    told = await ask(line(accepts, Diary("a", [], refuses=True)), type="websocket")

    assert told.sent == [{"type": "websocket.close", "code": 1013, "reason": "try again later"}]


async def test_a_refusal_in_the_middle_of_an_answer_adds_nothing(ask):
    """What has begun is ended by the server; the application is not said to have failed."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Refused("too late", retry_after_seconds=1)

    told = await ask(line(app))

    assert [m["type"] for m in told.sent] == ["http.response.start"]
    assert isinstance(told.error, Refused)
