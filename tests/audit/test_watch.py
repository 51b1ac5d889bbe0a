"""Whether the trail is whole, looked at in the background."""

import asyncio
import contextlib

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy.audit import (
    AuditSettings,
    TableUncovered,
    TrailAbsent,
    TrailUnseen,
    TrailWatch,
    TriggerDrifted,
    coverage_metrics,
    install,
    installation,
)
from shipworthy.audit.watch import name_of
from shipworthy.db import protect, protect_all, protections
from shipworthy.events import listen

pytestmark = pytest.mark.slow
OFTEN = 0.02


@pytest.fixture
def engine(tmp_path):
    """A database with one table."""
    made = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE clients (id INTEGER PRIMARY KEY)")
    yield made
    made.dispose()


@contextlib.asynccontextmanager
async def watching(url, mode="report", **settings):
    """Yield a watch's health check and the facts it states, until the block ends."""
    checks, facts = [], []
    forget = listen(facts.append)
    chosen = AuditSettings(mode=mode, check_interval_seconds=OFTEN, **settings)
    watch = TrailWatch(chosen, url, checks.append)
    await watch.start()
    try:
        yield (checks[0] if checks else None), facts
    finally:
        await watch.stop()
        forget()


async def until(happened):
    """Wait for a fact, for at most ten seconds."""
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


def of(facts, kind):
    return [fact for fact in facts if isinstance(fact, kind)]


def test_a_whole_trail_is_well_and_counted(engine):
    """Readiness may depend on it; the numbers say when it was seen."""
    install(engine, say=lambda _: None)
    name = name_of(engine.url)

    async def scene():
        async with watching(str(engine.url), "enforce") as (check, facts):
            await until(lambda: (name,) in coverage_metrics()[0][1]())
            read = {metric.name: reading() for metric, reading in coverage_metrics()}
            return check, await check.ask(), facts, read

    check, answer, facts, read = asyncio.run(scene())
    assert check.kinds == {"ready"}
    assert answer is None
    assert facts == []
    assert read["shipworthy_audit_uncovered_tables"] == {(name,): 0.0}
    assert read["shipworthy_audit_checked_timestamp_seconds"][(name,)] > 1.7e9
    assert coverage_metrics()[0][1]() == {}


def test_without_a_trail_it_is_said_once_and_nothing_else_happens(engine):
    """Who has not installed one has no alarm of it."""

    async def scene():
        async with watching(str(engine.url)) as (check, facts):
            await until(lambda: of(facts, TrailAbsent))
            seen = coverage_metrics()[1][1]()
            await until(lambda: coverage_metrics()[1][1]() != seen)
            return check, await check.ask(), facts

    check, answer, facts = asyncio.run(scene())
    assert check.kinds == frozenset()
    assert answer is None
    assert len(facts) == 1


def test_where_it_is_required_a_service_without_a_trail_is_not_ready(engine):
    """The sentence says what to do."""

    async def scene():
        async with watching(str(engine.url), "enforce") as (check, facts):
            await until(lambda: of(facts, TrailAbsent))
            return await check.ask()

    assert "audit install" in asyncio.run(scene())


def test_a_gap_is_said_once_and_again_when_it_opens_again(engine):
    """A new table, a trigger that was dropped; and what was mended is well."""
    install(engine, say=lambda _: None)

    async def scene():
        async with watching(str(engine.url)) as (check, facts):
            run(engine, "CREATE TABLE tasks (id INTEGER PRIMARY KEY)")
            await until(lambda: of(facts, TableUncovered))
            answers = [await check.ask()]
            install(engine, say=lambda _: None)
            await until(lambda: 0.0 in coverage_metrics()[0][1]().values())
            answers.append(await check.ask())
            for count in (1, 2):
                run(engine, "DROP TRIGGER shipworthy_audit_1_delete")
                await until(lambda count=count: len(of(facts, TriggerDrifted)) == count)
                answers.append(await check.ask())
                install(engine, say=lambda _: None)
                await until(lambda: 0.0 in coverage_metrics()[0][1]().values())
            return answers, facts

    answers, facts = asyncio.run(scene())
    assert "tasks is not captured" in answers[0]
    assert answers[1] is None
    assert "shipworthy_audit_1_delete is missing" in answers[2]
    assert [fact.table for fact in of(facts, TableUncovered)] == ["tasks"]
    assert [fact.table for fact in of(facts, TriggerDrifted)] == ["clients", "clients"]


