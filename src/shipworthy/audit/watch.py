"""Look from time to time whether the trail of each database is whole, and say where it is not.

It asks on connections of its own, in a thread of its own, and never on behalf of a request. They
are in none of the pools that metrics and `/health` show.

Not here: the judgement (`coverage`), and what makes it right again (`installation`). It changes
nothing.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, final

from shipworthy.audit.settings import AuditSettings
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.db import DbSettings, engine_urls_here
from shipworthy.events import Declared, Event, Label, Metric, Severity, emit, event
from shipworthy.lifecycle import Check
from shipworthy.redact import redact

if TYPE_CHECKING:
    from sqlalchemy import URL

    from shipworthy.audit.coverage import Coverage

THREAD: Final = "shipworthy-audit-watch"
# How long a look may hold up the end of the service.
_STOP_SECONDS: Final = 2.0
# How often it is looked whether an application that had no engine has one now.
_NEWS_SECONDS: Final = 1.0
# What a database is called that no file and no server holds.
MEMORY: Final = ":memory:"
_IN_MEMORY: Final = (
    "only the connection that has this database in its memory can look at it; with a file it can "
    "be watched"
)

UNCOVERED: Final = Metric(
    "shipworthy_audit_uncovered_tables",
    "gauge",
    "Tables that are to be captured and are not, or not wholly.",
    {"database": Declared()},
    fold="max",
)
CHECKED: Final = Metric(
    "shipworthy_audit_checked_timestamp_seconds",
    "gauge",
    "When the triggers were last compared with the tables, as seconds since 1970.",
    {"database": Declared()},
    fold="min",
)


@event(severity=Severity.INFO)
class TrailAbsent(Event):
    """A database has no trail, so nothing of it is captured; `shipworthy audit install` makes it.

    Said once, and by itself no fault.
    """

    database: Annotated[str, Label]


@event(severity=Severity.WARNING)
class TableUncovered(Event):
    """A table is not captured, or not wholly, although it is to be; said again when it changes."""

    database: Annotated[str, Label]
    table: str
    because: str


@event(severity=Severity.ERROR)
class TriggerDrifted(Event):
    """A trigger of the trail is missing, switched off or was replaced, and nobody here did it."""

    database: Annotated[str, Label]
    table: str
    because: str


@event(severity=Severity.WARNING)
class TrailUnusable(Event):
    """Something concerns the whole trail of a database, such as a setting that names no table."""

    database: Annotated[str, Label]
    because: str


@event(severity=Severity.WARNING)
class TrailUnseen(Event):
    """It could not be seen whether the trail of a database is whole; it is asked again."""

    database: Annotated[str, Label]
    because: str


@final
class TrailWatch:
    """The trails of the databases this process uses, looked at in the background.

    It may be started again when it was stopped, in another event loop too: test clients do.

    `url` is the database of the settings; without one it is those whose engines are under guard.
    Adds a health check `audit` once there is a database, on which readiness depends in the mode
    `enforce`; there it is added at once.
    """

    def __init__(
        self,
        settings: AuditSettings,
        url: str,
        add_check: Callable[[Check], None],
        *,
        now: Callable[[], float] = SYSTEM_CLOCK.wall,
    ) -> None:
        self._settings = settings
        self._url = url
        self._add_check = add_check
        self._now = now
        self._said: set[tuple[str, ...]] = set()
        self._because: dict[str, str] = {}
        self._looked = asyncio.Event()
        self._checked = False
        self._looking: asyncio.Task[None] | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Begin to look, unless the trail is off."""
        if self._settings.mode == "off":
            return
        self._looked = asyncio.Event()
        self._because.clear()
        if self._url or self._settings.mode == "enforce":
            self._be_asked()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        self._looking = asyncio.create_task(self._look(), name="audit watch")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking}, timeout=_STOP_SECONDS)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for name in self._because:
            _standing.pop(name, None)

    def _be_asked(self) -> None:
        """Add the check, once: whoever asks keeps it from one life to the next."""
        if self._checked:
            return
        self._checked = True
        required = self._settings.mode == "enforce"
        self._add_check(
            Check(
                "audit",
                self._answer,
                kinds=frozenset({"ready"} if required else ()),
                interval_seconds=1.0,
            )
        )

    async def _answer(self) -> str | None:
        """Return why the trail is not whole, as it was last seen."""
        if not self._looked.is_set() and self._settings.mode == "enforce":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), 1.0)
            if not self._looked.is_set():
                return "no database was made yet whose trail could be looked at"
        return "; ".join(because for because in self._because.values() if because) or None

    async def _look(self) -> None:
        while True:
            urls = self._urls()
            if urls:
                # A service without a database has no trail to be well.
                self._be_asked()
            for url in urls:
                await self._look_at(url)
            if urls:
                self._looked.set()
            await asyncio.sleep(self._settings.check_interval_seconds if urls else _NEWS_SECONDS)

    def _urls(self) -> "list[URL]":
        if self._url:
            from sqlalchemy import make_url

            return [make_url(self._url)]
        # Two drivers may lead to the same one.
        found = {name_of(url): url for url in engine_urls_here()}
        return [url for name, url in found.items() if name]

    async def _look_at(self, url: "URL") -> None:
        from shipworthy.db import is_in_memory

        name = name_of(url)
        if is_in_memory(url):
            self._say((name, "unseen"), TrailUnseen, database=name, because=_IN_MEMORY)
            required = self._settings.mode == "enforce"
            self._because[name] = f"the trail of {name}: {_IN_MEMORY}" if required else ""
            return
        loop = asyncio.get_running_loop()
        try:
            coverage = await loop.run_in_executor(self._threads, _coverage_at, url, self._settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            because = redact(f"{type(error).__name__}: {error}").splitlines()[0]
            self._say((name, "unseen"), TrailUnseen, database=name, because=because)
            # What was known stays known: that it cannot be reached is for its own check to say.
            self._because.setdefault(name, f"the trail of {name} could not be looked at: {because}")
            return
        self._said.discard((name, "unseen"))
        if coverage is not None:
            self._note(name, coverage)

    def _note(self, name: str, coverage: "Coverage") -> None:
        _standing[name] = (len(coverage.uncovered), self._now())
        if coverage.installed is None:
            self._say((name, "absent"), TrailAbsent, database=name)
            required = self._settings.mode == "enforce"
            self._because[name] = "; ".join(coverage.problems) if required else ""
            return
        for one in coverage.uncovered:
            kind = TriggerDrifted if one.drift else TableUncovered
            said = (name, one.table, one.because)
            self._say(said, kind, database=name, table=one.table, because=one.because)
        for problem in coverage.problems:
            self._say((name, problem), TrailUnusable, database=name, because=problem)
        now: set[tuple[str, ...]] = {(name, one.table, one.because) for one in coverage.uncovered}
        now |= {(name, problem) for problem in coverage.problems}
        # What is right again is said anew when it goes wrong anew.
        self._said = {one for one in self._said if one[0] != name or one in now}
        sentences = [f"{one.table} is {one.capture}: {one.because}" for one in coverage.uncovered]
        self._because[name] = "; ".join([*coverage.problems, *sentences])

    def _say(self, said: tuple[str, ...], kind: type[Event], **facts: Any) -> None:
        if said not in self._said:
            self._said.add(said)
            emit(kind, **facts)


# By database: how many tables are not covered, and when that was seen.
_standing: Final[dict[str, tuple[int, float]]] = {}


def coverage_metrics() -> "tuple[tuple[Metric, Callable[[], dict[tuple[str, ...], float]]], ...]":
    """Return each metric with how to read it, for the databases that are looked at."""
    return (
        (UNCOVERED, lambda: {(name,): float(it[0]) for name, it in list(_standing.items())}),
        (CHECKED, lambda: {(name,): it[1] for name, it in list(_standing.items())}),
    )


def name_of(url: "URL") -> str:
    """Return what a database is called in events and metrics: host and name, or its file.

    '' where a URL names neither: such an engine makes its connections by itself.
    """
    from shipworthy.db import is_in_memory

    if is_in_memory(url):
        return MEMORY
    name = url.database or ""
    return (
        f"{url.host}:{url.port}/{name}" if url.port else f"{url.host}/{name}" if url.host else name
    )


def _coverage_at(url: "URL", settings: AuditSettings) -> "Coverage | None":
    """Look at a database by an engine of our own; None for one of which there is nothing to see."""
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import NullPool

    from shipworthy.audit.dialects import audit_dialect
    from shipworthy.audit.installation import check
    from shipworthy.db import file_of, own_engine

    path = file_of(url)
    if audit_dialect(url.get_backend_name()) is None or (path is not None and not path.exists()):
        return None
    limits = DbSettings(leak_after_seconds=0.0)
    engine = own_engine(url, name="audit", settings=limits, poolclass=NullPool)
    try:
        if not engine.dialect.is_async:
            return check(engine, settings)

        async def look() -> "Coverage":
            async with AsyncEngine(engine).connect() as connection:
                return await connection.run_sync(check, settings)

        return asyncio.run(look())
    finally:
        engine.dispose()
