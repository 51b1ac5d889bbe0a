"""Traces of `shipworthy run`, from the request to a collector on a socket, which may be away."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from otlp_receiver import Collector, Span, collector
from redact.planted import GIVEN, PLANTED
from serve.launch import BRISK, PATIENCE_SECONDS, TOKEN, Service, started
from services import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APPS = Path(__file__).parent / "apps"
FASTAPI, FLASK = (f"{APPS / name}:app" for name in ("traced_fastapi.py", "traced_flask.py"))
SENT_SECONDS = 15.0


def settings(endpoint: str, ratio: float = 0.05, more: str = "") -> str:
    return (
        f'{BRISK}[log]\nformat = "json"\nservice = "shop"\n[traces]\nendpoint = "{endpoint}"\n'
        f'sample_ratio = {ratio}\nslow = "200ms"\n[limits]\nmode = "off"\n{more}'
    )


@contextmanager
def shop(
    tmp_path: Path,
    target: str,
    endpoint: str,
    name: str = "one",
    following: str = "",
    **more: float,
) -> Iterator[Service]:
    folder = tmp_path / name
    folder.mkdir()
    with started(
        target,
        directory=folder,
        settings=settings(endpoint, **more),
        environ={"NEXT": following, "PTARMIGAN_API_KEY": GIVEN},
    ) as service:
        service.until_ready()
        yield service


def ended(service: Service) -> None:
    service.signal()
    assert service.ended() == 0


def failed_and_slow(span: Span) -> bool:
    return span.facts.get("shipworthy.kept_because") in {"failed", "slow"}


@pytest.mark.parametrize("target", [FASTAPI, FLASK], ids=["FastAPI", "Flask"])
def test_all_that_failed_or_was_slow_arrives_and_a_share_of_the_rest(
    tmp_path: Path, target: str
) -> None:
    """At 5 %: each failed and slow request is there, and of 400 others those whose ids say so."""
    broken = "/rows" if target == FASTAPI else "/boom"
    fast: set[str] = set()
    must: set[str] = set()
    with collector() as there, shop(tmp_path, target, there.url) as service:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            for number in range(400):
                fast.add(client.get(f"/fast/{number}").headers["x-request-id"])
                if number % 20 == 0:
                    must.add(client.get(broken).headers["x-request-id"])
                if number % 100 == 0:
                    must.add(client.get("/slow").headers["x-request-id"])
        metrics = service.metrics()
        ended(service)
        spans = there.servers()

    assert {span.trace_id for span in spans if failed_and_slow(span)} >= must
    low = {one for one in fast if int(one[16:], 16) < 0.05 * 2**64}
    # A machine under load may make any request a slow one.
    assert {span.trace_id for span in spans if not failed_and_slow(span)} == low
    (route,) = {span.facts["http.route"] for span in spans if span.trace_id in low} or {None}
    assert route in {"/fast/{number}", "/fast/<int:number>", None}
    assert {span.resource["service.name"] for span in spans} == {"shop"}
    assert "shipworthy_traces_kept_total{" in metrics
    assert f"traces are sent to {there.url}/v1/traces" in service.err
    # The ids of the log are those of the spans.
    access = [line for line in service.lines() if line["logger"] == "shipworthy.access"]
    known = {line["request_id"]: line["trace_id"] for line in access}
    for span in spans:
        assert known[span.facts["shipworthy.request_id"]] == span.trace_id


def test_a_trace_goes_through_two_services(tmp_path: Path) -> None:
    """FastAPI calls Flask by httpx, Flask calls FastAPI by requests: each attempt is the parent of
    what it asked for, and statements, waits and events stand below the request that made them."""
    with (
        collector() as there,
        shop(tmp_path, FASTAPI, there.url, "last", ratio=0.0) as last,
        shop(tmp_path, FLASK, there.url, "middle", last.url, ratio=0.0) as middle,
        shop(tmp_path, FASTAPI, there.url, "first", middle.url, ratio=1.0) as first,
    ):
        httpx.get(f"{first.url}/call?path=/call", timeout=PATIENCE_SECONDS)
        httpx.get(f"{first.url}/rows", timeout=PATIENCE_SECONDS)
        httpx.get(f"{first.url}/held", timeout=PATIENCE_SECONDS)
        httpx.get(f"{first.url}/stream", timeout=PATIENCE_SECONDS)
        for service in (first, middle, last):
            ended(service)

    by_id = {span.span_id: span for span in there.spans}
    (end,) = [span for span in there.servers() if span.facts["url.path"] == "/fast/2"]
    asked = by_id[end.parent]
    middle_one = by_id[asked.parent]
    call = by_id[middle_one.parent]
    begin = by_id[call.parent]
    assert [span.name for span in (begin, call, middle_one, asked, end)] == [
        "GET /call", "GET", "GET /call", "GET", "GET /fast/{number}",
    ]  # fmt: skip
    assert len({span.trace_id for span in (begin, call, middle_one, asked, end)}) == 1
    assert [span.failed for span in (call, middle_one, asked)] == [True, True, False]

    (rows,) = [span for span in there.servers() if span.facts["url.path"] == "/rows"]
    below = {span.name: span for span in there.below(rows)}
    assert {"INSERT clients", "SELECT clients", "COMMIT"} <= set(below)
    assert below["SELECT clients"].facts["db.query.text"] == "SELECT * FROM clients WHERE note = ?"
    assert below["SELECT clients"].facts["db.system.name"] == "sqlite"
    (exception,) = [facts for name, facts in rows.events if name == "exception"]
    assert exception["exception.message"] == "after the rows"
    assert rows.began <= below["COMMIT"].began <= below["COMMIT"].ended <= rows.ended
    (held,) = [span for span in there.servers() if span.facts["url.path"] == "/held"]
    assert {name for name, _ in held.events} & {"db.deadlock_found", "db.checkout_timed_out"}
    (stream,) = [span for span in there.servers() if span.facts["url.path"] == "/stream"]
    assert stream.ended - stream.began >= 200_000_000
    assert not any(b"secret" in body for body in there.bodies)


def test_no_secret_comes_out_in_a_span(tmp_path: Path) -> None:
    """The outlet that `test_logs` has not: more than fifty kinds, in a path and in an exception."""
    with collector() as there, shop(tmp_path, FASTAPI, there.url, ratio=1.0) as service:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            for _, text, _ in PLANTED:
                assert client.post("/raise", content=text).status_code == 500
                client.get(f"/nowhere/{quote(text, safe='')}?{quote(text, safe='=&?')}")
        ended(service)

    assert len(there.servers()) == 2 * len(PLANTED)
    body = b"".join(there.bodies)
    assert [kind for kind, _, secret in PLANTED if secret.encode() in body] == []


def silent(there: Collector) -> None:
    there.before = lambda: time.sleep(30)


def refusing(there: Collector) -> None:
    there.status = 503


@pytest.mark.parametrize("away", ["refused", "silent", "503"])
def test_a_dead_collector_costs_no_request_and_little_of_the_shutdown(
    tmp_path: Path, away: str
) -> None:
    """Requests are answered as fast as ever, one line a minute tells of it, and the service leaves
    within its usual time and two seconds."""
    with collector() as there:
        {"silent": silent, "503": refusing, "refused": lambda _: None}[away](there)
        endpoint = f"http://127.0.0.1:{free_port()}" if away == "refused" else there.url
        with shop(tmp_path, FASTAPI, endpoint, ratio=1.0) as service:
            took = []
            with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
                end = time.monotonic() + 3
                while time.monotonic() < end:
                    began = time.monotonic()
                    assert client.get("/fast/1").status_code == 200
                    took.append(time.monotonic() - began)
            if away != "silent":
                service.until(lambda: "shipworthy_span_export_failing 1" in service.metrics(), 10)
                told = httpx.get(
                    f"{service.operations}/health", headers={"Authorization": f"Bearer {TOKEN}"}
                )
                assert any("traces are not taken by" in note for note in told.json()["notes"])
            began = time.monotonic()
            service.signal(signal.SIGTERM)
            assert service.ended() == 0
            left = time.monotonic() - began
        said = [line for line in service.lines() if line.get("event") == "telemetry.spans_unsent"]

    assert sorted(took)[len(took) // 2] < 0.1
    assert len(said) <= 1 if away == "silent" else len(said) == 1
    # Lame duck, idle grace and the end of an idle service, and what a dead collector may add.
    assert left < 2.0 + 3.0, left


def test_what_was_kept_while_the_collector_was_away_arrives_when_it_is_back(
    tmp_path: Path,
) -> None:
    """A collector that is started anew gets the spans of the time between, and it is said."""
    with collector() as there:
        port = there.port
    with shop(tmp_path, FASTAPI, f"http://127.0.0.1:{port}", ratio=1.0) as service:
        missed = httpx.get(f"{service.url}/fast/1").headers["x-request-id"]
        service.until(lambda: "shipworthy_span_export_failing 1" in service.metrics(), 10)
        with collector(port) as back:
            back.until(lambda spans: missed in {span.trace_id for span in spans}, SENT_SECONDS)
            service.until(lambda: "shipworthy_span_export_failing 0" in service.metrics(), 10)
            ended(service)

    events = [line.get("event") for line in service.lines()]
    assert events.count("telemetry.spans_unsent") == 1
    assert events.count("telemetry.spans_sent_again") == 1
