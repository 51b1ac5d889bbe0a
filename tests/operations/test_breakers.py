"""Breakers and databases over the operations port."""

import orjson
import pytest
from jsonschema import Draft202012Validator

from shipworthy.events import listen
from shipworthy.operations import Endpoint, Reply
from shipworthy.operations.breakers import REASON_CHARACTERS
from shipworthy.operations.facts import BreakersFacts
from shipworthy.operations.occurrences import OperatorCommanded

pytestmark = pytest.mark.anyio


@pytest.fixture
def commanded():
    """The commands that were given, as they are told to the log."""
    heard = []
    stop = listen(heard.append, OperatorCommanded)
    yield heard
    stop()


async def test_breakers_are_told_with_their_state_and_window(connect):
    """Why, since when, what was counted, of which worker; and which worker did not answer."""
    async with connect(signed=True) as client:
        answer = await client.get("/api/breakers")

    (breaker,) = answer.json()["breakers"]
    assert answer.json()["silent"] == [4712]
    assert (breaker["name"], breaker["worker"], breaker["state"]) == ("db:main", 4711, "closed")
    assert (breaker["window_calls"], breaker["window_failures"]) == (20, 1)
    assert (breaker["for_seconds"], breaker["opened_total"]) == (12.5, 2)


async def test_a_database_is_told_with_who_holds_its_connections(connect):
    """A pool without a limit has the capacity null; a holder has his lines and his request."""
    async with connect(signed=True) as client:
        (database,) = (await client.get("/api/databases")).json()["databases"]

    assert (database["name"], database["capacity"], database["breaker"]) == ("main", None, "closed")
    assert database["holders"] == [
        {
            "taken_at": "shop.py:12 in order",
            "stands_at": "shop.py:14 in order",
            "held_seconds": 3.25,
            "request_id": "a1",
        }
    ]


async def test_an_operator_isolates_and_closes_with_a_reason(connect, commanded):
    """The answer is how it stands then, and the log says who did it and why."""
    async with connect(signed=True) as client:
        isolated = await client.post(
            "/api/breakers/db:main/isolate", json={"because": "maintenance"}
        )
        closed = await client.post("/api/breakers/db:main/close")

    assert isolated.json()["breakers"][0]["state"] == "isolated"
    assert isolated.json()["breakers"][0]["because"] == "maintenance"
    assert closed.json()["breakers"][0]["state"] == "closed"
    assert [(event.command, event.client, event.outcome) for event in commanded] == [
        ("isolate", "127.0.0.1", "breaker 'db:main' is isolated: maintenance"),
        ("close", "127.0.0.1", "breaker 'db:main' is closed"),
    ]


@pytest.mark.parametrize("body", [None, {}])
async def test_a_reason_may_be_left_out(connect, body):
    """Somebody in a hurry isolates first."""
    async with connect(signed=True) as client:
        answer = await client.post("/api/breakers/db:main/isolate", json=body)

    assert answer.json()["breakers"][0]["because"] == "by hand"


async def test_a_reason_cannot_steer_a_terminal_or_carry_a_secret(connect):
    """It stands in logs, pages and refusals."""
    body = {"because": "see \x1b[2J postgresql://a:hunter2@db"}
    async with connect(signed=True) as client:
        answer = await client.post("/api/breakers/db:main/isolate", json=body)

    assert answer.json()["breakers"][0]["because"] == "see \\x1b[2J postgresql://a:***@db"


@pytest.mark.parametrize(
    "body",
    [[], "because", {"because": ""}, {"because": 1}, {"becuase": "x"}, {"because": "x" * 201}],
    ids=str,
)
async def test_a_reason_that_is_none_is_refused(connect, service, commanded, body):
    """The sentence says what would be one; nothing is done."""
    async with connect(signed=True) as client:
        answer = await client.post(
            "/api/breakers/db:main/isolate",
            content=orjson.dumps(body),
            headers={"content-type": "application/json"},
        )

    assert answer.status_code == 422
    assert f"1 to {REASON_CHARACTERS} characters" in answer.json()["detail"]
    assert service.breaker.state == "closed"
    assert commanded == []


