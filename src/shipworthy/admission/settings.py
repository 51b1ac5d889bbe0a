"""The settings of the rate limits: section [limits], with a table for each policy and each tier."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from shipworthy.admission.identity import SOURCES
from shipworthy.admission.network import network_of
from shipworthy.admission.pattern import Pattern, pattern_of
from shipworthy.admission.policy import (
    ClientTier,
    Policy,
    exact_problem,
    overlaps,
    policy_problems,
    quota_of,
)
from shipworthy.admission.stores import REDIS_KINDS
from shipworthy.errors import Misuse, UnitInvalid
from shipworthy.settings import Secret, option, secret, section, tables
from shipworthy.store import Algorithm
from shipworthy.units import parse_rate

# Each is looked at for every request whose path is new to us.
POLICIES_MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """One policy: what it matches, what it allows, and to whom."""

    match: tuple[str, ...] = option(
        ("*",),
        "what it is for: methods and paths as in 'POST /login', 'GET /items/{id}', '/search*', "
        "'WS /chat' for handshakes of websockets, '*' for all",
    )
    rate: str = option("1000/minute", "how many requests in how long, as in 10/minute or 100/30s")
    algorithm: Literal["gcra", "exact", "sliding"] = option(
        "gcra",
        "gcra: a burst, then evenly; exact: never more in any such time, up to 100, for logins and "
        "codes; sliding: cheap for long quotas, and up to nearly twice as many around its turn",
    )
    burst: int = option(
        0, "with gcra: how many at once; 0 for a fifth of the rate, at least one", minimum=0
    )
    key: tuple[str, ...] = option(
        ("api_key", "user", "network"),
        "who is told apart: the first of these that a request has; api_key, user, network",
    )
    cost: int = option(1, "for how many a request counts", minimum=1)
    concurrent: int = option(
        0,
        "how many requests, websockets among them, a client may have open at once in each process; "
        "0 for any number",
        minimum=0,
    )
    count: Literal["all", "failures"] = option(
        "all", "failures: only requests answered with 400 to 499 stay counted, as for a login"
    )
    per_route: bool = option(
        default=False,
        help="count each route by itself; what matches no route is one for all of them",
    )
    with_default: bool = option(
        default=True, help="whether its requests count for the policy 'default' as well"
    )
    mode: Literal["as limits.mode", "off", "report", "enforce"] = option(
        "as limits.mode", "report: only say what would be refused"
    )
    on_store_down: Literal["open", "closed", "local"] = option(
        "local",
        "while a shared store is away: open lets all pass, closed answers 503, local lets each "
        "process allow its share (limits.share_of)",
    )
    tiers: tuple[str, ...] = option((), "the tiers that are allowed more of it")


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Clients that are allowed more, where a policy names them."""

    users: tuple[str, ...] = option((), "users, as [actor] names them")
    networks: tuple[str, ...] = option((), "addresses; of IPv6 one stands for its first 64 bits")
    multiply: int = option(2, "how many times as much they are allowed", minimum=2, maximum=1000)


