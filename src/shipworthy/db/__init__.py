"""Databases that never keep a caller waiting for ever, reached through SQLAlchemy.

`protect(engine)` brings a live engine under guard: permits in front of its pool, a deadline on each
call, a breaker, reports that name lines; `install()` does so for every engine of the process, and
is what `run` does. `classify(error)` says what a failure means; `Listing` and `Keyset` make pages
of what a request may ask for. The decisions are pure. Names load lazily (PEP 562), so that whoever
classifies does not load the guard.

Not here: the policies themselves (`resilience`), a request's deadline (`context`), what answers an
HTTP client whose database is away (`web`), and what processes share (`store`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, and light: what `run` and `harden` need of us where no SQLAlchemy is. (A module that has
# the name of its function would stand in its place otherwise.)
from shipworthy.db.classify import CUT_ATTRIBUTE, Classified, classify, database_outcome
from shipworthy.db.install import (
    DatabasesUnguarded,
    engine_urls_here,
    guards_all,
    install,
    not_reached,
    tell_not_reached,
)
from shipworthy.db.kinds import KindSettings, OperationKind, kind_named, use_kinds
from shipworthy.db.metrics import db_metrics
from shipworthy.db.page_settings import PageSettings
from shipworthy.db.prober import Prober
from shipworthy.db.settings import DbSettings
from shipworthy.db.slots import PoolsExceedServer

if TYPE_CHECKING:
    from shipworthy.db.attempt import Attempt, attempt_scope, current_attempt, strays
    from shipworthy.db.breaking import DatabaseRefused
    from shipworthy.db.check import (
        DatabaseCheck,
        DatabaseUnusable,
        check_database,
        opened_database,
    )
    from shipworthy.db.dialects import AdvisoryLock, Dialect, TransactionStatus, dialect_named
    from shipworthy.db.dialects.drivers import driver_known
    from shipworthy.db.dialects.migration import (
        MigrationDialect,
        file_of,
        is_in_memory,
        migration_dialect,
        sync_url,
    )
    from shipworthy.db.door import DoorStatistics, PoolDoor, Standing, Visit, route_key
    from shipworthy.db.guard import (
        CommitUnanswered,
        DeadlineCut,
        PoolStatistics,
        Protection,
        ServerLimitRefused,
        StatementSlow,
        is_autocommit,
        protect,
        protect_all,
        protections,
        watched,
    )
    from shipworthy.db.idempotency import (
        KeyHeld,
        KeyRow,
        KeyStore,
        KeysUnavailable,
        KeyTakenOver,
    )
    from shipworthy.db.judgement import judge
    from shipworthy.db.keyset import Keyset, KeysetPage, KeysetQuery, PageTokenRefused
    from shipworthy.db.migrate import (
        AlembicProject,
        BackfillProgress,
        MigrateOptions,
        MigrateReport,
        MigrationFailed,
        MigrationFinding,
        MigrationRefused,
        MigrationSeverity,
        MigrationSurvey,
        MigratorBusy,
        backfill,
        lint,
        read_statements,
        remove_ours,
        run_migrations,
        survey_migrations,
    )
    from shipworthy.db.migrate.batches import install_progress
    from shipworthy.db.migrate.catalog import LongTransaction, long_transactions
    from shipworthy.db.migrate.lock import MigratorLock, Patience, only_migrator
    from shipworthy.db.outcome import DbPhase, Outcome
    from shipworthy.db.own import connection_beside, own_engine
    from shipworthy.db.page_token import PageKeys, PageTokenInvalid
    from shipworthy.db.pool import (
        CheckoutTimedOut,
        ConnectionLeaked,
        DeadlockFound,
        LeakReturned,
        PoolDeadlock,
        PoolStarvation,
        PoolTimeout,
        StarvationFound,
        WrongLoop,
    )
    from shipworthy.db.query import (
        Filter,
        Listing,
        QueryInvalid,
        Search,
        Sort,
        Wanted,
        contains,
        escape_like,
        starts,
    )
    from shipworthy.db.shown import DB_SHOWN
    from shipworthy.db.standing import (
        describe_databases,
        pool_numbers,
    )
    from shipworthy.db.tables import (
        IDEMPOTENCY,
        OUTCOMES,
        installed,
        prune,
        remove,
    )
    from shipworthy.db.transaction import (
        CommitLost,
        CommitResolved,
        LostCommit,
        TransactionCounts,
        TransactionEnded,
        TransactionOverdue,
        UnitOptions,
        UnitRepeated,
        run_transaction,
        run_transaction_async,
        transaction_counts,
    )

__all__ = [
    "CUT_ATTRIBUTE",
    "DB_SHOWN",
    "IDEMPOTENCY",
    "OUTCOMES",
    "AdvisoryLock",
    "AlembicProject",
    "Attempt",
    "BackfillProgress",
    "CheckoutTimedOut",
    "Classified",
    "CommitLost",
    "CommitResolved",
    "CommitUnanswered",
    "ConnectionLeaked",
    "DatabaseCheck",
    "DatabaseRefused",
    "DatabaseUnusable",
    "DatabasesUnguarded",
    "DbPhase",
    "DbSettings",
    "DeadlineCut",
    "DeadlockFound",
    "Dialect",
    "DoorStatistics",
    "Filter",
    "KeyHeld",
    "KeyRow",
    "KeyStore",
    "KeyTakenOver",
    "KeysUnavailable",
    "Keyset",
    "KeysetPage",
    "KeysetQuery",
    "KindSettings",
    "LeakReturned",
    "Listing",
    "LongTransaction",
    "LostCommit",
    "MigrateOptions",
    "MigrateReport",
    "MigrationDialect",
    "MigrationFailed",
    "MigrationFinding",
    "MigrationRefused",
    "MigrationSeverity",
    "MigrationSurvey",
    "MigratorBusy",
    "MigratorLock",
    "OperationKind",
    "Outcome",
    "PageKeys",
    "PageSettings",
    "PageTokenInvalid",
    "PageTokenRefused",
    "Patience",
    "PoolDeadlock",
    "PoolDoor",
    "PoolStarvation",
    "PoolStatistics",
    "PoolTimeout",
    "PoolsExceedServer",
    "Prober",
    "Protection",
    "QueryInvalid",
    "Search",
    "ServerLimitRefused",
    "Sort",
    "Standing",
    "StarvationFound",
    "StatementSlow",
    "TransactionCounts",
    "TransactionEnded",
    "TransactionOverdue",
    "TransactionStatus",
    "UnitOptions",
    "UnitRepeated",
    "Visit",
    "Wanted",
    "WrongLoop",
    "attempt_scope",
    "backfill",
    "check_database",
    "classify",
    "connection_beside",
    "contains",
    "current_attempt",
    "database_outcome",
    "db_metrics",
    "describe_databases",
    "dialect_named",
    "driver_known",
    "engine_urls_here",
    "escape_like",
    "file_of",
    "guards_all",
    "install",
    "install_progress",
    "installed",
    "is_autocommit",
    "is_in_memory",
    "judge",
    "kind_named",
    "lint",
    "long_transactions",
    "migration_dialect",
    "not_reached",
    "only_migrator",
    "opened_database",
    "own_engine",
    "pool_numbers",
    "protect",
    "protect_all",
    "protections",
    "prune",
    "read_statements",
    "remove",
    "remove_ours",
    "route_key",
    "run_migrations",
    "run_transaction",
    "run_transaction_async",
    "starts",
    "strays",
    "survey_migrations",
    "sync_url",
    "tell_not_reached",
    "transaction_counts",
    "use_kinds",
    "watched",
]

_OFFERED = {
    "standing": (
        "describe_databases",
        "pool_numbers",
    ),
    "check": (
        "DatabaseCheck",
        "DatabaseUnusable",
        "check_database",
        "opened_database",
    ),
    "migrate": (
        "AlembicProject",
        "BackfillProgress",
        "MigrateOptions",
        "MigrateReport",
        "MigrationFailed",
        "MigrationFinding",
        "MigrationRefused",
        "MigrationSeverity",
        "MigrationSurvey",
        "MigratorBusy",
        "backfill",
        "lint",
        "read_statements",
        "remove_ours",
        "run_migrations",
        "survey_migrations",
    ),
    "migrate.catalog": ("LongTransaction", "long_transactions"),
    "migrate.lock": ("MigratorLock", "Patience", "only_migrator"),
    "idempotency": (
        "KeyHeld",
        "KeyRow",
        "KeyStore",
        "KeysUnavailable",
        "KeyTakenOver",
    ),
    "transaction": (
        "CommitLost",
        "CommitResolved",
        "LostCommit",
        "TransactionCounts",
        "TransactionEnded",
        "TransactionOverdue",
        "UnitOptions",
        "UnitRepeated",
        "run_transaction",
        "run_transaction_async",
        "transaction_counts",
    ),
    "tables": (
        "IDEMPOTENCY",
        "OUTCOMES",
        "installed",
        "prune",
        "remove",
    ),
    "attempt": ("Attempt", "attempt_scope", "current_attempt", "strays"),
    "breaking": ("DatabaseRefused",),
    "dialects": ("AdvisoryLock", "Dialect", "TransactionStatus", "dialect_named"),
    "dialects.drivers": ("driver_known",),
    "dialects.migration": (
        "MigrationDialect",
        "file_of",
        "is_in_memory",
        "migration_dialect",
        "sync_url",
    ),
    "door": ("DoorStatistics", "PoolDoor", "Standing", "Visit", "route_key"),
    "guard": (
        "CommitUnanswered",
        "DeadlineCut",
        "PoolStatistics",
        "Protection",
        "ServerLimitRefused",
        "StatementSlow",
        "is_autocommit",
        "protect",
        "protect_all",
        "protections",
        "watched",
    ),
    "judgement": ("judge",),
    "keyset": ("Keyset", "KeysetPage", "KeysetQuery", "PageTokenRefused"),
    "migrate.batches": ("install_progress",),
    "outcome": ("DbPhase", "Outcome"),
    "own": ("connection_beside", "own_engine"),
    "page_token": ("PageKeys", "PageTokenInvalid"),
    "shown": ("DB_SHOWN",),
    "pool": (
        "CheckoutTimedOut",
        "ConnectionLeaked",
        "DeadlockFound",
        "LeakReturned",
        "PoolDeadlock",
        "PoolStarvation",
        "PoolTimeout",
        "StarvationFound",
        "WrongLoop",
    ),
    "query": (
        "Filter",
        "Listing",
        "QueryInvalid",
        "Search",
        "Sort",
        "Wanted",
        "contains",
        "escape_like",
        "starts",
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
