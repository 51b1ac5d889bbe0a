"""Shipworthy makes a Python web service fit for production, and proves it by attacking it.

The public names are few and load lazily (PEP 562): importing one room never loads the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipworthy.assembly import harden
    from shipworthy.context import actor

__all__ = ["__version__", "actor", "harden"]
__version__ = "0.1.0"

_HOMES = {"actor": "shipworthy.context", "harden": "shipworthy.assembly"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'shipworthy' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
