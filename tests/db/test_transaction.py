"""A unit of work runs to a known end: as often as it must, and never twice for good."""

import asyncio
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from shipworthy.context import RequestRecord, deadline_scope, request_scope
from shipworthy.db import DbSettings, Outcome, classify, protect, transaction as transaction_module
from shipworthy.db.kinds import OperationKind
from shipworthy.db.tables import OUTCOMES, install, remove
from shipworthy.db.transaction import (
    CommitLost,
    LostCommit,
    OutcomesUnpruned,
    TransactionEnded,
    TransactionOverdue,
    UnitRepeated,
    run_transaction,
    run_transaction_async,
    transaction_counts,
)
from shipworthy.errors import Misuse
from shipworthy.events import OTHER, FirstNames, listen
from shipworthy.faults import COMMIT, Cut, Direction, FaultProxy, Silence
from shipworthy.resilience import DeadlinePassed, retrying_scope

WITHOUT_END = OperationKind(name="without end")


class Base(DeclarativeBase):
    """Declarative base."""


class Order(Base):
    """One row that a unit writes."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def add(number: int) -> sa.Insert:
    return sa.insert(Order).values(id=number)


@pytest.fixture
def engine(tmp_path):
    """A file of SQLite under guard, with an empty table; its driver waits for no lock."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/orders.db", connect_args={"timeout": 0})
    protection = protect(engine)
    Base.metadata.create_all(engine)
    yield engine
    protection.undo()
    engine.dispose()


@asynccontextmanager
async def asynchronous(engine: sa.Engine) -> AsyncIterator[AsyncEngine]:
    """The same file, for an event loop."""
    made = create_async_engine(
        engine.url.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": 0}
    )
    protection = protect(made)
    try:
        yield made
    finally:
        protection.undo()
        await made.dispose()


@pytest.fixture
def locked(engine):
    """Somebody else holds the lock of the file until `locked.release()`."""
    other = sa.create_engine(engine.url).connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    yield SimpleNamespace(release=other.rollback)
    other.close()
    other.engine.dispose()


@pytest.fixture
def postgres(postgres_url):
    """An empty table of PostgreSQL, under guard."""
    engine = sa.create_engine(postgres_url, pool_size=1, max_overflow=0)
    protection = protect(engine)
    Base.metadata.create_all(engine)
    yield engine
    protection.undo()
    engine.dispose()


@pytest.fixture
def mariadb(mariadb_url):
    """An empty table of MariaDB, under guard."""
    engine = sa.create_engine(mariadb_url)
    protection = protect(engine)
    Base.metadata.create_all(engine)
    yield engine
    protection.undo()
    engine.dispose()


@pytest.fixture
def heard():
    """The events that units emit."""
    found = []
    leave = listen(found.append, UnitRepeated, CommitLost)
    yield found
    leave()


def orders(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(Order.id).order_by(Order.id)))


# -- what is returned, and what was applied --


def test_a_unit_on_an_engine_is_committed_and_returns_its_result(engine):
    """It gets a connection, whose transaction has begun."""

    def pay(connection: sa.Connection) -> str:
        connection.execute(add(1))
        return "paid"

    assert run_transaction(engine, pay, name="pay") == "paid"
    assert orders(engine) == [1]


def test_a_unit_on_a_sessionmaker_gets_a_session_that_is_flushed_and_committed(engine):
    """What it added is there, though it flushed nothing."""
    run_transaction(sessionmaker(engine), lambda session: session.add(Order(id=1)), name="pay")

    assert orders(engine) == [1]


@pytest.mark.anyio
async def test_async_units_do_the_same(engine):
    """An AsyncConnection, or an AsyncSession."""

    async def core(connection):
        await connection.execute(add(1))
        return "core"

    async def orm(session):
        session.add(Order(id=2))
        await session.execute(sa.select(Order))
        return "orm"

    async with asynchronous(engine) as loop_engine:
        maker = async_sessionmaker(loop_engine)
        assert await run_transaction_async(loop_engine, core, name="pay") == "core"
        assert await run_transaction_async(maker, orm, name="pay") == "orm"
    assert orders(engine) == [1, 2]


@pytest.mark.parametrize("kind", ["connection", "session"])
def test_what_a_unit_raises_is_raised_and_nothing_is_applied(engine, kind):
    """An error of the application is nobody's business here: one run, the same exception."""
    runs, error = [], LookupError("no such order")
    source = engine if kind == "connection" else sessionmaker(engine)

    def pay(given: object) -> None:
        given.execute(add(1))
        runs.append(1)
        raise error

    with pytest.raises(LookupError) as raised:
        run_transaction(source, pay, name="pay")

    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert (len(runs), orders(engine)) == (1, [])


def test_a_unit_may_use_savepoints_of_its_own(engine):
    """A part that fails is taken back alone."""

    def pay(session) -> None:
        session.add(Order(id=1))
        session.flush()
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.execute(add(1))
        session.add(Order(id=2))

    run_transaction(sessionmaker(engine), pay, name="pay")

    assert orders(engine) == [1, 2]


# -- again, or not --


def test_the_whole_unit_is_run_again_when_the_database_gave_it_up(engine, locked, heard):
    """The first run meets a lock; the second finds it gone, and a connection as new."""
    runs = Counter()
    before = transaction_counts().reruns.get(("pay.again", "rerun"), 0)

    def pay(connection: sa.Connection) -> int:
        runs["pay"] += 1
        if runs["pay"] == 2:
            locked.release()
        connection.execute(add(runs["pay"]))
        return runs["pay"]

    with request_scope(RequestRecord("r", "c", "t", "s")) as record:
        assert run_transaction(engine, pay, name="pay.again") == 2
    assert record.work is not None
    assert record.work.retries == 1
    assert orders(engine) == [2]
    (said,) = heard
    assert (said.unit, said.outcome) == ("pay.again", "rerun")
    assert transaction_counts().reruns["pay.again", "rerun"] == before + 1


