"""An event stream ends between two events, with a proper end, and none with all the others."""

import asyncio

import pytest
from hypothesis import given, strategies as st
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from shipworthy.lifecycle import Phase, begin_commit, commits_under_way, end_commit
from shipworthy.web import spread_seconds, streams
from shipworthy.web.streams import EventStream, is_event_stream

pytestmark = pytest.mark.anyio

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class Stream:
    """An application that sends what it is told to, and notes how it ends."""

    def __init__(self, headers=EVENTS):
        self.headers = headers
        self.parts = asyncio.Queue()
        self.ended = None
        self.sent = 0

    async def __call__(self, scope, receive, send):
        try:
            head = {"type": "http.response.start", "status": 200, "headers": self.headers}
            await send(head)
            while True:
                part = await self.parts.get()
                await send({"type": "http.response.body", "body": part, "more_body": part != b""})
                self.sent += 1
                if not part:
                    return
        except BaseException as error:
            self.ended = error
            raise

    async def says(self, part):
        before = self.sent
        self.parts.put_nowait(part)
        await until(lambda: self.sent > before)


class Asked:
    """A stream that is being answered, and what has arrived of it."""

    def __init__(self, app, ask, path="/"):
        self.sent = []
        self.task = asyncio.create_task(self._ask(app, ask, path))

    async def _ask(self, app, ask, path):
        async def kept(scope, receive, send):
            async def sent(message):
                self.sent.append(message)
                await send(message)

            await app(scope, receive, sent)

        return await ask(kept, path)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self):
        return self.sent[-1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


def draining(app, seconds=0.0):
    """Do what a look at a drain of `seconds` does."""
    app.lifecycle.begin_drain()
    app._hull._streams.end_all(drain_seconds=seconds)


async def test_an_idle_stream_is_ended_and_its_application_hears_of_it(hull, ask):
    """L03: the end is sent in its place; what it sends later raises, as for a client that left."""
    stream = Stream()
    app = hull(stream)
    asked = Asked(app, ask)
    await stream.says(b"data: 1\n\n")
    draining(app)
    await until(lambda: asked.complete)

    stream.parts.put_nowait(b"data: 2\n\n")
    await asyncio.wait({asked.task})

    assert asked.body == b"data: 1\n\n"
    assert isinstance(stream.ended, OSError)
    assert len(app.in_flight) == 0


async def test_a_starlette_stream_that_only_sleeps_is_told_at_once(hull, ask):
    """L03: its disconnect is what frameworks already listen for; the generator is closed."""
    closed = asyncio.Event()

    async def events():
        try:
            yield "data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def endpoint(request):
        return StreamingResponse(events(), media_type="text/event-stream")

    app = hull(Starlette(routes=[Route("/", endpoint)]))
    asked = Asked(app, ask)
    await until(lambda: asked.body)
    draining(app)
    await asyncio.wait({asked.task}, timeout=5)

    assert asked.complete
    assert closed.is_set()
    assert (await asked.task).error is None


async def test_in_the_middle_of_an_event_the_stream_goes_on_to_its_end(hull, ask):
    """L03: half an event would be lost: its client asks for what comes after the last whole one."""
    stream = Stream()
    app = hull(stream)
    asked = Asked(app, ask)
    await stream.says(b"data: half\n")
    draining(app)
    await asyncio.sleep(0.01)
    half = asked.complete
    await stream.says(b"data: whole\r\n\r\n")
    await until(lambda: asked.complete)

    assert not half
    assert asked.body == b"data: half\ndata: whole\r\n\r\n"
    asked.task.cancel()


async def test_between_the_moment_it_is_due_and_its_end_no_event_begins(hull, ask):
    """Found under load: the application was a step ahead, and its event was cut in half."""
    stream = Stream()
    app = hull(stream)
    asked = Asked(app, ask)
    await stream.says(b"data: 1\n\n")
    (call,) = app.in_flight.calls
    call.stream.due = True
    stream.parts.put_nowait(b"data: half\n")
    streams._due(call, call.stream)
    await until(lambda: asked.complete)

    assert asked.body == b"data: 1\n\n"
    await asyncio.wait({asked.task})


async def test_what_is_not_an_event_stream_or_ends_by_itself_is_left_alone(hull, ask):
    """A download runs to its end within the drain (L02)."""
    stream = Stream([(b"content-type", b"text/plain")])
    app = hull(stream)
    asked = Asked(app, ask)
    await stream.says(b"row\n\n")
    draining(app)
    await stream.says(b"row\n\n")
    await stream.says(b"")
    await asked.task

    assert asked.body == b"row\n\nrow\n\n"
    assert stream.ended is None


async def test_a_stream_that_begins_while_the_process_drains_is_ended_too(hull, ask):
    """A client whose connection was accepted is answered, and sent on (L16)."""
    stream = Stream()
    app = hull(stream)
    draining(app)
    asked = Asked(app, ask)
    await until(lambda: asked.sent)
    draining(app)
    await until(lambda: asked.complete)

    assert asked.body == b""
    asked.task.cancel()


async def test_an_application_that_does_not_notice_is_cancelled(hull, ask, monkeypatch):
    """L03: one that neither listens nor sends would hold the drain to its end."""
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 0.01)
    stream = Stream()
    app = hull(stream)
    asked = Asked(app, ask)
    await stream.says(b"data: 1\n\n")
    draining(app)
    await asyncio.wait({asked.task}, timeout=5)

    assert isinstance(stream.ended, asyncio.CancelledError)
    assert asked.complete


