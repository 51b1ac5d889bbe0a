"""The hook of `run` and `harden`: writes carry their actor on every engine, whenever it is made.

SQLAlchemy is not imported by this: who does not use it must not pay for it.
"""

import sys
from collections.abc import Callable
from pathlib import PurePath
from types import ModuleType
from typing import Final

from shipworthy.arrivals import Arrivals
from shipworthy.audit.settings import AuditSettings
from shipworthy.events import Event, Severity, emit, event


@event(severity=Severity.WARNING)
class WritesUnbound(Event):
    """Engines could not be listened to: what they write is recorded without its actor."""

    what: str


_in_force: Final[set[object]] = set()


def bind_engines(settings: AuditSettings | None = None, *, service: str = "") -> Callable[[], None]:
    """Have every engine of this process tell its database who writes; return what takes it back.

    `service` is the actor of what nobody is named for, the program's name where it is empty. Does
    nothing in the mode `off`, and nothing a second time while the first is in force.
    """
    chosen = settings or AuditSettings()
    if chosen.mode == "off" or _in_force:
        return _nothing
    here = object()
    _in_force.add(here)
    undo: list[Callable[[], None]] = []

    def reach(library: ModuleType) -> None:
        try:
            from shipworthy.audit.binding import bind_all

            undo.append(bind_all(service=service or program_name(), bind_reads=chosen.bind_reads))
        except Exception as error:  # noqa: BLE001 - it is raised by the import of the app
            version = getattr(library, "__version__", "of no version")
            emit(WritesUnbound, what=f"SQLAlchemy {version} is not as we know it: {error!r}")

    arrivals = Arrivals(("sqlalchemy",), reach)
    arrivals.begin()

    def take_back() -> None:
        _in_force.discard(here)
        arrivals.end()
        while undo:
            undo.pop()()

    return take_back


def program_name() -> str:
    """Return how this program was called, without its path: `app.py`, `celery`."""
    path = PurePath(sys.argv[0] if sys.argv else "")
    return (path.parent.name if path.name == "__main__.py" else path.name) or "python"


def _nothing() -> None:
    return None
