"""A policy: whom it lets ask how often, and what is wrong with one that cannot mean what it says.

Pure. Everything that is wrong with the policies of a service is found before it serves: one that
matches nothing, one that another leaves nothing to refuse, one that no request could pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, final

from shipworthy.admission.identity import NETWORK, SOURCES, Source
from shipworthy.admission.pattern import Pattern
from shipworthy.store import EXACT_MOST, Algorithm, Quota
from shipworthy.units import Frequency, format_rate

PolicyMode = Literal["off", "report", "enforce"]
WhenDown = Literal["open", "closed", "local"]
# What one network may do with keys that nobody has verified, in so many times the policy.
NETWORK_TIMES: Final = 10
NANOSECONDS: Final = 1_000_000_000
DEFAULT: Final = "default"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTier:
    """Clients that are allowed more: `times` what a policy that names the tier allows."""

    name: str
    times: int
    users: frozenset[str]
    networks: frozenset[str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom it lets ask how often; `sources` are tried in turn for who is asking.

    `concurrent` is how many a client may have open at once in a process, 0 for any number;
    `quotas` has what each of its tiers is allowed, '' being everybody else.
    """

    name: str
    patterns: tuple[Pattern, ...]
    rate: Frequency
    quota: Quota
    sources: tuple[Source, ...]
    cost: int = 1
    concurrent: int = 0
    failures_only: bool = False
    per_route: bool = False
    with_default: bool = True
    mode: PolicyMode = "enforce"
    when_down: WhenDown = "local"
    tiers: tuple[ClientTier, ...] = ()
    quotas: Mapping[str, Quota] = field(init=False, repr=False, hash=False)

    def __post_init__(self) -> None:
        found = {"": self.quota}
        for tier in self.tiers:
            found[tier.name] = times(self.quota, tier.times)
        object.__setattr__(self, "quotas", found)

    def matches(self, method: str, path: str, template: str) -> bool:
        """Say whether it is meant for a request: by its path, or by the template of its route."""
        return any(
            pattern.matches(method, path) or (bool(template) and pattern.matches(method, template))
            for pattern in self.patterns
        )

    def tier_of(self, source: Source, value: str) -> ClientTier | None:
        """Return the tier of a client, None for everybody else."""
        for tier in self.tiers:
            if value in (tier.users if source == "user" else tier.networks):
                return tier
        return None

    @property
    def shown(self) -> str:
        """What it allows, in the words of the settings."""
        match self.quota.algorithm:
            case Algorithm.GCRA:
                return f"{format_rate(self.rate)}, {self.quota.burst} at once"
            case algorithm:
                return f"{format_rate(self.rate)}, {algorithm}"


def quota_of(algorithm: Algorithm, rate: Frequency, burst: int) -> Quota:
    """Return the quota; a burst of 0 is the default. Raises `ValueError` for what cannot be kept.

    A fifth of the count at once: a page with its parts, and no minute's worth in a second.
    """
    usual = max(1, rate.count // 5) if algorithm is Algorithm.GCRA else rate.count
    return Quota(
        algorithm=algorithm,
        count=rate.count,
        period_ns=round(rate.per_seconds * NANOSECONDS),
        burst=burst or usual,
    )


def times(quota: Quota, factor: int) -> Quota:
    """Return what `factor` such clients are allowed together; raises `ValueError` as `Quota`."""
    return replace(quota, count=quota.count * factor, burst=quota.burst * factor)


def network_quota(quota: Quota) -> Quota:
    """Return what one network may do with keys that nobody verified."""
    most = quota.period_ns // 1_000
    count = min(quota.count * NETWORK_TIMES, most)
    return Quota(
        algorithm=Algorithm.GCRA,
        count=count,
        period_ns=quota.period_ns,
        burst=min(quota.burst * NETWORK_TIMES, count),
    )


def share(quota: Quota, processes: int) -> Quota:
    """Return what one of `processes` allows by itself, so that together they allow no more.

    At least one: what is less than one for each of them cannot be divided.
    """
    return replace(
        quota, count=max(1, quota.count // processes), burst=max(1, quota.burst // processes)
    )


def policy_problems(policy: Policy) -> Iterator[str]:
    """Yield what one policy by itself cannot mean, a sentence each, after its key."""
    key = f"limits.policies.{policy.name}"
    if not policy.patterns:
        yield (
            f"{key}.match is empty, so it can never match; write a method and a path as in "
            f"'POST /login', or '*' for every request"
        )
    if not policy.sources:
        yield f"{key}.key is empty, so nobody is told apart; write {', '.join(SOURCES)} or some"
    behind = (
        policy.sources[policy.sources.index(NETWORK) + 1 :] if NETWORK in policy.sources else ()
    )
    for source in behind:
        yield (
            f"{key}.key: '{source}' stands behind '{NETWORK}', which every request has, so it is "
            f"never reached; put it in front"
        )
    if policy.cost > policy.quota.burst:
        yield (
            f"{key}.cost: {policy.cost} is more than can be had at once, {policy.quota.burst}, so "
            f"no request would ever pass; make limits.policies.{policy.name}.burst at least that"
        )


def exact_problem(key: str, algorithm: Algorithm, count: int) -> str:
    """Return what is wrong with a count that an exact policy cannot remember, '' for nothing."""
    if algorithm is not Algorithm.EXACT or count <= EXACT_MOST:
        return ""
    return (
        f"{key}: an exact policy remembers each request and allows at most {EXACT_MOST}, not "
        f"{count}; take algorithm gcra or sliding, or allow fewer in a shorter time"
    )


def overlaps(policies: Sequence[Policy]) -> Iterator[str]:
    """Yield a sentence for each policy that another leaves nothing to refuse.

    Not for the default, which is there without anybody having written it.
    """
    for place, policy in enumerate(policies):
        if policy.name == DEFAULT:
            continue
        for other_place, other in enumerate(policies):
            if other_place == place or not _leaves_nothing(other, policy):
                continue
            # Of two that say the same, the later one is told of.
            if _leaves_nothing(policy, other) and other_place > place:
                continue
            yield (
                f"limits.policies.{policy.name} can never refuse: '{other.name}' "
                f"({other.shown}) covers all that it matches, for the same clients, and allows no "
                f"more; remove one, or let '{policy.name}' allow less"
            )
            break


def _leaves_nothing(strict: Policy, policy: Policy) -> bool:
    """Say whether `policy` cannot refuse what `strict` has let pass."""
    return (
        strict.sources == policy.sources
        and strict.per_route == policy.per_route
        and strict.failures_only == policy.failures_only
        and strict.mode == policy.mode != "off"
        and strict.tiers == policy.tiers
        and strict.cost >= policy.cost
        and not policy.concurrent
        and (strict.name != DEFAULT or policy.with_default)
        and all(any(s.covers(p) for s in strict.patterns) for p in policy.patterns)
        and _allows_no_more(strict.quota, policy.quota)
    )


def _allows_no_more(strict: Quota, quota: Quota) -> bool:
    match quota.algorithm:
        case Algorithm.GCRA:
            return (
                strict.algorithm is Algorithm.GCRA
                and strict.burst <= quota.burst
                and strict.interval_ns >= quota.interval_ns
            )
        case Algorithm.EXACT:
            return strict.worst_in(quota.period_ns) <= quota.count
        case _:
            # It may take what is older than its period for younger, but nothing of two before.
            return strict.worst_in(2 * quota.period_ns) <= quota.count
