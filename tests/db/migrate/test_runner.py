"""The runner, on real databases: order, refusals, tries, and going on after an interruption."""

import re
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from db.migrate.projects import ASYNC_ENV, ENV, OFFERED_ENV, make_project
from shipworthy.db import protect, tables
from shipworthy.db.migrate import (
    MigrateOptions,
    MigrationFailed,
    MigrationRefused,
    MigratorBusy,
    remove_ours,
    run_migrations,
    survey_migrations,
)
from shipworthy.errors import Misuse

pytestmark = pytest.mark.slow

TABLE = """
op.create_table(
    "t", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("a", sa.Integer)
)
"""
COLUMN = 'op.add_column("t", sa.Column("b", sa.Integer))'
INDEX = 'op.create_index("ix", "t", ["a"])'
QUICK = MigrateOptions(lock_timeout_seconds=0.2, tries=3, large_rows=100)
OURS = {"shipworthy_schema", "shipworthy_outcomes", "shipworthy_idempotency"}


def names(engine):
    return set(inspect(engine).get_table_names())


def test_our_tables_come_first_and_then_every_revision(url, connect, tmp_path, said):
    """The second time there is nothing to do, and it is said by silence."""
    engine = connect(url)
    project = make_project(tmp_path, url, TABLE, COLUMN)

    done = run_migrations(engine, project, say=said.append)
    again = run_migrations(engine, project, say=said.append)

    assert done.applied == ("r1", "r2")
    assert said[-2:] == ["running r1: r1.", "running r2: r2."]
    assert said[0] == "made the table shipworthy_outcomes"
    assert OURS | {"shipworthy_backfills", "t"} <= names(engine)
    assert (again.applied, again.ours) == ((), ())


def test_an_env_that_asks_for_a_connection_is_given_one(url, connect, tmp_path, said):
    """It leads to the database that the command is about, whatever the project's file says."""
    project = make_project(tmp_path, "sqlite://", TABLE, COLUMN, env=OFFERED_ENV)

    assert run_migrations(connect(url), project, say=said.append).applied == ("r1", "r2")
    assert run_migrations(connect(url), project, say=said.append).applied == ()


@pytest.mark.parametrize("look", [survey_migrations, run_migrations])
def test_a_revision_of_no_project_is_misuse(look, url, connect):
    """Whoever names one is in the wrong folder; to make our tables there is not what was asked."""
    engine = connect(url)

    with pytest.raises(Misuse, match=r"no Alembic project here, so no revision 'r9'.*--alembic"):
        look(engine, None, MigrateOptions(to="r9"))

    assert names(engine) == set()


def test_without_a_project_there_are_only_our_tables(url, connect, said):
    """The service may have no migrations at all."""
    engine = connect(url)

    assert run_migrations(engine, None, say=said.append).applied == ()
    assert names(engine) >= OURS


def test_ours_can_be_left_out_and_taken_away(url, connect, tmp_path, said):
    """Nothing of ours stays, and the service's tables stay as they are."""
    engine = connect(url)
    project = make_project(tmp_path, url, TABLE)
    run_migrations(engine, project, MigrateOptions(ours=False), say=said.append)
    assert names(engine) == {"alembic_version", "t"}

    run_migrations(engine, project, say=said.append)
    removed = remove_ours(engine, say=said.append)

    assert "dropped the table shipworthy_schema" in removed
    assert names(engine) == {"alembic_version", "t"}
    assert remove_ours(engine, say=said.append) == []


def test_it_stops_at_the_revision_that_is_named(sqlite_url, connect, tmp_path, said):
    """And goes on from there the next time."""
    engine = connect(sqlite_url)
    project = make_project(tmp_path, sqlite_url, TABLE, COLUMN)

    first = run_migrations(engine, project, MigrateOptions(to="r1"), say=said.append)
    second = run_migrations(engine, project, say=said.append)

    assert (first.applied, second.applied) == (("r1",), ("r2",))


@pytest.mark.parametrize("to", ["r9", "r1:r9"])
def test_a_revision_that_is_none_is_misuse(sqlite_url, connect, tmp_path, to, said):
    """Said with the place where revisions are."""
    project = make_project(tmp_path, sqlite_url, TABLE)

    with pytest.raises(Misuse, match=r"no way from no revision to r"):
        run_migrations(connect(sqlite_url), project, MigrateOptions(to=to), say=said.append)


