"""What is noted of a call for the trace of the request it is made for, and who is told of it."""

import pytest

from outbound.play import answer
from shipworthy.context import TraceSteps


@pytest.fixture
def steps(record):
    record.steps = TraceSteps()
    return record.steps


def parents(service):
    return [one.headers["traceparent"].split("-")[2] for one in service.seen]


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_each_attempt_is_the_parent_of_what_it_asks_for(client, service, install, steps, mode):
    """The other service is told the span of the attempt, whose trace and flag are the request's,
    also where calls are only looked at."""
    install(mode=mode)
    service.then(answer(503))

    client.request("GET", service.url)

    assert [step.span_id for step in steps if step.kind == "call"] == parents(service)
    assert len(set(parents(service))) == len(service.seen) == (2 if mode == "enforce" else 1)
    for one in service.seen:
        assert one.headers["traceparent"].startswith(f"00-{'a' * 32}-")
        assert one.headers["traceparent"].endswith("-02")
        assert one.headers["tracestate"] == "x=1"


def test_what_is_noted_of_an_attempt(client, service, install, steps):
    """Method, address, status, number and time; an answer from 400 on is a failure."""
    install()
    service.then(answer(503))

    client.request("GET", service.url)

    first, second = [step for step in steps if step.kind == "call"]
    port = int(service.url.rpartition(":")[2].strip("/"))
    assert first.facts == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 503,
    }
    assert second.facts["http.request.resend_count"] == 1
    assert (first.failed, second.failed) == ("503", "")
    assert first.began <= first.ended <= second.began <= second.ended


def test_a_call_without_an_answer_names_its_error(client, nobody, install, steps):
    """The class of the library's exception."""
    install(mode="report")

    with pytest.raises(Exception) as failed:
        client.request("GET", nobody)

    (step,) = [step for step in steps if step.kind == "call"]
    assert step.failed == type(failed.value).__name__
    assert "http.response.status_code" not in step.facts


def test_where_nobody_notes_the_request_itself_is_the_parent(client, service, install, record):
    """Enforced, the trace goes on as before; looked at only, the app's call stays its own."""
    install()
    client.request("GET", service.url)
    install(mode="report")
    client.request("GET", service.url)

    enforced, reported = service.seen
    assert enforced.headers["traceparent"] == record.traceparent
    assert "traceparent" not in reported.headers


def test_a_trace_that_the_app_began_is_left_alone(client, service, install, steps):
    """What another instrumentation has put into a call stands; the attempt is noted too."""
    install()

    client.request("GET", service.url, headers={"traceparent": "its own"})

    assert service.seen[0].headers["traceparent"] == "its own"
    assert [step.span_id for step in steps if step.kind == "call"] == [""]


def test_hosts_that_get_no_trace_get_none(client, service, install, steps):
    """`outbound.trace_exclude` holds for traced requests too."""
    install(trace_exclude=("127.0.0.1",))

    client.request("GET", service.url)

    assert "traceparent" not in service.seen[0].headers
