"""What guards turn away is counted always, stated once a second, and remembered for a while."""

import pytest

from shipworthy.clock import ManualClock
from shipworthy.events import listen
from shipworthy.telemetry import Registry
from shipworthy.web import BLOCKED, Blocked, RequestBlocked
from shipworthy.web.blocked import REMEMBERED


@pytest.fixture
def stated():
    """Every statement of a request that was turned away."""
    facts = []
    stop = listen(lambda fact: facts.append(fact) if isinstance(fact, RequestBlocked) else None)
    yield facts
    stop()


def tell(blocked, rule="default", because="too many", client="192.0.2.7"):
    blocked.tell("limits", rule, "enforce", because, client=client, route="/items/{id}")


def count(registry, *labels):
    sets = registry.snapshot()[BLOCKED.name]["sets"]
    return {tuple(found): numbers[0] for found, numbers in sets}[labels]


def test_a_flood_is_counted_whole_and_stated_once_a_second(stated):
    """Ten thousand in a second are ten thousand in the count, and two lines with their number."""
    clock, registry = ManualClock(), Registry()
    blocked = Blocked(registry, now=clock.now)
    for _ in range(10_000):
        tell(blocked)
    clock.advance(1.0)
    tell(blocked)
    assert count(registry, "limits", "default", "enforce") == 10_001
    assert [fact.others for fact in stated] == [0, 9_999]


def test_each_rule_is_stated_by_itself(stated):
    """A flood against one rule does not hide the first hit of another."""
    blocked = Blocked(Registry(), now=ManualClock().now)
    for rule in ("default", "default", "login"):
        tell(blocked, rule)
    assert [fact.rule for fact in stated] == ["default", "login"]


def test_the_last_are_remembered_and_no_more():
    """Memory is bounded by number and by length, whatever clients send."""
    clock = ManualClock()
    blocked = Blocked(Registry(), now=clock.now)
    for number in range(REMEMBERED + 5):
        tell(blocked, because=f"{number} " + "x" * 10_000)
    last = blocked.last()
    assert len(last) == REMEMBERED
    assert last[-1].because.startswith(f"{REMEMBERED + 4} ")
    assert max(len(found.because) for found in last) == 200


def test_an_expected_rule_begins_at_nought():
    """A count that begins with its first hit would hide that hit from every rate."""
    registry = Registry()
    Blocked(registry, now=ManualClock().now).expect("csrf", "cross-site", "report")
    assert count(registry, "csrf", "cross-site", "report") == 0


def test_it_is_described_without_secrets():
    """What a client sent may be in the reason; hits are counted since the beginning."""
    clock = ManualClock()
    blocked = Blocked(Registry(), now=clock.now)
    tell(blocked, because="password=hunter2-hunter2")
    clock.advance(2.0)
    tell(blocked)
    described = blocked.describe()
    assert described["rules"] == [
        {"guard": "limits", "rule": "default", "mode": "enforce", "requests": 2}
    ]
    assert [one["seconds_ago"] for one in described["last"]] == [2.0, 0.0]
    assert described["last"][0]["because"] == "password=***"
