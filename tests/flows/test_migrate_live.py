"""That an unsafe change of a table really keeps others out, and that what the lint says does not.

On PostgreSQL the change is stopped in the middle of its work, at the last row, by a function that
waits for the test; then somebody reads and somebody writes. MariaDB has no such function there, so
somebody writes all the time, and it is counted who came through while the change worked; and the
server itself is asked, which refuses LOCK=NONE where it must lock.
"""

import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.migrate.projects import make_project
from shipworthy.db.migrate import (
    MigrateOptions,
    MigrationSeverity,
    lint,
    read_statements,
    run_migrations,
)

pytestmark = pytest.mark.slow

ROWS = 40
LOCK_NOT_AVAILABLE, LOCK_WAIT_TIMEOUT = "55P03", 1205
GATE = """
CREATE FUNCTION gate(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF x = 40 AND current_setting('application_name') = 'change' THEN
    PERFORM pg_advisory_lock_shared(42);
  END IF;
  RETURN x;
END $$
"""
ROW_40 = "CREATE FUNCTION any_gate() RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT gate(40) $$"
BATCH = "UPDATE t SET b = gate(a) WHERE id > 30"
ADD_B = "ALTER TABLE t ADD COLUMN b int"
CHECK = "ALTER TABLE t ADD CONSTRAINT c CHECK (gate(a) > 0)"

# rule: what it speaks against, then what to write instead (each step in its own transaction, the
# last one is stopped in its work), and what is done meanwhile.
POSTGRESQL = {
    "index-blocks-writes": (
        ["CREATE INDEX ix ON t (gate(a))"],
        ["CREATE INDEX CONCURRENTLY ix ON t (gate(a))"],
    ),
    "check-scans": ([CHECK], [f"{CHECK} NOT VALID", "ALTER TABLE t VALIDATE CONSTRAINT c"]),
    "validate-with-constraint": (
        [f"BEGIN; {CHECK} NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c; COMMIT"],
        [f"{CHECK} NOT VALID", "ALTER TABLE t VALIDATE CONSTRAINT c"],
    ),
    "column-type-rewrites": (
        ["ALTER TABLE t ALTER COLUMN a TYPE bigint USING gate(a)"],
        ["ALTER TABLE t ADD COLUMN b bigint", BATCH],
    ),
    "default-rewrites": (
        ["ALTER TABLE t ADD COLUMN b int DEFAULT any_gate()"],
        [ADD_B, "ALTER TABLE t ALTER COLUMN b SET DEFAULT any_gate()", BATCH],
    ),
    "generated-rewrites": (
        ["ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (gate(a)) STORED"],
        [ADD_B, BATCH],
    ),
    "update-every-row": (["UPDATE t SET a = gate(a)"], [ADD_B, BATCH]),
    "rows-after-ddl": ([f"BEGIN; {ADD_B}; {BATCH}; COMMIT"], [ADD_B, BATCH]),
    "reindex-blocks-writes": (
        ["REINDEX INDEX gated"],
        ["REINDEX INDEX CONCURRENTLY gated"],
    ),
    "refresh-blocks-reads": (
        ["REFRESH MATERIALIZED VIEW v"],
        ["REFRESH MATERIALIZED VIEW CONCURRENTLY v"],
    ),
}
# What the linter cannot see, because the function is this test's own.
UNSEEN = {"default-rewrites"}
READ, WRITE, LOOK = (
    "SELECT count(*) FROM t",
    "UPDATE t SET note = 'x' WHERE id = 1",
    "SELECT count(*) FROM v",
)


class Postgres:
    """A table, a change that can be stopped, and somebody who uses the table meanwhile."""

    def __init__(self, url):
        self.url = url

    @contextmanager
    def session(self, name):
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"SET application_name = '{name}'"))
            yield connection
        engine.dispose()

    def prepare(self, rule):
        with self.session("test") as connection:
            for statement in (
                GATE,
                ROW_40,
                "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, note text)",
                f"INSERT INTO t SELECT n, n FROM generate_series(1, {ROWS}) n",
            ):
                connection.execute(text(statement))
            if rule == "reindex-blocks-writes":
                connection.execute(text("CREATE INDEX gated ON t (gate(a))"))
            if rule == "refresh-blocks-reads":
                connection.execute(
                    text("CREATE MATERIALIZED VIEW v AS SELECT id, gate(a) AS g FROM t")
                )
                connection.execute(text("CREATE UNIQUE INDEX ON v (id)"))

    def meanwhile(self, steps, uses):
        """Run the steps, stop the last one in its work, and return which uses were kept out."""
        errors = []

        def change():
            with self.session("change") as connection:
                try:
                    for step in steps:
                        connection.exec_driver_sql(step)
                except DBAPIError as error:
                    errors.append(error)

        with self.session("test") as gate:
            gate.execute(text("SELECT pg_advisory_lock(42)"))
            thread = threading.Thread(target=change)
            thread.start()
            try:
                self.wait_for_change(gate)
                blocked = {use for use in uses if self.kept_out(use)}
            finally:
                gate.execute(text("SELECT pg_advisory_unlock(42)"))
                thread.join(30)
        assert errors == []
        assert not thread.is_alive()
        return blocked

    def wait_for_change(self, connection):
        waits = text(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE"
            " l.locktype = 'advisory' AND NOT l.granted AND a.application_name = 'change'"
            " AND a.datname = current_database()"
        )
        for _ in range(2000):
            if connection.scalar(waits):
                return
            connection.execute(text("SELECT pg_sleep(0.01)"))
        raise AssertionError("the change never came to its last row")

    def kept_out(self, use):
        with self.session("user") as connection:
            connection.execute(text("SET lock_timeout = 200"))
            try:
                connection.execute(text(use))
            except DBAPIError as error:
                if error.orig.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                return True
        return False


