"""The trail made on a live database, and taken away."""

import asyncio
import itertools
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from shipworthy.audit import (
    AuditSettings,
    InstallFailed,
    InstallOptions,
    check,
    install,
    plan,
    plan_of_uninstall,
    release,
    uninstall,
)
from shipworthy.audit.script import run_text
from shipworthy.audit.tables import ENTRIES, META, SHAPES, VERSION
from shipworthy.db import MigratorBusy
from shipworthy.errors import Misuse

TABLES = (
    """CREATE TABLE clients (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(50),
    note VARCHAR(50) DEFAULT 'it''s "%s" :a 100%')""",
    """CREATE TABLE tasks (id INTEGER NOT NULL PRIMARY KEY, client_id INTEGER,
    title VARCHAR(50), FOREIGN KEY (client_id) REFERENCES clients (id) ON DELETE CASCADE)""",
    "CREATE TABLE marks (word VARCHAR(20))",
)


def run(engine, *statements):
    """Run statements in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            run_text(connection, statement)


@pytest.fixture
def url(request, tmp_path):
    """A new database, of the kind that the test names."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    return request.getfixturevalue(f"{request.param}_url")


# What depends on the engine is shown on each; what is decided before, on the cheapest.
EVERY = pytest.mark.parametrize("url", ["sqlite", "postgres", "mariadb"], indirect=True)
ONE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def shop(url):
    """An engine to it, with three tables of an application."""
    engine = sa.create_engine(url)
    run(engine, *TABLES)
    yield engine
    engine.dispose()


def silent(engine, settings=None, **options):
    """Install and say nothing."""
    return install(engine, settings, say=lambda _: None, **options)


def captured(engine, since=0):
    """Return table, operation and images of the entries, in their order."""
    with engine.connect() as connection:
        shapes = dict(connection.execute(sa.select(SHAPES.c.id, SHAPES.c.table_name)).all())
        rows = connection.execute(
            sa.select(ENTRIES).where(ENTRIES.c.seq > since).order_by(ENTRIES.c.seq)
        ).all()
    return [(shapes[row.shape_id], row.op, row.old, row.new) for row in rows]


def states(engine, settings=None):
    """Return what is captured, by table."""
    return {one.table: one.capture for one in check(engine, settings).tables}


def schema(engine):
    """Return everything that a database has of tables and triggers, to see whether it changed."""
    inspector = sa.inspect(engine)
    return {name: inspector.get_columns(name) for name in inspector.get_table_names()}


@pytest.mark.slow
@EVERY
def test_a_plan_changes_nothing_and_an_installation_does_it_all(shop):
    """What was planned is what is done, and again is nothing."""
    before = str(schema(shop))
    planned = plan(shop)
    assert str(schema(shop)) == before
    assert not check(shop).is_whole

    seen = []
    done = silent(shop, progress=lambda step, number, of: seen.append((step.what, number, of)))

    assert [(it.kind, it.what) for it in done.steps] == [(it.kind, it.what) for it in planned.steps]
    assert [it.kind for it in done.steps] == ["tables", "guards", "settings", "new", "new", "new"]
    assert [number for _, number, _ in seen] == list(range(6))
    assert any("marks has no primary key" in note for note in done.notes)
    assert check(shop).is_whole
    assert set(states(shop).values()) == {"captured"}
    assert plan(shop).steps == silent(shop).steps == ()


@pytest.mark.slow
@ONE
def test_writes_are_captured_from_then_on(shop):
    """Also those of a table without a key, and by raw SQL."""
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'before')")
    silent(shop)
    run(
        shop,
        "INSERT INTO clients (id, name) VALUES (2, 'ana')",
        "UPDATE clients SET name = 'eva' WHERE id = 1",
        "INSERT INTO marks (word) VALUES ('x')",
        "DELETE FROM clients WHERE id = 2",
    )
    assert [entry[:2] for entry in captured(shop)] == [
        ("clients", "I"),
        ("clients", "U"),
        ("marks", "I"),
        ("clients", "D"),
    ]