@pytest.mark.anyio
async def test_an_async_unit_is_run_again_as_well(engine, heard):
    """It waits in its event loop, which goes on meanwhile."""
    other = sa.create_engine(engine.url).connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    runs = Counter()

    async def pay(session):
        runs["pay"] += 1
        if runs["pay"] == 2:
            other.rollback()
        session.add(Order(id=runs["pay"]))

    async with asynchronous(engine) as loop_engine:
        await run_transaction_async(async_sessionmaker(loop_engine), pay, name="pay")

    assert orders(engine) == [2]
    assert len(heard) == 1
    other.close()
    other.engine.dispose()


def test_attempts_end_and_the_last_failure_says_why_there_is_no_other(engine, locked):
    """The exception keeps its class."""
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))

    with pytest.raises(sa.exc.OperationalError, match="locked") as raised:
        run_transaction(engine, pay, name="pay", attempts=2)

    assert len(runs) == 2
    assert raised.value.__notes__ == ["'pay' is not run again: 2 attempts failed"]


def test_what_would_fail_again_is_not_run_again(engine):
    """A duplicate key will be one tomorrow."""
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))
        connection.execute(add(1))

    with pytest.raises(sa.exc.IntegrityError):
        run_transaction(engine, pay, name="pay")

    assert (len(runs), orders(engine)) == (1, [])


def test_inside_a_layer_that_retries_a_unit_is_run_once(engine, locked):
    """So is whatever retries inside of a unit."""
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))

    with pytest.raises(sa.exc.OperationalError) as raised, retrying_scope():
        run_transaction(engine, pay, name="pay")

    assert len(runs) == 1
    assert "retries already" in raised.value.__notes__[-1]


@pytest.mark.slow
def test_a_budget_bounds_what_conflicts_may_cost(engine, locked, monkeypatch):
    """One further run for each unit and a reserve: not four for each of many."""
    # The shortest wait there is, so that the reserve of a second is not saved up meanwhile.
    monkeypatch.setattr(random, "random", lambda: 0.0)
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))

    ended = Counter()
    for _ in range(40):
        with pytest.raises(sa.exc.OperationalError) as raised:
            run_transaction(engine, pay, name="pay", attempts=5, kind=WITHOUT_END)
        ended["spent"] += "budget is spent" in raised.value.__notes__[-1]

    assert ended["spent"]
    assert len(runs) < 5 * 40


def test_a_connection_that_is_lost_elsewhere_is_no_reason_to_run_again(engine):
    """What was done over it may have taken effect; only our own connection is known."""
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))
        raise ConnectionResetError("of a message broker")

    with pytest.raises(ConnectionResetError):
        run_transaction(engine, pay, name="pay")

    assert len(runs) == 1


# -- a unit is one unit --


@pytest.mark.parametrize("verb", ["commit", "rollback"])
@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_unit_that_ends_its_transaction_is_refused(engine, kind, verb):
    """Whatever it wrote is applied or not by its own doing: we say so, once."""
    runs = []
    source = engine if kind == "connection" else sessionmaker(engine)

    def pay(given: object) -> None:
        runs.append(1)
        given.execute(add(1))
        getattr(given, verb)()

    with pytest.raises(TransactionEnded, match="leave COMMIT to run_transaction, use begin_nested"):
        run_transaction(source, pay, name="pay")

    assert len(runs) == 1
    assert orders(engine) == ([1] if verb == "commit" else [])


@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_unit_that_committed_and_then_failed_is_not_run_again(engine, tmp_path, kind):
    """Another run would write its first half twice."""
    runs = []
    source = engine if kind == "connection" else sessionmaker(engine)
    other = sa.create_engine(engine.url).connect()

    def pay(given: object) -> None:
        runs.append(1)
        given.execute(add(len(runs)))
        given.commit()
        other.exec_driver_sql("BEGIN IMMEDIATE")
        given.execute(add(100))

    with pytest.raises(TransactionEnded) as raised:
        run_transaction(source, pay, name="pay")

    assert isinstance(raised.value.__cause__, sa.exc.OperationalError)
    assert len(runs) == 1
    other.close()
    other.engine.dispose()
    assert orders(engine) == [1]


def test_a_commit_anywhere_else_counts_as_well(engine, locked, tmp_path):
    """A unit inside of a unit, or another database: the outer one cannot take that back."""
    elsewhere = sa.create_engine(f"sqlite:///{tmp_path}/elsewhere.db")
    protection = protect(elsewhere)
    Base.metadata.create_all(elsewhere)

    def pay(connection: sa.Connection) -> None:
        run_transaction(elsewhere, lambda inner: inner.execute(add(1)), name="log")
        connection.execute(add(1))

    with pytest.raises(TransactionEnded):
        run_transaction(engine, pay, name="pay")

    assert orders(elsewhere) == [1]
    protection.undo()
    elsewhere.dispose()


def test_an_error_of_the_application_after_a_commit_elsewhere_is_its_own(engine, tmp_path):
    """Nobody would have run it again, so there is nothing to refuse."""
    elsewhere = sa.create_engine(f"sqlite:///{tmp_path}/elsewhere.db")
    protection = protect(elsewhere)
    Base.metadata.create_all(elsewhere)

    def pay(connection: sa.Connection) -> None:
        run_transaction(elsewhere, lambda inner: inner.execute(add(1)), name="log")
        connection.execute(add(1))
        connection.execute(add(1))

    with pytest.raises(sa.exc.IntegrityError):
        run_transaction(engine, pay, name="pay")
    protection.undo()
    elsewhere.dispose()


# -- what cannot be meant --


