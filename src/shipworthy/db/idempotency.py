"""What is kept of requests with an Idempotency-Key, and their mark in the service's transaction.

Each statement on the table is a short transaction of its own, on an engine of our own: no request
waits for it longer than it was given. The one exception is the fence: the COMMIT of a request that
holds a key first notes, in the same transaction, that the request took effect. Who has lost the key
meanwhile cannot commit any more.

Not here: what a key means and who may run (`web`), and the table itself (`tables`).
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, TypeVar, final

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from typing_extensions import override

from shipworthy.db.attempt import Attempt, attempt_scope, current_attempt
from shipworthy.db.classify import classify
from shipworthy.db.guard import Protection, protect
from shipworthy.db.outcome import Outcome
from shipworthy.db.settings import DbSettings
from shipworthy.db.tables import IDEMPOTENCY, installed, prune_answers
from shipworthy.errors import Rejected, ShipworthyError

T = TypeVar("T")

# So many statements at once: each takes about a millisecond, and a keyed request makes two.
_CONNECTIONS: Final = 4
_TRIES: Final = 3
# What is written here may be written twice: each statement names the attempt it is for.
_AGAIN: Final = frozenset(
    {Outcome.RERUN, Outcome.STALE_PLAN, Outcome.LOST, Outcome.NOT_SENT, Outcome.AMBIGUOUS}
)
_PRUNE_SECONDS: Final = 60.0
_PRUNED_ROWS: Final = 500
_RETRY_AFTER_SECONDS: Final = 1.0


@final
class KeysUnavailable(Rejected):
    """The table of the keys cannot be reached, or is not there."""

    def __init__(self, because: str) -> None:
        super().__init__(
            f"the table of the Idempotency-Keys cannot be used: {because}; where it was "
            f"never made, run `shipworthy db migrate`",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )

    @property
    @override
    def public_detail(self) -> str:
        """Return what a client may be told: not which database, and not why."""
        return "requests with an Idempotency-Key cannot be taken now"


@final
class KeyTakenOver(ShipworthyError):
    """Another run of the same request has the key now, so this one does not commit."""

    def __init__(self) -> None:
        super().__init__(
            "the Idempotency-Key of this request was taken over or released meanwhile, so its "
            "transaction is not committed; make idempotency.lease longer than any request takes"
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key: who works on the request, or what was answered; times are Unix seconds.

    `state` is `begun`, `applied` (a COMMIT of the request took place) or `done` (its answer is
    here).
    """

    id: str
    fingerprint: str
    attempt: str
    lease_until: float
    at: float
    expires: float
    state: str = "begun"
    status: int | None = None
    headers: bytes | None = None
    body: bytes | None = None


@final
class KeyHeld:
    """A key while its request is worked on; `row` is what is written of it.

    `fenced`: a COMMIT carried its mark. `elsewhere`: a COMMIT went to another database, where it
    could carry none. `attempt` is what is known of the request's commits, and `marked_at` how many
    there were before the COMMIT with the mark.
    """

    __slots__ = ("attempt", "elsewhere", "fenced", "marked_at", "row")

    def __init__(self, row: KeyRow) -> None:
        self.row = row
        self.fenced = False
        self.elsewhere = False
        self.attempt: Attempt | None = None
        self.marked_at = 0

    @property
    def applied(self) -> bool:
        """Whether the COMMIT with the mark is known to have gone well."""
        if not self.fenced or self.elsewhere or self.attempt is None:
            return False
        return self.attempt.commits > self.marked_at


