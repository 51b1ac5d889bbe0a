import asyncio
import os
import re
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from lateness import Lateness
from shipworthy.context import deadline_scope
from shipworthy.db import install as protect_everything, protect, protections
from shipworthy.db.attempt import attempt_scope
from shipworthy.db.idempotency import (
    KeyStore,
    KeysUnavailable,
    KeyTakenOver,
    _values,
    place_of,
)
from shipworthy.db.tables import IDEMPOTENCY, install, remove

pytestmark = pytest.mark.anyio

DRIVERS = {
    "sqlite": ("sqlite", "aiosqlite"),
    "postgres_server": ("postgresql+psycopg", "asyncpg"),
    "mariadb_server": ("mariadb+pymysql", "asyncmy"),
}


@pytest.fixture(scope="module", params=DRIVERS)
def url(request, tmp_path_factory):
    """A database for all tests here, by the URL of its sync driver: to make one takes a while."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db"
    else:
        with request.getfixturevalue(request.param).database() as url:
            yield url


@pytest.fixture(scope="module")
def engine(url):
    made = sa.create_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def database(engine):
    """An engine as an application has it, with our tables and one of its own, all empty."""
    with engine.begin() as connection:
        remove(connection)
        install(connection)
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS orders (id INTEGER)"))
        connection.execute(sa.text("DELETE FROM orders"))
    return engine


def async_url(url):
    name = url.partition(":")[0]
    sync, driver = next(pair for pair in DRIVERS.values() if pair[0] == name)
    return url.replace(sync, f"{sync.partition('+')[0]}+{driver}", 1)


@pytest.fixture(params=["sync", "async"])
async def store(request, database):
    """The keys in that database, reached by a sync and by an async driver."""
    plain = database.url.render_as_string(hide_password=False)
    made = KeyStore(plain if request.param == "sync" else async_url(plain), seconds=5.0)
    yield made
    await made.close()


def new(store, key="k", *, now=100.0):
    return store.new(key.ljust(64, "0"), "f" * 64, now=now, lease_seconds=60.0, keep_seconds=3600.0)


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(sa.select(IDEMPOTENCY)).mappings().all()


def state(engine):
    (row,) = rows(engine)
    return row["state"]


def order(connection):
    connection.execute(sa.text("INSERT INTO orders VALUES (1)"))


def orders(engine):
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(*) FROM orders")).scalar()


async def test_a_key_is_written_once(store, database):
    """Whoever comes second is shown what is there; who wrote it finds that it is their own."""
    mine, other = new(store), new(store)

    assert await store.insert(mine) is None
    assert await store.insert(mine) is None, "the answer to our INSERT may have been lost"
    assert (await store.insert(other)).attempt == mine.row.attempt
    assert len(rows(database)) == 1


async def test_of_many_at_once_one_gets_the_key(store, database):
    """The database decides, whatever process they are in."""
    all_of_them = [new(store) for _ in range(12)]

    there = await asyncio.gather(*map(store.insert, all_of_them))

    (winner,) = [held for held, found in zip(all_of_them, there, strict=True) if found is None]
    assert {found.attempt for found in there if found} == {winner.row.attempt}


async def test_a_key_is_taken_over_by_one(store, database):
    """Of all who see that its lease is over."""
    await store.insert(new(store))
    heirs = [new(store, now=200.0) for _ in range(6)]
    there = await store.insert(heirs[0])

    took = await asyncio.gather(*(store.take_over(there, heir) for heir in heirs))

    assert sum(took) == 1
    (row,) = rows(database)
    assert row["attempt"] == heirs[took.index(True)].row.attempt
    assert row["lease_until"] == 260.0


async def test_a_commit_carries_the_mark_of_its_key(store, database):
    """In the same transaction, so that both are there or neither."""
    held = new(store)
    await store.insert(held)

    with store.holding(held), database.connect() as connection:
        order(connection)
        assert state(database) == "begun"
        connection.commit()

    assert (state(database), orders(database), held.fenced) == ("applied", 1, True)


async def test_a_rollback_leaves_no_mark(store, database):
    """Nothing took effect."""
    held = new(store)
    await store.insert(held)

    with store.holding(held), database.connect() as connection:
        order(connection)
        connection.rollback()

    assert (state(database), orders(database), held.fenced) == ("begun", 0, False)


async def test_who_lost_the_key_cannot_commit(store, database):
    """It was taken over while the first still worked: of two runs one takes effect."""
    first, second = new(store), new(store, now=200.0)
    await store.insert(first)
    await store.take_over(first.row, second)

    refused = pytest.raises(KeyTakenOver, match=r"idempotency\.lease")
    with store.holding(first), refused, database.begin() as connection:
        order(connection)
    assert orders(database) == 0

    with store.holding(second), Session(database) as session, session.begin():
        order(session)
    assert (state(database), orders(database)) == ("applied", 1)


async def test_who_was_released_cannot_commit(store, database):
    """A thread that goes on after its request is over."""
    held = new(store)
    await store.insert(held)
    await store.release(held, now=101.0)

    with store.holding(held), pytest.raises(KeyTakenOver), database.begin() as connection:
        order(connection)

    assert (rows(database), orders(database)) == ([], 0)


async def test_every_commit_of_a_request_is_marked_and_none_takes_its_answer_away(store, database):
    """A background task may commit after the answer was kept."""
    held = new(store)
    await store.insert(held)

    with store.holding(held):
        for _ in range(2):
            with database.begin() as connection:
                order(connection)
        await store.answer(held, status=201, headers=b"[]", body=b"made", now=101.0)
        with database.begin() as connection:
            order(connection)

    assert (state(database), orders(database)) == ("done", 3)


async def test_threads_and_tasks_of_the_block_are_marked_and_no_others(store, database):
    """The mark is in the context, as the request is."""
    held = new(store)
    await store.insert(held)

    def commit():
        with database.begin() as connection:
            order(connection)

    with store.holding(held):
        await asyncio.to_thread(commit)
    assert held.fenced
    assert state(database) == "applied"

    await store.release(held, now=101.0)  # stays: it took effect
    commit()
    assert (state(database), orders(database)) == ("applied", 2)


async def test_commits_of_an_async_engine_are_marked_too(store, database):
    """And those of an engine with options of its own."""
    plain = database.url.render_as_string(hide_password=False)
    engine = create_async_engine(async_url(plain))
    held = new(store)
    await store.insert(held)

    with store.holding(held):
        async with engine.execution_options(logging_token="t").begin() as connection:
            await connection.execute(sa.text("INSERT INTO orders VALUES (1)"))
    await engine.dispose()

    assert (state(database), orders(database), held.fenced) == ("applied", 1, True)


async def test_a_commit_elsewhere_is_let_be_and_noted(store, database, tmp_path):
    """It cannot carry the mark: nobody can commit in two databases at once."""
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")
    held = new(store)
    await store.insert(held)

    with store.holding(held), other.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
    other.dispose()

    assert (held.elsewhere, held.fenced, state(database)) == (True, False, "begun")


async def test_a_transaction_that_only_reads_may_be_told_so(store, database):
    """A server that refuses the mark there cannot be asked to commit anything else either."""
    read_only = "SET TRANSACTION READ ONLY"
    if database.dialect.name == "sqlite":
        read_only = "PRAGMA query_only = 1"
    held = new(store)
    await store.insert(held)

    with store.holding(held), database.connect() as connection:
        connection.execute(sa.text(read_only))
        assert connection.execute(sa.text("SELECT count(*) FROM orders")).scalar() == 0
        connection.commit()
        connection.invalidate()

    assert (state(database), held.fenced) == ("begun", False)


async def test_an_answer_is_kept_byte_for_byte(store, database):
    """Whatever it holds."""
    held = new(store)
    await store.insert(held)
    body = os.urandom(200_000)

    await store.answer(held, status=201, headers=b'[["a", "b"]]', body=body, now=101.0)

    there = await store.insert(new(store))
    assert (there.state, there.status, there.headers) == ("done", 201, b'[["a", "b"]]')
    assert there.body == body


async def test_a_key_without_effect_is_released(store, database):
    """And may be held again; one with an effect is not forgotten, and its lease is over."""
    held = new(store)
    await store.insert(held)
    await store.release(held, now=101.0)
    assert rows(database) == []

    await store.insert(held)
    with store.holding(held), database.begin() as connection:
        order(connection)
    await store.release(held, now=101.0)
    (row,) = rows(database)
    assert (row["state"], row["lease_until"]) == ("applied", 101.0)


async def test_only_its_own_key_is_changed(store, database):
    """Who was taken over has nothing to say about it."""
    first, second = new(store), new(store, now=200.0)
    await store.insert(first)
    await store.take_over(first.row, second)

    await store.answer(first, status=200, headers=b"[]", body=b"", now=201.0)
    await store.applied(first, now=201.0)
    await store.release(first, now=201.0)

    (row,) = rows(database)
    assert (row["state"], row["attempt"]) == ("begun", second.row.attempt)


async def test_expired_keys_are_deleted_now_and_then(store, database):
    """At most once a minute, so that it costs a request nothing."""
    old, young, third = new(store, "a", now=0.0), new(store, "b", now=9000.0), new(store, "c")
    for held in (old, young):
        await store.insert(held)

    await store.answer(young, status=200, headers=b"[]", body=b"", now=9000.0)
    assert [row["id"] for row in rows(database)] == [young.row.id]

    await store.insert(third)  # expired at 3700
    await store.answer(young, status=200, headers=b"[]", body=b"", now=9001.0)
    assert len(rows(database)) == 2


async def test_a_database_without_the_table_is_told_with_what_to_run(url, engine):
    """At start, and on every key."""
    with engine.begin() as connection:
        remove(connection)
    store = KeyStore(url, seconds=5.0)
    try:
        assert "shipworthy db migrate" in await store.missing()
        with pytest.raises(KeysUnavailable, match="shipworthy db migrate") as refused:
            await store.insert(new(store))
        assert "table" not in refused.value.public_detail
    finally:
        await store.close()


async def test_a_driver_that_is_not_installed_is_named():
    """Of an unknown kind too: both are a word of the URL."""
    for driver in ("postgresql+psycopg2", "postgrs"):
        store = KeyStore(f"{driver}://u:s3cret@127.0.0.1:1/x", seconds=5.0)
        with pytest.raises(KeysUnavailable, match=f"driver of '{re.escape(driver)}' is not inst"):
            await store.missing()
        await store.close()


async def test_a_table_that_is_there_is_not_missing(store):
    """Nothing to say at start."""
    assert await store.missing() == ""


@contextmanager
def locked(engine):
    """Hold what every statement on the table needs."""
    with engine.connect() as connection:
        match engine.dialect.name:
            case "sqlite":
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
            case "postgresql":
                connection.execute(sa.text("LOCK TABLE shipworthy_idempotency"))
            case _:
                connection.execute(sa.text("LOCK TABLES shipworthy_idempotency WRITE"))
        yield
        connection.invalidate()


@pytest.mark.slow
async def test_a_key_waits_for_its_table_no_longer_than_it_may(database):
    """Whatever holds it."""
    store = KeyStore(database.url.render_as_string(hide_password=False), seconds=0.5)
    await store.missing()
    loop = asyncio.get_running_loop()
    try:
        with locked(database), Lateness() as late:
            began = loop.time()
            with pytest.raises(KeysUnavailable):
                await store.insert(new(store))
            took = loop.time() - began
    finally:
        await store.close()

    assert took < 0.5 + 0.1 + late.allowed_seconds


async def test_a_server_that_is_away_refuses_keys():
    """At once where nobody listens."""
    store = KeyStore("postgresql+psycopg://nobody@127.0.0.1:1/none", seconds=5.0)
    try:
        with pytest.raises(KeysUnavailable):
            await store.missing()
    finally:
        await store.close()


async def test_the_request_around_it_is_none_of_its_business(store):
    """Its deadline has passed, and what it does is not noted as the application's work."""
    with deadline_scope(0.0), attempt_scope() as attempt:
        assert await store.insert(new(store)) is None

    assert (attempt.commits, attempt.failures) == (0, [])