@pytest.mark.parametrize("rule", POSTGRESQL)
def test_postgresql_keeps_others_out_of_what_the_lint_speaks_against(rule, postgres_server):
    """And lets them through what it says instead; the same work, stopped at the same row."""
    unsafe, safe = POSTGRESQL[rule]
    uses = [LOOK] if rule == "refresh-blocks-reads" else [READ, WRITE]
    blocked = []
    for steps in (unsafe, safe):
        with postgres_server.database() as url:
            database = Postgres(url)
            database.prepare(rule)
            blocked.append(database.meanwhile(steps, uses))

    assert blocked[0], "the unsafe form kept nobody out"
    assert blocked[1] == set(), "the rewrite kept somebody out"
    assert rule in UNSEEN or rule in locks("postgresql", unsafe)
    assert rule not in locks("postgresql", safe)


def locks(dialect, steps):
    """Return the rules that say that the steps lock."""
    statements = [statement for step in steps for statement in read_statements(step, revision=step)]
    return {
        finding.rule
        for finding in lint(statements, dialect, (15,) if dialect == "postgresql" else (10, 11))
        if finding.severity is MigrationSeverity.LOCKS
    }


# rule: what it speaks against, and what to write instead. `{held}` is where LOCK=NONE may stand.
MARIADB = {
    "column-type-copies": (
        ["ALTER TABLE t MODIFY a BIGINT NOT NULL"],
        ["ALTER TABLE t ADD COLUMN b BIGINT, LOCK=NONE"],
    ),
    "foreign-key-copies": (
        ["ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (u_id) REFERENCES u (id)"],
        [
            "SET foreign_key_checks = 0",
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (u_id) REFERENCES u (id), LOCK=NONE",
        ],
    ),
    "check-copies": (
        ["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)"],
        ["ALTER TABLE t MODIFY a INT NOT NULL CHECK (a > 0), LOCK=NONE"],
    ),
    "fulltext-blocks-writes": (
        ["ALTER TABLE t ADD FULLTEXT INDEX ix (note)"],
        ["ALTER TABLE t ADD INDEX ix (note), LOCK=NONE"],
    ),
    "charset-copies": (
        ["ALTER TABLE t CONVERT TO CHARACTER SET latin1"],
        ["ALTER TABLE t ADD COLUMN note2 VARCHAR(200) CHARACTER SET latin1, LOCK=NONE"],
    ),
    "engine-copies": (
        ["ALTER TABLE t ENGINE=Aria"],
        ["ALTER TABLE t ENGINE=InnoDB, LOCK=NONE"],
    ),
    "generated-copies": (
        ["ALTER TABLE t ADD COLUMN b INT AS (a + 1) PERSISTENT"],
        ["ALTER TABLE t ADD COLUMN b INT AS (a + 1) VIRTUAL, LOCK=NONE"],
    ),
    "primary-key-dropped": (
        ["ALTER TABLE t DROP PRIMARY KEY"],
        ["ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, a), LOCK=NONE"],
    ),
    "auto-increment-copies": (
        ["ALTER TABLE t ADD COLUMN b BIGINT NOT NULL AUTO_INCREMENT UNIQUE"],
        ["ALTER TABLE t ADD COLUMN b BIGINT, LOCK=NONE"],
    ),
    "partition-copies": (
        ["ALTER TABLE t PARTITION BY HASH (id) PARTITIONS 4"],
        ["CREATE TABLE t2 (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 4"],
    ),
    "versioning-copies": (
        ["ALTER TABLE t ADD SYSTEM VERSIONING"],
        ["CREATE TABLE t2 (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"],
    ),
}
# Of those that copy, the ones that are timed: all do the same, and each takes its second.
TIMED = (
    "column-type-copies",
    "foreign-key-copies",
    "check-copies",
    "charset-copies",
    "engine-copies",
    "generated-copies",
)
MARIADB_ROWS = 150_000
TABLE = (
    "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, u_id INT NOT NULL,"
    " note VARCHAR(200) NOT NULL, KEY (u_id)) CHARACTER SET utf8mb4"
)