def test_a_dialect_that_is_not_known_is_misuse(tmp_path):
    """Nothing is tried on it."""
    engine = create_engine("sqlite://")
    engine.dialect.name = "oracle"

    with pytest.raises(Misuse, match="oracle is not known here"):
        survey_migrations(engine, None)


def test_a_survey_changes_nothing(url, connect, tmp_path):
    """Not even Alembic's own table is made."""
    engine = connect(url)
    project = make_project(tmp_path, url, TABLE, INDEX)

    survey = survey_migrations(engine, project)

    assert [plan.revision for plan in survey.pending] == ["r1", "r2"]
    assert survey.ours is None
    assert names(engine) == set()


def fill(sql, url, rows=200):
    sql(
        url,
        "CREATE TABLE t (id BIGINT PRIMARY KEY, a INTEGER)",
        "INSERT INTO t SELECT n, n FROM (WITH RECURSIVE s(n) AS "
        f"(SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s) q",
    )


def test_what_would_lock_a_large_table_is_refused_before_anything_is_changed(
    postgres_url, connect, sql, tmp_path, said
):
    """Not even our own tables are made; accepted, it runs."""
    fill(sql, postgres_url)
    engine = connect(postgres_url)
    project = make_project(tmp_path, postgres_url, INDEX)

    with pytest.raises(MigrationRefused) as refused:
        run_migrations(engine, project, QUICK, say=said.append)
    assert re.match(
        r"r1, line 3: index-blocks-writes: CREATE INDEX without CONCURRENTLY \(t, about \d+ rows",
        refused.value.reasons[0],
    )
    assert names(engine) == {"t"}

    accepted = MigrateOptions(large_rows=100, accept=frozenset({"index-blocks-writes"}))
    assert run_migrations(engine, project, accepted, say=said.append).applied == ("r1",)


@pytest.mark.parametrize("kind", ["mariadb", "sqlite"])
def test_other_databases_refuse_it_too(*, kind, request, connect, sql, tmp_path, said):
    """Sizes come from their own catalogs, or are counted."""
    url = request.getfixturevalue(f"{kind}_url")
    fill(sql, url)
    if kind == "mariadb":
        sql(url, "ANALYZE TABLE t")
    body = 'op.execute("UPDATE t SET a = 0")'
    project = make_project(tmp_path, url, body)

    with pytest.raises(MigrationRefused, match="update-every-row"):
        run_migrations(connect(url), project, QUICK, say=said.append)


def test_the_author_of_a_revision_accepts_a_rule_in_its_file(
    postgres_url, connect, sql, tmp_path, said
):
    """It counts for that revision, whoever runs it."""
    fill(sql, postgres_url)
    project = make_project(
        tmp_path, postgres_url, f"# shipworthy: accept index-blocks-writes\n{INDEX}"
    )

    assert run_migrations(connect(postgres_url), project, QUICK, say=said.append).applied == ("r1",)


READS = 'assert op.get_bind().execute(sa.text("SELECT 1")).scalar_one() == 1'


@pytest.mark.parametrize("rows", [99, 200])
def test_a_revision_that_cannot_be_read_is_refused_where_there_is_a_large_table(
    *, postgres_url, connect, sql, tmp_path, said, rows
):
    """Unknown is not well."""
    fill(sql, postgres_url, rows)
    sql(postgres_url, "ANALYZE t")
    project = make_project(tmp_path, postgres_url, READS)

    if rows == 99:
        assert run_migrations(connect(postgres_url), project, QUICK, say=said.append).applied
    else:
        with pytest.raises(MigrationRefused, match="unreadable: a revision that cannot be read"):
            run_migrations(connect(postgres_url), project, QUICK, say=said.append)


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_it_does_not_start_behind_a_long_transaction(
    *, kind, request, connect, sql, holding, tmp_path, said
):
    """Its process, user, age and last statement are named; secrets in it are not shown."""
    url = request.getfixturevalue(f"{kind}_url")
    fill(sql, url, 3)
    project = make_project(tmp_path, url, COLUMN)
    behind = MigrateOptions(long_transaction_seconds=0.0)

    with holding(url, "SELECT count(*) FROM t /* password=hunter2 */"):
        with pytest.raises(MigrationRefused) as refused:
            run_migrations(connect(url), project, behind, say=said.append)
        accepted = MigrateOptions(accept=frozenset({"long-transaction"}), ours=False)
        survey = survey_migrations(connect(url), project, accepted)

    sentence = str(refused.value)
    assert "process " in sentence
    assert " of user '" in sentence
    assert "--accept long-transaction" in sentence
    assert "hunter2" not in sentence
    assert survey.refused == ()