def test_what_cannot_be_meant_is_refused_with_what_would(engine):
    """Before anything is sent."""

    async def coroutine(connection):
        raise AssertionError

    def nothing(connection):
        raise AssertionError

    loop_engine = create_async_engine("sqlite+aiosqlite://")
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        refused = {
            "await run_transaction_async": lambda: run_transaction(engine, coroutine, name="x"),
            "asynchronous": lambda: run_transaction(loop_engine, nothing, name="x"),
            "autocommit, where": lambda: run_transaction(autocommit, nothing, name="x"),
            "another isolation level": lambda: run_transaction(
                engine, nothing, name="x", isolation="AUTOCOMMIT"
            ),
            "bound to a Connection: bind it to an engine": lambda: run_transaction(
                sessionmaker(connection), nothing, name="x"
            ),
            "no kind of operation 'nightly'": lambda: run_transaction(
                engine, nothing, name="x", kind="nightly"
            ),
            "run `shipworthy db migrate`": lambda: run_transaction(
                engine, nothing, name="x", token=True
            ),
        }
        for said, run in refused.items():
            with pytest.raises(Misuse, match=said):
                run()
    with pytest.raises(ValueError, match="at least one attempt"):
        run_transaction(engine, nothing, name="x", attempts=0)
    with pytest.raises(TypeError, match="no_such_option"):
        run_transaction(engine, nothing, name="x", no_such_option=1)


@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_transaction_that_cannot_be_begun_gives_its_connection_back(engine, kind):
    """An isolation level that the database does not know, for one."""
    source = engine if kind == "connection" else sessionmaker(engine)

    with pytest.raises(sa.exc.ArgumentError, match="NONSENSE"):
        run_transaction(source, lambda given: None, name="x", isolation="NONSENSE")

    assert engine.pool.checkedout() == 0


@pytest.mark.anyio
async def test_a_synchronous_engine_is_refused_in_an_event_loop(engine):
    """It would block it."""

    async def nothing(connection):
        raise AssertionError

    with pytest.raises(Misuse, match="pass an AsyncEngine or an async_sessionmaker"):
        await run_transaction_async(engine, nothing, name="x")


# -- time --


def test_a_unit_whose_time_is_over_is_not_begun(engine):
    """The deadline of the request holds for its units."""
    with (
        deadline_scope(time.monotonic() - 1),
        pytest.raises(TransactionOverdue, match="was not begun"),
    ):
        run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")

    assert orders(engine) == []


def test_a_unit_that_is_over_its_time_is_not_committed(engine):
    """A COMMIT that must be cut at once is none to begin."""

    def pay(connection: sa.Connection) -> None:
        connection.execute(add(1))
        over = time.monotonic() + 0.06
        while time.monotonic() < over:
            time.sleep(0.01)

    with pytest.raises(TransactionOverdue, match=r"rolled back.*nothing of it was applied"):
        run_transaction(engine, pay, name="pay", kind=OperationKind(name="k", total_seconds=0.05))

    assert orders(engine) == []


@pytest.mark.anyio
async def test_an_async_unit_is_cut_at_its_deadline_whatever_it_waits_for(engine):
    """A synchronous one ends with the next call to a database."""

    async def pay(connection):
        await connection.execute(add(1))
        await asyncio.Event().wait()

    async with asynchronous(engine) as loop_engine:
        with pytest.raises(TransactionOverdue, match="was cut and rolled back"):
            await run_transaction_async(
                loop_engine, pay, name="pay", kind=OperationKind(name="k", total_seconds=0.05)
            )

    assert orders(engine) == []


@pytest.mark.anyio
async def test_a_timeout_of_the_units_own_is_its_own(engine):
    """What it waited for, and how long, is not our deadline."""

    async def pay(connection):
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    async with asynchronous(engine) as loop_engine:
        with pytest.raises(TimeoutError) as raised:
            await run_transaction_async(loop_engine, pay, name="pay")

    assert not isinstance(raised.value, TransactionOverdue)


