"""The hook of `run`: every engine of the process is protected, whenever it is made.

SQLAlchemy is not imported by this: who does not use it must not pay for it.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Final

from shipworthy.arrivals import Arrivals
from shipworthy.db.settings import DbSettings
from shipworthy.db.slots import SUCCESSORS
from shipworthy.events import Event, Severity, emit, event
from shipworthy.resilience import ResilienceSettings

if TYPE_CHECKING:
    from sqlalchemy import URL

    from shipworthy.db.guard import Protection


@event(severity=Severity.WARNING)
class DatabasesUnguarded(Event):
    """Databases that could not be reached are used without deadline, permit and breaker."""

    what: str


# Other ways to a database than SQLAlchemy: module, and what people call it.
_OTHERS: Final = (
    ("peewee", "peewee"),
    ("pony.orm", "Pony ORM"),
    ("pymongo", "PyMongo"),
    ("tortoise", "Tortoise ORM"),
)


def not_reached() -> tuple[str, ...]:
    """Say, a sentence each, which databases of what is imported by now are not guarded.

    A driver that is used beside SQLAlchemy is not seen: both import it.
    """
    found = [name for module, name in _OTHERS if module in sys.modules]
    if _django_has_databases():
        found.append("Django's ORM")
    return tuple(
        f"{name} has a way of its own to the database: it is used without deadline, permit and "
        f"breaker"
        for name in sorted(found)
    )


def tell_not_reached() -> None:
    """State what `not_reached` says."""
    for what in not_reached():
        emit(DatabasesUnguarded, what=what)


def _django_has_databases() -> bool:
    module = sys.modules.get("django.conf")
    if module is None or not module.settings.configured:
        return False
    kinds = [one.get("ENGINE", "") for one in module.settings.DATABASES.values()]
    return any(kind and not kind.endswith(".dummy") for kind in kinds)


def protections_here() -> "tuple[Protection, ...]":
    """Return what is under guard now, without bringing SQLAlchemy to who has none."""
    guard = sys.modules.get("shipworthy.db.guard")
    return guard.protections() if guard else ()


def engine_urls_here() -> "tuple[URL, ...]":
    """Return where the engines under guard lead, as they were made, each URL once."""
    guard = sys.modules.get("shipworthy.db.guard")
    return guard.engine_urls() if guard else ()


# One for each `install` whose promise holds.
_in_force: Final[set[object]] = set()


def guards_all() -> bool:
    """Say whether every engine of this process is protected, so that each COMMIT is seen."""
    return bool(_in_force)


# As many processes as this one open connections to the same databases; None where nobody said.
_workers: int | None = None


def workers_here() -> int:
    """Return how many workers serve, as `install` was told; 1 where nobody said."""
    return _workers or 1


def successors_here() -> int:
    """Return how many serve beside those at times, while a worker is replaced under `run`."""
    return 0 if _workers is None else SUCCESSORS


def install(
    settings: DbSettings | None = None,
    resilience: ResilienceSettings | None = None,
    *,
    workers: int | None = None,
) -> Callable[[], None]:
    """Protect every engine of this process on its first use; return what takes it all back.

    `workers` is how many processes like this one serve, None where nobody replaces them: their
    pools share what a server has.
    Does nothing in the mode `off`. An SQLAlchemy that we do not know is left alone, which is said
    by an event: the import of the application does not fail for us.
    """
    global _workers  # noqa: PLW0603 - of the whole process, and so is this
    _workers = workers
    chosen = settings or DbSettings()
    if chosen.mode == "off":
        return _nothing
    undo: list[Callable[[], None]] = []
    here = object()

    def reach(library: ModuleType) -> None:
        try:
            from shipworthy.db.guard import protect_all

            undo.append(protect_all(chosen, resilience))
            _in_force.add(here)
        except Exception as error:  # noqa: BLE001 - it is raised by the import of the app
            version = getattr(library, "__version__", "of no version")
            emit(DatabasesUnguarded, what=f"SQLAlchemy {version} is not as we know it: {error!r}")

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
