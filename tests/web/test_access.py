import asyncio
import base64
import json

import pytest
from hypothesis import given, strategies as st
from starlette.authentication import SimpleUser

from shipworthy.clock import ManualClock
from shipworthy.telemetry import Cell, Registry, Sampler
from shipworthy.web import (
    Access,
    ActorFinder,
    ActorSettings,
    Correlation,
    Line,
    Problems,
    RequestMetrics,
)

pytestmark = pytest.mark.anyio


class Lines:
    """Takes what `AccessLog` takes, and keeps it."""

    def __init__(self, *, human=False):
        self.human = human
        self.kept: list[bytes] = []

    def write_later(self, make, facts, size_bytes):
        line = make(facts)
        if line:
            self.kept.append(line)

    def __iter__(self):
        return (json.loads(line) for line in self.kept)


class Working:
    """Does for each call what a database, or a repeated call, would note."""

    def __init__(self, *, calls=0, retries=0):
        self.calls, self.retries = calls, retries

    def enter(self, call):
        if self.calls:
            work = call.record.working()
            work.db_calls += self.calls
            work.db_seconds += 0.0125
            work.db_wait_seconds += 0.25
        for _ in range(self.retries):
            call.record.working().retries += 1


class Probing:
    """Marks each call as that of a probe."""

    def enter(self, call):
        call.probe = True


class Setup:
    def __init__(
        self,
        app,
        *more,
        human=False,
        log=True,
        route="/items/{id}",
        sources=("scope.user",),
        sampler=None,
    ):
        self.clock = ManualClock(wall=1_700_000_000.25)
        self.lines = Lines(human=human)
        self.registry = Registry()
        actors = ActorSettings(from_=sources)
        facts = ActorFinder(actors, lambda scope: route)
        self.access = Access(
            RequestMetrics(self.registry, set()),
            self.lines if log else None,
            meant=lambda scope: "/meant/{id}",
            now=self.clock.now,
            wall=self.clock.wall,
            asks_always=facts.asks_always,
            sampler=sampler,
            slow_seconds=1.0,
        )
        self.line = Line(
            app,
            (Correlation(facts), self.access, *more),
            answers=Problems(mode="enforce", development=True, leaving=lambda: False),
            route_of=lambda scope: route,
            now=self.clock.now,
        )

    def sets(self, name):
        return {tuple(k): v for k, v in self.registry.snapshot()[name]["sets"]}

    @property
    def counted(self):
        """How many requests there were of each method, route and status."""
        sets = self.sets("http_server_request_duration_seconds")
        return {labels: sum(numbers[:-1]) for labels, numbers in sets.items()}


async def fine(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def test_a_request_writes_one_line_with_all_there_is_to_know(ask):
    """The line is JSON with the fields of every log line and those of a request."""
    setup = Setup(None)

    async def slow(scope, receive, send):
        await send({"type": "http.response.start", "status": 201, "headers": []})
        setup.clock.advance(0.25)
        await send({"type": "http.response.body", "body": b"abc"})

    setup.line.app = slow
    told = await ask(setup.line, "/items/7", method="POST")

    (line,) = setup.lines
    request_id = told.one(b"x-request-id").decode()
    assert line == {
        "ts": "2023-11-14T22:13:20.500000Z",
        "level": "info",
        "logger": "shipworthy.access",
        "message": "POST /items/{id} 201",
        "method": "POST",
        "path": "/items/7",
        "route": "/items/{id}",
        "status": 201,
        "duration_ms": 250.0,
        "sent_bytes": 3,
        "client": "10.0.0.7",
        "request_id": request_id,
        "trace_id": request_id,
    }
    assert setup.lines.kept[0].endswith(b"}\n")


async def test_the_line_is_written_when_the_answer_is_over_and_not_after_its_background(ask):
    """A background task of an hour neither delays the line nor counts as the answer's time."""
    setup = Setup(None)
    seen = []

    async def app(scope, receive, send):
        await fine(scope, receive, send)
        seen.extend(setup.lines)
        setup.clock.advance(3600)

    setup.line.app = app
    await ask(setup.line)

    assert [line["duration_ms"] for line in seen] == [0.0]
    assert len(setup.lines.kept) == 1


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ('/a"b\\c', '/a"b\\c'),
        ("/line\r\nbreak", "/line\r\nbreak"),
        ("/nul\x00", "/nul\x00"),
        ("/\ud800", "/\\ud800"),
        ("/\u20ac", "/\u20ac"),
        ("/x/postgresql://a:hunter2@h/d", None),
        ("/" + "x" * 5000, "/" + "x" * 1023),
    ],
)
async def test_no_path_can_leave_its_string(ask, path, shown):
    """Quotes, line ends and lone surrogates are escaped, secrets hidden, long paths cut."""
    setup = Setup(fine)

    await ask(setup.line, path)

    (raw,) = setup.lines.kept
    assert raw.count(b"\n") == 1
    assert b"hunter2" not in raw
    (line,) = setup.lines
    assert shown is None or line["path"] == shown


