"""The Content-Security-Policy on the operations port: what browsers report, and what they need."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from starlette.responses import Response

from shipworthy.operations.endpoint import Asked, Endpoint, Reply, schema_of, told
from shipworthy.operations.facts import Operated, PolicyFacts, SightingFacts
from shipworthy.web import Sighting, propose, together

# All of it is kept; what is said more rarely than so many others is no help to who reads.
_SHOWN_MAX = 200


def policy_endpoints(service: Operated) -> tuple[Endpoint, ...]:
    """Return the endpoint about what the policy of pages would forbid."""

    async def policy(_: Asked) -> Response:
        return told(await service.policy())

    return (
        Endpoint(
            path="/api/security/csp",
            summary="What browsers reported of the Content-Security-Policy, and the one that "
            "would let it through",
            replies=(Reply(says="Reports and proposal.", schema=schema_of(PolicyFacts)),),
            answer=policy,
        ),
    )


def policy_facts(told_by: Iterable[Mapping[str, Any]], silent: tuple[int, ...]) -> PolicyFacts:
    """Return as one what several workers have learned; each says what its guard describes."""
    answers = [answer for answer in told_by if answer]
    names = [field.name for field in fields(Sighting)]
    seen = together(
        Sighting(**{name: one[name] for name in names})
        for answer in answers
        for one in answer["seen"]
    )
    mode, policy = (answers[-1]["mode"], answers[-1]["policy"]) if answers else ("off", "")
    proposal = propose(policy, seen)
    return PolicyFacts(
        mode=mode,
        policy=policy,
        proposal=proposal.policy,
        added=proposal.added,
        advice=proposal.advice,
        seen=tuple(
            SightingFacts(
                directive=one.directive,
                source=one.source,
                route=one.route,
                reports=one.reports,
                clients=one.clients,
            )
            for one in seen[:_SHOWN_MAX]
        ),
        not_shown=max(len(seen) - _SHOWN_MAX, 0),
        forgotten=sum(answer["forgotten"] for answer in answers),
        silent=silent,
    )
