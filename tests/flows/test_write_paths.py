"""The table of docs/reference/write-paths.md is what was measured, on every kind of database."""

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.write_paths import KINDS, METADATA, PARTITIONED, PATHS, Place, letters
from shipworthy.audit import CONTEXTS, ENTRIES, bind, install, reconcile
from shipworthy.context import actor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "write-paths.md"
BY = {"user": "actor", "service": "service", "database": "database user", None: "nobody"}


@pytest.fixture
def place(kind, request, tmp_path):
    """A database with tables of every kind of foreign key under the trail."""
    with ExitStack() as stack:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path}/app.db"
        else:
            url = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")
            url = url.replace("mysql+", "mariadb+")
        options = {"connect_args": {"local_infile": True}} if kind == "mariadb" else {}
        engine, outside = sa.create_engine(url, **options), sa.create_engine(url)
        for made in (engine, outside):
            stack.callback(made.dispose)
        if kind == "sqlite":
            sa.event.listen(engine, "connect", _foreign_keys)
            sa.event.listen(outside, "connect", _foreign_keys)
        METADATA.create_all(outside)
        if kind == "postgresql":
            with outside.begin() as connection:
                for statement in PARTITIONED:
                    connection.exec_driver_sql(statement)
        install(outside, say=lambda _: None)
        reconcile(outside)  # it notes how many rows are older than the log: none
        stack.callback(bind(engine, service="shop"))
        yield Place(
            kind=kind, engine=engine, outside=outside, folder=tmp_path, since=[0], known=set()
        )


def _foreign_keys(connection, _record):
    connection.execute("PRAGMA foreign_keys = ON")


def measured(place, function):
    """Do one path; return what the trail made of it, as a cell of the table."""
    with place.outside.begin() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(sa.delete(table))
    place.begin()
    with actor("ana"):
        try:
            expected = function(place)
        except sa.exc.DBAPIError as error:
            if "audit trail" not in str(error.orig):
                raise
            return "blocked"
    found = recorded(place)
    if letters([row.op for row in found]) != letters(list(expected)):
        if divergences(place):
            return "reconcile"
        return "in part" if found else "silent"
    return f"captured, {' and '.join(sorted({BY[row.actor_kind] for row in found}))}"


def divergences(place):
    """Return what `reconcile` finds that it had not found after an earlier path."""
    found = {(it.kind, it.table, it.key) for it in reconcile(place.outside).findings}
    new = found - place.known
    place.known.update(found)
    return new


def recorded(place):
    """Return the entries since the path began, with who they are for."""
    query = (
        sa.select(ENTRIES.c.op, CONTEXTS.c.actor_kind)
        .select_from(ENTRIES.outerjoin(CONTEXTS, CONTEXTS.c.tx == ENTRIES.c.tx))
        .where(ENTRIES.c.seq > place.since[0])
    )
    with place.outside.connect() as connection:
        return connection.execute(query).all()


def page_cells():
    """Return the table of the page: of each kind of database, the cell of each path."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE
    )
    _, *rows = rows
    return {kind: {row[0]: row[at] for row in rows} for at, kind in enumerate(KINDS, start=1)}


def write_page(kind, cells):
    """Put what was measured into the column of that kind; what is not known yet is a question."""
    text = PAGE.read_text()
    known = page_cells()
    known[kind] = cells
    lines = [
        f"| {name} | {' | '.join(known[of].get(name, '?') for of in KINDS)} |" for name in PATHS
    ]
    head, _, rest = text.partition("|---|---|---|---|\n")
    after = re.sub(r"\A(?:\|.*\n)*", "", rest)
    PAGE.write_text(f"{head}|---|---|---|---|\n" + "\n".join(lines) + f"\n{after}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_write_path_is_captured_blocked_or_found_as_the_page_says(kind, place):
    """No cell is silent: what no trigger sees is left to `reconcile`, by name."""
    cells = {
        name: measured(place, function) if kind in kinds else "-"
        for name, (kinds, function) in PATHS.items()
    }

    if os.environ.get("WRITE_PAGES") == "1":
        write_page(kind, cells)
    assert cells == page_cells()[kind]
    assert "silent" not in cells.values()