@pytest.fixture
def mariadb(mariadb_url):
    engine = create_engine(mariadb_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def prepare_mariadb(engine, rows):
    with engine.connect() as connection:
        for statement in (
            "DROP TABLE IF EXISTS t, t2, u",
            "CREATE TABLE u (id INT PRIMARY KEY)",
            "INSERT INTO u VALUES (1)",
            TABLE,
            f"INSERT INTO t SELECT seq, seq, 1, REPEAT('x', 150) FROM seq_1_to_{rows}",
        ):
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("rule", MARIADB)
def test_mariadb_itself_says_that_it_must_lock(rule, mariadb):
    """It refuses LOCK=NONE for the one, and takes it for the other."""
    unsafe, safe = MARIADB[rule]
    prepare_mariadb(mariadb, 3)
    asked = (
        "ALTER TABLE t LOCK=NONE PARTITION BY HASH (id) PARTITIONS 4"
        if rule == "partition-copies"
        else f"{unsafe[-1]}, LOCK=NONE"
    )
    with mariadb.connect() as connection:
        with pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql(asked)
        for step in safe:
            connection.exec_driver_sql(step)

    assert refused.value.orig.args[0] in {1845, 1846}
    assert rule in locks("mariadb", unsafe)
    assert locks("mariadb", safe) == set()


def count_writes(engine, steps):
    """Run the steps and count the writes that came through meanwhile, and those that did not."""
    running, done = threading.Event(), threading.Event()
    counted = {True: 0, False: 0}

    def write():
        with engine.connect() as connection:
            connection.exec_driver_sql("SET lock_wait_timeout = 0, innodb_lock_wait_timeout = 0")
            running.set()
            n = 0
            while not done.is_set():
                n += 1
                try:
                    connection.exec_driver_sql(f"UPDATE t SET u_id = 1 WHERE id = {n % 100 + 1}")
                    came = True
                except DBAPIError as error:
                    came = error.orig.args[0] != LOCK_WAIT_TIMEOUT
                counted[came] += not done.is_set()

    thread = threading.Thread(target=write)
    with engine.connect() as connection:
        thread.start()
        running.wait(20)
        try:
            for step in steps:
                connection.exec_driver_sql(step)
        finally:
            done.set()
            thread.join(30)
    return counted[True], counted[False]


@pytest.mark.parametrize("rule", TIMED)
def test_mariadb_keeps_writers_out_of_what_the_lint_speaks_against(rule, mariadb):
    """Most writes of that time are kept out; the rewrite keeps out the few of a moment."""
    unsafe, safe = MARIADB[rule]
    prepare_mariadb(mariadb, MARIADB_ROWS)
    came, kept_out = count_writes(mariadb, unsafe)
    prepare_mariadb(mariadb, MARIADB_ROWS)
    came_safe, kept_out_safe = count_writes(mariadb, safe)

    said = f"unsafe: {came} came, {kept_out} kept out; safe: {came_safe}, {kept_out_safe}"
    assert kept_out > came, said
    # The beginning and the end of any change are locked for a moment.
    assert kept_out_safe * 3 < kept_out, said


# What bounds the wait of a user, whether the change waits for a lock, and the error of a user who
# did not come through.
QUEUES = {
    "postgres": (
        "SET lock_timeout = 300",
        (
            "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE c.relname = 't' AND NOT l.granted"
        ),
        "lock timeout",
    ),
    "mariadb": (
        "SET lock_wait_timeout = 1",
        (
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE db = DATABASE() AND state LIKE 'Waiting for table metadata lock%'"
        ),
        "Lock wait timeout",
    ),
}
CHANGE = "ALTER TABLE t ADD COLUMN b INT"


@pytest.mark.parametrize("kind", QUEUES)
def test_a_change_that_waits_keeps_everybody_out_and_the_runner_lets_them_through(
    *, kind, request, tmp_path
):
    """Behind one long reader: bare, no read of others comes through; by the runner, each does."""
    url = request.getfixturevalue(f"{kind}_url")
    bound, waits, message = QUEUES[kind]
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT PRIMARY KEY)")

    def comes_through():
        with engine.connect() as user:
            user.exec_driver_sql(bound)
            try:
                user.exec_driver_sql("SELECT count(*) FROM t")
            except DBAPIError as error:
                if message not in str(error.orig):
                    raise
                return False
            return True

    def change():
        with engine.connect() as connection:
            connection.exec_driver_sql(CHANGE)

    long_reader = create_engine(url, poolclass=NullPool)
    with long_reader.connect() as reader, engine.connect() as watcher:
        reader.exec_driver_sql("SELECT * FROM t")
        thread = threading.Thread(target=change)
        thread.start()
        while not watcher.scalar(text(waits)):
            assert thread.is_alive()
        bare = [comes_through() for _ in range(3)]
        reader.rollback()
        thread.join(30)
        watcher.exec_driver_sql("ALTER TABLE t DROP COLUMN b")

        reader.exec_driver_sql("SELECT * FROM t")
        careful = []

        def pause(seconds):
            careful.append(comes_through())
            if len(careful) == 3:
                reader.rollback()

        project = make_project(tmp_path, url, f'op.execute("{CHANGE}")')
        options = MigrateOptions(lock_timeout_seconds=0.3, ours=False)
        done = run_migrations(engine, project, options, say=lambda said: None, wait=pause)
    engine.dispose()
    long_reader.dispose()

    assert bare == [False, False, False]
    assert careful == [True, True, True]
    assert done.applied == ("r1",)
