"""What holds for a target, whichever client calls it: each test runs with all of them."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from outbound.play import answer, reset, silence
from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, deadline_scope, request_scope
from shipworthy.events import listen
from shipworthy.outbound import CallRepeated, Outbound, OutboundSettings, TargetForgotten
from shipworthy.outbound.policy import Repeat
from shipworthy.outbound.transport import send
from shipworthy.resilience import BreakerOpen, BreakerState, BreakerWouldOpen

# Bounds on waits: what the machine may be late by.
LATE_SECONDS = 1.0


def states(installed):
    return {target.target: target for target in installed.statistics()}


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_a_request_knows_which_calls_out_must_not_be_made_twice(client, service, install, mode):
    """Whoever would run it again has to know: a POST leaves traces."""
    install(mode=mode)
    service.then(*(answer(200) for _ in range(4)))
    record = RequestRecord("r", "c", "t", "s")

    with request_scope(record):
        for method, headers in (
            ("GET", {}),
            ("PUT", {}),
        ):
            client.request(method, service.url, headers=headers)
        harmless = record.calls_out
        client.request("POST", service.url)
        client.request("POST", service.url, headers={"Idempotency-Key": "made anew each time"})

    assert (harmless, record.calls_out) == (0, 2)


def test_a_call_that_is_left_alone_is_known_all_the_same(client, service, install):
    """It is not guarded, and it has changed something."""
    install(exclude=("127.0.0.1",))
    service.then(answer(200), answer(200))
    record = RequestRecord("r", "c", "t", "s")

    with request_scope(record):
        client.request("GET", service.url)
        client.request("POST", service.url)

    assert record.calls_out == 1


def test_an_answer_arrives_as_it_was_sent(client, service, install):
    """Status, headers and body of a good answer are untouched, and it took one request."""
    install()
    service.then(answer(201, b"\x00\xff made", X_Own="1"))

    got = client.request("POST", f"{service.url}/things?a=1", body=b"in")

    assert (got.status, got.body, got.headers["x-own"]) == (201, b"\x00\xff made", "1")
    assert [(one.method, one.path, one.body) for one in service.seen] == [
        ("POST", "/things?a=1", b"in")
    ]


@pytest.mark.parametrize(
    "trouble",
    [reset, answer(503), answer(429), answer(502, b"later")],
    ids=["reset", "503", "429", "502"],
)
def test_an_idempotent_call_is_repeated_until_it_goes_well(client, service, install, trouble):
    """A lost connection and a passing refusal are not seen by the app."""
    install()
    service.then(trouble)

    got = client.request("PUT", service.url, body=b"same")

    assert (got.status, got.body) == (200, b"ok")
    assert [one.body for one in service.seen] == [b"same", b"same"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_another_call_is_sent_once(client, service, install, method):
    """What may have happened is not made to happen again: the app gets the error."""
    install()
    service.then(reset)

    with pytest.raises(client.lost):
        client.request(method, service.url, body=b"once")

    assert len(service.seen) == 1


def test_an_answer_to_another_call_is_handed_on(client, service, install):
    """A 503 to a POST is the app's, body and all."""
    install()
    service.then(answer(503, b"sorry", Retry_After="0"))

    got = client.request("POST", service.url, body=b"once")

    assert (got.status, got.body, len(service.seen)) == (503, b"sorry", 1)


def test_a_keyed_call_is_repeated(client, service, install):
    """With an Idempotency-Key the target answers for sending it twice."""
    install()
    service.then(reset)

    got = client.request("POST", service.url, body=b"x", headers={"Idempotency-Key": "k1"})

    assert got.status == 200
    assert [one.headers["idempotency-key"] for one in service.seen] == ["k1", "k1"]


def test_a_streaming_body_is_never_replayed(client, service, install):
    """A body that is produced while it is sent is sent once, also with PUT."""
    install()
    service.then(answer(503, b"no"))

    got = client.request("PUT", service.url, body=iter([b"a", b"b"]))

    assert (got.status, got.body) == (503, b"no")
    assert [one.body for one in service.seen] == [b"ab"]


def test_the_last_answer_is_handed_on_when_none_is_good(client, service, install):
    """After three attempts the app gets what the target says, not an error of ours."""
    install()
    service.then(answer(503, b"1"), answer(503, b"2"), answer(503, b"3"))

    got = client.request("GET", service.url)

    assert (got.status, got.body, len(service.seen)) == (503, b"3", 3)


