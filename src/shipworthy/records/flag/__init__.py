"""Flag mode: rows of chosen tables stay where they are, marked as deleted, and are not read.

For the few tables whose deleted rows others must still refer to. What a flag cannot hide is
measured and listed in the documentation; the trash, which is the default, has no such list. Names
load lazily (PEP 562): the hook of a service that flags nothing must not bring SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shipworthy.records.flag.arrival import flag_tables

if TYPE_CHECKING:
    from shipworthy.records.flag.adopting import AdoptPlan, AdoptStep
    from shipworthy.records.flag.adoption import (
        AdoptionFailed,
        AdoptOptions,
        adopt,
        plan_of_adoption,
        plan_of_release,
        release_flags,
    )
    from shipworthy.records.flag.listing import (
        FlagDeletion,
        FlagRestoreRefused,
        flagged_deletions,
        flagged_deletions_async,
        restore_flagged,
        restore_flagged_async,
    )
    from shipworthy.records.flag.marks import ID_COLUMN, FlaggedTable, flagged_tables
    from shipworthy.records.flag.mode import flag_deletions
    from shipworthy.records.flag.scope import include_deleted, really_delete

__all__ = [
    "ID_COLUMN",
    "AdoptOptions",
    "AdoptPlan",
    "AdoptStep",
    "AdoptionFailed",
    "FlagDeletion",
    "FlagRestoreRefused",
    "FlaggedTable",
    "adopt",
    "flag_deletions",
    "flag_tables",
    "flagged_deletions",
    "flagged_deletions_async",
    "flagged_tables",
    "include_deleted",
    "plan_of_adoption",
    "plan_of_release",
    "really_delete",
    "release_flags",
    "restore_flagged",
    "restore_flagged_async",
]

_OFFERED = {
    "adopting": ("AdoptPlan", "AdoptStep"),
    "adoption": (
        "AdoptOptions",
        "AdoptionFailed",
        "adopt",
        "plan_of_adoption",
        "plan_of_release",
        "release_flags",
    ),
    "listing": (
        "FlagDeletion",
        "FlagRestoreRefused",
        "flagged_deletions",
        "flagged_deletions_async",
        "restore_flagged",
        "restore_flagged_async",
    ),
    "marks": ("ID_COLUMN", "FlaggedTable", "flagged_tables"),
    "mode": ("flag_deletions",),
    "scope": ("include_deleted", "really_delete"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _OFFERED.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
