"""What is said to a database holds whatever a key is, and no value is ever a part of it."""

import pytest
import sqlalchemy as sa

from shipworthy.store import BUCKETS
from shipworthy.store.dialects.bucket_statements import (
    begin_again,
    bucket_statements,
    no_table,
)


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["postgres_url", "mariadb_url"])
def test_a_row_is_written_and_committed_by_one_message(request, fixture):
    """Whatever stands in its key and its rest: nothing there is taken for SQL."""
    engine = sa.create_engine(request.getfixturevalue(fixture))
    BUCKETS.create(engine)
    say = bucket_statements(engine.dialect.name)
    rows = [("'; DROP TABLE shipworthy_buckets; --", 7, b"\x00'\\%s"), ("\\%(a)s{}", 2**62, None)]
    keys = [row[0] for row in rows]
    with engine.connect() as connection:
        connection.exec_driver_sql(*say.add(keys))
        assert [row[1:] for row in connection.exec_driver_sql(*say.lock(keys)).all()] == [
            (key, 0, None) for key in sorted(keys)
        ]
        connection.exec_driver_sql(say.write(rows), execution_options={"no_parameters": True})
        connection.rollback()
        found = connection.execute(sa.select(BUCKETS)).all()
    engine.dispose()
    assert sorted(tuple(row) for row in found) == sorted(rows)


@pytest.mark.slow
def test_postgresql_keeps_no_log_of_the_table(postgres_url):
    """A commit waits for no disk; a crash empties it, and every limit begins anew."""
    engine = sa.create_engine(postgres_url)
    BUCKETS.create(engine)
    with engine.connect() as connection:
        kind = connection.execute(
            sa.text("SELECT relpersistence FROM pg_class WHERE relname = 'shipworthy_buckets'")
        ).scalar()
    engine.dispose()
    assert kind in {"u", b"u"}


def test_a_database_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="cannot be kept in 'oracle'; there is mariadb, mysql"):
        bucket_statements("oracle")


class Said(Exception):
    """What a driver raises: by a code of its own, or with a number first."""

    sqlstate: str | None = None


def test_a_deadlock_is_begun_again_and_a_missing_table_is_not():
    deadlock, missing = Said(), Said()
    deadlock.sqlstate, missing.sqlstate = "40P01", "42P01"
    assert [begin_again(one) for one in (deadlock, Said(1213), missing, None)] == [
        True,
        True,
        False,
        False,
    ]
    assert [no_table(one) for one in (missing, Said(1146), deadlock)] == [True, True, False]