@final
class KeyStore:
    """The keys in the table at `url`, which may name a sync or an async driver.

    Every method raises `KeysUnavailable` when it cannot do its work within `seconds`. Safe for any
    number of tasks of one event loop; `close` ends its connections and threads, and it may be used
    again after that.
    """

    def __init__(self, url: str, *, seconds: float) -> None:
        self._url = sa.make_url(url)
        self._place = place_of(self._url)
        self._seconds = seconds
        self._limits = DbSettings(
            checkout_seconds=seconds,
            connect_seconds=seconds,
            statement_seconds=seconds,
            statement_warn_seconds=seconds / 2,
        )
        self._engine: sa.Engine | AsyncEngine | None = None
        self._protection: Protection | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._prune_at = 0.0

    async def missing(self) -> str:
        """Return why no key can be kept, and what to do about it; '' where all is there."""
        if await self._do(installed) is not None:
            return ""
        return "its table is not there; run `shipworthy db migrate`"

    @staticmethod
    def new(
        key_id: str, fingerprint: str, *, now: float, lease_seconds: float, keep_seconds: float
    ) -> KeyHeld:
        """Return a key that is about to be held; nothing is written yet."""
        return KeyHeld(
            KeyRow(
                id=key_id,
                fingerprint=fingerprint,
                attempt=token_hex(16),
                lease_until=now + lease_seconds,
                at=now,
                expires=now + keep_seconds,
            )
        )

    async def insert(self, held: KeyHeld) -> KeyRow | None:
        """Write a new key and return None, or return the row that is there.

        A row of the same attempt is our own, written before an answer that was lost.
        """
        mine = held.row
        values = _values(mine)
        for _ in range(_TRIES):
            try:
                await self._do(lambda it: it.execute(_INSERT, values), quiet=True)
            except sa.exc.IntegrityError:
                there = await self._do(lambda it: _select(it, mine.id))
                if there is not None:
                    return None if there.attempt == mine.attempt else there
                # It was released in between.
            else:
                return None
        raise KeysUnavailable(f"a key was there and was not, {_TRIES} times")

    async def take_over(self, there: KeyRow, held: KeyHeld) -> bool:
        """Write a key in the place of `there`, unless somebody changed that meanwhile."""
        unchanged = _of(sa.update(_TABLE), there).where(_TABLE.c.state == there.state)
        taken = unchanged.values(_values(held.row))
        return bool(await self._do(lambda it: it.execute(taken).rowcount))

    async def answer(
        self, held: KeyHeld, *, status: int, headers: bytes, body: bytes, now: float
    ) -> None:
        """Keep what was answered."""
        statement = _of(sa.update(_TABLE), held.row).values(
            state="done", status=status, headers=headers, body=body
        )
        await self._do(lambda it: it.execute(statement))
        await self._prune(now)

    async def applied(self, held: KeyHeld, *, now: float) -> None:
        """Keep that the request took effect, and that nobody works on it any more."""
        statement = _of(sa.update(_TABLE), held.row).values(state="applied", lease_until=now)
        await self._do(lambda it: it.execute(statement))

    async def release(self, held: KeyHeld, *, now: float) -> None:
        """Forget a key without effect, so that its request may be sent again.

        Where a COMMIT that was thought to be lost has taken place after all, its mark stays. One
        that is still under way is waited for: it holds the row.
        """
        forget = _of(sa.delete(_TABLE), held.row).where(_TABLE.c.state == "begun")
        if not await self._do(lambda it: it.execute(forget).rowcount):
            await self.applied(held, now=now)

    @contextmanager
    def holding(self, held: KeyHeld) -> Iterator[None]:
        """Put the mark of `held` into each COMMIT of the block, its tasks and `to_thread`."""
        _fences.keep(self)
        held.attempt = current_attempt()
        token = _held.set((self, held))
        try:
            yield
        finally:
            _held.reset(token)

    async def close(self) -> None:
        """End the connections and threads; twice is once."""
        _fences.drop(self)
        engine, self._engine = self._engine, None
        threads, self._threads = self._threads, None
        if self._protection is not None:
            self._protection.undo()
            self._protection = None
        if isinstance(engine, AsyncEngine):
            await engine.dispose()
        elif engine is not None and threads is not None:
            await asyncio.get_running_loop().run_in_executor(threads, engine.dispose)
            threads.shutdown(wait=False)

    def mark(self, connection: sa.Connection, held: KeyHeld) -> None:
        """Note in the transaction about to commit that the request took effect.

        Raises `KeyTakenOver` where the key is not ours any more.
        """
        engine = connection.engine
        if place_of(engine.url) != self._place:
            held.elsewhere = True
            return
        if held.applied:
            # The mark is there for good. To write it again would wait for, or collide with, another
            # transaction of the same request.
            return
        statement = _of(sa.update(_TABLE), held.row).values(
            # A second COMMIT of the request may come after its answer was kept.
            state=sa.case((_TABLE.c.state == "begun", "applied"), else_=_TABLE.c.state)
        )
        try:
            found = connection.execute(statement).rowcount
        except sa.exc.DBAPIError as error:
            if classify(error).outcome is Outcome.READ_ONLY:
                return  # so this COMMIT changes nothing
            raise
        if found != 1:
            raise KeyTakenOver
        held.fenced = True
        held.marked_at = 0 if held.attempt is None else held.attempt.commits

    async def _prune(self, now: float) -> None:
        """Delete some of what has expired, once a minute."""
        if now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_SECONDS
        with suppress(KeysUnavailable):  # the next minute is as good
            if await self._do(lambda it: prune_answers(it, now, _PRUNED_ROWS)) == _PRUNED_ROWS:
                self._prune_at = now  # there are more: go on with the next answer

    async def _do(self, work: Callable[[sa.Connection], T], *, quiet: bool = False) -> T:
        """Do `work` in a transaction of its own; with `quiet`, an `IntegrityError` is raised on."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._tries(work)
        except sa.exc.IntegrityError as error:
            if quiet:
                raise
            raise KeysUnavailable(classify(error).because) from error
        except Exception as error:  # each driver has a tree of its own
            raise KeysUnavailable(self._because(error)) from error

    def _because(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._seconds:g} s"
        if isinstance(error, (ImportError, sa.exc.NoSuchModuleError)):
            return f"the driver of '{self._url.drivername}' is not installed"
        return classify(error).because

    async def _tries(self, work: Callable[[sa.Connection], T]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self._once(work)
            except sa.exc.DBAPIError as error:
                if classify(error).outcome not in _AGAIN:
                    raise
        return await self._once(work)

    async def _once(self, work: Callable[[sa.Connection], T]) -> T:
        engine = self._connected()
        loop = asyncio.get_running_loop()
        # In a context of its own: a deadline, a fence and an attempt of the request are not ours.
        if isinstance(engine, AsyncEngine):
            return await loop.create_task(_in_loop(engine, work), context=Context())
        return await loop.run_in_executor(self._threads, Context().run, _in_thread, engine, work)

    def _connected(self) -> sa.Engine | AsyncEngine:
        if self._engine is None:
            if self._url.get_dialect().is_async:
                self._engine = create_async_engine(self._url, **_POOL)
            else:
                self._engine = sa.create_engine(self._url, **_POOL)
                self._threads = ThreadPoolExecutor(_CONNECTIONS, "shipworthy-keys")
            # Under `run` it was adopted when it was made, as if it were the application's.
            protect(self._engine).undo()
            self._protection = protect(self._engine, name="idempotency", settings=self._limits)
        return self._engine


@lru_cache(maxsize=64)
def place_of(url: sa.URL) -> tuple[str, str, str, str]:
    """Return kind, host, port and database of `url`: engines with the same are in one database.

    Where there is no host, the database is a file, told by its whole path. What a URL leaves out
    differs from what another says.
    """
    kind = url.get_backend_name()
    host = str(url.host or url.query.get("host") or "")
    if not host and url.database:
        return kind, "", "", str(Path(url.database).resolve())
    if host == "localhost":
        host = "127.0.0.1"
    return kind, host, str(url.port or url.query.get("port") or ""), url.database or ""


@final
class _Fences:
    """The stores whose keys are marked; SQLAlchemy tells of COMMITs while there are any."""

    def __init__(self) -> None:
        self._stores: set[KeyStore] = set()

    def keep(self, store: KeyStore) -> None:
        if not self._stores:
            sa_event.listen(sa.Engine, "commit", _on_commit)
        self._stores.add(store)

    def drop(self, store: KeyStore) -> None:
        if store in self._stores:
            self._stores.discard(store)
            if not self._stores:
                sa_event.remove(sa.Engine, "commit", _on_commit)


_fences = _Fences()
_held: ContextVar[tuple[KeyStore, KeyHeld] | None] = ContextVar("shipworthy_db_key", default=None)


def _on_commit(connection: sa.Connection) -> None:
    found = _held.get()
    if found is not None:
        store, held = found
        store.mark(connection, held)


_TABLE: Final = IDEMPOTENCY
_COLUMNS: Final = tuple(column.name for column in _TABLE.columns)
_INSERT: Final = sa.insert(_TABLE)
# Checked before use: a connection that the database dropped overnight is no reason to refuse.
_POOL: Final[dict[str, Any]] = {
    "pool_size": _CONNECTIONS,
    "max_overflow": 0,
    "pool_pre_ping": True,
}


def _values(row: KeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _COLUMNS}


def _of(statement: Any, row: KeyRow) -> Any:
    return statement.where(_TABLE.c.id == row.id, _TABLE.c.attempt == row.attempt)


def _select(connection: sa.Connection, key_id: str) -> KeyRow | None:
    row = connection.execute(sa.select(_TABLE).where(_TABLE.c.id == key_id)).mappings().first()
    return None if row is None else KeyRow(**row)


def _in_thread(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    # Noted with an attempt of its own: a commit without one could be anybody's.
    with attempt_scope(), engine.begin() as connection:
        return work(connection)


async def _in_loop(engine: AsyncEngine, work: Callable[[sa.Connection], T]) -> T:
    with attempt_scope():
        async with engine.begin() as connection:
            return await connection.run_sync(work)
