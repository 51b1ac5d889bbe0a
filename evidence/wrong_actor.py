"""Writes for many users at once: who each was recorded for

An application of FastAPI behind the whole hull, whose own middleware knows the user, with pools of
ten connections that 200 tasks share. It writes in a route that is a coroutine, in one that is a
thread, after a sync dependency has set `request.state.user` in a thread, in three siblings of a
`gather` of which two name an actor of their own, in background tasks, in a worker thread, after a
savepoint that was rolled back, and for nobody. Each row says in a column for whom it was written.
*Wrong* is one that the log has for another, *lost* one that it has for nobody although somebody was
known, *invented* one that it has for a user although there was none.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "wrong_actor.json"
COVERS = (
    "src/shipworthy/context.py",
    "src/shipworthy/audit/attribution.py",
    "src/shipworthy/audit/binding.py",
    "src/shipworthy/audit/dialects",
    "src/shipworthy/web/actor.py",
    "tests/flows/wrong_actor.py",
    "evidence/wrong_actor.py",
)
# Over the three kinds of database.
WRITES = 100_000
PACKAGES = ("sqlalchemy", "fastapi", "starlette", "psycopg", "asyncpg", "pymysql", "asyncmy",
            "aiosqlite")  # fmt: skip


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Write all of them, keep the numbers, and return the table; fail on any that is wrong."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows import wrong_actor  # type: ignore[import-not-found]

    each = -(-WRITES // 3)
    found = []
    with (
        services.postgres() as postgres,
        postgres.database() as postgres_url,
        services.mariadb() as mariadb,
        mariadb.database() as mariadb_url,
        tempfile.TemporaryDirectory(dir=folder) as own,
    ):
        for url in (f"sqlite:///{own}/app.db", postgres_url, mariadb_url):
            told = wrong_actor.attributed(str(url).replace("mysql+", "mariadb+"), folder, each)
            print(f"  {told}", flush=True)
            if told.wrong or told.lost or told.invented or told.refused:
                raise SystemExit(f"not exact: {told}")
            found.append(asdict(told))
    taken = {name: version(name) for name in PACKAGES}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "told": found}, indent=1) + "\n")
    return _table(found), taken


def _table(found: list[dict[str, Any]]) -> str:
    head = "| database | writes | wrong | lost | invented | requests refused |\n"
    head += "|---|---|---|---|---|---|\n"
    rows = "".join(
        f"| {one['kind']} | {one['writes']:,} | {one['wrong']} | {one['lost']} | "
        f"{one['invented']} | {one['refused']} |\n"
        for one in found
    )
    return head + rows + f"\n{sum(one['writes'] for one in found):,} writes in all.\n"
