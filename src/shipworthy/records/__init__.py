"""Deletions: what one delete removed, as a unit that can be looked at and put back.

The application's DELETE stays a DELETE. The triggers of the trail keep every row that went; a
*deletion* is computed from a transaction afterwards, a plan says what a restore would do and what
stands in its way, and the restore puts exactly that unit back. Names load lazily (PEP 562),
those of events, metrics and settings at once: whoever puts the rooms together needs them.

Not here: how changes are recorded (`audit`), how long they are kept (`audit`, retention).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shipworthy.records.events import (
    DeletionFound,
    DeletionPurged,
    DeletionRestored,
    DeletionUnreadable,
    RestoreRejected,
)
from shipworthy.records.metrics import (
    records_metrics,
)
from shipworthy.records.settings import (
    TrashSettings,
)

if TYPE_CHECKING:
    from shipworthy.records.flag.adopting import (
        AdoptPlan,
        AdoptStep,
    )
    from shipworthy.records.flag.adoption import (
        AdoptionFailed,
        AdoptOptions,
        adopt,
        plan_of_adoption,
        plan_of_release,
        release_flags,
    )
    from shipworthy.records.flag.arrival import (
        flag_tables,
    )
    from shipworthy.records.flag.listing import (
        FlagDeletion,
        FlagRestoreRefused,
        flagged_deletions,
        flagged_deletions_async,
        restore_flagged,
        restore_flagged_async,
    )
    from shipworthy.records.flag.marks import (
        FlaggedTable,
    )
    from shipworthy.records.flag.mode import (
        flag_deletions,
    )
    from shipworthy.records.flag.scope import (
        include_deleted,
        really_delete,
    )
    from shipworthy.records.listing import (
        DeletionChange,
        moment,
    )
    from shipworthy.records.model import (
        OPEN_STATES,
        Deletion,
        DeletionState,
    )
    from shipworthy.records.plan import (
        Obstacle,
        ObstacleKind,
    )
    from shipworthy.records.refusals import (
        DeletionHalfVisible,
        DeletionHeld,
        DeletionNotOpen,
        DeletionUnknown,
        RecordsRefused,
        RestoreRefused,
        TrashNotInstalled,
        UndoRefused,
    )
    from shipworthy.records.report import (
        Restored,
        RestorePlan,
        obstacle_sentence,
        told,
    )
    from shipworthy.records.shown import RECORDS_SHOWN
    from shipworthy.records.tables import (
        TABLES,
    )
    from shipworthy.records.trash import (
        deletion,
        deletions,
        deletions_async,
        hold,
        hold_async,
        needed,
        plan_restore,
        plan_restore_async,
        purge,
        purge_async,
        purge_expired,
        restore,
        restore_async,
        undo_restore,
        undo_restore_async,
    )

__all__ = [
    "OPEN_STATES",
    "RECORDS_SHOWN",
    "TABLES",
    "AdoptOptions",
    "AdoptPlan",
    "AdoptStep",
    "AdoptionFailed",
    "Deletion",
    "DeletionChange",
    "DeletionFound",
    "DeletionHalfVisible",
    "DeletionHeld",
    "DeletionNotOpen",
    "DeletionPurged",
    "DeletionRestored",
    "DeletionState",
    "DeletionUnknown",
    "DeletionUnreadable",
    "FlagDeletion",
    "FlagRestoreRefused",
    "FlaggedTable",
    "Obstacle",
    "ObstacleKind",
    "RecordsRefused",
    "RestorePlan",
    "RestoreRefused",
    "RestoreRejected",
    "Restored",
    "TrashNotInstalled",
    "TrashSettings",
    "UndoRefused",
    "adopt",
    "deletion",
    "deletions",
    "deletions_async",
    "flag_deletions",
    "flag_tables",
    "flagged_deletions",
    "flagged_deletions_async",
    "hold",
    "hold_async",
    "include_deleted",
    "moment",
    "needed",
    "obstacle_sentence",
    "plan_of_adoption",
    "plan_of_release",
    "plan_restore",
    "plan_restore_async",
    "purge",
    "purge_async",
    "purge_expired",
    "really_delete",
    "records_metrics",
    "release_flags",
    "restore",
    "restore_async",
    "restore_flagged",
    "restore_flagged_async",
    "told",
    "undo_restore",
    "undo_restore_async",
]

_OFFERED = {
    "shown": ("RECORDS_SHOWN",),
    "flag.adopting": ("AdoptPlan", "AdoptStep"),
    "flag.adoption": (
        "AdoptOptions",
        "AdoptionFailed",
        "adopt",
        "plan_of_adoption",
        "plan_of_release",
        "release_flags",
    ),
    "flag.arrival": ("flag_tables",),
    "flag.listing": (
        "FlagDeletion",
        "FlagRestoreRefused",
        "flagged_deletions",
        "flagged_deletions_async",
        "restore_flagged",
        "restore_flagged_async",
    ),
    "flag.marks": ("FlaggedTable",),
    "flag.mode": ("flag_deletions",),
    "flag.scope": ("include_deleted", "really_delete"),
    "listing": ("DeletionChange", "moment"),
    "model": ("OPEN_STATES", "Deletion", "DeletionState"),
    "plan": ("Obstacle", "ObstacleKind"),
    "refusals": (
        "DeletionHalfVisible",
        "DeletionHeld",
        "DeletionNotOpen",
        "DeletionUnknown",
        "RecordsRefused",
        "RestoreRefused",
        "TrashNotInstalled",
        "UndoRefused",
    ),
    "report": ("RestorePlan", "Restored", "obstacle_sentence", "told"),
    "tables": ("TABLES",),
    "trash": (
        "deletion",
        "deletions",
        "deletions_async",
        "hold",
        "hold_async",
        "needed",
        "plan_restore",
        "plan_restore_async",
        "purge",
        "purge_async",
        "purge_expired",
        "restore",
        "restore_async",
        "undo_restore",
        "undo_restore_async",
    ),
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
