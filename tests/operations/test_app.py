"""The operations port as its callers see it: status, headers, and what is never in an answer."""

import logging
from dataclasses import replace

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.responses import Response

from shipworthy.access import AccessRole, LiveTokens, add_token
from shipworthy.clock import ManualClock
from shipworthy.errors import Draining, Misuse
from shipworthy.events import listen
from shipworthy.lifecycle import Answer
from shipworthy.operations import (
    Asked,
    Audience,
    Endpoint,
    OperationsSettings,
    Reply,
    operations_app,
)
from shipworthy.operations.endpoint import BODY_LIMIT_BYTES, told
from shipworthy.operations.occurrences import OperatorCommanded, OperatorRefused
from shipworthy.operations.openapi import PROBLEM_SCHEMA
from shipworthy.settings import ShownValue

pytestmark = pytest.mark.anyio

PROBES = ["/livez", "/readyz", "/startupz"]
API = ["/api/status", "/api/lifecycle", "/api/requests", "/api/config", "/api/openapi.json"]


def assert_problem(response, status, words):
    """The answer is an RFC 9457 problem of this status whose detail holds the words."""
    assert response.headers["content-type"] == "application/problem+json"
    Draft202012Validator(PROBLEM_SCHEMA).validate(response.json())
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert words in response.json()["detail"]
    assert response.json()["request_id"] == response.headers["x-request-id"]


def answering(answer, *, path="/api/extra", method="GET", audience=Audience.TOKEN):
    """An endpoint of a later room."""
    return Endpoint(
        path=path,
        method=method,
        summary="An endpoint of a later room",
        audience=audience,
        replies=(Reply(says="An answer.", schema={}),),
        answer=answer,
    )


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("host", ["localhost", "10.1.2.3:9000", "evil.example"])
async def test_a_probe_needs_neither_token_nor_known_host(connect, path, host):
    """An orchestrator comes by address and without a token, and is answered."""
    async with connect(host="0.0.0.0") as client:
        response = await client.get(path, headers={"Host": host})

    assert (response.status_code, response.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("path", "name"), [("/livez", "live"), ("/readyz", "ready"), ("/startupz", "startup")]
)
async def test_a_probe_fails_with_its_own_answer_only(connect, service, facts, path, name):
    """503 with the reason comes from the probe whose answer is no; the others stay 200."""
    service.known = replace(facts, **{name: Answer(False, "the loop stands at app.py:7")})

    async with connect() as client:
        answers = {probe: await client.get(probe) for probe in PROBES}

    assert answers[path].text == "not ok: the loop stands at app.py:7\n"
    assert [p for p, a in answers.items() if "retry-after" in a.headers] == [path]
    assert {p: a.status_code for p, a in answers.items()} == dict.fromkeys(PROBES, 200) | {
        path: 503
    }


async def test_a_probe_bound_elsewhere_keeps_the_reason_to_itself(connect, service, facts):
    """Reasons name dependencies and files, so off loopback only the token gets them."""
    service.known = replace(facts, ready=Answer(False, "check 'orders-db' failed"))

    async with connect(host="0.0.0.0") as client:
        bare = await client.get("/readyz")
    async with connect(host="0.0.0.0", signed=True) as client:
        detailed = await client.get("/readyz")

    assert bare.text == "not ok\n"
    assert detailed.text == "not ok: check 'orders-db' failed\n"


async def test_metrics_are_open_on_loopback(connect):
    """A scraper on the same machine needs no token, and gets the format it prefers."""
    async with connect() as client:
        plain = await client.get("/metrics")
        opened = await client.get(
            "/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"},
        )

    assert plain.text == "# HELP up Up.\n# TYPE up gauge\nup 1\n"
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.text == plain.text + "# EOF\n"
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "Accept" in opened.headers["vary"].title()


