"""Leases in a table go by the clock of the database, and fence what is written under them."""

import time

import pytest
import sqlalchemy as sa

from shipworthy.store import STORE_TABLES, LeaseLost, SqlLeases

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def engine(request, tmp_path):
    """An empty database of each kind with the table of the leases."""
    url = (
        f"sqlite:///{tmp_path}/leases.db"
        if request.param == "sqlite"
        else request.getfixturevalue(request.param)
    )
    engine = sa.create_engine(url)
    for table in STORE_TABLES:
        table.create(engine)
    yield engine
    engine.dispose()


def test_the_time_is_that_of_the_database_in_microseconds(engine):
    """Its clock and ours are on one machine here, so they differ by less than the asking takes."""
    before = time.time() - 0.002
    lease = SqlLeases(engine).take("seal", holder="a", seconds=100)
    after = time.time() + 0.002
    until = SqlLeases(engine).look("seal").until_microseconds / 1_000_000
    assert lease is not None
    assert before + 100 <= until <= after + 100


def test_a_holder_whose_lease_was_taken_cannot_write(engine):
    """It slept through its end: the fence stops its transaction, and says who has it now."""
    now = [0]
    leases = SqlLeases(engine, now=lambda _: now[0])
    slept = leases.take("seal", holder="a", seconds=5)
    with engine.begin() as connection:
        leases.fence(connection, slept)
    now[0] = 6_000_000
    assert leases.take("seal", holder="b", seconds=5)

    lost = "token 1 and is with b now, the last one given is 2"
    with pytest.raises(LeaseLost, match=lost), engine.begin() as connection:
        leases.fence(connection, slept)


def test_a_holder_whose_row_is_gone_cannot_write(engine):
    leases = SqlLeases(engine)
    lease = leases.take("seal", holder="a", seconds=5)
    with engine.begin() as connection:
        connection.execute(sa.delete(STORE_TABLES[0]))
    with pytest.raises(LeaseLost, match="is gone from its table"), engine.begin() as connection:
        leases.fence(connection, lease)


def test_a_database_whose_time_is_not_known_is_refused():
    """Before anything is asked of it."""
    from sqlalchemy.dialects import oracle

    class Elsewhere:
        dialect = oracle.dialect()

    with pytest.raises(ValueError, match="leases cannot be kept in 'oracle'"):
        SqlLeases(Elsewhere())
