"""What a policy comes to for a tier, for a network's unknown keys, and for one of several."""

from shipworthy.admission.pattern import pattern_of
from shipworthy.admission.policy import (
    ClientTier,
    Policy,
    network_quota,
    quota_of,
    share,
    times,
)
from shipworthy.store import Algorithm, Quota
from shipworthy.units import parse_rate

GOLD = ClientTier(name="gold", times=3, users=frozenset({"ana"}), networks=frozenset({"192.0.2.1"}))


def policy(rate="10/second", algorithm=Algorithm.GCRA, **more):
    found = parse_rate(rate)
    return Policy(
        name="x",
        patterns=(pattern_of("/a"),),
        rate=found,
        quota=quota_of(algorithm, found, 0),
        sources=("user", "network"),
        **more,
    )


def test_a_tier_has_so_many_times_as_much_at_once_and_in_all():
    """Of users by their name, of everybody else by the network."""
    found = policy(tiers=(GOLD,))
    assert (found.quotas["gold"].count, found.quotas["gold"].burst) == (30, 6)
    assert found.tier_of("user", "ana") is GOLD
    assert found.tier_of("network", "192.0.2.1") is GOLD
    assert found.tier_of("user", "192.0.2.1") is None
    assert times(found.quota, 1) == found.quota


def test_the_keys_of_a_network_have_ten_times_as_much_together():
    """Evenly, whatever the policy counts by; and never more than can be counted."""
    assert network_quota(policy(algorithm=Algorithm.EXACT).quota) == Quota(
        algorithm=Algorithm.GCRA, count=100, period_ns=10**9, burst=100
    )
    quick = Quota(algorithm=Algorithm.GCRA, count=900_000, period_ns=10**9, burst=900_000)
    assert network_quota(quick).count == 1_000_000


def test_processes_that_share_allow_no_more_together():
    """One is the least that each can allow."""
    quota = policy("10/second").quota
    assert (share(quota, 4).count, share(quota, 4).burst) == (2, 1)
    assert share(quota, 100).count == 1
    exact = policy("10/second", Algorithm.EXACT).quota
    assert share(exact, 3).burst == share(exact, 3).count == 3


def test_a_policy_is_meant_by_the_path_or_by_the_template():
    """What is mounted elsewhere is found by its path, what has ids by its template."""
    found = policy()
    assert found.matches("GET", "/a", "_unmatched")
    assert found.matches("GET", "/mounted/a", "/a")
    assert not found.matches("GET", "/b", "")