def test_a_refused_call_is_repeated_whatever_its_method(client, nobody, install):
    """Nothing was sent, so a POST is tried again too; then the app gets its library's error."""
    installed = install()

    with pytest.raises(client.connect_error):
        client.request("POST", nobody, body=b"x")

    (target,) = installed.statistics()
    assert (target.repeated_total, target.failed_total) == (2, 3)


def test_a_repeat_is_stated(client, service, install):
    """Each repeat says its target and which attempt it is."""
    install()
    heard = []
    stop = listen(heard.append, CallRepeated)
    service.then(reset)

    client.request("GET", service.url)
    stop()

    assert [(one.target, one.method, one.attempt) for one in heard] == [(service.url, "GET", 2)]


def test_an_open_breaker_refuses_with_the_librarys_own_error(client, service, install):
    """The app's `except ConnectError` catches it, nothing is sent, and ours says when to return."""
    installed = install()
    client.request("GET", service.url)
    installed.outbound.target("http", "127.0.0.1", int(service.url[-5:])).breaker.isolate("a test")

    with pytest.raises(client.connect_error) as caught:
        client.request("GET", service.url)

    assert isinstance(caught.value, BreakerOpen)
    assert (caught.value.name, caught.value.because) == (service.url, "a test")
    assert caught.value.retry_after_seconds >= 0
    assert "a test" in str(caught.value)
    assert len(service.seen) == 1


def test_a_dead_target_opens_its_breaker_and_no_other(client, service, nobody, install):
    """Refused connects open the breaker fast; another host is not concerned."""
    installed = install(attempts=1)

    for _ in range(5):
        with pytest.raises(client.connect_error):
            client.request("GET", nobody)
    with pytest.raises(BreakerOpen):
        client.request("GET", nobody)

    assert client.request("GET", service.url).status == 200
    assert states(installed)[nobody].state == BreakerState.OPEN
    assert states(installed)[service.url].state == BreakerState.CLOSED


def test_a_deadline_ends_a_call_to_a_silent_target(client, service, install):
    """The wait is no longer than the work may take, and ends with the library's timeout."""
    install()
    service.then(silence, silence, silence)
    began = time.monotonic()

    with deadline_scope(began + 0.2), pytest.raises(client.timeout):
        client.request("GET", service.url, timeout=10)

    assert 0.19 <= time.monotonic() - began < 0.2 + LATE_SECONDS
    assert len(service.seen) <= 1


def test_a_call_after_the_deadline_is_not_made(client, service, install):
    """When time is over, nothing is sent."""
    install()

    with deadline_scope(time.monotonic() - 1), pytest.raises(client.timeout):
        client.request("GET", service.url)

    assert service.seen == []


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(client, service, install):
    """The app gets the answer while it can still do something with it."""
    install()
    service.then(answer(503, b"in a while", Retry_After="3"))

    with deadline_scope(time.monotonic() + 1):
        got = client.request("GET", service.url)

    assert (got.status, got.body) == (503, b"in a while")


def test_the_request_goes_on_with_its_trace(client, service, install, record):
    """The target learns of the trace and the request; the app's own request object does not."""
    install()

    got = client.request("GET", service.url)

    (seen,) = service.seen
    assert seen.headers["traceparent"] == record.traceparent
    assert seen.headers["tracestate"] == "x=1"
    assert seen.headers["x-request-id"] == "request-1"
    assert not {"traceparent", "tracestate", "x-request-id"} & set(got.sent)


def test_headers_of_the_app_are_not_overwritten(client, service, install, record):
    """What the app set is sent, and sent once."""
    install()
    own = {"Traceparent": "own", "x-request-id": "own"}

    client.request("GET", service.url, headers=own)

    (seen,) = service.seen
    assert (seen.headers["traceparent"], seen.headers["x-request-id"]) == ("own", "own")
    assert "tracestate" not in seen.headers


def test_excluded_hosts_get_no_trace(client, service, install, record):
    """Who is not to know our ids does not, also not by a redirect from one who is."""
    install(trace_exclude=("localhost",))
    service.then(
        answer(307, b"", Location=service.url.replace("127.0.0.1", "localhost") + "/there")
    )

    client.request("GET", service.url, follow=True)

    first, second = service.seen
    assert "traceparent" in first.headers
    assert second.path == "/there"
    assert not {"traceparent", "tracestate", "x-request-id"} & set(second.headers)


def test_outside_of_a_request_nothing_is_added(client, service, install):
    """A job without a record sends what the app made."""
    install()

    client.request("GET", service.url)

    assert not {"traceparent", "x-request-id"} & set(service.seen[0].headers)