async def test_metrics_bound_elsewhere_need_a_token(connect, scrape_token):
    """Off loopback the scrape token opens the metrics, under whatever name the port was found."""
    async with connect(host="0.0.0.0") as client:
        bare = await client.get("/metrics")
        scraped = await client.get(
            "/metrics", headers={"Host": "pod-7", "Authorization": f"Bearer {scrape_token}"}
        )

    assert_problem(bare, 401, "token")
    assert scraped.status_code == 200


async def test_the_scrape_token_opens_nothing_else(connect, scrape_token):
    """Who may read metrics may not read settings nor drain."""
    async with connect() as client:
        headers = {"Authorization": f"Bearer {scrape_token}"}
        answers = [
            await client.get("/api/config", headers=headers),
            await client.post("/api/drain", headers=headers),
        ]

    for answer in answers:
        assert_problem(answer, 401, "not the operations token")


@pytest.mark.parametrize("path", API)
async def test_the_api_needs_the_token(connect, path):
    """Without it 401 says which scheme, with a wrong one also that it was wrong."""
    async with connect() as client:
        bare = await client.get(path)
        wrong = await client.get(path, headers={"Authorization": "Bearer guess"})
    async with connect(signed=True) as client:
        right = await client.get(path)

    assert_problem(bare, 401, "as bearer in the Authorization header")
    assert bare.headers["www-authenticate"] == "Bearer"
    assert_problem(wrong, 401, "not the operations token")
    assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert right.status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/style.css", "/nowhere", *API])
async def test_a_foreign_host_is_refused(connect, path):
    """A name that was made to point here (DNS rebinding) reads nothing, the right token or not."""
    async with connect(signed=True) as client:
        response = await client.get(path, headers={"Host": "evil.example:9000"})

    assert_problem(response, 421, "operations.allowed_hosts")


async def test_an_allowed_host_is_answered(connect):
    """A name in the setting is as good as localhost."""
    async with connect(signed=True, allowed_hosts=("ops.example",)) as client:
        response = await client.get("/api/status", headers={"Host": "ops.example"})

    assert response.status_code == 200


async def test_a_drain_is_begun_and_said(connect, service):
    """POST /api/drain gives the command, answers 202 with its sentence, and is an event."""
    heard: list[OperatorCommanded] = []
    stop = listen(heard.append, OperatorCommanded)

    async with connect(signed=True) as client:
        response = await client.post("/api/drain", headers={"Origin": "http://localhost:9000"})
    stop()

    assert (response.status_code, service.drained) == (202, True)
    assert response.json() == {"detail": "draining: requests in flight are finished"}
    assert [(event.command, event.client) for event in heard] == [("drain", "127.0.0.1")]


async def test_a_command_that_cannot_be_done_says_why(connect):
    """What the service answers with an error becomes a 409 with its sentence."""
    async with connect(signed=True) as client:
        await client.post("/api/drain")
        response = await client.post("/api/drain")

    assert_problem(response, 409, "the service is draining already")


