"""What is particular to requests: its timeouts, its adapters and their retries."""

import time

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from outbound.play import answer, reset, silence
from shipworthy.context import deadline_scope
from shipworthy.outbound import GuardedAdapter, uninstall
from shipworthy.outbound.targets import stand, standing

LATE_SECONDS = 1.0


def late(call):
    call.server.service.over.wait(0.3)
    answer()(call)


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_a_call_without_a_timeout_does_not_wait_for_ever(session, service, install):
    """requests has no timeout of its own; under the setting a silent target is left."""
    install(silence_seconds=0.1)
    service.then(silence)
    began = time.monotonic()

    with pytest.raises(requests.ReadTimeout):
        session.post(service.url)

    assert time.monotonic() - began < 0.1 + LATE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"stream": True}, {"timeout": 5}])
def test_a_stream_and_a_timeout_of_the_apps_own_are_not_touched(session, service, install, how):
    """Who streams may wait for the next part, and who said how long waits so long."""
    install(silence_seconds=0.1)
    service.then(late)

    assert session.post(service.url, **how).content == b"ok"


def test_silence_0_leaves_it_as_it_is(session, service, install):
    """The app's missing timeout is its own again."""
    install(silence_seconds=0)
    service.then(late)

    assert session.post(service.url).content == b"ok"


@pytest.mark.parametrize(
    "timeout",
    [None, 10, (10, 10), (None, None), urllib3.Timeout(10), urllib3.Timeout(total=20, read=10)],
    ids=repr,
)
def test_a_deadline_bounds_every_kind_of_timeout(session, service, install, timeout):
    """However the app said it, no wait is longer than what is left."""
    install()
    service.then(silence)
    began = time.monotonic()

    with deadline_scope(began + 0.15), pytest.raises(requests.Timeout):
        session.get(service.url, timeout=timeout)

    assert time.monotonic() - began < 0.15 + LATE_SECONDS


@pytest.mark.parametrize("timeout", [0.1, (5, 0.1), urllib3.Timeout(connect=5, read=0.1)], ids=repr)
def test_the_apps_own_timeout_holds_where_it_is_shorter(session, service, install, timeout):
    """A deadline lengthens nothing."""
    install()
    service.then(silence)
    began = time.monotonic()

    with deadline_scope(began + 30), pytest.raises(requests.ReadTimeout):
        session.post(service.url, timeout=timeout)

    assert time.monotonic() - began < 0.1 + LATE_SECONDS


def test_an_adapter_that_retries_is_not_retried(session, service, install):
    """Retries of urllib3 are a decision of the app; ours does not multiply them."""
    installed = install()
    session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(2, backoff_factor=0)))
    service.then(reset, reset, reset)

    with pytest.raises(requests.ConnectionError):
        session.get(service.url)

    assert len(service.seen) == 3
    assert installed.statistics()[0].repeated_total == 0


def test_a_wrong_url_is_for_requests_to_refuse(session, install):
    """What names no target is not ours."""
    install()

    with pytest.raises(requests.exceptions.InvalidURL):
        session.get("http://127.0.0.1:99999999/")
    request = requests.Request("GET", "http://h/").prepare()
    request.url = "http://h:port/"
    with pytest.raises(requests.RequestException):
        session.send(request)


def test_an_error_names_the_apps_own_request(session, nobody, install, record):
    """The request of an error is the one the app prepared, without our headers."""
    install(attempts=1)
    prepared = session.prepare_request(requests.Request("GET", nobody))

    with pytest.raises(requests.ConnectionError) as caught:
        session.send(prepared)

    assert caught.value.request is prepared
    assert caught.value.response is None
    assert "traceparent" not in prepared.headers


def test_what_is_no_error_of_requests_passes_through(session, service, install):
    """An error of the app's own body is the app's, and is not held against the target."""
    installed = install()

    def broken():
        yield b"a"
        raise LookupError("of the app")

    with pytest.raises(LookupError, match="of the app"):
        session.put(service.url, data=broken())

    breaker = installed.outbound.target("http", "127.0.0.1", int(service.url[-5:])).breaker
    assert breaker.statistics().failure_total == 0


@pytest.mark.parametrize("hooked", [False, True])
def test_an_adapter_guards_one_session(session, service, install, record, hooked):
    """Where nothing is installed it guards alone, and where `run` does, nothing is done twice."""
    if hooked:
        install()
    else:
        uninstall()
    session.mount("http://", GuardedAdapter())
    service.then(answer(503))

    assert session.get(service.url).status_code == 200

    assert len(service.seen) == 2
    assert service.seen[0].headers["x-request-id"] == "request-1"
    (target,) = [one for one in standing().statistics() if one.target == service.url]
    assert (target.failed_total, target.repeated_total) == (1, 1)
    stand(None)
