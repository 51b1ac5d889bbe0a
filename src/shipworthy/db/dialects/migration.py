"""What a migration must know of its database: how long to wait for locks, and who is in the way.

Texts are for `sqlalchemy.text`, with named parameters, unless said otherwise.
"""

import re
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, final

from sqlalchemy import URL, make_url


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationDialect:
    """One kind of database, as a migration sees it.

    `lock_timeout` has places for whole seconds {s} and milliseconds {ms}; `own_timeout` finds that
    the migration sets one itself, `patient` what only waits where it blocks nobody.
    `ddl_commits`: a change of the schema ends the transaction. `keeps_transaction`: a lock that was
    not to be had undoes the statement alone. `lock_codes` say that a lock was not to be had.

    `holder` names who has an advisory lock (parameters `key`, `name`), `behind` which transactions
    are older than `seconds` and, where it can be seen, which tables they touch; `rows` estimates
    every table, `proven` gives columns that a CHECK keeps from being NULL, `broken` names indexes
    that a build left behind. `lag` is how many seconds the slowest replica that can
    be seen is behind.
    """

    lock_timeout: str
    own_timeout: str
    patient: str = r"(?!)"
    ddl_commits: bool = False
    keeps_transaction: bool = False
    lock_codes: frozenset[str | int]
    name_session: str | None = None
    holder: str | None = None
    behind: str | None = None
    rows: str | None = None
    proven: str | None = None
    broken: str | None = None
    drop_broken: str = ""
    lag: str | None = None
    drivers: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    def wait_for_locks(self, statement: str, seconds: float) -> str:
        """Return what bounds the wait of `statement`, for the cursor of its session."""
        if re.match(self.patient, statement):
            return self.lock_timeout.format(s=0, ms=0)
        return self.lock_timeout.format(s=max(1, ceil(seconds)), ms=ceil(seconds * 1000))


