"""The trail: who changed what, recorded by the database itself, and a record that shows tampering.

Triggers generated from the database's catalog write every change of a row into a log in the same
transaction; Python adds only who it was for. Names load lazily (PEP 562).

Not here: deletions as units and their restore (`records`), requests and their access line
(`telemetry`), leases (`store`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, and light: what `run` and `harden` need of us where no SQLAlchemy is.
from shipworthy.audit.arrival import WritesUnbound, bind_engines
from shipworthy.audit.ledger.component import sealing_component
from shipworthy.audit.ledger.figures import SEALED, ledger_metrics
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.settings import AuditSettings
from shipworthy.audit.unattributed import (
    WriteUnattributed,
    binding_metrics,
    unattributed_writes,
)
from shipworthy.audit.watch import (
    TableUncovered,
    TrailAbsent,
    TrailUnseen,
    TrailUnusable,
    TrailWatch,
    TriggerDrifted,
    coverage_metrics,
)

if TYPE_CHECKING:
    from shipworthy.audit.archive import ArchiveUnusable, check_archive, erase_archived
    from shipworthy.audit.binding import (
        bind,
        bind_all,
        look_again,
    )
    from shipworthy.audit.cells import (
        read_image,
        read_key,
        write_image,
        write_key,
    )
    from shipworthy.audit.coverage import (
        Coverage,
        TableCoverage,
    )
    from shipworthy.audit.dialects import (
        AuditDialect,
        audit_dialect,
        dialect_for,
        shell_delimiter,
    )
    from shipworthy.audit.exporting import ExportFilter, export, version_facts
    from shipworthy.audit.holds import LegalHold, add_hold, lift_hold, list_holds
    from shipworthy.audit.installation import (
        InstallFailed,
        InstallOptions,
        InstallReport,
        check,
        install,
        plan,
        plan_of_uninstall,
        release,
        uninstall,
    )
    from shipworthy.audit.ledger.findings import LedgerFinding, VerifyReport
    from shipworthy.audit.ledger.keys import SigningKeyMissing, find_key, known_keys
    from shipworthy.audit.ledger.note import Note, NoteInvalid, PrivateKey, PublicKey, read_notes
    from shipworthy.audit.ledger.proof import (
        LedgerProof,
        ProofInvalid,
        ProvenEntry,
        check_proof,
        read_proof,
    )
    from shipworthy.audit.ledger.prove import prove
    from shipworthy.audit.ledger.reconcile import ReconcileReport, RowFinding, reconcile
    from shipworthy.audit.ledger.rotation import begin_ledger, replace_lost_key, rotate_key
    from shipworthy.audit.ledger.seal import SealedBatch, Sealer, SealLimits
    from shipworthy.audit.ledger.verify import verify
    from shipworthy.audit.model import (
        Catalog,
        CatalogColumn,
        CatalogForeignKey,
        CatalogTable,
        CatalogUnique,
        Cell,
        Context,
        Entry,
        Image,
        Shape,
        TableName,
    )
    from shipworthy.audit.moment import (
        PastPruned,
        PastUnknown,
        PastUnsettled,
    )
    from shipworthy.audit.past import (
        Past,
        PastRow,
        as_of,
        as_of_async,
    )
    from shipworthy.audit.personal import Erasure, SubjectHeld, erase, personal_info, personal_of
    from shipworthy.audit.reading import (
        ERASED,
        TOO_LONG,
        UNKNOWN,
        LogRowUnreadable,
        NoValue,
        TrailMissing,
        naming_entry,
    )
    from shipworthy.audit.recent import (
        LogFilter,
        LoggedEntry,
        recent_entries,
    )
    from shipworthy.audit.retention import (
        RetentionReport,
        RetentionStopped,
        RetentionWork,
        check_archives,
        plan_of,
        retain,
        sealer_of,
    )
    from shipworthy.audit.retention_plan import RetentionLengths, RetentionPlan
    from shipworthy.audit.script import (
        as_lines,
    )
    from shipworthy.audit.shapes import (
        read_shapes,
    )
    from shipworthy.audit.shown import AUDIT_SHOWN
    from shipworthy.audit.steps import (
        InstallPlan,
        InstallStep,
    )
    from shipworthy.audit.survey import is_installed
    from shipworthy.audit.tables import (
        CONTEXTS,
        ENTRIES,
        META,
        PERSONAL,
        SHAPES,
        TABLE_OPTIONS,
        add_tables,
    )
    from shipworthy.audit.versions import (
        RowVersion,
        history,
        history_async,
    )

__all__ = [
    "AUDIT_SHOWN",
    "CONTEXTS",
    "ENTRIES",
    "ERASED",
    "META",
    "PERSONAL",
    "SEALED",
    "SHAPES",
    "TABLE_OPTIONS",
    "TOO_LONG",
    "UNKNOWN",
    "ArchiveUnusable",
    "AuditDialect",
    "AuditSettings",
    "Catalog",
    "CatalogColumn",
    "CatalogForeignKey",
    "CatalogTable",
    "CatalogUnique",
    "Cell",
    "Context",
    "Coverage",
    "Entry",
    "Erasure",
    "ExportFilter",
    "Image",
    "InstallFailed",
    "InstallOptions",
    "InstallPlan",
    "InstallReport",
    "InstallStep",
    "LedgerFinding",
    "LedgerProof",
    "LedgerSettings",
    "LegalHold",
    "LogFilter",
    "LogRowUnreadable",
    "LoggedEntry",
    "NoValue",
    "Note",
    "NoteInvalid",
    "Past",
    "PastPruned",
    "PastRow",
    "PastUnknown",
    "PastUnsettled",
    "PrivateKey",
    "ProofInvalid",
    "ProvenEntry",
    "PublicKey",
    "ReconcileReport",
    "RetentionLengths",
    "RetentionPlan",
    "RetentionReport",
    "RetentionStopped",
    "RetentionWork",
    "RowFinding",
    "RowVersion",
    "SealLimits",
    "SealedBatch",
    "Sealer",
    "Shape",
    "SigningKeyMissing",
    "SubjectHeld",
    "TableCoverage",
    "TableName",
    "TableUncovered",
    "TrailAbsent",
    "TrailMissing",
    "TrailUnseen",
    "TrailUnusable",
    "TrailWatch",
    "TriggerDrifted",
    "VerifyReport",
    "WriteUnattributed",
    "WritesUnbound",
    "add_hold",
    "add_tables",
    "as_lines",
    "as_of",
    "as_of_async",
    "audit_dialect",
    "begin_ledger",
    "bind",
    "bind_all",
    "bind_engines",
    "binding_metrics",
    "check",
    "check_archive",
    "check_archives",
    "check_proof",
    "coverage_metrics",
    "dialect_for",
    "erase",
    "erase_archived",
    "export",
    "find_key",
    "history",
    "history_async",
    "install",
    "is_installed",
    "known_keys",
    "ledger_metrics",
    "lift_hold",
    "list_holds",
    "look_again",
    "naming_entry",
    "personal_info",
    "personal_of",
    "plan",
    "plan_of",
    "plan_of_uninstall",
    "prove",
    "read_image",
    "read_key",
    "read_notes",
    "read_proof",
    "read_shapes",
    "recent_entries",
    "reconcile",
    "release",
    "replace_lost_key",
    "retain",
    "rotate_key",
    "sealer_of",
    "sealing_component",
    "shell_delimiter",
    "unattributed_writes",
    "uninstall",
    "verify",
    "version_facts",
    "write_image",
    "write_key",
]

_OFFERED = {
    "shown": ("AUDIT_SHOWN",),
    "survey": ("is_installed",),
    "binding": ("bind", "bind_all", "look_again"),
    "cells": ("read_image", "read_key", "write_image", "write_key"),
    "coverage": ("Coverage", "TableCoverage"),
    "dialects": ("AuditDialect", "audit_dialect", "dialect_for", "shell_delimiter"),
    "installation": (
        "InstallFailed",
        "InstallOptions",
        "InstallReport",
        "check",
        "install",
        "plan",
        "plan_of_uninstall",
        "release",
        "uninstall",
    ),
    "ledger.findings": ("LedgerFinding", "VerifyReport"),
    "ledger.keys": (
        "SigningKeyMissing",
        "find_key",
        "known_keys",
    ),
    "ledger.note": (
        "Note",
        "NoteInvalid",
        "PrivateKey",
        "PublicKey",
        "read_notes",
    ),
    "ledger.proof": (
        "LedgerProof",
        "ProofInvalid",
        "ProvenEntry",
        "check_proof",
        "read_proof",
    ),
    "ledger.prove": ("prove",),
    "ledger.reconcile": (
        "ReconcileReport",
        "RowFinding",
        "reconcile",
    ),
    "ledger.rotation": (
        "begin_ledger",
        "replace_lost_key",
        "rotate_key",
    ),
    "ledger.seal": ("SealLimits", "SealedBatch", "Sealer"),
    "ledger.verify": ("verify",),
    "model": (
        "Catalog",
        "CatalogColumn",
        "CatalogForeignKey",
        "CatalogTable",
        "CatalogUnique",
        "Cell",
        "Context",
        "Entry",
        "Image",
        "Shape",
        "TableName",
    ),
    "archive": ("ArchiveUnusable", "check_archive", "erase_archived"),
    "exporting": ("ExportFilter", "export", "version_facts"),
    "holds": ("LegalHold", "add_hold", "lift_hold", "list_holds"),
    "personal": ("Erasure", "SubjectHeld", "erase", "personal_info", "personal_of"),
    "retention": (
        "RetentionReport",
        "RetentionStopped",
        "RetentionWork",
        "check_archives",
        "plan_of",
        "retain",
        "sealer_of",
    ),
    "retention_plan": ("RetentionLengths", "RetentionPlan"),
    "moment": ("PastPruned", "PastUnknown", "PastUnsettled"),
    "past": ("Past", "PastRow", "as_of", "as_of_async"),
    "reading": (
        "ERASED",
        "TOO_LONG",
        "UNKNOWN",
        "LogRowUnreadable",
        "NoValue",
        "TrailMissing",
        "naming_entry",
    ),
    "recent": ("LogFilter", "LoggedEntry", "recent_entries"),
    "script": ("as_lines",),
    "shapes": ("read_shapes",),
    "steps": ("InstallPlan", "InstallStep"),
    "tables": (
        "CONTEXTS",
        "ENTRIES",
        "META",
        "PERSONAL",
        "SHAPES",
        "TABLE_OPTIONS",
        "add_tables",
    ),
    "versions": ("RowVersion", "history", "history_async"),
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
