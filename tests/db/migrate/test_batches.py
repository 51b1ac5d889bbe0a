"""Backfills: every row exactly once, whatever interrupts them."""

import datetime as dt
import threading
import uuid
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from shipworthy.clock import ManualClock
from shipworthy.db import DbSettings, protect
from shipworthy.db.migrate import MigrationFailed, backfill
from shipworthy.db.migrate.batches import install_progress, remove_progress
from shipworthy.errors import Misuse

METADATA = sa.MetaData()
pytestmark = pytest.mark.slow
# What does not depend on the database.
SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

ROWS = sa.Table(
    "rows_of_people",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("old", sa.Integer),
    sa.Column("new", sa.Integer, nullable=False),
)
HOW_MANY = 95


@pytest.fixture
def engine(url, connect):
    """A table with rows, every third of which has no old value, and where progress is noted."""
    made = connect(url)
    with made.begin() as connection:
        METADATA.create_all(connection)
        install_progress(connection)
        connection.execute(
            ROWS.insert(),
            [{"id": n, "old": n if n % 3 else None, "new": 0} for n in range(HOW_MANY)],
        )
    return made


def fill(engine, **options):
    """Add one to `new` of every row that has an old value: a row done twice shows."""
    given = {"batch_rows": 10, "wait": lambda seconds: None, "where": ROWS.c.old.is_not(None)}
    return backfill(
        engine, ROWS, key=ROWS.c.id, set_={ROWS.c.new: ROWS.c.new + 1}, **(given | options)
    )


def counts(engine):
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(ROWS.c.new, sa.func.count())
            .where(ROWS.c.old.is_not(None))
            .group_by(ROWS.c.new)
        )
        return dict(found.all())


WANTED = len([n for n in range(HOW_MANY) if n % 3])


def test_every_row_that_is_meant_is_changed_once_in_batches(engine):
    """Rows that are not meant do not count for a batch."""
    seen = []

    done = fill(engine, on_batch=seen.append)

    assert counts(engine) == {1: WANTED}
    assert (done.rows, done.batches, done.is_done) == (WANTED, 7, True)
    assert [progress.rows for progress in seen][:3] == [10, 20, 30]


@SQLITE
def test_a_finished_one_does_nothing_again(engine):
    """Its name says that the work is done."""
    fill(engine)

    assert fill(engine).batches == 0
    assert counts(engine) == {1: WANTED}
    assert fill(engine, name="again").rows == WANTED
    assert counts(engine) == {2: WANTED}


@pytest.mark.parametrize("after", [1, 3, 6])
def test_an_interrupted_one_goes_on_behind_its_last_batch(engine, after):
    """Whatever ended it: what was committed is noted, what was not is not."""

    def interrupt(progress):
        if progress.batches == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(engine, on_batch=interrupt)
    assert counts(engine) == {0: WANTED - 10 * after, 1: 10 * after}

    done = fill(engine)

    assert counts(engine) == {1: WANTED}
    assert (done.rows, done.batches) == (WANTED, 7 - after)


@pytest.mark.parametrize("moment", ["do_execute", "do_commit"])
def test_a_batch_that_fails_in_any_statement_is_done_again_as_a_whole(engine, moment):
    """Also where COMMIT took place and its answer was lost: what is noted was changed."""
    failures = iter([True, False] * 200)
    plain = getattr(engine.dialect, moment)

    def fail(*args, **options):
        plain(*args, **options)
        if (moment == "do_commit" or args[1].startswith("UPDATE rows")) and next(failures):
            raise gone(engine.dialect)

    setattr(engine.dialect, moment, fail)
    done = fill(engine)
    setattr(engine.dialect, moment, plain)

    assert counts(engine) == {1: WANTED}
    assert done.rows == WANTED


def gone(dialect):
    """What the driver raises for a connection that is lost, or a file that is busy."""
    given = {"mariadb": (2013, "Lost connection to server during query")}
    error = dialect.dbapi.OperationalError(*given.get(dialect.name, ("lost",)))
    if dialect.name == "sqlite":
        error.sqlite_errorcode = 5
    return error


def test_a_wrong_statement_ends_it(engine):
    """It would be as wrong the next time."""
    with pytest.raises(DBAPIError):
        fill(engine, where=sa.text("nothing = 1"))
    assert counts(engine) == {0: WANTED}