@pytest.mark.anyio
async def test_a_cancelled_unit_ends_at_once_and_is_rolled_back(engine):
    """Its connection is given back as well."""
    begun = asyncio.Event()

    async def pay(connection):
        await connection.execute(add(1))
        begun.set()
        await asyncio.Event().wait()

    async with asynchronous(engine) as loop_engine:
        task = asyncio.create_task(run_transaction_async(loop_engine, pay, name="pay"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop_engine.pool.checkedout() == 0

    assert orders(engine) == []


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("when", ["in COMMIT", "while it asks"])
async def test_l07_a_unit_that_is_cancelled_before_it_knows_says_so(postgres_url, heard, when):
    """L07: never silently: with its operation, and the question that tells whoever looks."""
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    sent = asyncio.Event()
    before = transaction_counts().commits.get("lost", 0)
    with FaultProxy.in_thread(url.host, url.port) as proxy:
        through = url.set(drivername="postgresql+asyncpg", host="127.0.0.1", port=proxy.port)
        engine = create_async_engine(through)
        protection = protect(engine)

        async def pay(connection):
            await connection.execute(add(1))
            if when == "in COMMIT":
                proxy.apply(Silence(answer_to=COMMIT))
            else:
                # Nobody answers any more: neither the COMMIT, nor the question.
                proxy.apply(Cut(direction=Direction.DOWN, answer_to=COMMIT), Silence(nth=1))
            sent.set()

        task = asyncio.create_task(
            run_transaction_async(engine, pay, name="pay", operation_id="order-18")
        )
        await sent.wait()
        while not orders(direct):  # the COMMIT has arrived
            await asyncio.sleep(0.01)
        if when == "while it asks":
            while not any(one.what == "silence" for one in proxy.log):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.02)  # it has it; the driver asks the server to stop, and waits
        proxy.clear()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        protection.undo()
        await engine.dispose()

    (lost,) = [fact for fact in heard if isinstance(fact, CommitLost)]
    assert (lost.unit, lost.operation_id) == ("pay", "order-18")
    assert lost.question.startswith("SELECT pg_xact_status(")
    assert lost.question in raised.value.__notes__[0]
    assert transaction_counts().commits["lost"] == before + 1
    status = lost.question.partition(" (on ")[0]
    with direct.connect() as connection:
        assert connection.scalar(sa.text(status)) == "committed"  # who asks is told
    direct.dispose()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_unit_that_is_cancelled_in_a_wait_after_a_known_failure_lost_nothing(
    postgres_url, heard
):
    """A COMMIT that the server has refused was not applied: nobody need ask."""
    engine = create_async_engine(sa.make_url(postgres_url).set(drivername="postgresql+asyncpg"))
    protection = protect(engine)
    async with engine.begin() as connection:
        await connection.execute(
            sa.text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"
            )
        )
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(
            sa.text(
                "CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON orders "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )

    async def pay(connection):
        await connection.execute(add(1))

    task = asyncio.create_task(run_transaction_async(engine, pay, name="pay", attempts=50))
    while not [fact for fact in heard if isinstance(fact, UnitRepeated)]:
        await asyncio.sleep(0)
    task.cancel()  # it has told that it waits, and waits
    with pytest.raises(asyncio.CancelledError):
        await task
    protection.undo()
    await engine.dispose()

    assert not [fact for fact in heard if isinstance(fact, CommitLost)]


# -- tokens --


def test_a_unit_leaves_a_token_where_our_tables_are(engine):
    """Not for what only reads, and not where it is not wanted."""
    with engine.begin() as connection:
        install(connection)

    def tokens() -> int:
        with engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(OUTCOMES))

    run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")
    assert tokens() == 1
    run_transaction(engine, lambda connection: connection.execute(add(2)), name="pay", token=True)
    assert tokens() == 2
    run_transaction(engine, lambda connection: connection.execute(add(3)), name="pay", token=False)
    run_transaction(engine, lambda connection: None, name="look", read_only=True)
    assert tokens() == 2


def yesterday(engine: sa.Engine, count: int) -> None:
    """Leave `count` tokens that are a little over a day old."""
    at = time.time() - transaction_module.OUTCOME_KEPT_SECONDS - 60
    rows = [{"token": f"{at}-{n}", "state": "committed", "at": at} for n in range(count)]
    with engine.begin() as connection:
        connection.execute(OUTCOMES.insert(), rows)


def test_units_delete_the_tokens_of_yesterday(engine, monkeypatch):
    """The first does, and every fifth here, twice as many: the table is as long as a day."""
    monkeypatch.setattr(transaction_module, "PRUNED_EVERY", 5)
    monkeypatch.setattr(transaction_module, "PRUNED_ROWS", 10)
    with engine.begin() as connection:
        install(connection)
    yesterday(engine, 25)
    left = []
    for number in range(12):
        run_transaction(engine, lambda connection, n=number: connection.execute(add(n)), name="pay")
        with engine.connect() as connection:
            left.append(connection.scalar(sa.select(sa.func.count()).select_from(OUTCOMES)))

    assert left == [16, 17, 18, 19, 20, 11, 12, 13, 14, 15, 11, 12]
    assert orders(engine) == list(range(12))


@pytest.mark.anyio
async def test_async_units_delete_them_as_well(engine):
    """In the greenlet in which the unit ran."""
    with engine.begin() as connection:
        install(connection)
    yesterday(engine, 3)
    async with asynchronous(engine) as made:

        async def pay(connection):
            await connection.execute(add(1))

        await run_transaction_async(made, pay, name="pay")

    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(OUTCOMES)) == 1


def test_a_unit_is_committed_though_old_tokens_cannot_be_deleted(engine):
    """It is stated, and the unit has its result."""
    with engine.begin() as connection:
        install(connection)
        connection.exec_driver_sql(
            "CREATE TRIGGER kept BEFORE DELETE ON shipworthy_outcomes "
            "BEGIN SELECT RAISE(ABORT, 'kept for ever'); END"
        )
    yesterday(engine, 1)
    found = []
    leave = listen(found.append, OutcomesUnpruned)
    try:
        run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")
    finally:
        leave()

    assert len(found) == 1
    assert orders(engine) == [1]


def test_tables_that_were_taken_away_are_missed_once(engine):
    """The unit that met it fails, and is rolled back; the next looks again."""
    with engine.begin() as connection:
        install(connection)
    run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")
    with engine.begin() as connection:
        remove(connection)

    with pytest.raises(sa.exc.OperationalError, match="shipworthy_outcomes"):
        run_transaction(engine, lambda connection: connection.execute(add(2)), name="pay")
    run_transaction(engine, lambda connection: connection.execute(add(3)), name="pay")

    assert orders(engine) == [1, 3]


def test_that_there_are_no_tables_is_believed_for_a_minute(engine, monkeypatch):
    """So that each unit does not ask again."""
    run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")
    with engine.begin() as connection:
        install(connection)
    run_transaction(engine, lambda connection: connection.execute(add(2)), name="pay")
    monkeypatch.setattr(transaction_module, "ABSENT_SECONDS", 0.0)
    run_transaction(engine, lambda connection: connection.execute(add(3)), name="pay")

    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(OUTCOMES)) == 1


def test_names_that_are_made_up_at_run_time_are_counted_together(engine, monkeypatch):
    """A name with an order's number in it would never end."""
    monkeypatch.setattr(transaction_module, "_names", FirstNames(0))
    before = transaction_counts().reruns.get((OTHER, "rerun"), 0)
    other = sa.create_engine(engine.url).connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        if len(runs) == 2:
            other.rollback()
        connection.execute(add(1))

    run_transaction(engine, pay, name="pay.order-8731")

    assert transaction_counts().reruns[OTHER, "rerun"] == before + 1
    assert ("pay.order-8731", "rerun") not in transaction_counts().reruns
    other.close()
    other.engine.dispose()


