"""The arms of our own environment for a `def` route, which FastAPI runs in a thread."""

from collections.abc import Callable
from typing import Any

from hull_arms import hardened
from rounds import bare_in_threads


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    return {"bare FastAPI": bare_in_threads(), "harden(app)": hardened(bare_in_threads())}
