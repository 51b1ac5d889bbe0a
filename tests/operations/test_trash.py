"""The trash over the operations port, of a real database."""

import pytest
from jsonschema import Draft202012Validator

from operations.shop import everything
from shipworthy.events import listen
from shipworthy.operations.occurrences import OperatorCommanded

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def commanded():
    """The commands that were given, as they are told to the log."""
    heard = []
    stop = listen(heard.append, OperatorCommanded)
    yield heard
    stop()


async def test_a_deletion_is_listed_shown_planned_and_put_back(connect, shop, commanded):
    """All of it by the API, as a person at night would; the log says what was done, and the trail
    by whom."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        (deletion,) = (await client.get("/api/trash")).json()["deletions"]
        number = deletion["id"]
        shown = (await client.get(f"/api/trash/{number}")).json()
        plan = (await client.get(f"/api/trash/{number}/plan")).json()
        done = (await client.post(f"/api/trash/{number}/restore", json={"by": "ana"})).json()
        again = await client.post(f"/api/trash/{number}/restore")
        entries = (await client.get("/api/audit/entries?table=clients&limit=1")).json()["entries"]
        (back,) = (await client.get("/api/trash?state=restored")).json()["deletions"]

    assert (deletion["rows"], deletion["tables"]) == (3, {"clients": 1, "orders": 2})
    assert {"id", "at", "actor", "tables", "rows", "state"} <= set(deletion)
    assert shown["id"] == number
    assert (plan["offers"], plan["proven"], plan["obstacles"]) == (["all"], True, [])
    assert (done["rows"], done["left"]) == (3, 0)
    assert again.status_code == 409
    assert "already restored by ana" in again.json()["detail"]
    assert (entries[0]["op"], entries[0]["actor"], entries[0]["actor_kind"]) == (
        "insert",
        "ana",
        "claimed",
    )
    assert back["state"] == "restored"
    assert [(one.command, one.outcome) for one in commanded] == [
        ("restore", f"deletion {number}: 3 rows are back")
    ]


async def test_a_restore_is_taken_back_and_a_deletion_held_and_purged(connect, shop):
    """A hold keeps a deletion from being purged, an empty reason ends it."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        number = (await client.get("/api/trash")).json()["deletions"][0]["id"]
        await client.post(f"/api/trash/{number}/restore")
        undone = (await client.post(f"/api/trash/{number}/undo")).json()
        newer = (await client.get("/api/trash")).json()["deletions"][0]["id"]
        held = (await client.post(f"/api/trash/{newer}/hold", json={"because": "case 12"})).json()
        refused = await client.post(f"/api/trash/{newer}/purge")
        await client.post(f"/api/trash/{newer}/hold", json={"because": ""})
        purged = (await client.post(f"/api/trash/{newer}/purge")).json()

    assert undone["removed"] == 3
    assert held["hold"] == "case 12"
    assert refused.status_code == 409
    assert "case 12" in refused.json()["detail"]
    assert purged == {"purged": [newer]}


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        (("GET", "/api/trash?state=lost", None), 422, "'state' is one of open"),
        (("GET", "/api/trash?limit=0", None), 422, "'limit' is a number from 1 to 500"),
        (("GET", "/api/trash?before=x", None), 422, "the id of a deletion is a number"),
        (("GET", "/api/trash/4711", None), 409, "there is no deletion 4711"),
        (("GET", f"/api/trash/{'9' * 19}", None), 409, "there is no deletion 999"),
        (("GET", f"/api/trash/{'9' * 5000}", None), 422, "the id of a deletion is a number"),
        (("POST", "/api/trash/x/restore", None), 422, "the id of a deletion is a number"),
        (("POST", "/api/trash/1/restore", {"mode": "some"}), 422, "'mode' is one of all"),
        (("POST", "/api/trash/1/restore", {"accept_losses": 1}), 422, "true or false"),
        (("POST", "/api/trash/1/restore", {"by": ""}), 422, "'by' is a name"),
        (("POST", "/api/trash/1/restore", {"who": "ana"}), 422, "accept_losses, by, mode"),
        (("POST", "/api/trash/1/hold", {}), 422, "'because' is a text"),
    ],
)
async def test_what_cannot_be_asked_gets_one_sentence(connect, shop, asked, status, says):
    """And nothing is changed."""
    method, path, body = asked
    async with connect(signed=True, endpoints=everything(shop)) as client:
        answer = await client.request(method, path, json=body)

    assert answer.status_code == status
    assert says in answer.json()["detail"]


async def test_the_documents_schemas_hold_for_what_is_answered(connect, shop):
    """What the OpenAPI document says of a list is so."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        document = (await client.get("/api/openapi.json")).json()
        listed = (await client.get("/api/trash")).json()

    schema = document["paths"]["/api/trash"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]["schema"]
    Draft202012Validator(schema).validate(listed)