# -- on servers --


@pytest.mark.slow
def test_a_unit_that_swallowed_its_failure_is_not_taken_for_committed(postgres):
    """PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, and drivers say well."""

    def pay(connection: sa.Connection) -> None:
        connection.execute(add(1))
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(add(1))

    with pytest.raises(sa.exc.DBAPIError) as raised:
        run_transaction(postgres, pay, name="pay")

    assert classify(raised.value).outcome is Outcome.APP_STATE
    assert "had failed before and went on: " in raised.value.__notes__[0]
    assert "UniqueViolation" in raised.value.__notes__[0]


@pytest.mark.slow
@pytest.mark.parametrize("duplicates", [0, 20])
def test_half_a_unit_is_not_committed_after_a_deadlock_that_was_swallowed(mariadb, duplicates):
    """MariaDB has rolled all of it back, and what is sent next would be another transaction.

    However many failures of another kind it had before.
    """
    with mariadb.begin() as connection:
        connection.execute(sa.insert(Order), [{"id": number} for number in range(1, 60)])
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(sa.text("INSERT INTO orders VALUES (1000)"))
        for _ in range(duplicates):
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(add(1000))
        if len(runs) == 1:
            with pytest.raises(sa.exc.OperationalError, match="Deadlock"):
                deadlock(mariadb, connection)
        connection.execute(sa.text("INSERT INTO orders VALUES (1001)"))

    run_transaction(mariadb, pay, name="pay", kind="background")

    assert len(runs) == 2
    assert orders(mariadb)[-2:] == [1000, 1001]


def deadlock(engine: sa.Engine, connection: sa.Connection) -> None:
    """Have `connection` be the one that MariaDB gives up."""
    with engine.connect() as other:
        # It has written more.
        other.execute(sa.text("DELETE FROM orders WHERE id BETWEEN 10 AND 50"))
        connection.execute(sa.text("SELECT * FROM orders WHERE id = 5 FOR UPDATE"))
        crossing = threading.Thread(
            target=other.execute, args=(sa.text("SELECT * FROM orders WHERE id = 5 FOR UPDATE"),)
        )
        crossing.start()
        try:
            with engine.connect() as looking:
                until(
                    lambda: looking.scalar(
                        sa.text(
                            "SELECT count(*) FROM information_schema.processlist WHERE"
                            " db = DATABASE() AND command = 'Query' AND info LIKE '%FOR UPDATE'"
                        )
                    )
                )
            connection.execute(sa.text("SELECT * FROM orders WHERE id = 20 FOR UPDATE"))
        finally:
            crossing.join(10)
            other.rollback()


def until(true: Callable[[], object]) -> None:
    """Look again and again, for ten seconds at most."""
    give_up = time.monotonic() + 10
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.slow
def test_a_commit_that_cannot_be_asked_about_is_lost_and_says_what_to_do(mariadb_url, heard):
    """No tables of ours, and a server that does not tell: never guessed, never run again."""
    url = sa.make_url(mariadb_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))
        proxy.apply(Cut(direction=Direction.DOWN, answer_to=COMMIT, times=1))

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        with pytest.raises(LostCommit) as raised:
            run_transaction(engine, pay, name="pay", operation_id="order-17")
        protection.undo()
        engine.dispose()

    lost = raised.value
    assert isinstance(lost, sa.exc.OperationalError)
    assert (lost.name, lost.operation_id, lost.question, lost.status) == (
        "pay",
        "order-17",
        "",
        500,
    )
    assert "Do not repeat it blindly" in str(lost)
    assert "order-17" in lost.public_detail
    assert classify(lost).outcome is Outcome.AMBIGUOUS
    assert isinstance(heard[0], CommitLost)
    assert (heard[0].operation_id, heard[0].question) == ("order-17", "")
    assert len(runs) == 1
    assert orders(direct) == [1]
    direct.dispose()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "statement"),
    [
        ("postgres", "COMMIT"),
        ("postgres", "/* so far */ END"),
        ("mariadb", "COMMIT"),
        ("mariadb", "CREATE TABLE made (id INT)"),
        ("mariadb", "CREATE TABLE orders (id INT)"),
    ],
)
def test_a_unit_that_committed_by_a_text_is_not_run_again(request, server, statement):
    """Nor by a change of MariaDB's schema, though it was refused: what came before is applied."""
    engine = request.getfixturevalue(server)
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(len(runs)))
        with suppress(sa.exc.OperationalError):  # a table that is there
            connection.exec_driver_sql(statement)
        if len(runs) == 1:
            (kill if server == "postgres" else kill_on_mariadb)(engine, connection)
        connection.execute(add(100))

    with pytest.raises(TransactionEnded):
        run_transaction(engine, pay, name="pay")

    assert len(runs) == 1
    assert orders(engine) == [1]


def kill_on_mariadb(engine: sa.Engine, connection: sa.Connection) -> None:
    """The same as `kill`; a session that is gone is gone at once."""
    number = connection.scalar(sa.text("SELECT connection_id()"))
    other = sa.create_engine(engine.url)
    with other.connect() as operator:
        operator.exec_driver_sql(f"KILL {number}")
    other.dispose()


