"""The arms of our own environment as under `run` with a database: an engine, and it under guard.

Door and replay then stand in the line; the route uses no connection, so what is measured is what
they cost a request that does not need them.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from hull_arms import hardened
from rounds import bare, bare_in_threads

from shipworthy.db import install


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    install()
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:  # the first use is what brings it under guard
        connection.execute(sa.select(1))
    return {
        "bare FastAPI": bare(),
        "as under run, `async def`": hardened(bare()),
        "bare FastAPI, `def`": bare_in_threads(),
        "as under run, `def`": hardened(bare_in_threads()),
    }