def test_a_long_transaction_elsewhere_is_nobody_in_the_way(
    *, postgres_url, connect, sql, holding, tmp_path, said
):
    """PostgreSQL shows which tables a transaction touches."""
    fill(sql, postgres_url, 3)
    sql(postgres_url, "CREATE TABLE other (id int)")
    project = make_project(tmp_path, postgres_url, COLUMN)
    behind = MigrateOptions(long_transaction_seconds=0.0)

    with holding(postgres_url, "SELECT count(*) FROM other"):
        assert run_migrations(connect(postgres_url), project, behind, say=said.append).applied


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_a_lock_that_comes_free_is_waited_for_in_short_tries(
    *, kind, request, connect, sql, tmp_path, said
):
    """The holder lets go after the first try; the migration is done by a later one."""
    url = request.getfixturevalue(f"{kind}_url")
    fill(sql, url, 3)
    project = make_project(tmp_path, url, COLUMN)
    holder = connect(url).connect()
    holder.execute(text("UPDATE t SET a = 7 WHERE id = 1"))

    def let_go(seconds):
        assert 0 <= seconds <= 10
        holder.rollback()

    done = run_migrations(
        connect(url),
        project,
        MigrateOptions(lock_timeout_seconds=0.2, ours=False),
        say=said.append,
        wait=let_go,
    )
    holder.close()

    assert done.applied == ("r1",)
    assert any("(try 1 of 10)" in sentence for sentence in said)


def test_tries_come_to_an_end_and_the_holder_is_named(
    *, postgres_url, connect, sql, holding, tmp_path, said
):
    """Nothing of the revision stays, and the next run does it."""
    fill(sql, postgres_url, 3)
    project = make_project(tmp_path, postgres_url, COLUMN)
    quick = MigrateOptions(lock_timeout_seconds=0.1, tries=3, ours=False)

    with (
        holding(postgres_url, "SELECT count(*) FROM t"),
        pytest.raises(MigrationFailed) as failed,
    ):
        run_migrations(
            connect(postgres_url), project, quick, say=said.append, wait=lambda seconds: None
        )

    assert sum("(try " in sentence for sentence in said) == 2
    assert "it was rolled back as a whole" in str(failed.value)
    assert "in the way: process " in str(failed.value)
    assert "it holds t), last statement: SELECT count(*) FROM t" in str(failed.value)
    assert run_migrations(connect(postgres_url), project, quick, say=said.append).applied == ("r1",)


def test_a_revision_that_has_committed_a_part_is_not_run_again(
    *, mariadb_url, connect, sql, holding, tmp_path, said
):
    """MariaDB commits each change of the schema: the message says what stays."""
    fill(sql, mariadb_url, 3)
    sql(mariadb_url, "CREATE TABLE u (id INT PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    project = make_project(
        tmp_path, mariadb_url, f'{COLUMN}\nop.execute("ALTER TABLE u ADD COLUMN x INT")'
    )
    quick = MigrateOptions(lock_timeout_seconds=1.0, tries=2, ours=False)

    with (
        holding(mariadb_url, "SELECT * FROM u"),
        pytest.raises(MigrationFailed, match="1 of its changes are committed and stay"),
    ):
        run_migrations(
            connect(mariadb_url), project, quick, say=said.append, wait=lambda seconds: None
        )

    assert "b" in {column["name"] for column in inspect(connect(mariadb_url)).get_columns("t")}


