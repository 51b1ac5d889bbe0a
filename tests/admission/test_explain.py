"""What is said of a request beforehand is what holds for it."""

from shipworthy.admission import LimitsSettings, decisions_on, described
from shipworthy.settings import load

TEXT = """
[limits]
mode = "enforce"
[limits.policies.default]
tiers = ["gold"]
[limits.policies.login]
match = ["POST /login"]
algorithm = "exact"
rate = "5/15m"
count = "failures"
cost = 2
key = ["network"]
on_store_down = "closed"
[limits.tiers.gold]
users = ["ana"]
multiply = 5
"""


def policies(tmp_path):
    (tmp_path / "shipworthy.toml").write_text(TEXT)
    found, problems = load(directory=tmp_path, environ={}).of(LimitsSettings).read()
    assert problems == []
    return found


def test_every_policy_is_named_with_the_worst_that_it_can_admit(tmp_path):
    """In the order in which they hold, in words and as facts."""
    first, second = decisions_on(policies(tmp_path), "POST", "/login", store="memory")
    assert first.sentence == (
        "default: 1000/minute, 200 at once, for each API key or user or network; at most 1199 in "
        "any 1m; mode enforce"
    )
    assert second.sentence == (
        "login: 5/15m, exact, for each network; at most 2 in any 15m; a request costs 2; answers "
        "of 400 to 499 count; mode enforce"
    )
    assert second.facts()["worst"] == 2
    assert [one.policy for one in decisions_on(policies(tmp_path), "GET", "/", store="memory")] == [
        "default"
    ]


def test_a_user_has_what_his_tier_allows(tmp_path):
    """Where the policy tells users apart."""
    first, second = decisions_on(policies(tmp_path), "POST", "/login", user="ana", store="memory")
    assert (first.charged_to, first.tier, first.worst) == ("user 'ana'", "gold", 5999)
    assert first.allows == "5 times 1000/minute, 200 at once"
    assert (second.charged_to, second.tier) == ("network", "")
    (other, _) = decisions_on(policies(tmp_path), "POST", "/login", user="bo", store="memory")
    assert (other.tier, other.worst) == ("", 1199)


def test_it_is_said_where_is_counted_and_what_happens_without(tmp_path):
    """Memory is each process for itself; of a shared store each policy says what it does."""
    default, login = policies(tmp_path)
    assert described(default, store="memory").store.startswith("memory of each process")
    assert described(default, store="memory").store_down == (
        "it is there as long as the process is"
    )
    shared = "redis"
    assert described(default, store=shared).store == "redis"
    assert described(default, store=shared).store_down == "each process allows its share"
    assert described(login, store=shared).store_down == "requests are answered 503"
