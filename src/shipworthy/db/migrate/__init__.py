"""Migrations of a live database: judged before they run, and run so that nobody waits for them.

`lint` judges statements, `run_migrations` runs the revisions of an Alembic project one by one,
`backfill` changes the rows of a large table in small transactions.

Not here: writing revisions (Alembic), what a rule says about one kind of database (`db.dialects`),
and our own tables (`db.tables`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipworthy.db.migrate.batches import BackfillProgress, backfill
    from shipworthy.db.migrate.catalog import BrokenIndex, LongTransaction
    from shipworthy.db.migrate.findings import MigrationFinding, lint
    from shipworthy.db.migrate.refused import MigrationFailed, MigrationRefused, MigratorBusy
    from shipworthy.db.migrate.revisions import AlembicProject, RevisionPlan, project_file
    from shipworthy.db.migrate.rule import LARGE_ROWS, MigrationSeverity
    from shipworthy.db.migrate.runner import (
        MigrateOptions,
        MigrateReport,
        MigrationSurvey,
        remove_ours,
        run_migrations,
        survey_migrations,
    )
    from shipworthy.db.migrate.statements import SqlStatement, read_statements

__all__ = [
    "LARGE_ROWS",
    "AlembicProject",
    "BackfillProgress",
    "BrokenIndex",
    "LongTransaction",
    "MigrateOptions",
    "MigrateReport",
    "MigrationFailed",
    "MigrationFinding",
    "MigrationRefused",
    "MigrationSeverity",
    "MigrationSurvey",
    "MigratorBusy",
    "RevisionPlan",
    "SqlStatement",
    "backfill",
    "lint",
    "project_file",
    "read_statements",
    "remove_ours",
    "run_migrations",
    "survey_migrations",
]

_OFFERED = {
    "batches": ("BackfillProgress", "backfill"),
    "catalog": ("BrokenIndex", "LongTransaction"),
    "findings": ("MigrationFinding", "lint"),
    "refused": ("MigrationFailed", "MigrationRefused", "MigratorBusy"),
    "revisions": ("AlembicProject", "RevisionPlan", "project_file"),
    "rule": ("LARGE_ROWS", "MigrationSeverity"),
    "runner": (
        "MigrateOptions",
        "MigrateReport",
        "MigrationSurvey",
        "remove_ours",
        "run_migrations",
        "survey_migrations",
    ),
    "statements": ("SqlStatement", "read_statements"),
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
