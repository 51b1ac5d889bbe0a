"""What every store of leases does: in memory, and in a table of each database."""

import threading

import pytest
import sqlalchemy as sa

from shipworthy.clock import ManualClock
from shipworthy.store import STORE_TABLES, MemoryLeases, SqlLeases

pytestmark = pytest.mark.slow


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", "postgres_url", "mariadb_url"])
def leases(request, tmp_path, clock):
    """An empty store of each kind, whose clock is ours."""
    if request.param == "memory":
        yield MemoryLeases(clock)
        return
    url = (
        f"sqlite:///{tmp_path}/leases.db"
        if request.param == "sqlite"
        else request.getfixturevalue(request.param)
    )
    engine = sa.create_engine(url)
    for table in STORE_TABLES:
        table.create(engine)
    yield SqlLeases(engine, now=lambda _: int(clock.now() * 1_000_000))
    engine.dispose()


def test_one_of_two_gets_it_and_the_other_after_its_end(leases, clock):
    """The token is greater for the second."""
    first = leases.take("seal", holder="a", seconds=5)
    assert first is not None
    assert leases.take("seal", holder="b", seconds=5) is None
    clock.advance(5)

    second = leases.take("seal", holder="b", seconds=5)
    assert second is not None
    assert second.token == first.token + 1
    assert not leases.renew(first, seconds=5)
    assert not leases.give_back(first)
    assert leases.look("seal").holder == "b"


def test_one_that_is_renewed_is_held_on(leases, clock):
    lease = leases.take("seal", holder="a", seconds=5)
    clock.advance(4)
    assert leases.renew(lease, seconds=5)
    clock.advance(4)
    assert leases.take("seal", holder="b", seconds=5) is None


def test_one_that_is_given_back_is_free_at_once(leases):
    lease = leases.take("seal", holder="a", seconds=5)
    assert leases.give_back(lease)
    assert not leases.give_back(lease)
    assert leases.take("seal", holder="b", seconds=5).token == lease.token + 1


def test_leases_of_other_names_do_not_know_each_other(leases):
    """Not even where a careless collation thinks the names alike."""
    assert leases.take("seal", holder="a", seconds=5)
    assert leases.take("Seal", holder="b", seconds=5).token == 1
    assert leases.look("SEAL") is None


def test_of_many_that_try_at_once_one_gets_it(leases):
    """Eight threads, ten rounds: the tokens say how often it was given."""
    for round_number in range(1, 11):
        got, start = [], threading.Barrier(8)

        def try_it(number, got=got, start=start):
            start.wait()
            lease = leases.take("seal", holder=f"h{number}", seconds=60)
            if lease is not None:
                got.append(lease)

        threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) <= 1
        lease = got[0] if got else leases.take("seal", holder="late", seconds=60)
        assert lease.token == round_number
        assert leases.give_back(lease)