def test_a_database_that_cannot_be_reached_is_said_and_asked_again():
    """No password is in what is said."""
    url = "postgresql+psycopg://ana:hunter2@127.0.0.1:1/shop"

    async def scene():
        async with watching(url, "enforce") as (check, facts):
            await until(lambda: of(facts, TrailUnseen))
            return await check.ask(), facts

    answer, facts = asyncio.run(scene())
    assert "could not be looked at" in answer
    assert "hunter2" not in f"{answer} {facts}"


def test_without_a_url_the_databases_of_the_process_are_looked_at(engine):
    """By whichever driver: an asynchronous one is asked in a loop of its own."""
    install(engine, say=lambda _: None)
    url = engine.url.set(drivername="sqlite+aiosqlite")

    async def scene():
        awaited = create_async_engine(url)
        protection = protect(awaited)
        try:
            async with watching("", "enforce") as (check, facts):
                await until(lambda: coverage_metrics()[0][1]())
                return await check.ask(), facts
        finally:
            protection.undo()
            await awaited.dispose()

    assert asyncio.run(scene()) == (None, [])
    assert all(one.name != "audit" for one in protections())


def test_a_service_has_a_check_from_its_first_database_on():
    """One that has none shows nothing of a trail in /health."""
    checks = []
    watch = TrailWatch(AuditSettings(check_interval_seconds=OFTEN), "", checks.append)

    async def scene():
        await watch.start()
        await asyncio.sleep(0)
        before = [*checks]
        awaited = create_async_engine("sqlite+aiosqlite:///:memory:")
        protection = protect(awaited)
        await until(lambda: checks)
        protection.undo()
        await awaited.dispose()
        await watch.stop()
        return before

    assert asyncio.run(scene()) == []
    assert [(check.name, check.kinds) for check in checks] == [("audit", frozenset())]


def test_it_is_none_of_the_databases_that_users_see(engine, monkeypatch):
    """Under `run` every engine is adopted and shown; the one that looks is not, even while it does.

    An engine that came and went would leave a check in /health and rows of metrics behind.
    """
    install(engine, say=lambda _: None)
    shown, real = [], installation.survey_trail

    def survey(*args):
        shown.append([one.name for one in protections()])
        return real(*args)

    monkeypatch.setattr(installation, "survey_trail", survey)
    end = protect_all()
    try:

        async def scene():
            async with watching(str(engine.url)):
                await until(lambda: coverage_metrics()[0][1]())

        asyncio.run(scene())
    finally:
        end()
    assert shown
    assert set(map(tuple, shown)) == {()}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite+aiosqlite:///:memory:"])
@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_a_database_in_memory_is_said_to_be_out_of_sight(url, mode):
    """Once; readiness depends on it only where coverage is required."""

    async def scene():
        async with watching(url, mode) as (check, facts):
            await until(lambda: of(facts, TrailUnseen))
            return await check.ask(), facts

    answer, facts = asyncio.run(scene())
    (fact,) = facts
    assert fact.database == ":memory:"
    assert "with a file" in fact.because
    assert ("with a file" in (answer or "")) is (mode == "enforce")


def test_an_engine_in_memory_is_seen_as_one():
    """The application made it, and nothing names a file."""
    memory = sa.create_engine("sqlite://")
    protection = protect(memory)

    async def scene():
        async with watching("", "enforce") as (check, facts):
            await until(lambda: of(facts, TrailUnseen))
            return await check.ask()

    try:
        assert ":memory:" in asyncio.run(scene())
    finally:
        protection.undo()
        memory.dispose()


def test_off_is_off(engine):
    """No check, no thread, no question."""

    async def scene():
        async with watching(str(engine.url), "off") as (check, facts):
            return check, facts

    assert asyncio.run(scene()) == (None, [])


def run(engine, statement):
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_it_is_started_again_in_another_loop(engine):
    """As test clients do with one application: the check is added once, and answers anew."""
    install(engine, say=lambda _: None)
    checks = []
    settings = AuditSettings(mode="enforce", check_interval_seconds=OFTEN)
    watch = TrailWatch(settings, str(engine.url), checks.append)

    async def life():
        await watch.start()
        answer = await checks[0].ask()
        await watch.stop()
        return answer

    assert [asyncio.run(life()) for _ in range(2)] == [None, None]
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    assert "orders is not captured" in asyncio.run(life())
    assert len(checks) == 1