def test_each_revision_commits_by_itself_and_the_next_run_goes_on(url, connect, tmp_path, said):
    """The second revision fails; the first one stays, and is not run again."""
    engine = connect(url)
    project = make_project(
        tmp_path, url, TABLE, 'op.execute("SELECT nothing FROM nowhere")', COLUMN
    )

    with pytest.raises(MigrationFailed, match="revision r2 failed") as failed:
        run_migrations(engine, project, say=said.append)
    assert failed.value.applied == ("r1",)

    repaired = make_project(tmp_path, url, TABLE, "pass", COLUMN)
    assert run_migrations(engine, repaired, say=said.append).applied == ("r2", "r3")


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_a_migrator_that_is_killed_leaves_the_lock_and_what_it_did(
    kind, request, connect, tmp_path, said
):
    """SIGKILL in the second revision: the next one takes the lock at once and goes on."""
    url = request.getfixturevalue(f"{kind}_url")
    kill = "import os, signal\nif not op.get_context().as_sql: os.kill(os.getpid(), signal.SIGKILL)"
    make_project(tmp_path, url, TABLE, kill, COLUMN)
    program = (
        "import sys; from pathlib import Path; from sqlalchemy import create_engine;"
        "from shipworthy.db.migrate import AlembicProject, run_migrations;"
        "run_migrations(create_engine(sys.argv[1]), AlembicProject(Path(sys.argv[2])))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, url, str(tmp_path / "alembic.ini")],
        check=False,
        capture_output=True,
        timeout=50,
    )
    assert killed.returncode == -9, killed.stderr

    project = make_project(tmp_path, url, TABLE, "pass", COLUMN)
    done = run_migrations(
        connect(url), project, MigrateOptions(lock_wait_seconds=10.0), say=said.append
    )

    assert done.applied == ("r2", "r3")