_POSTGRESQL = MigrationDialect(
    lock_timeout="SET lock_timeout = {ms}",
    own_timeout=r"\bSET (SESSION |LOCAL )?LOCK_TIMEOUT\b",
    patient=r"(CREATE (UNIQUE )?INDEX|DROP INDEX|REINDEX .*) CONCURRENTLY\b|VACUUM\b"
    r"|ALTER TABLE .* VALIDATE CONSTRAINT\b",
    lock_codes=frozenset({"55P03"}),
    name_session="SET application_name = 'shipworthy migrate'",
    holder=(
        "SELECT a.pid, a.usename, a.application_name, CAST(a.client_addr AS text),"
        " EXTRACT(epoch FROM clock_timestamp() - a.backend_start)"
        " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (CAST(l.classid AS bigint) << 32) | CAST(l.objid AS bigint) = CAST(:key AS bigint)"
    ),
    behind=(
        "SELECT a.pid, a.usename, EXTRACT(epoch FROM clock_timestamp() - a.xact_start), a.query,"
        " string_agg(DISTINCT c.relname, ',')"
        " FROM pg_stat_activity a"
        " JOIN pg_locks l ON l.pid = a.pid AND l.granted AND l.locktype = 'relation'"
        " JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm')"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND a.pid <> pg_backend_pid()"
        " AND a.xact_start < clock_timestamp() - make_interval(secs => :seconds)"
        " GROUP BY a.pid, a.usename, a.xact_start, a.query ORDER BY a.xact_start"
    ),
    # As the planner does it: what was counted once, times how much the file has grown since.
    rows=(
        "SELECT n.nspname, c.relname, CAST(CASE"
        " WHEN c.relkind = 'p' THEN (SELECT coalesce(sum(greatest(k.reltuples,"
        "  pg_relation_size(k.oid) / 500.0)), 0)"
        "  FROM pg_partition_tree(c.oid) p JOIN pg_class k ON k.oid = p.relid WHERE p.isleaf)"
        " WHEN c.reltuples > 0 AND c.relpages > 0 THEN"
        "  c.reltuples / c.relpages * (pg_relation_size(c.oid) / 8192.0)"
        " WHEN c.relkind = 'i' THEN pg_relation_size(c.oid) / 40.0"
        " ELSE pg_relation_size(c.oid) / 100.0 END AS bigint)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'm', 'i')"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    ),
    proven=(
        "SELECT c.relname, a.attname FROM pg_constraint o"
        " JOIN pg_class c ON c.oid = o.conrelid"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = o.conkey[1]"
        " WHERE o.contype = 'c' AND o.convalidated AND array_length(o.conkey, 1) = 1"
        " AND pg_get_constraintdef(o.oid) ~ '^CHECK [(]+[^ ()]+ IS NOT NULL[)]+$'"
    ),
    # One that somebody builds at this moment is not valid either, and not broken.
    broken=(
        "SELECT n.nspname, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS"
        " (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)"
    ),
    drop_broken='DROP INDEX CONCURRENTLY "{schema}"."{name}"',
    lag="SELECT EXTRACT(epoch FROM max(replay_lag)) FROM pg_stat_replication",
    drivers={"asyncpg": "psycopg", "psycopg_async": "psycopg", "": "psycopg"},
    options={"ssl": "sslmode"},
)
_MARIADB = MigrationDialect(
    lock_timeout="SET SESSION lock_wait_timeout = {s}, innodb_lock_wait_timeout = {s}",
    own_timeout=r"(^|; )SET\b.*LOCK_WAIT_TIMEOUT\b",
    ddl_commits=True,
    keeps_transaction=True,
    lock_codes=frozenset({1205}),
    holder=(
        "SELECT p.id, p.user, p.command, p.host, p.time FROM information_schema.processlist p"
        " WHERE p.id = IS_USED_LOCK(SHA1(CONCAT_WS('/', DATABASE(), :name)))"
    ),
    behind=(
        "SELECT t.trx_mysql_thread_id, p.user, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()),"
        " COALESCE(t.trx_query, p.info, ''), NULL"
        " FROM information_schema.innodb_trx t"
        " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        " WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
        " AND TIMESTAMPDIFF(MICROSECOND, t.trx_started, NOW(6)) > :seconds * 1000000"
        " ORDER BY t.trx_started"
    ),
    rows=(
        "SELECT table_schema, table_name, COALESCE(table_rows, 0) FROM information_schema.tables"
        " WHERE table_schema = DATABASE()"
    ),
    drivers={"asyncmy": "pymysql", "aiomysql": "pymysql", "": "pymysql"},
)
_SQLITE = MigrationDialect(
    lock_timeout="PRAGMA busy_timeout = {ms}",
    own_timeout=r"\bPRAGMA BUSY_TIMEOUT [=(]",
    lock_codes=frozenset({5, 261, 517, 773}),
    drivers={"aiosqlite": "pysqlite"},
)
_DIALECTS = {
    "mariadb": _MARIADB,
    "mysql": _MARIADB,
    "postgresql": _POSTGRESQL,
    "sqlite": _SQLITE,
}


def migration_dialect(name: str) -> MigrationDialect | None:
    """Return what SQLAlchemy calls `name`, None for one we do not know."""
    return _DIALECTS.get(name)


def server_version(dialect: Any) -> tuple[int, ...]:
    """Return the version that rules go by; () for a server that only resembles one we know."""
    if not getattr(dialect, "is_mariadb", True) and dialect.name in ("mysql", "mariadb"):
        return ()
    found = dialect.server_version_info or ()
    return tuple(part for part in found if isinstance(part, int))


def sync_url(text: str | URL) -> URL:
    """Return `text` for a driver that needs no event loop; raises what SQLAlchemy raises."""
    url = make_url(text)
    backend = {"postgres": "postgresql"}.get(url.get_backend_name(), url.get_backend_name())
    known = _DIALECTS.get(backend)
    _, _, driver = url.drivername.partition("+")
    if known is None or driver not in known.drivers:
        return url
    options = {known.options.get(name, name): value for name, value in url.query.items()}
    return url.set(drivername=f"{backend}+{known.drivers[driver]}", query=options)


def file_of(url: URL) -> Path | None:
    """Return the file that is the database, None where a server or the memory holds it."""
    name = url.database
    if (
        url.get_backend_name() != "sqlite"
        or not name
        or ":memory:" in name
        or "mode=memory" in name
    ):
        return None
    return Path(name.removeprefix("file:").partition("?")[0])


def is_in_memory(url: URL) -> bool:
    """Say whether the memory of this process holds the database, which ends with its connection."""
    return url.get_backend_name() == "sqlite" and file_of(url) is None