def test_several_share_the_work(engine):
    """Each batch is done by one of them."""
    threads = [threading.Thread(target=fill, args=(engine,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert counts(engine) == {1: WANTED}


@SQLITE
def test_it_rests_as_long_as_it_worked(engine):
    """Half of the time belongs to others, or what was asked for."""
    clock, waits = ManualClock(), []
    engine_began = engine.begin

    def begin():
        clock.advance(0.5)
        return engine_began()

    engine.begin = begin
    fill(engine, clock=clock, wait=waits.append, pause_ratio=3.0)
    del engine.begin

    assert waits == [1.5] * 7


def test_a_restart_while_replicas_are_asked_for_ends_nothing(postgres_url, sql):
    """The connection that was to ask is gone; the next batch has a new one."""
    made = sa.create_engine(postgres_url, pool_size=1, max_overflow=0)
    with made.begin() as connection:
        METADATA.create_all(connection)
        install_progress(connection)
        rows = [{"id": n, "old": 1, "new": 0} for n in range(30)]
        connection.execute(ROWS.insert(), rows)

    def restart(progress):
        if progress.batches == 1:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            sql(
                postgres_url,
                f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}",
            )

    done = fill(made, on_batch=restart)

    assert (done.rows, counts(made)) == (30, {1: 30})
    made.dispose()


@SQLITE
def test_it_waits_for_replicas(engine):
    """Until they are near enough."""
    lags = iter([60.0, 30.0, *([0.0] * 20)])
    waits = []

    fill(engine, lag=lambda: next(lags), wait=waits.append, pause_ratio=0.0)

    assert waits.count(0.5) == 2


@SQLITE
def test_replicas_that_do_not_catch_up_end_it(engine):
    """It says how far behind they are, and goes on the next time."""
    clock = ManualClock()

    with pytest.raises(MigrationFailed, match="replicas are 99 s behind"):
        fill(engine, lag=lambda: 99.0, wait=clock.advance, clock=clock, pause_ratio=0.0)

    assert fill(engine).rows == WANTED


@SQLITE
def test_it_waits_while_callers_wait_for_a_connection(engine):
    """A service that is short of connections comes first."""
    guarded = create_engine(engine.url, pool_size=1, max_overflow=0)
    protection = protect(guarded, settings=DbSettings(checkout_seconds=20.0))
    waits, callers = [], []

    def ask():
        with guarded.connect():
            pass

    def on_batch(progress):
        if progress.batches == 1 and not callers:
            held = guarded.connect()
            callers.append(threading.Thread(target=ask))
            callers[0].start()
            while not protection.statistics().waiting:
                pass
            callers.append(held)

    def wait(seconds):
        waits.append(seconds)
        if seconds == 0.5:
            callers[1].close()
            callers[0].join(20)

    done = fill(guarded, on_batch=on_batch, wait=wait, pause_ratio=0.0, lag=lambda: 0.0)
    protection.undo()
    guarded.dispose()

    assert done.rows == WANTED
    assert 0.5 in waits


KEYS = {
    "text": (sa.String(40), [f"k{n:02}" for n in range(25)]),
    "uuid": (sa.Uuid(), [uuid.UUID(int=n) for n in range(25)]),
    "instant": (
        sa.DateTime(),
        [dt.datetime.fromisoformat(f"2026-01-{1 + n:02}") for n in range(25)],
    ),
    "day": (sa.Date(), [dt.date(2026, 1, 1 + n) for n in range(25)]),
    "number": (sa.Numeric(10, 2), [Decimal(n) / 4 for n in range(25)]),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.filterwarnings("ignore:Dialect sqlite.*Decimal")
def test_keys_of_these_types_are_noted_and_read_back(engine, kind):
    """A key that came back otherwise would skip rows, or do them twice."""
    column_type, values = KEYS[kind]
    table = sa.Table(
        "keyed",
        sa.MetaData(),
        sa.Column("key", column_type, primary_key=True),
        sa.Column("new", sa.Integer, nullable=False),
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"key": value, "new": 0} for value in values])

    done = backfill(
        engine,
        table,
        key=table.c.key,
        set_={"new": table.c.new + 1},
        batch_rows=4,
        wait=lambda seconds: None,
    )

    with engine.connect() as connection:
        assert connection.scalars(sa.select(table.c.new)).all() == [1] * 25
    assert done.batches == 7


@SQLITE
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_rows": 0}, "a batch has at least one row"),
        ({"pause_ratio": -1.0}, "a pause is finite"),
        ({"pause_ratio": float("inf")}, "a pause is finite"),
        ({"name": "x" * 121}, "at most 120 characters"),
        ({"key": sa.Column("f", sa.LargeBinary)}, "which cannot be noted"),
    ],
)
def test_what_cannot_work_is_refused_at_once(engine, options, sentence):
    """Before a row is touched."""
    given = {"key": ROWS.c.id, "set_": {"new": 1}} | options

    with pytest.raises(Misuse, match=sentence):
        backfill(engine, ROWS, **given)


@SQLITE
def test_without_the_table_of_progress_it_says_how_to_make_it(engine):
    """Nothing is made by itself."""
    with engine.begin() as connection:
        assert remove_progress(connection) == ["dropped the table shipworthy_backfills"]
        assert remove_progress(connection) == []

    with pytest.raises(Misuse, match="shipworthy db migrate"):
        fill(engine)