async def test_a_cross_site_command_is_refused(connect, service):
    """A page of another origin drains nothing, even if it had the token."""
    heard: list[OperatorRefused] = []
    stop = listen(heard.append, OperatorRefused)

    async with connect(signed=True) as client:
        response = await client.post("/api/drain", headers={"Origin": "http://evil.example"})
    stop()

    assert_problem(response, 403, "Origin")
    assert not service.drained
    assert [(event.endpoint, event.status) for event in heard] == [("/api/drain", 403)]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/readyz", "GET, HEAD"),
        ("GET", "/api/drain", "POST"),
        ("DELETE", "/", "GET, HEAD"),
        ("OPTIONS", "/api/status", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(connect, method, path, allow):
    """405 carries `Allow`, with or without a token."""
    async with connect() as client:
        response = await client.request(method, path)

    assert_problem(response, 405, "")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/nowhere", "/api/", "/API/status", "/livez/", "//evil.example"])
async def test_an_unknown_path_is_a_problem(connect, path):
    """404 says where the list is; nothing redirects."""
    async with connect() as client:
        response = await client.get(f"http://localhost:9000{path}?token=secret-in-a-query")

    assert_problem(response, 404, "/ lists what there is")
    assert "secret-in-a-query" not in response.text


async def test_a_path_that_is_no_text_is_a_problem_too(connect):
    """Bytes that are not UTF-8, and very long paths, are answered like any unknown path."""
    async with connect() as client:
        odd = await client.get("/%ff%00%ed%a0%80")
        long = await client.get("/" + "x" * 60_000)

    assert_problem(odd, 404, "nothing at this path")
    assert_problem(long, 404, "nothing at this path")
    assert len(long.content) < 1000


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/readyz", "/nowhere"])
async def test_head_is_answered_like_get(connect, path):
    """HEAD has the status, type and length of GET; the server leaves the body out."""
    async with connect() as client:
        got, head = await client.get(path), await client.head(path)

    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    # Ages on the page may be written a digit longer a moment later.
    assert abs(int(head.headers["content-length"]) - len(got.content)) < 5


async def test_a_huge_body_nobody_asked_for_is_not_read(connect, service):
    """The drain takes no body, so what is sent with it is never pulled in."""
    pulled = 0

    async def endless():
        nonlocal pulled
        for _ in range(1_000):
            pulled += 1
            yield b"x" * 65_536

    async with connect(signed=True) as client:
        response = await client.post("/api/drain", content=endless())

    assert (response.status_code, service.drained) == (202, True)
    assert pulled == 0


async def test_huge_headers_change_nothing(connect):
    """A header of a megabyte is refused by the server in front; here it is not looked at."""
    async with connect() as client:
        response = await client.get("/health", headers={"X-Large": "x" * 1_000_000})

    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/livez", "/nowhere", "/api/status"])
async def test_every_answer_carries_the_same_headers(connect, path):
    """No answer may be kept, framed, sniffed, or load anything but our style sheet."""
    async with connect() as client:
        response = await client.get(path)

    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert len(response.headers["x-request-id"]) == 32


async def test_the_settings_in_force_are_shown_with_their_origin(connect):
    """The API tells each value as it may be shown, and where it came from."""
    value = ShownValue(key="serve.port", shown="8000", origin="default")

    async with connect(signed=True, values=[value]) as client:
        response = await client.get("/api/config")

    assert response.json() == {
        "settings": [{"key": "serve.port", "value": "8000", "origin": "default"}]
    }


async def test_the_requests_in_flight_are_told(connect):
    """What the service says of its requests is passed on as it is."""
    async with connect(signed=True) as client:
        response = await client.get("/api/requests")

    assert [request["request_id"] for request in response.json()["requests"]] == ["a1"]


async def test_no_token_is_in_any_answer_or_log_line(connect, token, scrape_token, caplog):
    """Neither the right tokens nor what was sent as one is ever written back or logged."""
    caplog.set_level(logging.DEBUG)
    answers = []
    for sent in (token, "nearly-the-right-token"):
        async with connect() as client:
            client.headers["Authorization"] = f"Bearer {sent}"
            answers += [await client.get(path) for path in [*PROBES, *API, "/", "/health", "/x"]]
            answers.append(await client.post("/api/drain"))

    written = "".join([*(a.text + str(a.headers) for a in answers), caplog.text])
    for secret in (token, scrape_token, "nearly-the-right-token"):
        assert secret not in written


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Misuse("no such flag 'x'; there is 'y'"), 422, "there is 'y'"),
        (Draining(retry_after_seconds=2.4), 503, "shutting down"),
        (RuntimeError("postgresql://user:hunter2@db/orders"), 500, "the log says why"),
    ],
)
async def test_what_an_endpoint_raises_becomes_a_problem(connect, error, status, words):
    """Errors of ours are told with their sentence; of others only that the port failed."""

    async def fail(_: Asked) -> Response:
        raise error

    async with connect(signed=True, endpoints=[answering(fail)]) as client:
        response = await client.get("/api/extra")

    assert_problem(response, status, words)
    assert "hunter2" not in response.text
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_a_failure_of_the_port_is_logged_under_its_id(connect, caplog):
    """The stack is in the log, with the id that the answer carries."""

    async def fail(_: Asked) -> Response:
        raise RuntimeError("a bug of ours")

    async with connect(signed=True, endpoints=[answering(fail)]) as client:
        response = await client.get("/api/extra")

    # The client of this test may log too, where another test has made it.
    (record,) = (one for one in caplog.records if one.name.startswith("shipworthy"))
    assert response.json()["request_id"] in record.getMessage()
    assert "a bug of ours" in caplog.text


