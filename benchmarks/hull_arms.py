"""The arms of our own environment: the bare application, and it with the guards around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rounds import bare

from shipworthy import harden
from shipworthy.settings import load

ENVIRON = {"SHIPWORTHY_ENV": "development", "SHIPWORTHY_LOG__FORMAT": "json"}


def hardened(app: Any, **environ: str) -> Any:
    """Put the default guards around `app`, whatever settings lie where this is run."""
    said = {**ENVIRON, **environ}
    return harden(app, settings=load(environ=said, directory=Path(__file__).parent))


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    return {"bare FastAPI": bare(), "harden(app)": hardened(bare())}
