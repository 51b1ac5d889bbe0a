"""The facts of a service, as they are handed around and told."""

from dataclasses import FrozenInstanceError, fields

import orjson
import pytest

from shipworthy.operations import Operated, ServiceFacts


def test_facts_are_of_one_instant_and_cannot_be_changed(facts):
    """Whoever holds facts holds what was true then; a later truth is another object."""
    with pytest.raises(FrozenInstanceError):
        facts.phase = "draining"
    with pytest.raises(FrozenInstanceError):
        facts.workers[0].in_flight = 0


def test_facts_are_told_whole(facts):
    """Every field of the service and its workers is in the JSON, under its own name."""
    told = orjson.loads(orjson.dumps(facts))

    assert set(told) == {field.name for field in fields(ServiceFacts)}
    assert set(told["workers"][0]) == {field.name for field in fields(facts.workers[0])}
    assert told["ready"] == {"ok": True, "because": ""}


@pytest.mark.anyio
async def test_whatever_answers_the_four_questions_can_be_operated(service):
    """The port between this room and the service is these four methods, and no more."""
    operated: Operated = service

    assert operated.facts().target == "orders.main:app"
    assert (await operated.metrics()).endswith(b"up 1\n")
    assert len(await operated.requests()) == 1
    assert "draining" in await operated.command("drain")