@pytest.mark.parametrize("order", ["isolate", "close"])
async def test_a_mistyped_breaker_is_answered_with_the_nearest_name(connect, commanded, order):
    """404, and nothing is said to have been done."""
    async with connect(signed=True) as client:
        near = await client.post(f"/api/breakers/db:mian/{order}")
        far = await client.post(f"/api/breakers/ledger/{order}")

    assert near.status_code == far.status_code == 404
    assert near.json()["detail"] == "there is no breaker 'db:mian'; did you mean 'db:main'?"
    assert far.json()["detail"] == "there is no breaker 'ledger'; there is db:main"
    assert commanded == []


async def test_a_name_may_hold_a_slash(connect, service):
    """A target is named by whoever calls it."""
    service.breaker = type(service.breaker)(
        **{name: getattr(service.breaker, name) for name in service.breaker.__slots__}
        | {"name": "http://ledger/v1"}
    )
    async with connect(signed=True) as client:
        answer = await client.post("/api/breakers/http://ledger/v1/isolate")

    assert answer.json()["breakers"][0]["state"] == "isolated"


@pytest.mark.parametrize("path", ["/api/breakers/db:main/isolate", "/api/breakers/db:main/close"])
async def test_nobody_sets_a_breaker_without_the_token_or_from_another_page(connect, service, path):
    """401 without it, 403 with another page's Origin, 421 under another name."""
    async with connect() as client:
        nobody = await client.post(path)
    async with connect(signed=True) as client:
        page = await client.post(path, headers={"Origin": "http://evil.example"})
        rebound = await client.post(path, headers={"Host": "evil.example"})

    assert [nobody.status_code, page.status_code, rebound.status_code] == [401, 403, 421]
    assert service.breaker.because == ""


@pytest.mark.parametrize("path", ["/api/breakers", "/api/databases"])
async def test_nobody_sees_them_without_the_token(connect, path):
    """Lines of code and reasons tell how a service is built."""
    async with connect() as client:
        answer = await client.get(path)

    assert answer.status_code == 401


async def test_the_answer_to_an_order_is_as_described(connect):
    """Status, type and body are those of the OpenAPI document; the body may be left out."""
    async with connect(signed=True) as client:
        document = (await client.get("/api/openapi.json")).json()
        answer = await client.post("/api/breakers/db:main/isolate")

    operation = document["paths"]["/api/breakers/{name}/isolate"]["post"]
    said = operation["responses"][str(answer.status_code)]["content"]["application/json"]
    Draft202012Validator(said["schema"]).validate(answer.json())
    assert operation["requestBody"]["required"] is False


async def test_a_body_that_is_sent_is_read_though_it_may_be_left_out(connect):
    """Chunked, without a length, it is a body all the same."""

    async def parts():
        yield b'{"because": '
        yield b'"chunks"}'

    async with connect(signed=True) as client:
        answer = await client.post(
            "/api/breakers/db:main/isolate",
            content=parts(),
            headers={"content-type": "application/json"},
        )

    assert answer.json()["breakers"][0]["because"] == "chunks"


async def test_a_body_that_must_be_sent_is_missed(connect):
    """Only who says so may leave it out."""

    async def read(asked):
        await asked.json()

    reads = Endpoint(
        path="/api/reads",
        method="POST",
        summary="",
        replies=(Reply(says="", schema={}),),
        answer=read,
    )
    async with connect(signed=True, endpoints=[reads]) as client:
        answer = await client.post("/api/reads")

    assert answer.status_code == 415


async def test_an_order_that_no_worker_has_a_breaker_for_is_withdrawn(
    connect, service, commanded, monkeypatch
):
    """There is no state to tell."""

    async def close_breaker(name):
        return BreakersFacts(breakers=(), silent=())

    monkeypatch.setattr(service, "close_breaker", close_breaker)
    async with connect(signed=True) as client:
        answer = await client.post("/api/breakers/db:main/close")

    assert (answer.status_code, answer.json()) == (200, {"breakers": [], "silent": []})
    assert commanded[-1].outcome == "breaker 'db:main' is not held open any more"
