"""What a request would be held to, in its order, and the worst that can come of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

from shipworthy.admission.plan import plan_of
from shipworthy.admission.policy import NANOSECONDS, Policy
from shipworthy.admission.stores import is_shared
from shipworthy.units import format_duration

_MEMORY: Final = "memory of each process: with several workers, that many times as much"
_DOWN: Final[Mapping[str, str]] = {
    "open": "requests pass",
    "closed": "requests are answered 503",
    "local": "each process allows its share",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One policy, as it holds for a request; `worst` is the most in any window of its period."""

    policy: str
    mode: str
    match: tuple[str, ...]
    charged_to: str
    tier: str
    allows: str
    worst: int
    period_seconds: float
    cost: int
    concurrent: int
    counts: str
    store: str
    store_down: str

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @property
    def period(self) -> str:
        """The time that its count is for."""
        return format_duration(self.period_seconds)

    @property
    def sentence(self) -> str:
        """Return it in words."""
        told = [
            f"{self.policy}: {self.allows}, for each {self.charged_to}",
            f"at most {self.worst} in any {self.period}",
            *([f"a request costs {self.cost}"] if self.cost > 1 else []),
            *([f"{self.concurrent} open at once"] if self.concurrent else []),
            *(["answers of 400 to 499 count"] if self.counts == "failures" else []),
            f"mode {self.mode}",
        ]
        return "; ".join(told)


def decisions_on(
    policies: Sequence[Policy], method: str, path: str, *, user: str = "", store: str
) -> list[Decision]:
    """Return what a request is held to; `user` '' is one whom nobody knows.

    Without the application its routes are not known: patterns are compared with the path alone.
    """
    found, _ = plan_of(tuple(policies)).policies_for(method, path)
    return [described(policy, user=user, store=store) for policy in found]


def described(policy: Policy, *, user: str = "", store: str) -> Decision:
    """Return what a policy comes to, for everybody or for a user."""
    by_user = bool(user) and "user" in policy.sources
    charged = f"user '{user}'" if by_user else " or ".join(_told_apart(policy))
    tier = policy.tier_of("user", user) if by_user else None
    quota = policy.quotas["" if tier is None else tier.name]
    shared = is_shared(store)
    allows = policy.shown if tier is None else f"{tier.times} times {policy.shown}"
    return Decision(
        policy=policy.name,
        mode=policy.mode,
        match=tuple(pattern.text for pattern in policy.patterns),
        charged_to=charged,
        tier="" if tier is None else tier.name,
        allows=allows,
        worst=quota.worst_in(quota.period_ns) // policy.cost,
        period_seconds=quota.period_ns / NANOSECONDS,
        cost=policy.cost,
        concurrent=policy.concurrent,
        counts="failures" if policy.failures_only else "all",
        store=store if shared else _MEMORY,
        store_down=_DOWN[policy.when_down] if shared else "it is there as long as the process is",
    )


def _told_apart(policy: Policy) -> list[str]:
    words = {"api_key": "API key", "user": "user", "network": "network"}
    return [words[source] for source in policy.sources]
