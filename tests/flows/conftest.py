"""What flows start runs at its own speed."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def nobody_measures() -> Iterator[None]:
    """Processes that are started here are not measured for the coverage gate.

    It doubles what the start of a service costs, and what a flow runs through is covered where it
    is tested: each room's processes by that room's own tests.
    """
    with pytest.MonkeyPatch.context() as environ:
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            environ.delenv(name, raising=False)
        yield
