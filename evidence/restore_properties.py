"""What was deleted comes back to the byte, and a plan says what happens.

Generated schemas (composite keys, circles, many-to-many, joined inheritance, rows that refer to
themselves, every type of the engine) are filled, some rows are deleted in one to three
transactions, and all deletions are restored, the newest first: every row must be as it was. In a
second series the present is damaged before (places taken, rows put back by hand, links set anew,
parents gone or purged, columns and tables changed, rows that checks and triggers refuse): each
obstacle of a plan must be refused by the database by itself, and what is offered must happen. The
generators are those of tests/records.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

ROOT = Path(__file__).parents[1]
COVERS = ("src/shipworthy/records", "src/shipworthy/audit/dialects")
# SQLite in memory takes a third of a second for both; on a server it is some seconds.
SEEDS = {"sqlite": 1000, "postgresql": 100, "mariadb": 100}


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run both series on every engine and return the table; raises where one seed fails."""
    del folder
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from records.conftest import ready_engine  # type: ignore[import-not-found]

    lines = [
        "| engine | schemas | rows restored, exactly | plans' obstacles, all as told | failures |",
        "|---|---|---|---|---|",
    ]
    versions: dict[str, str] = {}
    with services.postgres() as postgres, services.mariadb() as mariadb:
        for name, server in (("sqlite", None), ("postgresql", postgres), ("mariadb", mariadb)):
            if server is None:
                rows, met, version = series(name, SEEDS[name], None)
            else:
                with server.database() as url:
                    rows, met, version = series(name, SEEDS[name], ready_engine(str(url)))
            versions[name] = version
            told = ", ".join(f"{kind} {count:,}" for kind, count in met.most_common())
            lines.append(f"| {name} | 2 x {SEEDS[name]:,} | {rows:,} | {told} | 0 |")
    return "\n".join(lines), versions


def series(name: str, seeds: int, shared: sa.Engine | None) -> tuple[int, Counter[str], str]:
    """Run seeds of both series on one engine; the first that fails is named and raised."""
    from records.conftest import ready_engine
    from records.generated import drop_world, make_world  # type: ignore[import-not-found]
    from records.test_carry import delete_and_restore  # type: ignore[import-not-found]
    from records.test_survey import plan_and_restore  # type: ignore[import-not-found]

    rows = 0
    met: Counter[str] = Counter()
    version = ""
    for seed in range(seeds):
        for which in ("exactness", "verdicts"):
            engine = shared or ready_engine("sqlite://")
            draw = random.Random(f"{which} {seed}")
            try:
                world = make_world(engine, draw)
                version = ".".join(map(str, engine.dialect.server_version_info or ()))
                if which == "exactness":
                    rows += delete_and_restore(world, draw)
                else:
                    met.update(one.kind.value for one in plan_and_restore(world, draw))
            except BaseException:
                print(f"{name}, {which}, seed {seed} failed", file=sys.stderr)
                raise
            if shared is None:
                engine.dispose()
            else:
                drop_world(world)
    if shared is not None:
        shared.dispose()
    return rows, met, version


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(run(Path(place))[0])