@section("limits")
@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSettings:
    """How often a client may ask.

    Without any policy of yours there is one, `default`: 1000/minute for each client, 200 of them at
    once. A request is held to every policy that matches it, and refused by the first that has no
    room; what one refuses is charged to none. These settings are read anew when their file changes.
    """

    mode: Literal["off", "report", "enforce"] = option(
        "report", "answer 429 to who asks too often; report only says who would be refused"
    )
    store: Literal["auto", "memory", "file", "database", "redis"] = option(
        "auto",
        "where the counts are kept: memory, which is each process for itself; file, which the "
        "workers of one machine share; database or redis; auto is memory, and under `run` with "
        "several workers a file",
    )
    store_url: Secret = secret(  # noqa: RUF009 - a declaration
        "where Redis or Valkey is (redis://, valkey://), or a database that is not db.url"
    )
    folder: str = option(
        "", "where the file is; under `run` a folder in memory that is removed at its end"
    )
    secret: Secret = secret(  # noqa: RUF009 - a declaration
        "mixed into the keys of a shared store, the same in all processes; without it, addresses "
        "could be guessed from what is kept there"
    )
    keys_most: int = option(
        200_000,
        "how many clients a process keeps apart in memory; beyond that, new ones share",
        minimum=1_000,
        maximum=10_000_000,
    )
    share_of: int = option(
        1,
        "how many processes divide what is allowed while a shared store is away",
        minimum=1,
        maximum=10_000,
    )
    api_key_header: str = option("x-api-key", "the header that holds the key of a client")
    policies: Mapping[str, PolicySettings] = tables(
        PolicySettings, "what is allowed", default={"default": PolicySettings()}
    )
    tiers: Mapping[str, TierSettings] = tables(TierSettings, "who is allowed more")

    def refusals(self, environment: str) -> list[str]:
        """Return what no request could be held to, a sentence each, in any environment."""
        del environment
        return self.read()[1]

    def read(self) -> tuple[tuple[Policy, ...], list[str]]:
        """Return the policies, in their order, and what is wrong with them, a sentence each."""
        problems = list(self._problems())
        tiers, tier_problems = self._tiers()
        problems += tier_problems
        found: list[Policy] = []
        for name, policy in self.policies.items():
            made, wrong = self._policy(name, policy, tiers)
            problems += wrong
            if made is not None:
                problems += policy_problems(made)
                found.append(made)
        return tuple(found), problems + ([] if problems else list(overlaps(found)))

    def _problems(self) -> Iterator[str]:
        if len(self.policies) > POLICIES_MOST:
            yield (
                f"limits.policies: {len(self.policies)} are too many; write {POLICIES_MOST} at most"
            )
        header = self.api_key_header
        if not header or header != header.lower() or not header.replace("-", "a").isalnum():
            yield f"limits.api_key_header: '{header}' is no header; write it in lower case"
        yield from self._store_problems()

    def _store_problems(self) -> Iterator[str]:
        kind = self.store_url.reveal().partition(":")[0]
        is_redis = kind in REDIS_KINDS
        if self.store == "redis" and not is_redis:
            yield (
                f"limits.store_url: {f'{kind}: is no Redis' if kind else 'not set'}; write "
                f"redis://host:6379/0, or another limits.store"
            )
        elif self.store == "database" and is_redis:
            yield f"limits.store_url: {kind}: is no database; write limits.store = redis"

    def _tiers(self) -> tuple[dict[str, ClientTier], list[str]]:
        problems = [
            f"limits.tiers.{name} has no clients; write limits.tiers.{name}.users or networks"
            for name, tier in self.tiers.items()
            if not tier.users and not tier.networks
        ]
        found = {
            name: ClientTier(
                name=name,
                times=tier.multiply,
                users=frozenset(tier.users),
                networks=frozenset(map(network_of, tier.networks)),
            )
            for name, tier in self.tiers.items()
        }
        return found, problems

    def _policy(
        self, name: str, policy: PolicySettings, tiers: Mapping[str, ClientTier]
    ) -> tuple[Policy | None, list[str]]:
        key = f"limits.policies.{name}"
        problems: list[str] = []
        patterns: list[Pattern] = []
        for text in policy.match:
            try:
                patterns.append(pattern_of(text))
            except Misuse as error:
                problems.append(f"{key}.match: {error}")
        problems += [
            f"{key}.key: there is no '{source}'; write {', '.join(SOURCES)} or some of them"
            for source in policy.key
            if source not in SOURCES
        ]
        problems += [
            f"{key}.tiers: there is no tier '{tier}'; write [limits.tiers.{tier}] with its clients"
            for tier in policy.tiers
            if tier not in tiers
        ]
        try:
            made = self._made(name, policy, tuple(patterns), tiers)
        except (Misuse, ValueError) as error:
            text = str(error)
            problems.append(text if text.startswith(key) else f"{key}: {text}")
            return None, problems
        return (None if problems else made), problems

    def _made(
        self,
        name: str,
        policy: PolicySettings,
        patterns: tuple[Pattern, ...],
        tiers: Mapping[str, ClientTier],
    ) -> Policy:
        """Return the policy; raises `ValueError` for a rate that cannot be kept."""
        key = f"limits.policies.{name}.rate"
        algorithm = Algorithm(policy.algorithm)
        named = tuple(tiers[tier] for tier in policy.tiers if tier in tiers)
        try:
            rate = parse_rate(policy.rate)
        except UnitInvalid as error:
            raise Misuse(f"{key}: {error}") from None
        most = rate.count * max([1, *(tier.times for tier in named)])
        exact = exact_problem(key, algorithm, most)
        if exact:
            raise Misuse(exact)
        return Policy(
            name=name,
            patterns=patterns,
            rate=rate,
            quota=quota_of(algorithm, rate, policy.burst),
            sources=tuple(known for text in policy.key for known in SOURCES if known == text),
            cost=policy.cost,
            concurrent=policy.concurrent,
            failures_only=policy.count == "failures",
            per_route=policy.per_route,
            with_default=policy.with_default,
            mode=self.mode if policy.mode == "as limits.mode" else policy.mode,
            when_down=policy.on_store_down,
            tiers=named,
        )
