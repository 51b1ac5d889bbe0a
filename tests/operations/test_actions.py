"""Actions: started, seen, stopped, and over by themselves."""

import asyncio

import pytest
from jsonschema import Draft202012Validator

from shipworthy.errors import ShipworthyError
from shipworthy.events import listen
from shipworthy.operations import Action, offered, registered
from shipworthy.operations.actions import MOST_SECONDS, Performer
from shipworthy.operations.occurrences import ActionFailed, OperatorCommanded

pytestmark = pytest.mark.anyio


class Trial:
    """An action that notes what became of it and lasts until it is told; `fails` with a reason."""

    def __init__(self):
        self.seen = []
        self.over = asyncio.Event()
        self.fails = ""

    async def perform(self, seconds):
        self.seen.append(f"began for {seconds:g}")
        try:
            if self.fails:
                raise ShipworthyError(self.fails)
            await self.over.wait()
        finally:
            self.seen.append("undone")


@pytest.fixture
def trial():
    """What happens in the action `rock-the-boat`."""
    return Trial()


@pytest.fixture
def action(trial):
    """The action."""
    return Action(name="rock-the-boat", sentence="It rocks.", perform=trial.perform)


async def until(look):
    """Let the loop go on until it is so."""
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0)


async def test_an_action_is_started_shown_and_stopped(connect, trial, action):
    """202 at once; it runs for 20 s if nobody says otherwise; stopped, it is undone."""
    async with connect(signed=True, actions=[action]) as client:
        before = (await client.get("/api/actions")).json()["actions"]
        started = await client.post("/api/actions/rock-the-boat")
        during = (await client.get("/api/actions")).json()["actions"]
        stopped = await client.delete("/api/actions/rock-the-boat")

    assert before == [
        {
            "name": "rock-the-boat",
            "sentence": "It rocks.",
            "running": False,
            "left_seconds": 0.0,
            "failed": "",
        }
    ]
    assert started.status_code == 202
    assert during[0]["running"]
    assert 15 < during[0]["left_seconds"] <= 20
    assert (stopped.status_code, stopped.json()["running"]) == (200, False)
    assert trial.seen == ["began for 20", "undone"]


async def test_an_action_that_is_over_may_be_started_again(connect, trial, action):
    """It ends by itself, with a length of the operator's choice."""
    async with connect(signed=True, actions=[action]) as client:
        await client.post("/api/actions/rock-the-boat", json={"seconds": 3})
        trial.over.set()
        await until(lambda: trial.seen[-1] == "undone")
        over = (await client.get("/api/actions")).json()["actions"][0]
        again = await client.post("/api/actions/rock-the-boat", json={"seconds": 4.5})
        await client.delete("/api/actions/rock-the-boat")

    assert not over["running"]
    assert again.status_code == 202
    assert trial.seen[0] == "began for 3"
    assert trial.seen[2] == "began for 4.5"


async def test_what_runs_is_not_started_twice(connect, trial, action):
    """409, and it says for how long it still runs."""
    async with connect(signed=True, actions=[action]) as client:
        await client.post("/api/actions/rock-the-boat")
        second = await client.post("/api/actions/rock-the-boat")
        await client.delete("/api/actions/rock-the-boat")

    assert second.status_code == 409
    assert second.json()["detail"] == "'rock-the-boat' runs already, for 20 s more; stop it first"
    assert trial.seen == ["began for 20", "undone"]


async def test_stopping_what_does_not_run_is_no_mistake(connect, action):
    """It is as it should be."""
    async with connect(signed=True, actions=[action]) as client:
        answer = await client.delete("/api/actions/rock-the-boat")

    assert (answer.status_code, answer.json()["running"]) == (200, False)


async def test_what_could_not_be_done_is_said_until_the_next_start(connect, trial, action):
    """The reason stands with the action and in the log."""
    heard = []
    stop = listen(heard.append, ActionFailed)
    trial.fails = "the boat is bolted down"
    async with connect(signed=True, actions=[action]) as client:
        await client.post("/api/actions/rock-the-boat")
        await until(lambda: heard)
        failed = (await client.get("/api/actions")).json()["actions"][0]
        trial.fails = ""
        again = await client.post("/api/actions/rock-the-boat")
        await client.delete("/api/actions/rock-the-boat")
    stop()

    assert (failed["running"], failed["failed"]) == (False, "the boat is bolted down")
    assert [(event.action, event.because) for event in heard] == [
        ("rock-the-boat", "the boat is bolted down")
    ]
    assert again.json()["failed"] == ""


