"""Below the horizon nothing of MariaDB's log is still being written."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from audit.dialects.mariadb_trail import entries, install, script
from shipworthy.audit.dialects import mariadb_horizon
from shipworthy.audit.dialects.mariadb import MARIADB_AUDIT
from shipworthy.audit.dialects.past_mariadb import MARIADB_PAST


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(mariadb_url)
    script(engine, "CREATE TABLE items (id int auto_increment primary key)")
    install(engine)
    yield engine
    engine.dispose()


def _insert(connection: sa.Connection, rows: int = 1) -> None:
    connection.exec_driver_sql(f"INSERT INTO items VALUES {','.join(['(NULL)'] * rows)}")


def _seqs(connection: sa.Connection) -> list[int]:
    return [entry["seq"] for entry in entries(connection)]


def test_an_open_transaction_holds_the_horizon(engine: sa.Engine) -> None:
    """Entries after an open one are not final though they are committed; a rollback lets it go."""
    with engine.connect() as slow, engine.connect() as quick, engine.connect() as reader:
        _insert(quick)
        quick.commit()
        _insert(slow, 2)
        _insert(quick)
        quick.commit()
        assert MARIADB_AUDIT.horizon(reader) == 2
        reader.rollback()
        slow.rollback()
        assert MARIADB_AUDIT.horizon(reader) == 5
        reader.rollback()
        assert _seqs(reader) == [1, 4]


def test_an_empty_log_has_a_horizon(engine: sa.Engine) -> None:
    """There is nothing below it."""
    with engine.connect() as reader:
        assert MARIADB_AUDIT.horizon(reader) in (0, 1)


def test_the_horizon_holds_for_an_old_snapshot(engine: sa.Engine) -> None:
    """What the connection cannot see yet is not below its horizon."""
    with engine.connect() as reader, engine.connect() as writer:
        _insert(writer)
        writer.commit()
        assert _seqs(reader) == [1]
        _insert(writer)
        writer.commit()
        assert MARIADB_AUDIT.horizon(reader) == 2
        reader.rollback()
        assert MARIADB_AUDIT.horizon(reader) == 3


def test_a_pool_of_one_connection_is_enough(mariadb_url: str) -> None:
    """Whoever asks holds a connection; as many as the pool has would wait for each other."""
    engine = sa.create_engine(mariadb_url, pool_size=1, max_overflow=0, pool_timeout=1)
    try:
        script(engine, "CREATE TABLE items (id int auto_increment primary key)")
        install(engine)
        with engine.connect() as connection:
            _insert(connection)
            connection.commit()
            assert MARIADB_AUDIT.horizon(connection) == 2
            connection.rollback()
            assert MARIADB_PAST.writing_since(connection) is None
    finally:
        engine.dispose()


def test_a_long_log_is_searched_by_halves(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first open entry is found wherever it is, also among several."""
    monkeypatch.setattr(mariadb_horizon, "_FEW", 3)
    with engine.connect() as quick, engine.connect() as reader:
        _insert(quick, 20)
        quick.commit()
        with engine.connect() as slow, engine.connect() as slower:
            _insert(slow)
            _insert(quick, 20)
            quick.commit()
            _insert(slower)
            _insert(quick, 9)
            quick.commit()
            assert MARIADB_AUDIT.horizon(reader) == 21
            reader.rollback()
            slow.commit()
            assert MARIADB_AUDIT.horizon(reader) == 42
            reader.rollback()
            slower.commit()
        assert MARIADB_AUDIT.horizon(reader) == 52
