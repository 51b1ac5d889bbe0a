"""The Content-Security-Policy over the operations port."""

import pytest

from shipworthy.operations import policy_facts

pytestmark = pytest.mark.anyio


async def test_the_policy_is_told_with_its_reports_and_what_they_ask_for(connect):
    """What several workers heard is one; who did not answer is named."""
    async with connect(signed=True) as client:
        told = (await client.get("/api/security/csp")).json()

    assert told == {
        "mode": "report",
        "policy": "default-src 'self'",
        "proposal": "default-src 'self'; img-src 'self' https://cdn.example",
        "added": ["img-src https://cdn.example"],
        "advice": [],
        "seen": [
            {
                "directive": "img-src",
                "source": "https://cdn.example",
                "route": "/docs",
                "reports": 6,
                "clients": 2,
            }
        ],
        "not_shown": 0,
        "forgotten": 2,
        "silent": [4712],
    }


def test_without_a_guard_there_is_nothing_to_tell():
    """Off in every worker, or no worker that answers."""
    facts = policy_facts([{}], ())
    assert (facts.mode, facts.policy, facts.proposal, facts.seen) == ("off", "", "", ())


def test_of_a_flood_so_much_is_shown_and_the_rest_counted():
    """The most frequent first; the proposal is made of all."""
    seen = [
        {
            "directive": "img-src",
            "source": f"https://{number}.example",
            "route": "/",
            "reports": number,
            "clients": 1,
        }
        for number in range(1, 251)
    ]
    facts = policy_facts(
        [{"mode": "report", "policy": "img-src 'self'", "seen": seen, "forgotten": 0}], ()
    )
    assert (len(facts.seen), facts.not_shown, facts.seen[0].reports) == (200, 50, 250)
    assert len(facts.added) == 250