async def test_an_application_that_noticed_may_finish_what_it_has_to_do(hull, ask, monkeypatch):
    """Its background tasks have the rest of the drain (L06)."""
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 0.02)
    done = asyncio.Event()

    async def listens(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        while (await receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(0.1)
        done.set()

    app = hull(listens)
    asked = Asked(app, ask)
    await until(lambda: asked.sent)
    draining(app)
    await asyncio.wait({asked.task}, timeout=5)

    assert done.is_set()


async def test_an_application_inside_a_commit_is_not_cancelled(hull, ask, monkeypatch):
    """L07: the fence holds for streams as well."""
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 0.0)
    inside, answered = asyncio.Event(), asyncio.Event()
    ends = []

    async def commits(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        number = begin_commit()
        inside.set()
        try:
            await answered.wait()
            ends.append("answered")
        finally:
            end_commit(number)
        await asyncio.Event().wait()

    app = hull(commits)
    asked = Asked(app, ask)
    await inside.wait()
    draining(app)
    await until(lambda: asked.complete)
    await asyncio.sleep(3 * streams.LOOK_SECONDS)
    answered.set()
    await asyncio.wait({asked.task}, timeout=5)

    assert ends == ["answered"]
    assert asked.task.cancelled()
    assert commits_under_way() == []


async def test_streams_are_ended_one_after_the_other(hull, ask):
    """L03: their clients come back somewhere else, and must not come as one wave."""
    stream = Stream()
    app = hull(stream)
    asked = [Asked(app, ask, f"/{number}") for number in range(3)]
    await until(lambda: all(one.sent for one in asked))
    draining(app, 10.0)
    await until(lambda: asked[0].complete)
    first = [one.complete for one in asked]
    await until(lambda: all(one.complete for one in asked))

    assert first != [True, True, True]
    for one in asked:
        one.task.cancel()


async def test_with_no_time_left_all_are_ended_before_they_are_cancelled(hull, ask):
    """L08: a second SIGTERM may come before their turn, or before the draining began at all."""
    stream = Stream()
    app = hull(stream)
    asked = [Asked(app, ask, f"/{number}") for number in range(3)]
    await until(lambda: all(one.sent for one in asked))
    draining(app, 1000.0)
    app.lifecycle.drain._enter(Phase.CANCELLING, 0.0)
    broken_off = app.follow(Phase.CANCELLING)
    await asyncio.wait([one.task for one in asked], timeout=5)

    assert broken_off == []  # their clients have all of it
    assert all(one.complete for one in asked)
    assert all(one.task.cancelled() for one in asked)


async def test_a_part_that_a_slow_client_has_not_taken_yet_is_not_overtaken(hull):
    """The end comes after it, or the stream would end inside an event."""
    taken, sent = asyncio.Event(), []
    stream = Stream()
    app = hull(stream)

    async def send(message):
        if message.get("more_body"):
            await taken.wait()
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}
    task = asyncio.create_task(app(scope, receive, send))
    stream.parts.put_nowait(b"data: 1\n\n")
    await asyncio.sleep(0.01)
    draining(app)
    await asyncio.sleep(0.01)
    before = len(sent)
    taken.set()
    await until(lambda: len(sent) == 3)

    assert before == 1
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n", b""]
    task.cancel()


async def test_the_drain_of_an_application_under_another_server_ends_its_streams(hull, ask):
    """L03: a server that waits for its connections would wait for ever."""
    stream = Stream()
    app = hull(stream, SHIPWORTHY_LIFECYCLE__DRAIN="2s")
    app.lifecycle.started()
    asked = Asked(app, ask)
    await stream.says(b"data: 1\n\n")
    app._hull._begin_to_leave()
    await until(lambda: asked.complete)

    assert app.lifecycle.phase is Phase.DRAINING
    asked.task.cancel()
    await asyncio.wait({asked.task})
    app._hull._leaving.cancel()


async def test_in_the_next_life_the_ends_of_streams_are_spread_again(hull, ask, monkeypatch):
    """In a suite of many lives: the drain of the last one is over, and its haste with it."""
    monkeypatch.setattr(streams, "SPREAD_SECONDS", 10.0)
    app = hull(Stream())

    async def lifespan(inbox):
        async def told(_):
            pass

        await app({"type": "lifespan", "asgi": {}}, inbox.get, told)

    ended = []
    for _ in range(2):
        inbox = asyncio.Queue()
        living = asyncio.create_task(lifespan(inbox))
        inbox.put_nowait({"type": "lifespan.startup"})
        await until(lambda: app.lifecycle.phase is Phase.READY)
        asked = [Asked(app, ask) for _ in range(3)]
        await until(lambda asked=asked: all(one.sent for one in asked))
        app._hull._streams.end_all(drain_seconds=60.0)
        for _ in range(3):
            await asyncio.sleep(0)
        ended.append(sum(call.stream.due for call in app.in_flight.calls))
        for one in asked:
            one.task.cancel()
        await asyncio.wait({one.task for one in asked})
        inbox.put_nowait({"type": "lifespan.shutdown"})
        await living

    assert ended[1] == ended[0] < 3


@pytest.mark.parametrize(
    ("headers", "stream"),
    [
        (EVENTS, True),
        ([(b"Content-Type", b"Text/Event-Stream")], True),
        ([(b"content-type", b"text/html")], False),
        ([], False),
        ([*EVENTS, (b"content-encoding", b"gzip")], False),
        ([(b"content-length", b"9"), *EVENTS], False),
    ],
)
def test_what_an_event_stream_is(headers, stream):
    """One whose events cannot be seen is like any other stream: it ends by itself."""
    assert is_event_stream({"headers": headers}) is stream


@given(st.lists(st.text("ab\n\r", min_size=1).map(str.encode)))
def test_a_stream_may_end_only_after_a_blank_line(parts):
    """However the bytes are cut into parts; and every usual blank line is one."""
    stream = EventStream()
    stream.due = True
    for part in parts:
        stream.begin()
        assert not stream.may_end
        stream.sent(part)
    whole = b"".join(parts)

    if stream.may_end and whole:
        assert whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").endswith(b"\n\n")
    if whole.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
        assert stream.may_end


@given(st.integers(0, 2000), st.floats(0, 60))
def test_ends_are_spread_evenly_over_a_part_of_the_drain(count, drain_seconds):
    """Not beyond 80 % of it, and not slower than 10 ms each."""
    after = list(spread_seconds(count, drain_seconds=drain_seconds))

    assert after == sorted(after)
    assert len(after) == count
    if after:
        assert after[0] == 0.0
        assert after[-1] <= min(0.8 * drain_seconds, count * 0.01)