@pytest.mark.slow
@EVERY
def test_a_change_of_the_schema_is_noticed_and_followed(shop):
    """Columns that come, go and change their name; entries of before keep their shape."""
    silent(shop)
    run(shop, "INSERT INTO tasks (id, title) VALUES (1, 'first')")
    run(shop, "ALTER TABLE tasks ADD COLUMN place VARCHAR(20)")
    assert states(shop)["tasks"] == "partly"
    # A parent's triggers may name the columns of its children.
    because = {it.what: it.because for it in silent(shop).steps}
    assert because["tasks"] == "column 'place' is new"
    run(shop, "INSERT INTO tasks (id, title, place) VALUES (2, 'second', 'here')")

    with shop.begin() as connection:
        # Some engines refuse to drop what a trigger names, or would fail the next write.
        release(connection, "clients", "tasks")
        run_text(connection, "ALTER TABLE tasks DROP COLUMN place")
        run_text(connection, "ALTER TABLE tasks RENAME COLUMN title TO name")
        done = install(connection)
    because = next(it.because for it in done.steps if it.what == "tasks")
    assert "column 'title' is now 'name'" in because
    assert "column 'place' is gone" in because
    run(shop, "INSERT INTO tasks (id, name) VALUES (3, 'third')")

    assert check(shop).is_whole
    news = [new for table, _, _, new in captured(shop) if table == "tasks"]
    assert ["place" in new for new in news] == [False, True, False]
    assert ["title" in new for new in news] == [True, True, False]


@pytest.mark.slow
@EVERY
def test_a_renamed_table_keeps_its_history(shop):
    """The triggers go with it, so that no write is lost until it is looked at."""
    silent(shop)
    run(shop, "INSERT INTO marks (word) VALUES ('before')")
    run(shop, "ALTER TABLE marks RENAME TO words")
    run(shop, "INSERT INTO words (word) VALUES ('between')")
    assert states(shop)["words"] == "partly"
    assert [(it.kind, it.what) for it in silent(shop).steps] == [("renamed", "words")]
    run(shop, "INSERT INTO words (word) VALUES ('after')")
    with shop.connect() as connection:
        ids = connection.scalars(sa.select(ENTRIES.c.table_id)).all()
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert check(shop).is_whole


@pytest.fixture
def split(postgres_url):
    """An engine to a table of PostgreSQL with two partitions, captured, and one like them."""
    engine = sa.create_engine(postgres_url)
    run(
        engine,
        "CREATE TABLE m (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE n3 (id int PRIMARY KEY, v text)",
    )
    silent(engine)
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_a_detached_partition_is_a_table_of_its_own(split):
    """What is written to it is not in the history of the table that it was a part of."""
    run(split, "ALTER TABLE m DETACH PARTITION m1")
    assert states(split) == {"m": "partly", "m1": "not captured", "n3": "captured"}
    assert {it.kind: it.what for it in silent(split).steps} == {"changed": "m", "new": "m1"}
    assert states(split) == dict.fromkeys(("m", "m1", "n3"), "captured")
    run(split, "INSERT INTO m1 VALUES (1)", "INSERT INTO m VALUES (11)", "TRUNCATE m1")
    assert [(table, op) for table, op, *_ in captured(split)] == [
        ("m1", "I"), ("m", "I"), ("m1", "D"), ("m1", "T"),
    ]  # fmt: skip
    uninstall(split, say=lambda _: None)
    with split.connect() as connection:
        ours = "SELECT tgname FROM pg_trigger WHERE tgname LIKE '%shipworthy%'"
        assert connection.scalars(sa.text(ours)).all() == []