@pytest.mark.parametrize(
    ("kind", "driver"),
    [("postgres", ("+psycopg", "+asyncpg")), ("mariadb", ("+pymysql", "+asyncmy"))],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_async_env_is_as_careful(*, kind, driver, request, connect, sql, tmp_path, said):
    """The same hooks, whichever engine `env.py` makes: a try is undone and made again."""
    url = request.getfixturevalue(f"{kind}_url")
    fill(sql, url, 3)
    project = make_project(tmp_path, url.replace(*driver), COLUMN, env=ASYNC_ENV)
    holder = connect(url).connect()
    holder.execute(text("UPDATE t SET a = 7 WHERE id = 1"))

    done = run_migrations(
        connect(url),
        project,
        MigrateOptions(lock_timeout_seconds=0.2, ours=False),
        say=said.append,
        wait=lambda seconds: holder.rollback(),
    )
    holder.close()

    assert done.applied == ("r1",)
    assert any("(try 1 of 10)" in sentence for sentence in said)


def test_an_env_that_goes_elsewhere_is_refused(
    postgres_server, postgres_url, connect, tmp_path, said
):
    """The lock would protect nothing there."""
    with postgres_server.database() as other:
        project = make_project(tmp_path, other, TABLE)

        with pytest.raises(MigrationRefused, match=r"env.py connects to .*--accept other-database"):
            run_migrations(connect(postgres_url), project, say=said.append)

        accepted = MigrateOptions(accept=frozenset({"other-database"}))
        assert run_migrations(connect(postgres_url), project, accepted, say=said.append).applied


def test_an_env_for_another_file_is_refused(connect, tmp_path, said):
    """SQLite's lock is a file beside the database, and shows which one it is for."""
    project = make_project(tmp_path, f"sqlite:///{tmp_path / 'other.db'}", TABLE)

    with pytest.raises(MigrationRefused, match=r"env.py connects to"):
        run_migrations(connect(f"sqlite:///{tmp_path / 'app.db'}"), project, say=said.append)


def test_an_env_that_runs_nothing_is_misuse(sqlite_url, connect, tmp_path, said):
    """Nobody would know where the database stands."""
    project = make_project(tmp_path, sqlite_url, TABLE, env="pass")

    with pytest.raises(Misuse, match=r"never came to context.run_migrations"):
        run_migrations(connect(sqlite_url), project, say=said.append)


def test_an_env_that_fails_is_misuse(sqlite_url, connect, tmp_path, said):
    """With what it said."""
    project = make_project(tmp_path, sqlite_url, TABLE, env="raise RuntimeError('no settings')")

    with pytest.raises(Misuse, match="failed: RuntimeError: no settings"):
        run_migrations(connect(sqlite_url), project, say=said.append)


def test_an_env_that_does_not_commit_is_found_out(postgres_url, connect, tmp_path, said):
    """It ended without an error, and the revision is not there."""
    env = ENV.replace("with context.begin_transaction():", "if True:").replace(
        "context.run_migrations()", "connection.begin(); context.run_migrations()"
    )
    project = make_project(tmp_path, postgres_url, TABLE, env=env)

    with pytest.raises(MigrationFailed, match="did not apply r1"):
        run_migrations(connect(postgres_url), project, say=said.append)


def test_a_lost_lock_ends_the_run(postgres_url, connect, sql, tmp_path, said):
    """Another migrator may be at work by now, so nothing more is begun."""
    end = (
        "if not op.get_context().as_sql:\n"
        '    op.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE '
        "application_name = 'shipworthy migrate' AND datname = current_database()\")"
    )
    project = make_project(tmp_path, postgres_url, end, TABLE)

    with pytest.raises(MigrationFailed, match="lost before revision r2") as failed:
        run_migrations(connect(postgres_url), project, say=said.append)

    assert failed.value.applied == ("r1",)


def test_our_own_tables_that_cannot_be_made_are_said(postgres_url, connect, sql, said):
    """With the way around."""
    sql(postgres_url, "CREATE VIEW shipworthy_outcomes AS SELECT 1 AS one")

    with pytest.raises(MigrationFailed, match="--without-ours"):
        run_migrations(connect(postgres_url), None, say=said.append)


def test_pools_of_this_process_connect_anew_afterwards(postgres_url, connect, tmp_path, said):
    """What a connection prepared for the old table would fail on the new one."""
    service = create_engine(postgres_url)
    protection = protect(service)
    show = text("SELECT pg_backend_pid()")
    with service.connect() as connection:
        before = connection.scalar(show)

    run_migrations(
        connect(postgres_url), make_project(tmp_path, postgres_url, TABLE), say=said.append
    )

    with service.connect() as connection:
        after = connection.scalar(show)
    protection.undo()
    service.dispose()
    assert after != before


def test_an_index_that_a_build_left_behind_is_cleared_and_built(
    postgres_url, connect, sql, tmp_path, said
):
    """IF NOT EXISTS would take the invalid one for done."""
    fill(sql, postgres_url, 3)
    sql(postgres_url, "UPDATE t SET a = 1")
    with pytest.raises(SQLAlchemyError):
        sql(postgres_url, "CREATE UNIQUE INDEX CONCURRENTLY ix ON t (a)")
    project = make_project(
        tmp_path,
        postgres_url,
        "with op.get_context().autocommit_block():\n"
        '    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON t (a)")',
    )
    engine = connect(postgres_url)
    assert [str(index) for index in survey_migrations(engine, project).broken] == ["public.ix"]

    done = run_migrations(engine, project, say=said.append)

    assert "dropping the invalid index public.ix, which a build left behind" in said
    assert (done.applied, done.broken) == (("r1",), ())
    assert sql(
        postgres_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass"
    ) == [(True,)]


def test_an_index_that_stays_invalid_is_reported(postgres_url, connect, sql, tmp_path, said):
    """It costs every write, and nobody would know."""
    fill(sql, postgres_url, 3)
    sql(postgres_url, "UPDATE t SET a = 1")
    with pytest.raises(SQLAlchemyError):
        sql(postgres_url, "CREATE UNIQUE INDEX CONCURRENTLY ix ON t (a)")

    done = run_migrations(connect(postgres_url), None, say=said.append)

    assert [str(index) for index in done.broken] == ["public.ix"]


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_a_second_migrator_is_told_who_is_first(kind, request, connect, tmp_path, said):
    """It waits as long as it was told, and then ends without having touched anything."""
    url = request.getfixturevalue(f"{kind}_url")
    engine, second = connect(url), []
    project = make_project(tmp_path, url, TABLE)

    def look(sentence):
        if sentence.startswith("running"):
            with pytest.raises(MigratorBusy) as busy:
                run_migrations(
                    connect(url), project, MigrateOptions(lock_wait_seconds=0.0), say=said.append
                )
            second.append(str(busy.value))

    run_migrations(engine, project, say=look)

    assert second[0].startswith("another migrator works on this database: process ")
    assert tables.VERSION == 1
