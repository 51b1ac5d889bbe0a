"""All policies of a service, as they hold at a time: which of them a request is held to. Pure."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, final

from shipworthy.admission.pattern import EVERYTHING, plain
from shipworthy.admission.policy import DEFAULT, Policy

# As many paths are remembered with what they matched: what is asked for often costs nothing.
_PATHS_MOST: Final = 2_048
_PATH_CHARACTERS: Final = 256


@final
class LimitPlan:
    """The policies in their order; immutable, so that a change of the limits is one assignment.

    `template_of` tells the template of the route for a path, '' where that is not known.
    """

    __slots__ = ("_kept", "_template_of", "counts_open", "everywhere", "policies")

    def __init__(self, policies: tuple[Policy, ...], template_of: Callable[[str], str]) -> None:
        self.policies = tuple(policy for policy in policies if policy.mode != "off")
        # Nobody's path has to be looked at where every policy is for every request.
        self.counts_open = any(policy.concurrent for policy in self.policies)
        everywhere = all(
            not policy.per_route
            and any(p.path == EVERYTHING and not p.method for p in policy.patterns)
            for policy in self.policies
        )
        self.everywhere: tuple[Policy, ...] | None = (
            _matching(self.policies, "GET", "/", "")[0] if everywhere else None
        )
        self._template_of = template_of
        # Bounded, and what a client makes up pushes out only what is as cheap to find again.
        self._kept = lru_cache(maxsize=_PATHS_MOST)(self._find)

    def policies_for(self, method: str, path: str) -> tuple[tuple[Policy, ...], str]:
        """Return the policies for a request, in their order, and the template of its route."""
        if len(path) + len(method) > _PATH_CHARACTERS:
            return self._find(method, path)
        return self._kept(method, path)

    def _find(self, method: str, path: str) -> tuple[tuple[Policy, ...], str]:
        return _matching(self.policies, method, path, self._template_of(path))


def _matching(
    policies: tuple[Policy, ...], method: str, path: str, template: str
) -> tuple[tuple[Policy, ...], str]:
    path = plain(path)
    found = tuple(policy for policy in policies if policy.matches(method, path, template))
    if any(_stands_for_default(policy, found) for policy in found):
        found = tuple(policy for policy in found if policy.name != DEFAULT)
    return found, template


def _stands_for_default(policy: Policy, found: tuple[Policy, ...]) -> bool:
    """Say whether a policy is in the place of the default.

    One that only reports is not in that of one that is enforced: nothing would hold its requests.
    """
    if policy.name == DEFAULT or policy.with_default:
        return False
    return policy.mode == "enforce" or all(
        other.mode == "report" for other in found if other.name == DEFAULT
    )


def plan_of(
    policies: tuple[Policy, ...], template_of: Callable[[str], str] = lambda _: ""
) -> LimitPlan:
    """Return the plan of some policies, without the table of routes where nobody has one."""
    return LimitPlan(policies, template_of)
