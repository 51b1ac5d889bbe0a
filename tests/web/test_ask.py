import asyncio

import pytest

from shipworthy.context import RequestRecord, current_request, request_scope
from shipworthy.web import Unanswered, ask

pytestmark = pytest.mark.anyio


async def test_the_answer_is_heard(tmp_path):
    """Status, headers and body, for a plain GET with the state of the lifespan."""
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope, message=await receive(), record=current_request())
        await send({"type": "http.response.start", "status": 207, "headers": [[b"a", b"b"]]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        assert (await receive())["type"] == "http.disconnect"

    state = {"pool": 1}
    with request_scope(RequestRecord("id", "id", "t", "s")):
        heard = await ask(app, "/health", state=state)

    assert (heard.status, heard.headers, heard.body) == (207, [(b"a", b"b")], b"onetwo")
    assert (seen["method"], seen["path"], seen["message"]["body"]) == ("GET", "/health", b"")
    assert seen["state"] == state
    assert seen["state"] is not state
    assert seen["record"] is None


async def test_a_head_without_headers_is_heard():
    """The key may be left out of the message (ASGI HTTP, response start)."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    heard = await ask(app, "/")

    assert (heard.status, heard.headers, heard.body) == (204, [], b"")


async def test_it_is_asked_as_over_https_for_the_host_that_is_wanted():
    """Else an application that redirects, or judges hosts, would answer for its routes."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["scheme"], dict(scope["headers"])[b"host"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    await ask(app, "/")
    await ask(app, "/", host="shop.example.org")

    assert seen == [("https", b"localhost"), ("https", b"shop.example.org")]


async def test_of_a_long_body_the_beginning_is_kept():
    """An application cannot fill our memory with an answer nobody reads."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    assert len((await ask(app, "/")).body) == 65_536


async def hangs(scope, receive, send):
    await asyncio.Event().wait()


async def swallows(scope, receive, send):
    while True:
        try:
            await asyncio.sleep(0.3)
            return
        except asyncio.CancelledError:
            continue


async def raises(scope, receive, send):
    raise KeyError("hunter2")


async def says_nothing(scope, receive, send):
    return


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (hangs, "GET /x was not answered within 0.1 s"),
        pytest.param(swallows, "GET /x was not answered within 0.1 s", marks=pytest.mark.slow),
        (raises, "GET /x raised KeyError"),
        (says_nothing, "GET /x ended without an answer"),
    ],
)
async def test_no_answer_is_told_with_its_reason_and_in_time(app, words):
    """Whatever the application does, the question ends."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(Unanswered) as error:
        await ask(app, "/x", seconds=0.1)

    assert str(error.value) == words
    assert loop.time() - began < 5.0
    await asyncio.gather(*(t for t in asyncio.all_tasks() if t.get_name() == "ask /x"))


async def test_an_answer_counts_even_when_the_application_raises_after_it():
    """A failing background task does not undo what was said."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})
        raise KeyError

    assert (await ask(app, "/")).body == b"yes"