@pytest.mark.slow
def test_a_commit_of_a_unit_that_wrote_nothing_here_is_asked_for_as_well(postgres_url):
    """It may have written by a foreign table, which this server does not count as a write."""
    url = sa.make_url(postgres_url)
    runs = []

    def look(connection: sa.Connection) -> int:
        runs.append(1)
        proxy.clear()
        if len(runs) == 1:
            proxy.apply(Cut(direction=Direction.DOWN, answer_to=COMMIT, times=1))
        return connection.scalar(sa.text("SELECT 7"))

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        assert run_transaction(engine, look, name="look") == 7
        protection.undo()
        engine.dispose()
    assert len(runs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [True, False])
def test_questions_may_be_lost_too(postgres_url, repeats):
    """The COMMIT does not arrive, nor that of the first question: one more question, one answer.

    Where somebody else retries, the failure is passed on as one of a connection that was lost.
    """
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    with direct.begin() as connection:
        install(connection)
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))
        proxy.clear()
        if len(runs) == 1:
            proxy.apply(Cut(direction=Direction.UP, at=COMMIT, times=2))

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        if repeats:
            run_transaction(engine, pay, name="pay", kind="background")
        else:
            with retrying_scope(), pytest.raises(sa.exc.OperationalError) as raised:
                run_transaction(engine, pay, name="pay", kind="background")
            assert classify(raised.value).outcome is Outcome.LOST
            assert "was not committed: the database says so" in raised.value.__notes__[-2]
        protection.undo()
        engine.dispose()
    assert orders(direct) == ([1] if repeats else [])
    direct.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [True, False])
def test_a_database_that_stays_away_leaves_a_commit_lost_by_its_deadline(postgres_url, tokens):
    """With the statement that finds out, once it answers again."""
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    with direct.begin() as connection:
        install(connection)

    def pay(connection: sa.Connection) -> None:
        connection.execute(add(1))
        proxy.apply(Silence(answer_to=COMMIT))

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        began = time.monotonic()
        with pytest.raises(LostCommit) as raised:
            run_transaction(
                engine, pay, name="pay", token=tokens,
                kind=OperationKind(name="k", total_seconds=1.0),
            )  # fmt: skip
        took = time.monotonic() - began
        protection.undo()
        engine.dispose()

    assert 0.7 < took < 3.0
    assert ("shipworthy_outcomes" in raised.value.question) == tokens
    with direct.connect() as connection:
        said = connection.scalar(sa.text(raised.value.question.partition(" (on ")[0]))
    assert said == "committed"
    direct.dispose()


@pytest.mark.slow
def test_a_server_that_may_not_tell_takes_nothing_from_the_unit(postgres_url):
    """Hosted servers may keep such functions to themselves; only a lost COMMIT is not resolved."""
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    role = f"ship_{secrets.token_hex(6)}"
    with direct.begin() as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT ALL ON orders TO {role}",
            "REVOKE EXECUTE ON FUNCTION pg_control_checkpoint() FROM PUBLIC",
        ):
            connection.execute(sa.text(statement))
    engine = sa.create_engine(url.set(username=role))

    run_transaction(engine, lambda connection: connection.execute(add(1)), name="pay")
    run_transaction(engine, lambda connection: connection.execute(add(2)), name="pay")

    engine.dispose()
    assert orders(direct) == [1, 2]
    with direct.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}"))
        connection.execute(sa.text(f"DROP ROLE {role}"))
    direct.dispose()


@pytest.mark.slow
def test_tables_that_were_not_granted_take_nothing_from_the_unit(postgres_url):
    """Whoever migrates owns them; the status of the transaction is asked for in their place."""
    direct = sa.create_engine(postgres_url)
    Base.metadata.create_all(direct)
    role = f"ship_{secrets.token_hex(6)}"
    with direct.begin() as connection:
        install(connection)
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text(f"GRANT ALL ON orders TO {role}"))
    engine = sa.create_engine(direct.url.set(username=role))
    protection = protect(engine)

    for number in (1, 2):
        run_transaction(engine, lambda c, n=number: c.execute(add(n)), name="pay")
    transaction_module._targets.clear()  # a minute later
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        run_transaction(engine, lambda c: c.execute(add(3)), name="pay", token=True)

    assert orders(direct) == [1, 2]
    protection.undo()
    engine.dispose()
    with direct.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}"))
        connection.execute(sa.text(f"DROP ROLE {role}"))
    direct.dispose()


@pytest.mark.slow
def test_a_grant_that_was_taken_away_is_missed_once(postgres_url):
    """A unit that was counted on fails as a whole; the next one does without."""
    direct = sa.create_engine(postgres_url)
    Base.metadata.create_all(direct)
    role = f"ship_{secrets.token_hex(6)}"
    with direct.begin() as connection:
        install(connection)
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text(f"GRANT ALL ON orders, {OUTCOMES.name} TO {role}"))
    engine = sa.create_engine(direct.url.set(username=role))

    run_transaction(engine, lambda c: c.execute(add(1)), name="pay")
    with direct.begin() as connection:
        connection.execute(sa.text(f"REVOKE ALL ON {OUTCOMES.name} FROM {role}"))
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        run_transaction(engine, lambda c: c.execute(add(2)), name="pay")
    run_transaction(engine, lambda c: c.execute(add(3)), name="pay")

    assert orders(direct) == [1, 3]
    engine.dispose()
    with direct.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}"))
        connection.execute(sa.text(f"DROP ROLE {role}"))
    direct.dispose()


@pytest.mark.slow
def test_a_commit_that_is_not_answered_leaves_time_to_ask(postgres_url):
    """It is cut before the deadline of the unit, and another connection knows."""
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)

    def pay(connection: sa.Connection) -> str:
        connection.execute(add(1))
        proxy.apply(Silence(answer_to=COMMIT, times=1))
        return "paid"

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        length = OperationKind(name="k", total_seconds=4.0)
        assert run_transaction(engine, pay, name="pay", kind=length) == "paid"
        protection.undo()
        engine.dispose()
    assert orders(direct) == [1]
    direct.dispose()


