"""The way of traces to a collector that is there, away, slow, or refuses: nobody waits for it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shipworthy.context import TraceStep
from shipworthy.events import listen
from shipworthy.telemetry import Registry, TraceSettings
from shipworthy.telemetry.posting import PostAnswer
from shipworthy.telemetry.span_export import BATCH_BYTES, SpanExport, SpansSentAgain, SpansUnsent
from telemetry.test_spans import trace

PATIENCE_SECONDS = 10.0
SETTINGS = TraceSettings(endpoint="http://collector:4318")


class Names:
    """Writes the ids of requests, one byte string for a post."""

    def body(self, traces: Any) -> bytes:
        return ",".join(one.request_id for one in traces).encode()

    def rejected(self, answer: bytes) -> int:
        return int(answer or b"0")


class Wire:
    """What is posted, and what is answered: a status, an error, or a function that waits."""

    def __init__(self, *answers: Any) -> None:
        self.bodies: list[bytes] = []
        self.answers = list(answers)
        self.arrived = threading.Semaphore(0)

    def __call__(self, url: str, body: bytes, headers: Any, **_: Any) -> PostAnswer:
        self.bodies.append(body)
        answer = self.answers.pop(0) if self.answers else 200
        self.arrived.release()
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, PostAnswer) else PostAnswer(answer, b"")

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.arrived.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def export() -> Iterator[Callable[..., SpanExport]]:
    made: list[SpanExport] = []

    def make(wire: Wire, **options: Any) -> SpanExport:
        made.append(SpanExport(SETTINGS, Names(), post=wire, gather_seconds=0.0, **options))
        return made[-1]

    yield make
    for one in made:
        one.close(0.0)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def numbers(export: SpanExport) -> dict[str, float]:
    registry = Registry()
    export.metrics(registry)
    return {
        "/".join([name.removeprefix("shipworthy_"), *labels]): values[0]
        for name, series in registry.snapshot().items()
        if name.startswith(("shipworthy_span", "shipworthy_traces"))
        for labels, values in series["sets"]
        if values[0]
    }


def test_what_is_taken_is_sent_and_counted(export: Any) -> None:
    """Each trace is its own span and those below it."""
    wire = Wire()
    one = export(wire)

    one.take(trace(TraceStep("wait", 1.0, 2.0, {}), request_id="a"))
    one.take(trace(request_id="b", because="slow"))

    assert one.close(PATIENCE_SECONDS)
    assert b",".join(wire.bodies) == b"a,b"
    assert numbers(one) == {
        "spans_total/sent": 3,
        "traces_kept_total/sampled": 1,
        "traces_kept_total/slow": 1,
    }


def test_a_collector_that_is_away_costs_no_more_than_its_room(export: Any) -> None:
    """Taking returns at once; what finds no room is dropped; one sentence is said of it."""
    heard: list[Any] = []
    stop = listen(heard.append, SpansUnsent, SpansSentAgain)
    wire = Wire(*[ConnectionRefusedError("refused")] * 50)
    one = export(wire, held_bytes=10_240)

    for number in range(100):
        one.take(trace(request_id=str(number)))
    wire.wait()
    until(lambda: heard)
    stop()

    assert numbers(one)["spans_total/dropped"] == 90
    assert numbers(one)["span_export_failing"] == 1
    assert one.remarks() == ("traces are not taken by http://collector:4318/v1/traces: refused",)
    assert [type(fact) for fact in heard] == [SpansUnsent]
    assert heard[0].because == "refused"


def test_what_waited_arrives_when_the_collector_is_back(export: Any) -> None:
    """The same body again, and a sentence that says so; nothing was lost and nothing is twice."""
    heard: list[Any] = []
    stop = listen(heard.append, SpansUnsent, SpansSentAgain)
    wire = Wire(503, 200)
    one = export(wire)

    one.take(trace(request_id="a"))
    wire.wait(2)
    until(lambda: one.sent)
    stop()

    assert wire.bodies == [b"a", b"a"]
    assert numbers(one) == {
        "spans_total/sent": 1, "span_export_failures_total": 1, "traces_kept_total/sampled": 1,
    }  # fmt: skip
    assert [type(fact) for fact in heard] == [SpansUnsent, SpansSentAgain]
    assert one.remarks() == ()


def test_what_is_large_is_sent_in_parts(export: Any) -> None:
    """No post is larger than a collector takes, and none of them waits for more to gather."""
    hold = threading.Event()
    wire = Wire(lambda: hold.wait(PATIENCE_SECONDS) and 200)
    one = export(wire)
    one.take(trace(request_id="first"))
    wire.wait()
    large = TraceStep("event", 1.0, 1.0, {}, held_bytes=BATCH_BYTES // 2)
    for name in "abcde":
        one.take(trace(large, request_id=name))
    hold.set()

    assert one.close(PATIENCE_SECONDS)
    assert wire.bodies == [b"first", b"a,b", b"c,d", b"e"]
    assert one.sent == 6


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_is_refused_for_good_is_not_sent_again(export: Any, status: int) -> None:
    """By OTLP only 429, 502, 503 and 504 ask for that."""
    wire = Wire(status)
    one = export(wire)

    one.take(trace(request_id="a"))
    until(lambda: one.refused)
    one.take(trace(request_id="b"))
    until(lambda: one.sent)

    assert wire.bodies == [b"a", b"b"]


def test_what_a_collector_takes_in_part_is_counted_in_part(export: Any) -> None:
    """It says how many spans of a post it did not take."""
    one = export(Wire(PostAnswer(200, b"2")))

    one.take(trace(*[TraceStep("wait", 1.0, 2.0, {})] * 4))
    until(lambda: one.sent)

    assert (one.sent, one.refused) == (3, 2)


def test_a_trace_that_cannot_be_written_takes_none_with_it(export: Any) -> None:
    """The thread lives on, and the next one is sent."""
    wire = Wire()
    one = export(wire)

    one.take(trace(request_id=7))
    until(lambda: one.refused)
    one.take(trace(request_id="b"))

    assert one.close(PATIENCE_SECONDS)
    assert wire.bodies == [b"b"]


def test_closing_with_a_silent_collector_takes_its_time_and_no_more(export: Any) -> None:
    """The post that hangs is left behind."""
    over = threading.Event()
    wire = Wire(lambda: over.wait(PATIENCE_SECONDS) and 200)
    one = export(wire)
    one.take(trace())
    wire.wait()

    began = time.monotonic()
    closed = one.close(0.2)
    took = time.monotonic() - began
    over.set()

    assert not closed
    assert took < 1.0


def test_closing_tries_once_more_and_gives_the_rest_up(export: Any) -> None:
    """A collector that is away is asked once for each batch, not waited for."""
    wire = Wire(*[OSError("away")] * 9)
    one = export(wire)
    one.take(trace())
    wire.wait()

    assert one.close(PATIENCE_SECONDS)
    assert len(wire.bodies) == 2
    assert numbers(one)["spans_total/dropped"] == 1
    one.take(trace())
    assert numbers(one)["spans_total/dropped"] == 2


def test_one_that_was_closed_can_be_opened(export: Any) -> None:
    """An application lives through several lifespans in a test client."""
    wire = Wire()
    one = export(wire)
    assert one.close(0.0)

    one.open()
    one.take(trace(request_id="a"))

    assert one.close(PATIENCE_SECONDS)
    assert wire.bodies == [b"a"]


def test_a_forked_child_sends_its_own(export: Any) -> None:
    """The parent's thread is not there, nor are its traces the child's."""
    reader, writer = os.pipe()
    hold = threading.Event()
    wire = Wire(lambda: hold.wait(PATIENCE_SECONDS) and 200)
    one = export(wire)
    one.take(trace(request_id="a"))
    wire.wait()

    pid = os.fork()
    if pid == 0:
        wire.answers = []
        one.take(trace(request_id="child"))
        one.close(PATIENCE_SECONDS)
        os.write(writer, wire.bodies[-1])
        os._exit(0)
    os.waitpid(pid, 0)
    hold.set()

    assert os.read(reader, 100) == b"child"
    os.close(reader)
    os.close(writer)