@given(path=st.text(), client=st.text(max_size=300))
def test_whatever_a_path_or_a_client_is_called_the_line_is_one_json_object(path, client):
    """Proxies may put any text into the client's address."""
    setup = Setup(fine)

    async def once():
        scope = {
            "type": "http", "method": "GET", "path": path, "headers": [], "client": (client, 1),
        }  # fmt: skip

        async def send(message): ...

        await setup.line(scope, None, send)

    asyncio.run(once())

    assert len(list(setup.lines)) == 1


async def test_texts_are_kept_up_to_a_bound(ask):
    """A client that asks for ever new paths cannot fill the memory."""
    setup = Setup(fine)
    access = setup.access

    for number in range(4200):
        access._escape(f"/{number}")
    access._escape("/" + "x" * 300)

    assert len(access._texts) <= 4096
    assert all(len(text) <= 256 for text in access._texts)


async def test_a_client_that_left_before_the_answer_is_499(ask):
    """Neither a success nor a failure of ours."""

    async def app(scope, receive, send):
        await receive()
        await receive()

    setup = Setup(app)

    await ask(setup.line, leaves=True)

    (line,) = setup.lines
    assert (line["status"], line["client_gone"]) == (499, True)
    assert setup.counted == {("GET", "/items/{id}", "499"): 1.0}


async def test_an_exception_is_counted_as_the_500_it_was_answered_with(ask):
    """The line of a failed request is of level error."""

    async def app(scope, receive, send):
        raise KeyError

    setup = Setup(app)

    await ask(setup.line)

    (line,) = setup.lines
    assert (line["status"], line["level"]) == (500, "error")
    assert line["sent_bytes"] > 0


async def test_the_line_of_a_websocket_comes_when_it_is_over(ask):
    """It is written once, with the status of an accepted handshake."""

    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        assert setup.lines.kept == []

    setup = Setup(app)

    await ask(setup.line, type="websocket")

    (line,) = setup.lines
    assert (line["method"], line["status"]) == ("WEBSOCKET", 101)


@pytest.mark.parametrize("status", [307, 405])
async def test_an_answer_of_the_router_itself_has_the_route_it_was_meant_for(ask, status):
    """A redirect to the right slash and a wrong method are of the route that was meant."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    setup = Setup(app, route="_unmatched")

    await ask(setup.line)

    assert [line["route"] for line in setup.lines] == ["/meant/{id}"]
    assert setup.counted == {("GET", "/meant/{id}", str(status)): 1.0}


@pytest.mark.parametrize(("status", "lines"), [(200, 0), (503, 1)])
async def test_a_probe_that_succeeds_writes_no_line(ask, status, lines):
    """Only bad news is written down; neither is a request of anybody, so neither is counted."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    setup = Setup(app, Probing())

    await ask(setup.line)

    assert len(setup.lines.kept) == lines
    assert setup.counted == {}


