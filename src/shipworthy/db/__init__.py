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
from shipworthy.db.classify import Classified, classify, database_outcome
from shipworthy.db.install import DatabasesUnguarded, install
from shipworthy.db.metrics import db_metrics
from shipworthy.db.page_settings import PageSettings
from shipworthy.db.prober import Prober
from shipworthy.db.settings import DbSettings

if TYPE_CHECKING:
    from shipworthy.db.attempt import Attempt, attempt_scope, current_attempt
    from shipworthy.db.breaking import DatabaseRefused
    from shipworthy.db.dialects import AdvisoryLock, Dialect, TransactionStatus, dialect_named
    from shipworthy.db.dialects.drivers import driver_known
    from shipworthy.db.guard import (
        DeadlineCut,
        PoolStatistics,
        Protection,
        StatementSlow,
        protect,
        protect_all,
        protections,
    )
    from shipworthy.db.judgement import judge
    from shipworthy.db.keyset import Keyset, KeysetPage, KeysetQuery, PageTokenRefused
    from shipworthy.db.outcome import DbPhase, Outcome
    from shipworthy.db.page_token import PageKeys, PageTokenInvalid
    from shipworthy.db.pool import (
        CheckoutTimedOut,
        ConnectionLeaked,
        DeadlockFound,
        LeakReturned,
        PoolDeadlock,
        PoolTimeout,
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

__all__ = [
    "AdvisoryLock",
    "Attempt",
    "CheckoutTimedOut",
    "Classified",
    "ConnectionLeaked",
    "DatabaseRefused",
    "DatabasesUnguarded",
    "DbPhase",
    "DbSettings",
    "DeadlineCut",
    "DeadlockFound",
    "Dialect",
    "Filter",
    "Keyset",
    "KeysetPage",
    "KeysetQuery",
    "LeakReturned",
    "Listing",
    "Outcome",
    "PageKeys",
    "PageSettings",
    "PageTokenInvalid",
    "PageTokenRefused",
    "PoolDeadlock",
    "PoolStatistics",
    "PoolTimeout",
    "Prober",
    "Protection",
    "QueryInvalid",
    "Search",
    "Sort",
    "StatementSlow",
    "TransactionStatus",
    "Wanted",
    "WrongLoop",
    "attempt_scope",
    "classify",
    "contains",
    "current_attempt",
    "database_outcome",
    "db_metrics",
    "dialect_named",
    "driver_known",
    "escape_like",
    "install",
    "judge",
    "protect",
    "protect_all",
    "protections",
    "starts",
]

_OFFERED = {
    "attempt": ("Attempt", "attempt_scope", "current_attempt"),
    "breaking": ("DatabaseRefused",),
    "dialects": ("AdvisoryLock", "Dialect", "TransactionStatus", "dialect_named"),
    "dialects.drivers": ("driver_known",),
    "guard": (
        "DeadlineCut",
        "PoolStatistics",
        "Protection",
        "StatementSlow",
        "protect",
        "protect_all",
        "protections",
    ),
    "judgement": ("judge",),
    "keyset": ("Keyset", "KeysetPage", "KeysetQuery", "PageTokenRefused"),
    "outcome": ("DbPhase", "Outcome"),
    "page_token": ("PageKeys", "PageTokenInvalid"),
    "pool": (
        "CheckoutTimedOut",
        "ConnectionLeaked",
        "DeadlockFound",
        "LeakReturned",
        "PoolDeadlock",
        "PoolTimeout",
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
