"""Behind real balancers, each service is told to leave once: no client notices.

The settings are those of docs/how-to/drain-behind-a-balancer.md, with shorter times.
"""

from collections.abc import Callable

import pytest

from flows.balancers import FRONTS, Case, restarted
from flows.steady import Tally

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def tallies(
    tmp_path_factory: pytest.TempPathFactory, debian: Callable[[str, str], str]
) -> dict[str, Tally]:
    """One scene for all: starting two services four times is what costs time."""
    return restarted(debian, tmp_path_factory.mktemp("balancers"), Case())


@pytest.mark.parametrize("front", FRONTS)
def test_each_service_behind_a_balancer_leaves_without_a_failed_request(
    tallies: dict[str, Tally], front: str
) -> None:
    """L14: HAProxy `mode tcp`, HAProxy `mode http`, nginx; GET and POST, all with keep-alive."""
    tally = tallies[front]

    assert tally.failures == {}
    assert tally.answered > 200
