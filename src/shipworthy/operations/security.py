"""What the guards turned away, on the operations port: how often each rule, and the last of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.responses import Response

from shipworthy.operations.endpoint import Asked, Endpoint, Reply, schema_of, told
from shipworthy.operations.facts import BlockedFacts, Operated, RuleFacts, SecurityFacts

# Of all workers together; each remembers as many by itself.
SHOWN_MAX: Final = 100


def security_endpoints(service: Operated) -> tuple[Endpoint, ...]:
    """Return the endpoint about requests that were turned away."""

    async def security(_: Asked) -> Response:
        return told(await service.security())

    return (
        Endpoint(
            path="/api/security",
            summary="What the guards turned away, and in mode report what they would have",
            replies=(Reply(says="Rules and requests.", schema=schema_of(SecurityFacts)),),
            answer=security,
        ),
    )


def security_facts(told_by: Iterable[Mapping[str, Any]], silent: tuple[int, ...]) -> SecurityFacts:
    """Return as one what several workers have turned away since they began."""
    counts: Counter[tuple[str, str, str]] = Counter()
    last: list[BlockedFacts] = []
    modes: Mapping[str, str] = {}
    for answer in told_by:
        modes = answer["modes"]
        for rule in answer["rules"]:
            counts[rule["guard"], rule["rule"], rule["mode"]] += rule["requests"]
        last += [BlockedFacts(**one) for one in answer["last"]]
    last.sort(key=lambda one: one.seconds_ago)
    return SecurityFacts(
        modes=dict(modes),
        rules=tuple(
            RuleFacts(guard=guard, rule=rule, mode=mode, requests=requests)
            for (guard, rule, mode), requests in counts.most_common()
        ),
        last=tuple(last[:SHOWN_MAX]),
        silent=silent,
    )
