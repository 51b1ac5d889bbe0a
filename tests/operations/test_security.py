"""What was turned away, over the operations port."""

import pytest

from operations.conftest import TURNED_AWAY
from shipworthy.operations import security_facts

pytestmark = pytest.mark.anyio


async def test_what_all_workers_turned_away_is_one_count_and_one_list(connect):
    """The counts of a rule add up; who did not answer is named."""
    async with connect(signed=True) as client:
        told = (await client.get("/api/security")).json()

    assert told["modes"] == TURNED_AWAY["modes"]
    assert [(one["rule"], one["requests"]) for one in told["rules"]] == [
        ("login", 14),
        ("unlisted", 2),
    ]
    assert told["last"] == TURNED_AWAY["last"] * 2
    assert told["silent"] == [4712]


async def test_nobody_without_the_token_hears_of_it(connect):
    """Who was refused, and why, helps whoever tries."""
    async with connect() as client:
        assert (await client.get("/api/security")).status_code == 401


def test_the_newest_are_shown_and_no_more_than_a_page():
    """Each worker remembers a hundred; together they are sorted and cut."""
    last = [{**TURNED_AWAY["last"][0], "seconds_ago": float(ago)} for ago in range(100)]
    facts = security_facts([{**TURNED_AWAY, "last": last}] * 3, ())
    assert [one.seconds_ago for one in facts.last[:4]] == [0.0, 0.0, 0.0, 1.0]
    assert len(facts.last) == 100