async def test_a_secret_in_an_error_of_ours_is_hidden(connect):
    """The sentence of an error passes through the last net before it leaves."""

    async def fail(_: Asked) -> Response:
        raise Misuse("cannot reach postgresql://user:hunter2@db/orders")

    async with connect(signed=True, endpoints=[answering(fail)]) as client:
        response = await client.get("/api/extra")

    assert_problem(response, 422, "postgresql://user:***@db/orders")


async def test_a_later_room_shares_a_path_between_methods(connect):
    """Endpoints of one path with several methods are one route, and 405 names all of them."""

    async def read(asked: Asked) -> Response:
        return told({"key": asked.request.path_params["key"]})

    async def write(asked: Asked) -> Response:
        return told(await asked.json())

    path = "/api/flags/{key}"
    endpoints = [answering(read, path=path), answering(write, path=path, method="PUT")]
    async with connect(signed=True, endpoints=endpoints) as client:
        read_back = await client.get("/api/flags/blue")
        written = await client.put("/api/flags/blue", json={"on": True})
        wrong = await client.delete("/api/flags/blue")

    assert (read_back.json(), written.json()) == ({"key": "blue"}, {"on": True})
    assert wrong.headers["allow"] == "GET, HEAD, PUT"


@pytest.mark.parametrize(
    ("content", "media", "status", "words"),
    [
        (b"{", "application/json", 400, "the body is not JSON"),
        (b"", "application/json", 400, "the body is not JSON"),
        (b"{}", "text/plain", 415, "the body must be application/json"),
        (b" " * (BODY_LIMIT_BYTES + 1), "application/json", 413, f"{BODY_LIMIT_BYTES} bytes"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused(connect, content, media, status, words):
    """Broken JSON, another type and one byte too many each get their status and sentence."""

    async def write(asked: Asked) -> Response:
        return told(await asked.json())

    endpoints = [answering(write, method="PUT")]
    async with connect(signed=True, endpoints=endpoints) as client:
        response = await client.put("/api/extra", content=content, headers={"Content-Type": media})

    assert_problem(response, status, words)


async def test_a_body_of_exactly_the_limit_is_read(connect):
    """The limit itself is still allowed, and parameters of the type do not matter."""

    async def write(asked: Asked) -> Response:
        return told(await asked.json())

    body = b"1" + b" " * (BODY_LIMIT_BYTES - 1)
    endpoints = [answering(write, method="PUT")]
    async with connect(signed=True, endpoints=endpoints) as client:
        response = await client.put(
            "/api/extra", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}
        )

    assert response.text == "1"


async def test_an_endpoint_declared_twice_stops_the_start(service, connect):
    """Two rooms that claim one path and method are told at once."""

    async def read(_: Asked) -> Response:
        return told({})

    with pytest.raises(ValueError, match="GET /api/status is declared twice"):
        operations_app(
            service,
            token="",
            settings=OperationsSettings(),
            values=(),
            endpoints=[answering(read, path="/api/status")],
        )


async def test_a_websocket_is_closed(service):
    """Nothing here speaks the protocol, so a handshake is refused and not left waiting."""
    app = operations_app(service, token="", settings=OperationsSettings(), values=())
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    await app({"type": "websocket", "path": "/", "headers": []}, receive, send)

    assert sent == ["websocket.close"]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def sent(tmp_path, clock):
    """What each role sends as its token, and `old` for one that expires within a minute."""
    file = tmp_path / "tokens.json"
    shown = {
        role: add_token(file, f"our {role}", role, wall=clock.wall())[1] for role in AccessRole
    }
    shown["old"] = add_token(
        file, "old", AccessRole.ADMIN, wall=clock.wall(), expires=clock.wall() + 60
    )[1]
    return shown


@pytest.fixture
def port(service, token, tmp_path, clock, sent):
    """The way to ask a port that knows these tokens, from an address."""
    tokens = LiveTokens(str(tmp_path / "tokens.json"), clock=clock)
    tokens.look()
    app = operations_app(
        service,
        token=token,
        settings=OperationsSettings(),
        values=(),
        tokens=tokens,
        clock=clock,
    )

    async def ask(bearer, path="/api/status", method="GET", client="192.0.2.7"):
        transport = httpx.ASGITransport(app, client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:9000") as http:
            return await http.request(method, path, headers={"Authorization": f"Bearer {bearer}"})

    return ask


@pytest.fixture
def heard():
    events = []
    stop = listen(events.append, OperatorCommanded, OperatorRefused)
    yield events
    stop()


async def test_a_command_is_told_with_the_name_of_the_token(port, sent, token, heard):
    """So that who did what is seen; the token of the settings has the name of its setting."""
    await port(sent["operator"], "/api/restart", "POST")
    await port(token, "/api/restart", "POST")

    assert [(one.command, one.by, one.client) for one in heard] == [
        ("restart", "our operator", "192.0.2.7"),
        ("restart", "operations.token", "192.0.2.7"),
    ]


async def test_a_role_that_is_too_small_is_refused_and_told(port, service, sent, heard):
    """With 403, who it was and what would do; nothing was done."""
    answer = await port(sent["viewer"], "/api/drain", "POST")

    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "this needs the role operator or admin; the token 'our viewer' has the role viewer"
    )
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    assert not service.drained
    assert [(one.endpoint, one.status) for one in heard] == [("/api/drain", 403)]
    assert (await port(sent["auditor"], "/api/status")).status_code == 200
    assert (await port(sent["auditor"], "/api/config")).status_code == 403


async def test_a_token_that_expired_opens_nothing(port, sent, clock):
    """Its owner is told so; who knows the id alone is told that there is none."""
    assert (await port(sent["old"])).status_code == 200
    clock.advance(60)
    answer = await port(sent["old"])
    guessed = await port(sent["old"][:-1] + "~")

    assert (answer.status_code, guessed.status_code) == (401, 401)
    assert answer.json()["detail"].endswith("is expired")
    assert guessed.json()["detail"] == "the token sent is none of this service"


async def test_who_guesses_waits_and_a_good_token_from_there_passes(port, sent, clock, heard):
    """Nobody is locked out by what others try; the log has a line for each of ten, and one more."""
    answers = [await port(f"sw_{number:012x}_{'A' * 43}") for number in range(25)]
    good = await port(sent["viewer"])
    elsewhere = await port("wrong", client="192.0.2.8")

    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 15
    assert answers[-1].headers["retry-after"] == "60"
    assert "www-authenticate" not in answers[-1].headers
    assert (good.status_code, elsewhere.status_code) == (200, 401)
    assert [one.status for one in heard] == [401] * 10 + [429, 401]

    clock.advance(60)
    assert (await port("wrong")).status_code == 401
    assert heard[-1].because == (
        "the token sent is not the operations token (14 more from 192.0.2.7 were not told of)"
    )


async def test_one_network_of_ipv6_is_one_guesser(port):
    """Its customer has all addresses of a /64, so each of them counts for the same."""
    answers = [await port("wrong", client=f"2001:db8::{number + 1}") for number in range(11)]

    assert answers[-1].status_code == 429
    assert (await port("wrong", client="2001:db8:0:1::1")).status_code == 401


async def test_no_token_at_all_is_no_guess(port, heard):
    """Somebody who follows a link has tried nothing."""
    answers = [await port("", "/api/status") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {401}
