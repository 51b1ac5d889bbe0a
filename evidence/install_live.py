"""The trail is installed on a table of a million rows that is being written to.

Four writers update random rows, each update a transaction, before, while and after the trail is
installed. No write may fail; how long writes took is compared. SQLite has one writer: whoever
writes waits for whoever does.
"""

import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shipworthy.audit import check, install

COVERS = ["src/shipworthy/audit/installation.py", "src/shipworthy/audit/steps.py"]
ROWS = 1_000_000
WRITERS = 4
# How long is written before and after; and how often the trail is installed and taken away.
SECONDS = 10.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Install on each engine; return the table and the versions."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import services  # type: ignore[import-not-found]

    heads = ["engine", "installed in", "writes", "failed", "median before", "slowest before"]
    heads += ["median meanwhile", "slowest meanwhile", "median after"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    versions = {"SQLAlchemy": sa.__version__}
    with (
        services.postgres() as postgres,
        postgres.database() as first,
        services.mariadb() as mariadb,
        mariadb.database() as second,
    ):
        for url in (f"sqlite:///{folder}/shop.db", first, second):
            line, name, version = _on(url)
            lines.append(line)
            versions[name] = version
    return "\n".join(lines), versions


def _on(url: str) -> tuple[str, str, str]:
    patience: dict[str, Any] = {"timeout": 60} if url.startswith("sqlite") else {}
    engine = sa.create_engine(url, connect_args=patience, pool_size=WRITERS)
    _fill(engine)
    stop = threading.Event()
    took: list[tuple[float, float]] = []
    failed: list[str] = []

    def write() -> None:
        statement = sa.text("UPDATE tasks SET title = :title WHERE id = :id")
        while not stop.is_set():
            began = time.perf_counter()
            try:
                with engine.begin() as connection:
                    number = random.randrange(ROWS)
                    connection.execute(statement, {"title": f"t{number}", "id": number})
            except sa.exc.DBAPIError as error:
                failed.append(str(error))
            else:
                took.append((began, time.perf_counter() - began))

    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(SECONDS)
    start = time.perf_counter()
    install(engine)
    end = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for writer in writers:
        writer.join()
    assert check(engine).is_whole
    before = [1000 * seconds for at, seconds in took if at < start]
    during = [1000 * seconds for at, seconds in took if start <= at <= end] or [0.0]
    after = [1000 * seconds for at, seconds in took if at > end]
    name = engine.dialect.name
    version = ".".join(map(str, engine.dialect.server_version_info or ()))
    engine.dispose()
    if failed:
        print(failed[0])
    cells = [
        name,
        f"{end - start:.2f} s",
        f"{len(took):,}",
        str(len(failed)),
        f"{statistics.median(before):.1f} ms",
        f"{max(before):.0f} ms",
        f"{statistics.median(during):.1f} ms",
        f"{max(during):.0f} ms",
        f"{statistics.median(after):.1f} ms",
    ]
    return f"| {' | '.join(cells)} |", name, version


def _fill(engine: sa.Engine) -> None:
    def run(statement: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)

    if engine.dialect.name == "sqlite":
        run("PRAGMA journal_mode = WAL")
    run("CREATE TABLE tasks (id INTEGER NOT NULL PRIMARY KEY, title VARCHAR(50))")
    run("INSERT INTO tasks (id, title) VALUES (0, 'x')")
    have = 1
    while have < ROWS:
        copied = f"SELECT id + {have}, title FROM tasks WHERE id < {ROWS - have}"
        run(f"INSERT INTO tasks (id, title) {copied}")
        have = min(ROWS, 2 * have)
