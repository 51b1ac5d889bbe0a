"""What is decided about a call: who may repeat, what fails, how long to wait, which headers go."""

from datetime import UTC, datetime
from email.utils import format_datetime

import httpcore
import httpx
import pytest
import requests
import urllib3.exceptions
from hypothesis import example, given, strategies as st

from shipworthy.context import RequestRecord
from shipworthy.outbound.policy import (
    IDEMPOTENT,
    Repeat,
    fails,
    host_in,
    judge_answer,
    judge_error,
    repeat_of,
    retry_after,
    trace_headers,
)
from shipworthy.resilience import Effect

WALL = 1_700_000_000.0
DAY = 86_400


def caused(error, cause):
    error.__cause__ = cause
    return error


def refused_by_requests():
    pool = urllib3.HTTPConnectionPool("x")
    reason = urllib3.exceptions.NewConnectionError(pool, "refused")
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", reason))


def reset_under_requests():
    return requests.ConnectionError(
        urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
    )


@pytest.mark.parametrize("method", sorted(IDEMPOTENT))
def test_an_idempotent_call_with_a_body_in_memory_may_be_repeated(method):
    """GET, HEAD, OPTIONS, TRACE, PUT and DELETE are repeated after whatever may pass."""
    assert repeat_of(method, keyed=False, replayable=True, repeated_below=False) is Repeat.ANY


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get", "PURGE"])
def test_other_methods_are_repeated_with_a_key_only(method):
    """Any other method, known or not, is repeated after it was sent only under a key."""
    bare = repeat_of(method, keyed=False, replayable=True, repeated_below=False)
    keyed = repeat_of(method, keyed=True, replayable=True, repeated_below=False)

    assert (bare, keyed) == (Repeat.UNSENT, Repeat.ANY)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_streaming_body_is_never_replayed(method, keyed):
    """A body that can be read once is sent again only if nothing of it was sent before."""
    assert repeat_of(method, keyed=keyed, replayable=False, repeated_below=False) is Repeat.UNSENT


def test_what_is_repeated_below_is_not_repeated_here():
    """Retries the app asked its transport for are not multiplied by ours."""
    assert repeat_of("GET", keyed=True, replayable=True, repeated_below=True) is Repeat.NEVER


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 505, 599])
def test_these_answers_fail(status):
    """Answers that speak of a failure, and no others, are judged."""
    assert fails(status)


@pytest.mark.parametrize("status", [100, 200, 204, 301, 304, 400, 401, 404, 409, 418, 425, 499])
def test_other_answers_are_the_apps_own_business(status):
    """What the target decided about the call is no failure."""
    assert not fails(status)


@pytest.mark.parametrize(
    ("status", "transient", "counts"),
    [
        (408, True, True),
        (429, True, False),
        (500, False, True),
        (501, False, True),
        (502, True, True),
        (503, True, True),
        (504, True, True),
    ],
)
def test_an_answer_is_judged_by_its_status(status, transient, counts):
    """Not now may pass, broken does not; too many is the caller's and no sign of a sick target."""
    judged = judge_answer(status, Repeat.ANY, retry_after_seconds=None, patience_seconds=5)

    assert (judged.transient, judged.counts, judged.refused) == (transient, counts, False)
    assert judged.effect is Effect.NONE
    assert str(status) in judged.because


@pytest.mark.parametrize("repeat", [Repeat.UNSENT, Repeat.NEVER])
def test_an_answer_to_what_must_not_be_repeated_leaves_the_effect_open(repeat):
    """A gateway may say 502 after the target did its work."""
    judged = judge_answer(502, repeat, retry_after_seconds=1, patience_seconds=5)

    assert (judged.transient, judged.effect) == (False, Effect.UNKNOWN)


@pytest.mark.parametrize(
    ("asked", "transient"), [(0, True), (5, True), (5.1, False), (3600, False)]
)
def test_a_retry_after_is_waited_for_up_to_the_patience(asked, transient):
    """The caller waits meanwhile, so beyond some seconds it gets the answer instead."""
    judged = judge_answer(503, Repeat.ANY, retry_after_seconds=asked, patience_seconds=5)

    assert (judged.transient, judged.retry_after_seconds) == (transient, asked)