@pytest.mark.slow
def test_a_table_that_becomes_a_partition_is_captured_once(split):
    """Its triggers of before are taken away; when it is detached it goes on as it was."""
    run(split, "ALTER TABLE m ATTACH PARTITION n3 FOR VALUES FROM (20) TO (30)")
    assert states(split) == {"m": "partly"}
    silent(split)
    assert states(split) == {"m": "captured"}
    run(split, "INSERT INTO m VALUES (21)", "TRUNCATE n3")
    assert [(table, op) for table, op, *_ in captured(split)] == [
        ("m", "I"), ("m", "D"), ("m", "T"),
    ]  # fmt: skip
    run(split, "ALTER TABLE m DETACH PARTITION n3")
    silent(split)
    assert states(split) == {"m": "captured", "n3": "captured"}
    with split.connect() as connection:
        noted = sa.select(SHAPES.c.table_id, SHAPES.c.table_name).order_by(SHAPES.c.id)
        numbers = connection.execute(noted).all()
    assert len(set(numbers)) == 2  # each has one number, the same as at first


@pytest.mark.slow
def test_a_detached_partition_hinders_no_release(split):
    """What the triggers of its table call is dropped, and the trigger left on it calls that too."""
    run(split, "ALTER TABLE m DETACH PARTITION m1")
    with split.begin() as connection:
        release(connection, "m")
    run(split, "TRUNCATE m1", "INSERT INTO m VALUES (11)")
    assert captured(split) == []
    silent(split)
    assert states(split) == dict.fromkeys(("m", "m1", "n3"), "captured")


@pytest.mark.slow
@ONE
def test_a_trigger_that_somebody_dropped_is_noticed_and_made_again(shop):
    """The check names it; install mends that table alone."""
    silent(shop)
    step = next(it for it in plan_of_uninstall(shop).steps if it.what == "tasks")
    run(shop, *step.statements)
    (one,) = check(shop).uncovered
    assert (one.table, one.capture) == ("tasks", "not captured")
    assert "missing" in one.because
    assert [(it.kind, it.what) for it in silent(shop).steps] == [("mended", "tasks")]
    assert check(shop).is_whole


@pytest.mark.slow
@EVERY
def test_all_of_it_can_be_taken_away_again(shop):
    """The database is then as it was, and the application's rows are untouched."""
    before = str(schema(shop))
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'ana')")
    silent(shop)
    run(shop, "UPDATE clients SET name = 'eva'")

    uninstall(shop, say=lambda _: None)

    assert str(schema(shop)) == before
    run(shop, "DELETE FROM clients")
    assert check(shop).installed is None
    assert uninstall(shop, say=lambda _: None).steps == ()


@pytest.mark.slow
@ONE
def test_the_log_can_outlive_its_triggers(shop):
    """Nothing is captured any more, nothing is lost, and it can be taken up again."""
    silent(shop)
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'ana')")
    uninstall(shop, keep_log=True, say=lambda _: None)
    run(shop, "INSERT INTO clients (id, name) VALUES (2, 'eva')")
    assert len(captured(shop)) == 1
    assert not check(shop).is_whole
    silent(shop)
    run(shop, "INSERT INTO clients (id, name) VALUES (3, 'ida')")
    assert len(captured(shop)) == 2
    assert check(shop).is_whole


@pytest.mark.slow
@ONE
def test_a_table_that_is_left_out_is_released(shop):
    """By settings that changed; its entries stay."""
    silent(shop)
    without = AuditSettings(exclude=("marks",))
    assert [it.kind for it in silent(shop, without).steps] == ["settings", "released"]
    run(shop, "INSERT INTO marks (word) VALUES ('x')")
    assert captured(shop) == []
    # It remembers what it was told.
    assert states(shop)["marks"] == "left out"
    assert check(shop).is_whole


@pytest.mark.slow
@EVERY
def test_what_the_plan_prints_makes_the_same(shop, url):
    """For who must give the SQL to somebody else: run by hand it leaves nothing to do."""
    for step in plan(shop, AuditSettings(personal=("clients.note = id",))).steps:
        run(shop, *step.statements)
    assert plan(shop, AuditSettings(personal=("clients.note = id",))).steps == ()