@pytest.mark.parametrize(
    "body",
    [{"seconds": 0.5}, {"seconds": MOST_SECONDS + 1}, {"seconds": True}, {"second": 3}, [], 7],
    ids=str,
)
async def test_a_length_that_is_none_is_refused(connect, trial, action, body):
    """422; nothing begins."""
    async with connect(signed=True, actions=[action]) as client:
        answer = await client.post("/api/actions/rock-the-boat", json=body)

    assert answer.status_code == 422
    assert trial.seen == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_an_action_that_is_not_there_is_answered_with_the_nearest(connect, action, method):
    """404."""
    async with connect(signed=True, actions=[action]) as client:
        answer = await client.request(method, "/api/actions/rock-the-boot")

    assert answer.status_code == 404
    assert "did you mean 'rock-the-boat'?" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_nobody_acts_without_the_token_or_from_another_page(connect, trial, action, method):
    """401 without the token, 403 with the Origin of another page."""
    async with connect(actions=[action]) as client:
        nobody = await client.request(method, "/api/actions/rock-the-boat")
    async with connect(signed=True, actions=[action]) as client:
        page = await client.request(
            method, "/api/actions/rock-the-boat", headers={"Origin": "http://evil.example"}
        )

    assert (nobody.status_code, page.status_code) == (401, 403)
    assert trial.seen == []


async def test_where_nobody_registered_one_there_are_no_actions(connect):
    """Not even the path: it is a 404, and not in the document."""
    async with connect(signed=True) as client:
        answer = await client.get("/api/actions")
        document = (await client.get("/api/openapi.json")).json()

    assert answer.status_code == 404
    assert not [path for path in document["paths"] if "actions" in path]


async def test_the_answers_are_as_described(connect, action):
    """Each status, type and body is in the OpenAPI document."""
    async with connect(signed=True, actions=[action]) as client:
        document = (await client.get("/api/openapi.json")).json()
        answers = [
            ("/api/actions", "get", await client.get("/api/actions")),
            ("/api/actions/{name}", "post", await client.post("/api/actions/rock-the-boat")),
            ("/api/actions/{name}", "delete", await client.delete("/api/actions/rock-the-boat")),
        ]

    for path, method, answer in answers:
        said = document["paths"][path][method]["responses"][str(answer.status_code)]
        Draft202012Validator(said["content"]["application/json"]["schema"]).validate(answer.json())


async def test_starts_and_stops_are_told_to_the_log(connect, action):
    """With the client, and what comes of it."""
    heard = []
    stop = listen(heard.append, OperatorCommanded)
    async with connect(signed=True, actions=[action]) as client:
        await client.post("/api/actions/rock-the-boat")
        await client.delete("/api/actions/rock-the-boat")
    stop()

    assert [(event.command, event.outcome) for event in heard] == [
        ("start rock-the-boat", "it ends by itself in 20 s"),
        ("stop rock-the-boat", "it is over"),
    ]


async def test_an_undoing_that_takes_its_time_is_not_waited_for(monkeypatch):
    """The answer says that it still runs; the undoing goes on."""
    monkeypatch.setattr("shipworthy.operations.actions.STOP_SECONDS", 0.01)
    undoing = asyncio.Event()

    async def stubborn(_):
        try:
            await asyncio.Event().wait()
        finally:
            await undoing.wait()

    performer = Performer([Action(name="slow", sentence="", perform=stubborn)])
    await performer.start("slow", 5)
    stopped = await performer.stop("slow")
    undoing.set()
    await until(lambda: not performer.facts()[0].running)

    assert stopped.running


async def test_the_end_of_the_loop_undoes_what_runs(trial, action):
    """Ctrl-C ends the port's loop, which cancels what is left and waits for it."""
    performer = Performer([action])

    async def port():
        await performer.start("rock-the-boat", 300)

    await asyncio.to_thread(asyncio.run, port())

    assert trial.seen == ["began for 300", "undone"]


def test_what_is_registered_is_offered_for_as_long_as_the_block(action):
    """Also when the block fails."""
    with pytest.raises(ZeroDivisionError), registered(action):
        during = offered()
        raise ZeroDivisionError

    assert during == (action,)
    assert offered() == ()
