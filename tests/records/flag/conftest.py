"""The fleet on each engine, under flag mode."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from records.flag_tables import FLAGGED, fill
from shipworthy.clock import ManualClock
from shipworthy.records import flag_deletions


@pytest.fixture
def fleet(engine: sa.Engine) -> Iterator[sa.Engine]:
    """The fleet on each engine in turn; its clock stands at 14 November 2023, 22:13:20."""
    yield from _under_flags(engine)


@pytest.fixture
def small_fleet(sqlite: sa.Engine) -> Iterator[sa.Engine]:
    """The fleet on SQLite, for what does not depend on the engine."""
    yield from _under_flags(sqlite)


def _under_flags(engine: sa.Engine) -> Iterator[sa.Engine]:
    with engine.begin() as connection:
        fill(connection)
    end = flag_deletions(FLAGGED, engines=engine, clock=ManualClock())
    yield engine
    end()