@pytest.mark.slow
@ONE
def test_tables_of_an_earlier_version_get_what_they_miss(shop):
    """Columns are only ever added, so workers of the version before go on writing."""
    silent(shop)
    run(
        shop,
        "ALTER TABLE shipworthy_audit_batches DROP COLUMN header",
        "DROP TABLE shipworthy_audit_holds",
    )
    with shop.begin() as connection:
        connection.execute(sa.update(META).where(META.c.name == "version").values(value="0"))
    assert not check(shop).is_whole
    # Triggers of the version before write into the tables of this one.
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'ana')")
    assert [it.kind for it in silent(shop).steps] == ["tables", "guards"]
    run(shop, "INSERT INTO clients (id, name) VALUES (2, 'eva')")
    assert check(shop).is_whole
    assert len(captured(shop)) == 2


@pytest.mark.slow
@ONE
def test_a_trail_of_a_later_version_is_left_alone(shop):
    """Whoever rolls back must not break what the later version has made."""
    silent(shop)
    with shop.begin() as connection:
        connection.execute(
            sa.update(META).where(META.c.name == "version").values(value=str(VERSION + 1))
        )
    with pytest.raises(Misuse, match=f"of version {VERSION + 1}"):
        silent(shop)


@pytest.mark.slow
@ONE
def test_settings_that_name_what_is_not_there_change_nothing(shop):
    """A personal column that was misspelt would be captured for ever."""
    before = str(schema(shop))
    with pytest.raises(Misuse, match="no column 'mail'"):
        silent(shop, AuditSettings(personal=("clients.mail = id",)))
    assert str(schema(shop)) == before


@pytest.mark.slow
@EVERY
def test_a_table_that_stays_locked_keeps_no_other_from_being_captured(shop):
    """It is named with who holds it; the next call does only that one."""
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'ana')")
    silent(shop, AuditSettings(tables=("marks",)))
    everything = AuditSettings()
    once = InstallOptions(lock_timeout_seconds=0.1, tries=2)
    waits = []
    with shop.connect() as holder:
        begun = getattr(holder.connection.driver_connection, "in_transaction", True)
        if begun is False:
            run_text(holder, "BEGIN IMMEDIATE")
        run_text(holder, "UPDATE clients SET name = 'eva'")
        with pytest.raises(InstallFailed, match="clients stays locked") as failed:
            silent(shop, everything, options=once, wait=waits.append)
        holder.rollback()
    assert len(waits) == str(failed.value).count("stays locked")
    assert "clients" not in failed.value.done
    assert states(shop, everything)["clients"] == "not captured"
    assert "clients" in {it.what for it in silent(shop, everything).steps}
    assert check(shop).is_whole


@pytest.mark.slow
@ONE
def test_a_second_installer_waits_and_then_says_who_is_there(shop):
    """Two at once would give one number to two shapes."""
    inside = threading.Event()
    go_on = threading.Event()

    def hold(*_):
        inside.set()
        go_on.wait(20)

    first = threading.Thread(target=lambda: silent(shop, progress=hold))
    first.start()
    try:
        assert inside.wait(20)
        with pytest.raises(MigratorBusy):
            silent(shop, options=InstallOptions(lock_wait_seconds=0.0))
    finally:
        go_on.set()
        first.join(20)
    assert check(shop).is_whole


@pytest.mark.slow
@ONE
def test_what_was_interrupted_goes_on_from_there(shop):
    """As when the process was killed between two tables."""

    def stop(step, number, _of):
        if number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        silent(shop, progress=stop)
    assert list(states(shop).values()).count("captured") == 1
    assert len(silent(shop).steps) == 2
    assert check(shop).is_whole


def test_a_role_without_the_right_is_told_what_to_do(postgres_url):
    """One sentence, with the command that prints the SQL for whoever may."""
    engine = sa.create_engine(postgres_url)
    run(engine, *TABLES)
    owner = engine.url
    role = f"may_not_{owner.database}"[:60]
    run(
        engine,
        f'CREATE ROLE "{role}" LOGIN',
        f'GRANT ALL ON SCHEMA public TO "{role}"',
        f'GRANT ALL ON clients, tasks, marks TO "{role}"',
    )
    limited = sa.create_engine(owner.set(username=role))
    try:
        run(engine, f'ALTER TABLE marks OWNER TO "{role}"')
        with pytest.raises(InstallFailed, match="audit plan --sql") as failed:
            silent(limited)
        assert "privilege" in str(failed.value)
    finally:
        limited.dispose()
        run(engine, f'DROP OWNED BY "{role}" CASCADE', f'DROP ROLE "{role}"')
        engine.dispose()