@pytest.mark.slow
def test_a_question_that_cannot_be_answered_ends_the_waiting(postgres_url):
    """Somebody must change something first, so to ask again would not help."""
    url = sa.make_url(postgres_url)
    direct = sa.create_engine(url)
    Base.metadata.create_all(direct)
    with direct.begin() as connection:
        install(connection)

    def pay(connection: sa.Connection) -> None:
        connection.execute(add(1))
        proxy.apply(Cut(direction=Direction.DOWN, answer_to=COMMIT, times=1))

    begun = []

    def take_away(_: object) -> None:
        begun.append(1)
        if len(begun) == 2:  # the transaction of the question
            with direct.begin() as connection:
                remove(connection)

    with FaultProxy.in_thread(url.host, url.port) as proxy:
        engine = sa.create_engine(url.set(host="127.0.0.1", port=proxy.port))
        protection = protect(engine)
        sa.event.listen(engine, "begin", take_away)
        began = time.monotonic()
        with pytest.raises(LostCommit, match="the database cannot say"):
            run_transaction(engine, pay, name="pay", kind="background")
        assert time.monotonic() - began < 20
        protection.undo()
        engine.dispose()
    direct.dispose()


def kill(engine: sa.Engine, connection: sa.Connection) -> None:
    """Have the server end the session of `connection`, as an operator would."""
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    other = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with other.connect() as operator:
        operator.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        gone = sa.text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :pid")
        until(lambda: operator.scalar(gone, {"pid": pid}))
    other.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False])
def test_a_unit_whose_connection_was_lost_is_run_again_on_a_new_one(postgres_url, guarded):
    """Before COMMIT nothing was applied; that is known without a guard too."""
    engine = sa.create_engine(postgres_url)
    protection = protect(engine) if guarded else None
    Base.metadata.create_all(engine)
    runs = []

    def pay(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(add(1))
        if len(runs) == 1:
            kill(engine, connection)
        connection.execute(add(2))

    run_transaction(engine, pay, name="pay")

    assert len(runs) == 2
    assert orders(engine) == [1, 2]
    if protection is not None:
        protection.undo()
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["connection", "session"])
def test_the_error_of_a_unit_counts_and_not_that_of_its_rollback(postgres, kind):
    """The connection that could not be rolled back goes, and its place in the pool is free."""
    source = postgres if kind == "connection" else sessionmaker(postgres)

    def pay(given: object) -> None:
        given.execute(add(1))
        kill(postgres, given if kind == "connection" else given.connection())
        raise LookupError("no such order")

    with pytest.raises(LookupError) as raised:
        run_transaction(source, pay, name="pay")

    assert raised.value.__notes__ == ["its ROLLBACK failed too: OperationalError"]
    assert postgres.pool.checkedout() == 0
    assert orders(postgres) == []


# -- each length of a kind, for real --


def kind(**lengths: float) -> OperationKind:
    return OperationKind(name="tight", **lengths)


@pytest.mark.slow
def test_the_statement_length_is_kept_by_the_server_and_leaves_with_the_transaction(postgres):
    """The connection lives on, and has its own length again."""
    before = run_transaction(postgres, shown, name="look", kind=WITHOUT_END)

    with pytest.raises(sa.exc.OperationalError) as raised:
        run_transaction(
            postgres,
            lambda connection: connection.execute(sa.text("SELECT pg_sleep(30)")),
            name="slow",
            kind=kind(statement_seconds=0.2),
        )

    assert classify(raised.value).sqlstate == "57014"
    assert classify(raised.value).outcome is Outcome.DEADLINE
    assert run_transaction(postgres, shown, name="look", kind=WITHOUT_END) == before


SLOW = {
    "postgres": "SELECT pg_sleep(1)",
    "mariadb": "SELECT SLEEP(1)",
    "engine": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1500000) "
    "SELECT count(*) FROM c",
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SLOW)
def test_a_kind_that_takes_longer_has_more_time_than_any_other_statement(server, request):
    """A report may take longer than `db.statement`, by the guard and by the server."""
    url = request.getfixturevalue(server).url
    engine = sa.create_engine(url, pool_size=1)
    limits = DbSettings(statement_seconds=0.1, statement_warn_seconds=0.05)
    protection = protect(engine, name="brisk", settings=limits)

    def slow(connection: sa.Connection) -> object:
        return connection.execute(sa.text(SLOW[server])).all()

    with pytest.raises(sa.exc.OperationalError):
        run_transaction(engine, slow, name="report", kind=WITHOUT_END)
    run_transaction(engine, slow, name="report", kind=kind(statement_seconds=60))
    with pytest.raises(sa.exc.OperationalError):
        run_transaction(engine, slow, name="report", kind=WITHOUT_END)

    protection.undo()
    engine.dispose()


@pytest.mark.slow
def test_a_report_that_takes_too_long_is_ended_by_the_server_and_not_by_a_cut(postgres_url):
    """So its connection lives on."""
    engine = sa.create_engine(postgres_url, pool_size=1)
    limits = DbSettings(statement_seconds=0.1, statement_warn_seconds=0.05)
    protection = protect(engine, name="brisk", settings=limits)
    before = run_transaction(engine, shown, name="look", kind=kind(statement_seconds=60))

    with pytest.raises(sa.exc.OperationalError) as raised:
        run_transaction(
            engine,
            lambda connection: connection.execute(sa.text("SELECT pg_sleep(30)")),
            name="report",
            kind=kind(statement_seconds=0.5),
        )

    assert classify(raised.value).sqlstate == "57014"
    after = run_transaction(engine, shown, name="look", kind=kind(statement_seconds=60))
    assert after == before
    assert protection.cuts == 0
    protection.undo()
    engine.dispose()