async def test_without_a_log_requests_are_counted_all_the_same(ask):
    """access_log = false leaves the metrics."""
    setup = Setup(fine, log=False)

    await ask(setup.line)

    assert setup.counted == {("GET", "/items/{id}", "200"): 1.0}


async def test_people_get_a_short_line_that_no_path_can_forge(ask):
    """On a terminal: time, method, path, status, milliseconds, id; control characters escaped."""
    setup = Setup(fine, human=True)

    told = await ask(setup.line, "/a\x1b[2J\nb")

    (line,) = setup.lines.kept
    assert line.decode() == (
        "22:13:20.250 INFO    GET /a\\x1b[2J\\nb 200 ms=0.0 "
        f"request_id={told.one(b'x-request-id').decode()}  (shipworthy.access)\n"
    )


@pytest.mark.parametrize("human", [False, True])
async def test_the_line_names_who_made_the_request(human, ask):
    """As the application left it; escaped like all that a client may have sent, and bounded."""

    async def known(scope, receive, send):
        scope["user"] = SimpleUser('a"n\na' + "x" * 300)
        await fine(scope, receive, send)

    setup = Setup(known, human=human)
    await ask(setup.line)
    nobody = Setup(fine, human=human)
    await ask(nobody.line)

    if human:
        assert b"actor=" in setup.lines.kept[0]
        assert b"actor" not in nobody.lines.kept[0]
    else:
        assert [line["actor"] for line in setup.lines] == ['a"n\na' + "x" * 195]
        assert [line.get("actor") for line in nobody.lines] == [None]


async def test_the_line_does_not_name_whom_nobody_verified(ask):
    """The request may have been refused because of it."""
    setup = Setup(fine, sources=("jwt:sub",))
    claims = base64.urlsafe_b64encode(b'{"sub":"ana"}').rstrip(b"=")

    await ask(setup.line, headers=[(b"authorization", b"Bearer e30." + claims + b".MQ")])

    assert [line.get("actor") for line in setup.lines] == [None]


async def test_the_line_says_what_was_asked_of_databases_and_what_was_done_again(ask):
    """And nothing of it where there was nothing, as with most requests."""
    busy = Setup(fine, Working(calls=3, retries=2))
    again = Setup(fine, Working(retries=1))
    idle = Setup(fine, Working())
    for setup in (busy, again, idle):
        await ask(setup.line)

    names = ("db_calls", "db_ms", "db_wait_ms", "retries")
    ((line,), (other,), (nothing,)) = (busy.lines, again.lines, idle.lines)
    assert [line[name] for name in names] == [3, 12.5, 250.0, 2]
    assert [other.get(name) for name in names] == [None, None, None, 1]
    assert not nothing.keys() & set(names)

    for_people = Setup(fine, Working(calls=3, retries=2), human=True)
    await ask(for_people.line)
    assert b" db_calls=3 db_ms=262.5 retries=2 " in for_people.lines.kept[0]


async def test_a_flood_is_thinned_out_and_says_how_much_each_line_stands_for(ask):
    """What failed and what was slow has its line whatever comes, and every request is counted."""
    answer = {"status": 200, "seconds": 0.0}

    async def app(scope, receive, send):
        setup.clock.advance(answer["seconds"])
        await send({"type": "http.response.start", "status": answer["status"], "headers": []})
        await send({"type": "http.response.body", "body": b""})

    left_out = Cell()
    sampler = Sampler(full_per_second=2, one_in=3, left_out=left_out)
    setup = Setup(app, sampler=sampler)
    for _ in range(6):
        await ask(setup.line)
    assert [line.get("sampled_of") for line in setup.lines] == [None, None, 3]
    assert left_out.numbers() == [3.0]
    setup.lines.kept.clear()
    for kind in ({"status": 500, "seconds": 0.0}, {"status": 200, "seconds": 1.0}):
        answer |= kind
        for _ in range(3):
            await ask(setup.line)
    assert [(line["status"], line.get("sampled_of")) for line in setup.lines] == [
        *[(500, None)] * 3,
        *[(200, None)] * 3,
    ]
    assert sum(setup.counted.values()) == 12.0
