import asyncio
import os
import re
import threading

import orjson
import pytest
from hypothesis import given, strategies as st

from shipworthy.context import current_request
from shipworthy.web import new_ids, parse_traceparent

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


async def show(scope, receive, send):
    """Answer with the ids of the request, as the application sees them."""
    record = current_request()
    body = orjson.dumps(
        {
            "request": record.request_id,
            "correlation": record.correlation_id,
            "trace": record.trace_id,
            "tracestate": record.tracestate,
            "parent": record.parent_span_id,
            "onward": record.traceparent,
        }
    )
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ids(told):
    return orjson.loads(told.body)


async def test_a_request_without_ids_gets_one_that_is_trace_correlation_and_request_id(hull, ask):
    """The id on the answer is the one the application sees, and a valid trace id."""
    told = await ask(hull(show), "/")

    seen = ids(told)
    assert told.one(b"x-request-id").decode() == seen["request"]
    assert seen["request"] == seen["correlation"] == seen["trace"]
    assert re.fullmatch("[0-9a-f]{32}", seen["trace"])
    assert parse_traceparent(seen["onward"].encode()) == (
        seen["trace"],
        seen["onward"][36:52],
        False,
        True,
    )


async def test_two_requests_get_different_ids(hull, ask):
    """No id is given twice."""
    app = hull(show)

    first, second = await ask(app), await ask(app)

    assert first.one(b"x-request-id") != second.one(b"x-request-id")


