"""The hook of `run` and `harden`: the tables of `trash.flag` are under flag mode.

SQLAlchemy is not imported by this: who does not use it must not pay for it.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Final

from shipworthy.arrivals import Arrivals
from shipworthy.records.settings import TrashSettings

_in_force: Final[set[object]] = set()


def flag_tables(settings: TrashSettings | None = None) -> Callable[[], None]:
    """Put the tables that settings name under flag mode, in this process; return what ends it.

    Does nothing where none is named, and nothing a second time while the first is in force. An
    entry that cannot be read is refused when SQLAlchemy is imported.
    """
    tables = (settings or TrashSettings()).flag
    if not tables or _in_force:
        return _nothing
    here = object()
    _in_force.add(here)
    undo: list[Callable[[], None]] = []

    def reach(_library: ModuleType) -> None:
        from shipworthy.records.flag.mode import flag_deletions

        # Not caught: an application that was to hide rows must not start and show them.
        undo.append(flag_deletions(tables))

    arrivals = Arrivals(("sqlalchemy",), reach)
    arrivals.begin()

    def take_back() -> None:
        _in_force.discard(here)
        arrivals.end()
        while undo:
            undo.pop()()

    return take_back


def _nothing() -> None:
    return None
