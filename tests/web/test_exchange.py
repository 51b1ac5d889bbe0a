import asyncio

import pytest

from shipworthy.db import Attempt
from shipworthy.web.exchange import (
    HELD_BYTES,
    KEPT_BYTES,
    CopiedAnswer,
    HeldAnswer,
    KeptRequest,
    fresh_scope,
)

pytestmark = pytest.mark.anyio


def part(body=b"", more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def start(status, headers=()):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(text=b"", more=False):
    return {"type": "http.response.body", "body": text, "more_body": more}


class Wire:
    """A server's side: gives the messages of a request, then waits; takes those of an answer."""

    def __init__(self, *messages, then=None):
        self.left = list(messages)
        self.then = then
        self.sent = []
        self.waiting = 0

    async def receive(self):
        if self.left:
            return self.left.pop(0)
        if self.then is not None:
            return self.then
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    async def send(self, message):
        self.sent.append(message)

    def kinds(self):
        return [message.get("status", message.get("body")) for message in self.sent]


GONE = {"type": "http.disconnect"}


def test_a_fresh_scope_does_not_see_what_an_application_changes():
    """Headers, state and extensions are copied; what the server gave otherwise is the same."""
    tls = object()
    scope = {
        "type": "http", "headers": [(b"a", b"b")], "state": {"pool": 1}, "extensions": {"tls": tls}
    }  # fmt: skip

    fresh = fresh_scope(scope)
    scope["headers"].append((b"c", b"d"))
    scope["state"]["user"] = "eve"
    scope["extensions"].clear()
    scope["path_params"] = {}

    assert fresh == {
        "type": "http", "headers": [(b"a", b"b")], "state": {"pool": 1}, "extensions": {"tls": tls}
    }  # fmt: skip


async def test_a_kept_request_is_given_again_as_it_came():
    """What the application did to a message is not in the second; the rest comes from the wire."""
    request = KeptRequest(Wire(part(b"a", True), part(b"b")).receive)
    first = await request.receive()
    first["body"] = b"changed"

    request.rewind()

    assert [await request.receive(), await request.receive()] == [part(b"a", True), part(b"b")]
    assert request.whole
    request.rewind()
    again = await request.receive()
    assert again == part(b"ab"), "small parts are kept as one"
    again["body"] = b"changed"
    request.rewind()
    assert await request.receive() == part(b"ab")


async def test_a_body_is_read_once_and_then_given_to_the_application():
    """Who must know the whole body before the application runs takes nothing from it."""
    request = KeptRequest(Wire(part(b"a", True), part(b"b")).receive)

    assert await request.read() == b"ab"
    assert await request.read() == b"ab"
    assert await request.receive() == part(b"ab")


async def test_a_long_body_is_torn_and_passes():
    """What is beyond the bound is not kept, and reaches the application all the same."""
    request = KeptRequest(Wire(part(b"x" * KEPT_BYTES, True), part(b"y", True), part(b"z")).receive)

    kept = await request.read()

    assert request.torn
    assert not request.whole
    assert len(kept) == KEPT_BYTES
    assert [(await request.receive())["body"][:1] for _ in range(3)] == [b"x", b"y", b"z"]


@pytest.mark.parametrize("length", [KEPT_BYTES, KEPT_BYTES + 5000])
async def test_how_the_network_cut_a_body_makes_no_difference(length):
    """Who sends it again sends the same bytes, in other parts."""
    whole = (bytes(range(256)) * (length // 256 + 1))[:length]
    seen = set()
    for size in (100, 1000, 65536, length):
        parts = [whole[at : at + size] for at in range(0, length, size)]
        messages = [part(one, more=True) for one in parts[:-1]] + [part(parts[-1])]
        request = KeptRequest(Wire(*messages, then=GONE).receive)
        seen.add((await request.read(), request.torn, request.whole))
        given = b""
        while not given.endswith(whole[-1:]) or len(given) < length:
            given += (await request.receive())["body"]
        assert given == whole

    assert seen == {(whole[:KEPT_BYTES], length > KEPT_BYTES, length <= KEPT_BYTES)}


async def test_a_body_byte_by_byte_costs_little_more_than_its_length():
    """A message is a dict, and a client may send a million of them."""
    request = KeptRequest(Wire(*[part(b"x", True)] * 10_000, then=part(b"x")).receive)
    await request.read()
    request.rewind()
    messages = 1
    while (await request.receive())["more_body"]:
        messages += 1

    assert messages <= 10


async def test_a_client_that_leaves_before_its_body_is_whole_ends_the_reading():
    """And the application hears it too."""
    request = KeptRequest(Wire(part(b"a", True), then=GONE).receive)

    assert await request.read() == b"a"
    assert request.gone
    assert [await request.receive(), await request.receive()] == [part(b"a", True), GONE]


async def test_a_client_that_waits_stays():
    """Nobody is left in the server's receive() when the wait is over."""
    wire = Wire(part())
    request = KeptRequest(wire.receive)

    assert await request.stays(0.0)
    assert wire.waiting == 0
    assert await request.receive() == part()


@pytest.mark.parametrize("wire", [Wire(part(), then=GONE), Wire(then=part(b"x" * 999, True))])
async def test_a_client_that_left_or_sends_too_much_does_not_stay(wire):
    """It is seen without a wait."""
    assert not await KeptRequest(wire.receive).stays(0.0)


async def test_a_server_that_raises_has_no_client():
    """Its error is nobody's: the application was to be asked again, and is not."""

    async def receive():
        raise ConnectionResetError

    assert not await KeptRequest(receive).stays(0.0)


def failed():
    attempt = Attempt()
    attempt.failed(ConnectionResetError())
    return attempt


async def test_a_good_answer_passes_at_once():
    """Even where a database has failed: the application got over it."""
    wire = Wire()
    answer = HeldAnswer(wire.send, failed())

    await answer.send(start(200))
    assert wire.kinds() == [200]
    await answer.send(body(b"x"))

    assert wire.kinds() == [200, b"x"]
    assert answer.passes
    assert not answer.holds


async def test_an_answer_of_a_failed_run_is_held_until_it_is_released():
    """The client has not seen a byte of it."""
    wire = Wire()
    answer = HeldAnswer(wire.send, failed())

    await answer.send(start(503))
    await answer.send(body(b"x"))
    assert (wire.sent, answer.holds, answer.passes) == ([], True, False)

    await answer.release()
    await answer.send(body(b"y"))
    assert wire.kinds() == [503, b"x", b"y"]
    assert not answer.holds


async def test_only_what_a_database_failed_and_nothing_committed_is_held():
    """Any other error answer is the application's business."""
    committed = failed()
    committed.committed()
    for attempt in (Attempt(), committed):
        wire = Wire()
        await HeldAnswer(wire.send, attempt).send(start(503))
        assert wire.kinds() == [503]


async def test_a_long_error_answer_is_released_by_itself():
    """So that no answer is held in memory without a bound."""
    wire = Wire()
    answer = HeldAnswer(wire.send, failed())
    await answer.send(start(500))

    await answer.send(body(b"x" * HELD_BYTES, True))

    assert wire.kinds() == [500, b"x" * HELD_BYTES]
    assert answer.passes


async def test_an_answer_is_copied_as_it_passes():
    """With its head, and whole when its last part has come."""
    wire = Wire()
    answer = CopiedAnswer(wire.send)

    await answer.send(start(201, [(b"a", b"b")]))
    await answer.send(body(b"x", True))
    assert not answer.whole
    await answer.send(body(b"y"))

    assert wire.kinds() == [201, b"x", b"y"]
    assert (answer.status, answer.headers, answer.body) == (201, [(b"a", b"b")], b"xy")
    assert answer.whole


async def test_an_answer_too_long_to_copy_passes_and_is_never_whole():
    """The bound is on what is kept, not on what is answered."""
    wire = Wire()
    answer = CopiedAnswer(wire.send)
    await answer.send(start(200))
    await answer.send(body(b"x" * KEPT_BYTES, True))
    await answer.send(body(b"y"))

    assert len(wire.sent) == 3
    assert (answer.whole, answer.body) == (False, b"")


async def test_a_file_that_the_server_sends_is_not_whole():
    """Nothing of it comes by here."""
    wire = Wire()
    answer = CopiedAnswer(wire.send)
    await answer.send(start(200))
    await answer.send({"type": "http.response.pathsend", "path": "/file"})

    assert len(wire.sent) == 2
    assert not answer.whole
