"""A pytest plugin for SQLAlchemy's own tests: every pool they make comes under guard at birth.

Deadlines are set far out: what is compared is behaviour, and some of the tests sleep.
"""

import os
from functools import wraps
from typing import Any

from sqlalchemy import pool

from shipworthy.db.guard import Protection
from shipworthy.db.settings import DbSettings
from shipworthy.resilience import ResilienceSettings

_SETTINGS = DbSettings(
    checkout_seconds=60.0,
    statement_seconds=60.0,
    connect_seconds=30.0,
    # It is one statement more, and some tests count what a pretended driver is asked.
    server_limit=False,
    deadlocks="wait" if os.environ.get("DEADLOCKS") == "wait" else "refuse",
)
# Pretended servers fail at will, for ever.
_REPORT = ResilienceSettings(breaker="report")
guarded = 0
_recreating: list[Any] = []


def _at_birth(cls: Any) -> None:
    plain, plain_recreate = cls.__init__, cls.recreate

    @wraps(plain)
    def init(self: Any, *args: Any, **options: Any) -> None:
        global guarded  # noqa: PLW0603
        plain(self, *args, **options)
        if type(self).__init__ is init and not _recreating:
            Protection(self, self._dialect, f"suite-{guarded}", _SETTINGS, _REPORT)
            guarded += 1

    @wraps(plain_recreate)
    def recreate(self: Any) -> Any:
        # The guard itself sees to pools that are made from a guarded one.
        _recreating.append(self)
        try:
            return plain_recreate(self)
        finally:
            _recreating.pop()

    cls.__init__, cls.recreate = init, recreate


for _cls in (
    pool.QueuePool,
    pool.NullPool,
    pool.StaticPool,
    pool.SingletonThreadPool,
    pool.AssertionPool,
):
    _at_birth(_cls)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"pools under guard: {guarded}")