async def test_a_trace_from_outside_goes_on_with_our_span_as_parent(hull, ask):
    """traceparent is read, its trace kept, its sampled flag handed on under a span of ours."""
    headers = [(b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]

    told = await ask(hull(show), headers=headers)

    seen = ids(told)
    assert seen["trace"] == seen["correlation"] == seen["request"] == TRACE
    assert seen["parent"] == SPAN
    assert seen["tracestate"] == "a=1,b=2"
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", seen["onward"])
    assert SPAN not in seen["onward"]


async def test_a_well_formed_request_id_is_taken_and_sent_back(hull, ask):
    """X-Request-ID of the caller is the request's id, and its correlation id without a trace."""
    told = await ask(hull(show), headers=[(b"x-request-id", b"order-4711.a_B")])

    seen = ids(told)
    assert told.one(b"x-request-id") == b"order-4711.a_B"
    assert seen["request"] == seen["correlation"] == "order-4711.a_B"
    assert re.fullmatch("[0-9a-f]{32}", seen["trace"])


async def test_with_a_trace_the_correlation_id_is_the_trace(hull, ask):
    """A request id from outside does not replace the id that follows the whole operation."""
    headers = [(b"traceparent", PARENT), (b"x-request-id", b"order-4711")]

    seen = ids(await ask(hull(show), headers=headers))

    assert (seen["request"], seen["correlation"]) == ("order-4711", TRACE)


@pytest.mark.parametrize(
    "given_id",
    [
        b"short",
        b"x" * 129,
        b"",
        b"has space1",
        b"evil\r\nset-cookie: a=b",
        b"newline-at-end\n",
        b"quote\"'quote",
        "\u00fcmlaut-id".encode(),
        b"../../etc/passwd",
        b"<script>alert(1)</script>",
    ],
)
async def test_a_malformed_request_id_is_replaced(hull, ask, given_id):
    """Nothing that is not of the plain form comes back or reaches the application."""
    told = await ask(hull(show), headers=[(b"x-request-id", given_id)])

    assert re.fullmatch(rb"[0-9a-f]{32}", told.one(b"x-request-id"))
    assert ids(told)["request"].encode() == told.one(b"x-request-id")


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent"])
async def test_of_two_ids_neither_is_taken(hull, ask, name):
    """A header sent twice says nothing, so it is as if it had not been sent."""
    value = PARENT if name == b"traceparent" else b"order-4711"
    told = await ask(hull(show), headers=[(name, value), (name, value)])

    seen = ids(told)
    assert seen["trace"] != TRACE
    assert seen["request"] == seen["trace"]


async def test_an_unrelated_header_sent_twice_does_not_matter(hull, ask):
    """Only the id itself must be there once."""
    twice = [(b"accept", b"a"), (b"accept", b"b"), (b"x-request-id", b"order-4711")]

    told = await ask(hull(show), headers=twice)

    assert told.one(b"x-request-id") == b"order-4711"


@pytest.mark.parametrize(
    "tracestate", [b"a=\x00", b"a=" + b"x" * 512, "a=\u00e9".encode(), b"a\nb"]
)
async def test_a_tracestate_that_could_do_harm_is_dropped(hull, ask, tracestate):
    """It would be sent on in our name, so only printable ASCII up to 512 bytes is."""
    headers = [(b"traceparent", PARENT), (b"tracestate", tracestate)]

    seen = ids(await ask(hull(show), headers=headers))

    assert (seen["trace"], seen["tracestate"]) == (TRACE, "")


async def test_an_id_the_application_sets_is_replaced(hull, ask):
    """There is exactly one X-Request-ID, however the application spells its own."""

    async def app(scope, receive, send):
        headers = [(b"X-Request-ID", b"mine-12345"), (b"x-request-id", b"mine-67890"), (b"a", b"b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    told = await ask(hull(app))

    assert re.fullmatch(rb"[0-9a-f]{32}", told.one(b"x-request-id"))
    assert told.one(b"a") == b"b"


async def test_headers_that_an_application_keeps_are_not_changed(hull, ask):
    """A message and a header list that are used for every answer stay as they are."""
    headers = [(b"a", b"b")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope, receive, send):
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    await ask(hull(app))

    assert start == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert start["headers"] is headers


async def test_an_answer_without_any_headers_gets_its_id(hull, ask):
    """`headers` may be missing from the message."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    assert (await ask(hull(app))).all(b"x-request-id")


async def test_the_record_is_gone_after_the_call_and_siblings_have_their_own(hull, ask):
    """A server may serve call after call in one task, and many at once."""
    app = hull(show)

    together = await asyncio.gather(*(ask(app) for _ in range(5)))

    assert current_request() is None
    assert len({told.one(b"x-request-id") for told in together}) == 5
    assert all(ids(told)["request"].encode() == told.one(b"x-request-id") for told in together)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        PARENT.upper(),
        PARENT + b"-more",
        PARENT + b"-",
        b"ff" + PARENT[2:],
        PARENT.replace(TRACE.encode(), b"0" * 32),
        PARENT.replace(SPAN.encode(), b"0" * 16),
        PARENT.replace(b"4bf", b"4bg"),
        PARENT[:-1],
        PARENT + b"\n",
        b"01" + PARENT[2:] + b"more",
    ],
)
def test_an_invalid_traceparent_is_no_trace(value):
    """Whatever W3C Trace Context calls invalid begins a new trace."""
    assert parse_traceparent(value) is None


@pytest.mark.parametrize(
    ("value", "sampled", "random"),
    [
        (PARENT, True, False),
        (b" " + PARENT + b"\t", True, False),
        (PARENT[:-2] + b"00", False, False),
        (PARENT[:-2] + b"03", True, True),
        (PARENT[:-2] + b"fe", False, True),
        (b"cc" + PARENT[2:], True, False),
        (b"cc" + PARENT[2:] + b"-what-the-future-brings", True, False),
    ],
)
def test_a_traceparent_of_a_version_to_come_is_read_as_far_as_we_know(value, sampled, random):
    """The four fields we know stay where they are; only the two lowest flags are ours to read."""
    assert parse_traceparent(value) == (TRACE, SPAN, sampled, random)


@given(st.binary(max_size=80))
def test_no_bytes_make_the_parser_raise_or_return_what_is_not_hexadecimal(value):
    """Whatever a client sends, the result is None or two ids of the right form."""
    found = parse_traceparent(value)

    assert found is None or (
        re.fullmatch("[0-9a-f]{32}", found[0]) and re.fullmatch("[0-9a-f]{16}", found[1])
    )


def test_ids_are_unique_over_threads():
    """Taking an id is atomic, also when the store runs out under several threads at once."""
    taken: list[tuple[str, str]] = []

    def take() -> None:
        taken.extend(new_ids() for _ in range(700))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(taken)) == 2800
    assert len({span for _, span in taken}) == 2800


def test_a_forked_child_takes_no_id_of_its_parent():
    """The store is thrown away at the fork, so both cannot hand out the same ids."""
    new_ids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(new_ids()[0] for _ in range(100)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as theirs:
        ids_of_child = set(theirs.read().split())
    os.waitpid(child, 0)

    ours = {new_ids()[0] for _ in range(300)}

    assert len(ids_of_child) == 100
    assert not ids_of_child & ours
