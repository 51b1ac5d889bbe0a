"""Text of MariaDB that is no text to Unicode: halves of surrogate pairs, which it stores."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from audit.ledger.trail import KEY, Trail
from shipworthy.audit import (
    ENTRIES,
    ExportFilter,
    LogFilter,
    add_tables,
    export,
    history,
    install,
    recent_entries,
)
from shipworthy.audit.dialects.mariadb_text import bound_text, read_text, shown_text
from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.reconcile import reconcile
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.settings import AuditSettings
from shipworthy.records import TABLES, deletions, restore

# U+D800, and two halves that only together would be a letter: U+D83D, U+DE00.
_HALF = "EDA080"
_TWO = "EDA0BDEDB880"
_ROWS = "SELECT HEX(id), HEX(v), HEX(p) FROM t ORDER BY id"


@pytest.fixture
def trail(mariadb_url: str) -> Iterator[Trail]:
    """A table with halves of pairs in its key, a value and a personal value."""
    found = Trail(mariadb_url)
    with found.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE t (id varchar(20) character set utf8mb4 primary key, "
            "v longtext character set utf8mb4, p varchar(20) character set utf8mb4)"
        )
    add_tables(TABLES)
    install(found.engine, AuditSettings(personal=("t.p = id",)), say=lambda _: None)
    with found.engine.begin() as connection:
        keys.begin_log(connection, KEY.public)
        connection.exec_driver_sql(
            f"INSERT INTO t VALUES (x'61{_HALF}',x'62{_TWO}',x'63{_HALF}'),('b','b','b')"
        )
    yield found
    found.close()


def _rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(_ROWS).all())


@pytest.mark.slow
def test_halves_of_pairs_are_sealed_read_and_put_back(trail: Trail) -> None:
    """Every reader of the log gets by, and the row comes back to the byte."""
    before = _rows(trail.engine)
    with trail.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE t SET v=x'64{_HALF}' WHERE id=x'61{_HALF}'")
        connection.exec_driver_sql(f"UPDATE t SET v=x'62{_TWO}' WHERE id=x'61{_HALF}'")
        connection.exec_driver_sql("DELETE FROM t")

    trail.seal()
    with trail.engine.connect() as connection:
        assert verify(connection, trusted=[KEY.public]).ok
        assert [it.op for it in recent_entries(connection, LogFilter(personal=True))] == [
            *["delete", "delete", "update", "update", "insert", "insert"]
        ]
        versions = history(connection, "t", "a\ud800")
        assert [it.op for it in versions] == ["delete", "update", "update", "insert"]
        assert versions[-1].new["v"] == "b??"
    told = io.StringIO()
    export(trail.engine, ExportFilter(personal=True), told, by="ana")
    told.getvalue().encode()

    for deletion in deletions(trail.engine):
        restore(trail.engine, deletion.id)
    assert _rows(trail.engine) == before
    trail.seal()
    with trail.engine.connect() as connection:
        assert verify(connection, trusted=[KEY.public]).ok
    assert reconcile(trail.engine).ok


@pytest.mark.anyio
@pytest.mark.slow
async def test_an_async_driver_reads_and_binds_them_too(trail: Trail) -> None:
    """asyncmy reads the log and finds a row by its key."""
    engine = create_async_engine(
        trail.engine.url.set(drivername="mysql+asyncmy"), poolclass=sa.pool.NullPool
    )
    async with engine.connect() as connection:
        wanted = sa.select(ENTRIES.c.new).where(ENTRIES.c.key == '["a\ud800"]')
        found = (await connection.execute(wanted)).scalar_one()
    assert '"v":"b\ud83d\ude00"' in found
    assert '"p":true' in found


@pytest.mark.parametrize("text", ["", "a", "é", "\U0001f600", "\ud800", "\udc80x", "\ud83d\ude00"])
def test_a_text_is_bound_so_that_its_bytes_arrive(text: str) -> None:
    """What is UTF-8 goes as the text it is; for people the rest is a question mark."""
    bound = bound_text(text)
    assert read_text(bound) == text
    assert isinstance(bound, bytes) == any("\ud800" <= it <= "\udfff" for it in text)
    shown_text(text).encode()
