"""Tokens with roles over the operations port: who is answered, who is named, who has to wait."""

import httpx
import pytest

from shipworthy.access import LiveTokens, Role, add_token
from shipworthy.clock import ManualClock
from shipworthy.events import listen
from shipworthy.operations import OperationsSettings, operations_app
from shipworthy.operations.occurrences import OperatorCommanded, OperatorRefused

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def sent(tmp_path, clock):
    """What each role sends as its token, and `old` for one that expires within a minute."""
    file = tmp_path / "tokens.json"
    shown = {role: add_token(file, f"our {role}", role, wall=clock.wall())[1] for role in Role}
    shown["old"] = add_token(file, "old", Role.ADMIN, wall=clock.wall(), expires=clock.wall() + 60)[
        1
    ]
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