@pytest.mark.slow
@pytest.mark.anyio
async def test_an_async_report_has_its_time_from_mariadb_too(mariadb_url):
    """And whoever has the connection next has the usual one again."""
    engine = create_async_engine(
        sa.make_url(mariadb_url).set(drivername="mariadb+asyncmy"), pool_size=1
    )
    protection = protect(engine, settings=DbSettings(statement_seconds=10.0))

    async def limit(connection: AsyncConnection) -> tuple[float, int]:
        shown = await connection.execute(sa.text("SELECT @@max_statement_time, CONNECTION_ID()"))
        seconds, number = shown.one()
        return float(seconds), number

    usual, number = await run_transaction_async(engine, limit, name="usual")
    report = await run_transaction_async(engine, limit, name="report", kind="report")
    after = await run_transaction_async(engine, limit, name="usual")

    assert (usual, report, after) == (9.75, (110.0, number), (9.75, number))
    protection.undo()
    await engine.dispose()


@pytest.mark.slow
def test_a_report_on_mariadb_keeps_a_shorter_limit_of_the_service(mariadb_url):
    """What it asked for in its connection string is not made longer."""
    shorter = {"init_command": "SET SESSION max_statement_time = 2"}
    engine = sa.create_engine(mariadb_url, connect_args=shorter)
    protection = protect(engine, settings=DbSettings(statement_seconds=10.0))

    def limit(connection: sa.Connection) -> float:
        return float(connection.scalar(sa.text("SELECT @@max_statement_time")))

    assert run_transaction(engine, limit, name="report", kind="report") == 2.0
    protection.undo()
    engine.dispose()


def shown(connection: sa.Connection) -> tuple[str, int]:
    return (
        connection.scalar(sa.text("SHOW statement_timeout")),
        connection.scalar(sa.text("SELECT pg_backend_pid()")),
    )


@pytest.mark.slow
def test_the_lock_length_gives_a_lock_up_and_the_unit_is_run_again(postgres, postgres_url):
    """Whoever held it has let go by then."""
    run_transaction(postgres, lambda connection: connection.execute(add(1)), name="pay")
    other = sa.create_engine(postgres_url)
    runs = []

    with other.connect() as holder:
        holder.execute(sa.text("SELECT * FROM orders FOR UPDATE"))

        def pay(connection: sa.Connection) -> None:
            runs.append(1)
            if len(runs) == 2:
                holder.rollback()
            connection.execute(sa.text("UPDATE orders SET id = 2"))

        run_transaction(postgres, pay, name="pay", kind=kind(lock_seconds=0.1))

    assert len(runs) == 2
    assert orders(postgres) == [2]
    other.dispose()


@pytest.mark.slow
def test_the_idle_length_ends_a_transaction_in_which_nothing_happens(postgres, postgres_url):
    """The server takes its locks away from a client that has stopped."""
    other = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")

    def pay(connection: sa.Connection) -> None:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with other.connect() as looking:
            gone = sa.text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :pid")
            until(lambda: looking.scalar(gone, {"pid": pid}))
        connection.execute(add(1))

    with pytest.raises(sa.exc.DBAPIError) as raised:
        run_transaction(postgres, pay, name="pay", kind=kind(idle_seconds=0.1), attempts=1)

    assert classify(raised.value).outcome is Outcome.LOST
    other.dispose()


@pytest.mark.slow
def test_the_checkout_length_is_how_long_a_connection_is_waited_for(postgres):
    """The pool has one connection, and it is out."""
    with postgres.connect(), pytest.raises(sa.exc.TimeoutError):
        began = time.monotonic()
        run_transaction(
            postgres,
            lambda connection: connection.execute(add(1)),
            name="pay",
            kind=kind(checkout_seconds=0.1, total_seconds=30),
            attempts=1,
        )
    assert time.monotonic() - began < 5


ASLEEP = {
    "postgres": "SELECT pg_sleep(30)",
    "mariadb": "SELECT SLEEP(30)",
    "engine": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i)"
    " FROM n",
}


@pytest.mark.slow
@pytest.mark.parametrize("server", sorted(ASLEEP))
def test_the_total_length_cuts_whatever_runs_on_every_database(request, server):
    """Where the server cannot be told, the watchdog keeps it."""
    engine = request.getfixturevalue(server)
    began = time.monotonic()

    with pytest.raises((sa.exc.DBAPIError, DeadlinePassed)) as raised:
        run_transaction(
            engine,
            lambda connection: connection.execute(sa.text(ASLEEP[server])).all(),
            name="slow",
            kind=kind(total_seconds=0.3),
        )

    assert classify(raised.value).outcome is Outcome.DEADLINE
    assert 0.25 < time.monotonic() - began < 5


@pytest.mark.slow
@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_a_unit_that_only_reads_is_held_to_it(request, server):
    """So that it may run again whatever became of its COMMIT; the next unit writes as usual."""
    engine = request.getfixturevalue(server)

    with pytest.raises(sa.exc.DBAPIError) as raised:
        run_transaction(
            engine, lambda connection: connection.execute(add(1)), name="look", read_only=True
        )

    assert classify(raised.value).outcome is Outcome.READ_ONLY
    run_transaction(engine, lambda connection: connection.execute(add(2)), name="pay")
    assert orders(engine) == [2]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["engine", "session"])
def test_a_unit_has_the_isolation_it_asks_for_and_no_other_has(postgres, source):
    """The connection goes back as it was."""
    maker = postgres if source == "engine" else sessionmaker(postgres)
    shows = sa.text("SHOW transaction_isolation")

    asked = run_transaction(maker, lambda it: it.scalar(shows), name="x", isolation="SERIALIZABLE")
    usual = run_transaction(maker, lambda it: it.scalar(shows), name="x")

    assert (asked, usual) == ("serializable", "read committed")