async def test_it_may_be_used_again_after_it_was_closed(store):
    """Test clients begin one life after the other."""
    await store.insert(new(store))
    await store.close()
    await store.close()

    assert await store.insert(new(store)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "postgresql+psycopg://a:b@localhost:5432/app",
            "postgresql+asyncpg://c@127.0.0.1:5432/app",
        ),
        ("sqlite:////srv/app.db", "sqlite+aiosqlite:////srv/./app.db?timeout=3"),
        ("postgresql://a@/app?host=/run/pg", "postgresql+asyncpg://b@/app?host=/run/pg"),
    ],
)
def test_two_urls_of_one_database_are_one_place(one, other):
    """Driver, user and options do not matter."""
    assert place_of(sa.make_url(one)) == place_of(sa.make_url(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://db:5432/app", "postgresql://db:5433/app"),
        ("postgresql://db:5432/app", "postgresql://db:5432/other"),
        ("postgresql://db/app", "postgresql://replica/app"),
        ("postgresql://db/app", "mariadb://db/app"),
        ("sqlite:////srv/app.db", "sqlite:////srv/other.db"),
    ],
)
def test_two_databases_are_two_places(one, other):
    """Where one is taken for another, a COMMIT there would fail."""
    assert place_of(sa.make_url(one)) != place_of(sa.make_url(other))