def test_excluded_hosts_are_left_alone(client, service, install, record):
    """No breaker, no repeat, no headers."""
    installed = install(exclude=("127.0.0.1",))
    service.then(answer(503))

    got = client.request("GET", service.url)

    assert (got.status, len(service.seen), installed.statistics()) == (503, 1, ())
    assert "traceparent" not in service.seen[0].headers


@pytest.mark.slow
def test_report_counts_and_does_nothing_else(client, service, install, record):
    """No repeat, no headers, no deadline, no refusal; the numbers are there."""
    installed = install(mode="report")
    service.then(*[answer(503)] * 30)

    with deadline_scope(time.monotonic() - 1):
        got = [client.request("GET", service.url).status for _ in range(30)]

    assert got == [503] * 30
    assert "traceparent" not in service.seen[0].headers
    (target,) = installed.statistics()
    assert (target.failed_total, target.repeated_total) == (30, 0)
    assert target.state == BreakerState.METRICS_ONLY


@pytest.mark.slow
def test_a_full_outage_multiplies_the_load_by_little(client, service, install):
    """Of calls that all fail, one in five is repeated, and a few from the reserve."""
    installed = install(reserve=1.0)
    installed.outbound.target("http", "127.0.0.1", int(service.url[-5:])).breaker.disable()
    service.then(*[answer(503, Retry_After="0")] * 200)
    began = time.monotonic()

    for _ in range(50):
        client.request("GET", service.url)

    reserve = 2 + time.monotonic() - began
    assert len(service.seen) <= 50 * 1.2 + reserve


@pytest.mark.parametrize(
    ("given_seconds", "counts"),
    [(2.0, True), (0.05, False)],
    ids=["a fair time", "the last moment"],
)
def test_a_deadline_that_ends_a_call_counts_after_a_fair_time(given_seconds, counts):
    """Who had a second and gave no answer has failed; who had a moment is not known to be dead."""
    clock = ManualClock()
    target = Outbound(clock=clock).target("http", "a", 1)
    began = clock.now()
    clock.advance(given_seconds)

    with deadline_scope(clock.now()):
        failed = target.judge(httpx.ConnectTimeout("x"), Repeat.ANY, began)

    assert (failed.judged.counts, failed.judged.refused, failed.judged.transient) == (
        counts,
        False,
        False,
    )


def test_report_counts_refusals_as_such():
    """Where nothing is enforced the breaker says what it would have done, and refuses nothing."""
    out = Outbound(OutboundSettings(mode="report"))
    heard = []
    stop = listen(heard.append, BreakerWouldOpen)
    target = out.target("http", "a", 1)

    def refused(request):
        raise httpx.ConnectError("x")

    def full(request):
        raise httpx.PoolTimeout("x")

    for inner, kind in [(full, httpx.PoolTimeout)] * 3 + [(refused, httpx.ConnectError)] * 6:
        with pytest.raises(kind):
            send(out, httpx, None, httpx.Request("GET", "http://a:1/"), inner)
    stop()

    assert [one.breaker for one in heard] == ["http://a:1"]
    assert target.statistics().failed_total == 6
    assert target.breaker.statistics().neutral_total == 3


def test_a_target_is_met_once():
    """Two threads that call it first share what is known of it."""
    out = Outbound()
    with ThreadPoolExecutor(8) as pool:
        met = list(pool.map(lambda _: out.target("http", "a", 1), range(64)))

    assert len(set(map(id, met))) == 1


def test_names_of_targets_are_the_same_for_the_same_port():
    """The default port and the one that is named are shown alike; IPv6 keeps its brackets."""
    out = Outbound()

    assert out.target("https", "a.org", None).name == "https://a.org:443"
    assert out.target("http", "::1", 8080).name == "http://[::1]:8080"


def test_targets_are_bounded_and_the_idlest_goes():
    """However many hosts are called, so many are known; what was used last is kept."""
    clock = ManualClock()
    out = Outbound(OutboundSettings(mode="enforce", targets=2), clock=clock)
    heard = []
    stop = listen(heard.append, TargetForgotten)

    first = out.target("http", "a", 1)
    clock.advance(1)
    out.target("http", "b", 1)
    clock.advance(1)
    assert out.target("http", "a", 1) is first
    clock.advance(1)
    out.target("http", "c", 1)
    stop()

    assert [one.target for one in out.statistics()] == ["http://a:1", "http://c:1"]
    assert [(one.target, one.targets) for one in heard] == [("http://b:1", 2)]