UNSENT = [
    httpx.ConnectTimeout("x"),
    httpx.ConnectError("x"),
    caused(httpx.ConnectError("x"), httpcore.ConnectError(ConnectionRefusedError(111, "x"))),
    requests.ConnectTimeout("x"),
    refused_by_requests(),
]
SENT = [
    httpx.ReadTimeout("x"),
    httpx.WriteTimeout("x"),
    caused(httpx.ReadError("x"), httpcore.ReadError(ConnectionResetError(104, "x"))),
    httpx.WriteError("x"),
    httpx.CloseError("x"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    requests.ReadTimeout("x"),
    reset_under_requests(),
]


@pytest.mark.parametrize("error", UNSENT)
@pytest.mark.parametrize("repeat", [Repeat.ANY, Repeat.UNSENT])
def test_a_call_that_met_no_connection_may_always_be_repeated(error, repeat):
    """Nothing was sent, so nothing can have happened, whatever the method."""
    judged = judge_error(error, repeat)

    assert (judged.transient, judged.refused, judged.counts) == (True, True, True)
    assert judged.effect is Effect.NONE


@pytest.mark.parametrize("error", SENT)
def test_a_call_that_was_lost_on_its_way_may_be_repeated_when_idempotent(error):
    """The answer is missing: an idempotent call is repeated, of another the effect is unknown."""
    may, may_not = judge_error(error, Repeat.ANY), judge_error(error, Repeat.UNSENT)

    assert (may.transient, may.effect, may.counts) == (True, Effect.NONE, True)
    assert (may_not.transient, may_not.effect, may_not.counts) == (False, Effect.UNKNOWN, True)
    assert not may.refused


@pytest.mark.parametrize("error", [*UNSENT, *SENT])
def test_nothing_is_repeated_where_the_layer_below_repeats(error):
    """With `NEVER` no failure is transient, and all still count against the target."""
    judged = judge_error(error, Repeat.NEVER)

    assert (judged.transient, judged.counts) == (False, True)


@pytest.mark.parametrize(
    "error",
    [
        httpx.PoolTimeout("x"),
        httpx.LocalProtocolError("x"),
        httpx.UnsupportedProtocol("x"),
        requests.exceptions.InvalidURL("x"),
        caused(httpx.ConnectError("x"), type("SSLCertVerificationError", (OSError,), {})()),
        ValueError("the app's own body raised it"),
    ],
)
def test_what_says_nothing_about_the_target_is_neither_repeated_nor_counted(error):
    """A full pool, a wrong call, an untrusted certificate: others have to mend these."""
    judged = judge_error(error, Repeat.ANY)

    assert (judged.transient, judged.counts, judged.refused) == (False, False, False)


def test_an_untrusted_certificate_inside_a_group_is_found():
    """anyio tries several addresses and raises their errors as a group."""
    inner = type("SSLCertVerificationError", (OSError,), {})()
    error = caused(httpx.ConnectError("x"), ExceptionGroup("all", [inner]))

    assert not judge_error(error, Repeat.ANY).transient


@pytest.mark.parametrize("error", [httpx.ProxyError("x"), requests.exceptions.ProxyError("x")])
def test_a_refusing_proxy_counts_but_is_not_asked_again(error):
    """The target cannot be reached, and asking again changes nothing."""
    judged = judge_error(error, Repeat.ANY)

    assert (judged.transient, judged.counts, judged.effect) == (False, True, Effect.NONE)


def test_the_context_of_an_error_is_not_taken_for_its_cause():
    """An app that calls a second service because the first refused is judged by the second."""
    error = httpx.ReadTimeout("the second")
    error.__context__ = httpx.ConnectError("the first")

    assert judge_error(error, Repeat.UNSENT).effect is Effect.UNKNOWN


def test_a_loop_of_causes_ends():
    """Whoever ties causes into a ring holds nobody up."""
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error

    assert not judge_error(error, Repeat.ANY).transient


@given(st.integers(0, 10**9))
def test_retry_after_in_seconds_is_read(seconds):
    """A whole number is a length."""
    assert retry_after(f" {seconds} ", wall=WALL) == float(seconds)


@given(st.integers(-DAY, 400 * DAY))
def test_retry_after_as_a_date_is_read(seconds):
    """A date is how far away it is from now, and nothing once it has passed."""
    date = format_datetime(datetime.fromtimestamp(WALL + seconds, UTC), usegmt=True)

    assert retry_after(date, wall=WALL) == max(0, seconds)


@pytest.mark.parametrize(
    "date",
    [
        "Tue, 14 Nov 2023 22:13:30 GMT",
        "Tuesday, 14-Nov-23 22:13:30 GMT",
        "Tue Nov 14 22:13:30 2023",
        "Tue, 14 Nov 2023 22:13:30 -0000",
    ],
)
def test_all_three_forms_of_a_date_are_read(date):
    """RFC 9110 asks recipients to read the two obsolete forms also, always as GMT."""
    assert retry_after(date, wall=WALL) == 10.0


@pytest.mark.parametrize("value", [None, "", "  ", "-1", "1.5", "soon", "٣", "9" * 41, "Tue, 99"])
def test_what_cannot_be_read_asks_for_nothing(value):
    """No header and one that cannot be read are the same."""
    assert retry_after(value, wall=WALL) is None


# Nearly a date, with a zone that no time can have.
_DATES = st.from_regex(r"\d{1,2} Jan \d{1,5} \d\d:\d\d:\d\d [+-]\d{1,14}", fullmatch=True)


@given(st.text() | _DATES)
@example("1 Jan 2020 00:00:00 +99999999999999")
def test_no_retry_after_can_raise(value):
    """The header comes from others; whatever it holds, it is read or ignored."""
    waited = retry_after(value, wall=WALL)

    assert waited is None or waited >= 0


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("example.org", True),
        ("EXAMPLE.org.", True),
        ("api.example.org", True),
        ("anexample.org", False),
        ("partner.net", True),
        ("api.partner.net", False),
        ("", False),
    ],
)
def test_hosts_are_matched_whole_or_with_all_below(host, inside):
    """`.name` means the name and what is below it, `name` itself alone; case is no difference."""
    assert host_in(host, (".Example.org", "Partner.net")) is inside


def record(**facts):
    return RequestRecord("request-1", "request-1", "a" * 32, "b" * 16, **facts)


def test_trace_headers_carry_the_request_on():
    """Trace, its state and the request's id go on, our span as the parent."""
    assert trace_headers(record(sampled=True, tracestate="x=1"), ()) == [
        ("traceparent", f"00-{'a' * 32}-{'b' * 16}-03"),
        ("tracestate", "x=1"),
        ("X-Request-ID", "request-1"),
    ]


@pytest.mark.parametrize("own", ["traceparent", "tracestate"])
def test_a_trace_of_the_apps_own_is_not_mixed_with_ours(own):
    """Who sends a trace or its state sends both; the request's id still goes."""
    assert trace_headers(record(tracestate="x=1"), {own}) == [("X-Request-ID", "request-1")]


def test_a_request_id_of_the_apps_own_stays():
    """What the app set wins, and an empty tracestate is not sent."""
    assert [name for name, _ in trace_headers(record(), {"x-request-id"})] == ["traceparent"]
