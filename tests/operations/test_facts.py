"""The facts of a service, as they are handed around and told."""

from dataclasses import FrozenInstanceError, fields

import orjson
import pytest

from shipworthy.operations import NameUnknown, Operated, ServiceFacts

MANY = "there is no breaker 'x'; there is 0, 1, 10, 2, 3, 4, 5, 6, 7, 8 and 1 more"


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
async def test_whatever_answers_these_questions_can_be_operated(service):
    """The port between this room and the service is these eight methods, and no more."""
    operated: Operated = service

    assert operated.facts().target == "orders.main:app"
    assert [list(snapshot) for snapshot in await operated.metrics()] == [["up"]]
    assert len(await operated.requests()) == 1
    assert (await operated.isolate_breaker("db:main", "x")).breakers[0].state == "isolated"
    assert (await operated.close_breaker("db:main")).breakers[0].state == "closed"
    assert (await operated.breakers()).breakers[0].name == "db:main"
    assert (await operated.databases()).databases[0].name == "main"
    assert "draining" in await operated.command("drain")


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("mian", ["main", "other"], "there is no breaker 'mian'; did you mean 'main'?"),
        ("x", ["b", "a", "a"], "there is no breaker 'x'; there is a, b"),
        ("x", [], "there is no breaker 'x'; there is none"),
        ("x", map(str, range(11)), MANY),
        ("y" * 200, ["a"], f"there is no breaker '{'y' * 100}'; there is a"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name, known, sentence):
    """The nearest where there is one near, else the first ten; nobody's novel is repeated."""
    assert str(NameUnknown("breaker", name, known)) == sentence
