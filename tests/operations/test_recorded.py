"""What trail and trash have in common on the operations port, of a real database."""

import anyio
import pytest

from operations.shop import everything, settings
from shipworthy.operations import RecordedApi, TrailBusy, recorded_metrics
from shipworthy.operations.recorded import AT_ONCE

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_without_a_token_nothing_is_shown(connect, shop):
    """Rows of users are in it."""
    async with connect(endpoints=everything(shop)) as client:
        answers = [
            await client.get("/api/trash"),
            await client.get("/api/audit/entries"),
            await client.post("/api/trash/1/restore"),
        ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


@pytest.mark.parametrize(
    ("database", "says"), [("", "set db.url"), ("sqlite:////nowhere/at/all.db", "no file")]
)
async def test_a_database_that_is_not_known_or_not_there_is_said(connect, database, says):
    """The port itself goes on."""
    async with connect(signed=True, endpoints=everything(database)) as client:
        answer = await client.get("/api/trash")
        still = await client.get("/livez")

    assert answer.status_code in {409, 422}
    assert says in answer.json()["detail"]
    assert still.status_code == 200


async def test_a_database_without_a_trail_says_how_to_get_one(connect, tmp_path):
    """The sentence names the command."""
    file = tmp_path / "plain.sqlite3"
    file.touch()
    async with connect(signed=True, endpoints=everything(f"sqlite:///{file}")) as client:
        answers = [await client.get(path) for path in ("/api/trash", "/api/audit/entries")]

    assert {answer.status_code for answer in answers} == {422}
    assert all("shipworthy audit install" in answer.json()["detail"] for answer in answers)


async def test_more_questions_than_are_answered_at_once_are_told_to_come_again(shop):
    """Each has a thread and a connection, and the port serves probes beside them."""
    api = RecordedApi(settings(shop))
    begun = anyio.Event()
    entered = []

    def wait(_):
        entered.append(1)
        anyio.from_thread.run(begun.wait)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(api.work, "", wait)
        with anyio.fail_after(10):
            while len(entered) < AT_ONCE:
                await anyio.sleep(0)
        with pytest.raises(TrailBusy, match="ask again"):
            await api.work("", lambda _: None)
        begun.set()

    assert await api.work("", lambda engine: engine.dialect.name) == "sqlite"


async def test_what_is_put_back_by_this_port_is_counted_by_this_process(connect, shop):
    """No worker has seen it: without this, panels and alerts on restores would hear of none."""

    def put_back() -> float:
        counted = {metric.name: read() for metric, read in recorded_metrics()}
        return counted["shipworthy_trash_rows_restored_total"][()]

    before = put_back()
    async with connect(signed=True, endpoints=everything(shop)) as client:
        (one,) = (await client.get("/api/trash")).json()["deletions"]
        done = (await client.post(f"/api/trash/{one['id']}/restore")).json()

    assert put_back() == before + done["rows"] > before
