"""A large cascade: deleted bare, deleted under the trail, found, planned, restored.

    python benchmarks/cascade.py                       100,000 rows, every engine, writes the result
    python benchmarks/cascade.py --rows 2000 --try     a short look that writes nothing

A client with projects and tasks goes in one DELETE; nine tenths of the rows are tasks. The bare
delete runs in the same database before the trail is installed, so both stand side by side. SQLite
is a file; the servers are those that TEST_POSTGRES_URL and TEST_MARIADB_URL name, else the local
ones; each gets a database of its own for the time. Memory is the peak of the process, by the run.
"""

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shipworthy.audit import add_tables, bind, install
from shipworthy.records import TABLES, deletions, plan_restore, restore

RESULT = Path(__file__).parent / "results" / "cascade.md"
SERVERS = {
    "PostgreSQL": os.environ.get(
        "TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
    ),
    "MariaDB": os.environ.get("TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/mysql"),
}
STEPS = ("delete, bare", "delete, captured", "found", "planned", "planned and proven", "restored")

metadata = sa.MetaData()
clients = sa.Table("clients", metadata, sa.Column("id", sa.Integer, primary_key=True))
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.id", ondelete="CASCADE"), index=True),
    sa.Column("name", sa.String(80)),
)
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    sa.Column("title", sa.String(80)),
    sa.Column("cost", sa.Numeric(12, 2)),
    sa.Column("at", sa.DateTime),
)


@contextmanager
def database(name: str) -> Iterator[str]:
    """Give the URL of an empty database, and take it away again."""
    if name == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/app.db"
        return
    server = sa.create_engine(SERVERS[name], isolation_level="AUTOCOMMIT")
    made = f"ship_cascade_{os.getpid()}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {made}")
    try:
        yield server.url.set(database=made).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {made}")
        server.dispose()


def fill(engine: sa.Engine, rows: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        connection.execute(sa.insert(clients), [{"id": 1}])
        many = rows // 10
        connection.execute(
            sa.insert(projects),
            [{"id": n, "client_id": 1, "name": f"project {n}"} for n in range(1, many)],
        )
        for start in range(1, rows - many + 1, 10_000):
            connection.execute(
                sa.insert(tasks),
                [
                    {
                        "id": n,
                        "project_id": n % (many - 1) + 1,
                        "title": f"task {n}",
                        "cost": n / 4,
                        "at": at,
                    }
                    for n in range(start, min(start + 10_000, rows - many + 1))
                ],
            )


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = act()
    return time.perf_counter() - began, answer


def measure(url: str, rows: int) -> list[float]:
    """Return the seconds of each step."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))

    def delete() -> None:
        with engine.begin() as connection:
            connection.execute(sa.delete(clients))

    metadata.create_all(engine)
    fill(engine, rows)
    bare, _ = timed(delete)
    add_tables(TABLES)
    install(engine, say=lambda _: None)
    end = bind(engine, service="benchmark")
    fill(engine, rows)
    captured, _ = timed(delete)
    found, (deletion,) = timed(lambda: deletions(engine))
    assert deletion.rows == rows, (deletion.rows, rows)
    planned, _ = timed(lambda: plan_restore(engine, deletion.id, prove=False))
    proven, plan = timed(lambda: plan_restore(engine, deletion.id))
    assert plan.offers == ("all",), plan.sentences()
    restored, done = timed(lambda: restore(engine, deletion.id))
    assert (done.rows, done.left) == (rows, 0)
    end()
    engine.dispose()
    return [bare, captured, found, planned, proven, restored]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--engines", default="SQLite,PostgreSQL,MariaDB")
    parser.add_argument("--try", dest="is_trial", action="store_true")
    given = parser.parse_args()
    lines = [f"| {given.rows:,} rows | {' | '.join(STEPS)} | memory |", "|---" * 8 + "|"]
    print(lines[0])
    for name in given.engines.split(","):
        with database(name) as url:
            seconds = measure(url, given.rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cells = [f"{one:.2f} s (x{one / seconds[0]:.1f})" for one in seconds]
        lines.append(f"| {name} | {' | '.join(cells)} | {peak:.0f} MiB |")
        print(lines[-1], flush=True)
    if not given.is_trial:
        about = (
            f"# A large cascade, deleted and restored\n\n{datetime.now(UTC):%Y-%m-%d}, "
            f"Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}, "
            f"{os.cpu_count()} cores. In brackets: times of the bare delete of the same engine.\n\n"
        )
        RESULT.write_text(about + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