async def test_an_error_of_the_mark_is_the_application_s_own(store, database):
    """It is not hidden: without the mark the COMMIT must not take place."""
    held = new(store)
    await store.insert(held)
    with database.begin() as connection:
        connection.execute(sa.text("DROP TABLE shipworthy_idempotency"))

    with store.holding(held), pytest.raises(sa.exc.DBAPIError), database.begin() as connection:
        order(connection)

    assert orders(database) == 0


@pytest.mark.parametrize("url", ["postgres_server", "mariadb_server"], indirect=True)
async def test_two_transactions_of_one_request_do_not_meet_at_the_mark(store, database):
    """The first that was committed left it for good: one that began earlier need not write it.

    Not on SQLite, which has one writer at a time.
    """
    held = new(store)
    await store.insert(held)
    strict = database.execution_options(isolation_level="REPEATABLE READ")
    protection = protect(database)

    with attempt_scope(), store.holding(held), strict.connect() as first, first.begin():
        first.execute(sa.select(IDEMPOTENCY)).all()  # its snapshot is older than the mark
        with attempt_scope(), strict.begin() as second:
            order(second)
        order(first)
    protection.undo()

    assert (orders(database), state(database)) == (2, "applied")


async def test_a_mark_whose_commit_failed_is_made_again(store, database):
    """Nothing of it is there."""
    held = new(store)
    await store.insert(held)
    protection = protect(database)

    with attempt_scope() as attempt, store.holding(held):
        with database.connect() as connection:
            order(connection)
            store.mark(connection, held)
            connection.rollback()
        assert state(database) == "begun"
        with database.begin() as connection:
            order(connection)
        assert attempt.commits == 1
    protection.undo()

    assert (orders(database), state(database)) == (1, "applied")


async def test_what_has_expired_goes_as_fast_as_it_comes(store, database):
    """While a pass finds as much as it may take, the next answer makes the next."""
    old = new(store, "old").row
    values = [_values(replace(old, id=f"{number:064}", expires=1.0)) for number in range(1001)]
    with database.begin() as connection:
        connection.execute(sa.insert(IDEMPOTENCY), values)
    held = new(store)
    await store.insert(held)

    for _ in range(3):
        await store.answer(held, status=200, headers=b"", body=b"", now=200.0)

    assert len(rows(database)) == 1


async def test_under_run_its_engine_is_not_taken_for_the_application_s(url, database):
    """It has a name and limits of its own, also where every engine is protected when it is made."""
    undo = protect_everything()
    store = KeyStore(url, seconds=5.0)
    try:
        await store.missing()
        assert [one.name for one in protections()] == ["idempotency"]
    finally:
        await store.close()
        undo()