@pytest.mark.slow
@EVERY
def test_no_write_fails_while_it_is_installed(shop, capsys):
    """On a table of 50,000 rows that is being written to; how long writes took is printed."""
    rows = 50_000
    patience = {"timeout": 20} if shop.dialect.name == "sqlite" else {}
    if patience:
        # As who serves from SQLite has it: readers and the one writer do not wait for each other.
        run(shop, "PRAGMA journal_mode = WAL")
    run(shop, "INSERT INTO tasks (id, title) VALUES (0, 'x')")
    have = 1
    while have < rows:
        copied = f"SELECT id + {have}, title FROM tasks WHERE id < {rows - have}"
        run(shop, f"INSERT INTO tasks (id, title) {copied}")
        have = min(rows, 2 * have)
    stop = threading.Event()
    took, failed = [], []

    def write(start):
        engine = sa.create_engine(shop.url, connect_args=patience)
        try:
            for number in itertools.count(start, 2):
                if stop.is_set():
                    break
                began = time.perf_counter()
                with engine.begin() as connection:
                    connection.execute(
                        sa.text("UPDATE tasks SET title = :title WHERE id = :id"),
                        {"title": f"t{number}", "id": number % rows},
                    )
                took.append((began, time.perf_counter() - began))
        except sa.exc.DBAPIError as error:
            failed.append(error)
        finally:
            engine.dispose()

    writers = [threading.Thread(target=write, args=(start,)) for start in (0, 1)]
    for writer in writers:
        writer.start()
    try:
        began = time.perf_counter()
        while len(took) < 200 and not failed and time.perf_counter() - began < 20:
            stop.wait(0.005)
        start = time.perf_counter()
        silent(shop)
        end = time.perf_counter()
        until = len(took) + 50
        while len(took) < until and not failed and time.perf_counter() - end < 20:
            stop.wait(0.005)
    finally:
        stop.set()
        for writer in writers:
            writer.join(20)
    assert failed == []
    before = [seconds for at, seconds in took if at < start]
    during = [seconds for at, seconds in took if start <= at <= end]
    assert before
    assert during
    with capsys.disabled():
        print(
            f"\n{shop.dialect.name}: installed in {end - start:.2f} s; the slowest write took "
            f"{max(before) * 1000:.0f} ms before and {max(during) * 1000:.0f} ms meanwhile"
        )
    assert check(shop).is_whole
    assert captured(shop)[-1][:2] == ("tasks", "U")


@pytest.mark.slow
@ONE
def test_workers_of_two_versions_write_side_by_side(shop):
    """Triggers of before go on writing entries that can be read, after the new tables are there."""
    silent(shop)
    run(shop, "INSERT INTO clients (id, name) VALUES (1, 'old trigger')")
    run(shop, "ALTER TABLE shipworthy_audit_entries ADD COLUMN later VARCHAR(9) DEFAULT ''")
    run(shop, "INSERT INTO clients (id, name) VALUES (2, 'old trigger, new table')")
    assert [entry[:2] for entry in captured(shop)] == [("clients", "I"), ("clients", "I")]
    assert check(shop).is_whole


def test_a_session_of_an_asynchronous_application_will_do(tmp_path):
    """Its `run_sync` gives a session; what is done is in its transaction."""

    async def scene():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
        try:
            async with AsyncSession(engine) as session:
                await session.execute(sa.text(TABLES[2]))
                await session.run_sync(install)
                await session.commit()
                return await session.run_sync(check), await session.run_sync(plan)
        finally:
            await engine.dispose()

    coverage, again = asyncio.run(scene())
    assert coverage.is_whole
    assert again.steps == ()
