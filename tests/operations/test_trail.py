"""The trail over the operations port, of a real database."""

import pytest

from operations.shop import everything

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_what_is_captured_is_said_table_by_table(connect, shop):
    """As `shipworthy audit check --json` does."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        found = (await client.get("/api/audit")).json()

    assert (found["ok"], found["installed"], found["problems"]) == (True, True, [])
    assert {table["table"] for table in found["tables"]} == {"clients", "orders"}


async def test_who_changed_what_is_listed_newest_first(connect, shop):
    """By table, key and actor, and no more of them than were asked for."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        latest = (await client.get("/api/audit/entries?limit=1")).json()["entries"]
        one = (await client.get("/api/audit/entries?table=orders&key=2")).json()["entries"]
        nobodys = (await client.get("/api/audit/entries?actor=ana")).json()["entries"]
        later = (await client.get("/api/audit/entries?since=2999-01-01T00:00:00Z")).json()
        lately = (await client.get("/api/audit/entries?since=1h&limit=1")).json()["entries"]

    assert [entry["op"] for entry in latest] == ["delete"]
    assert [(entry["table"], entry["op"]) for entry in one] == [("orders", "delete")]
    assert nobodys == []
    assert later == {"entries": []}
    assert [entry["op"] for entry in lately] == ["delete"]


@pytest.mark.parametrize("since", ["yesterday", "2026-11-30T12:00:00"])
async def test_a_time_without_a_zone_is_refused(connect, shop, since):
    """Whose noon it was nobody could say."""
    async with connect(signed=True, endpoints=everything(shop)) as client:
        answer = await client.get(f"/api/audit/entries?since={since}")

    assert answer.status_code == 422
    assert "a time with its zone" in answer.json()["detail"]
