"""Buckets in a table of a server are exact over processes; one that is away holds nobody."""

import asyncio
import sys
import threading
import time
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit, urlunsplit

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))

from racing import EXACT, GCRA, SLIDING, SMALLEST, quota, race

from lateness import Lateness
from shipworthy.faults import FaultProxy, Refuse, Silence
from shipworthy.store import BUCKETS, Ask, BucketsUnavailable, open_buckets
from shipworthy.store.bucket_rows import Wish
from shipworthy.store.bucket_sql import SqlShelf

pytestmark = pytest.mark.slow
SECOND = 1_000_000_000


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def url(request):
    """An empty database of each kind with the table of the buckets."""
    found = request.getfixturevalue(request.param)
    engine = sa.create_engine(found)
    BUCKETS.create(engine)
    engine.dispose()
    return found


@pytest.fixture
def shelves(url):
    """Two connections to it, as of two processes."""
    both = SqlShelf(url), SqlShelf(url)
    yield both
    for shelf in both:
        shelf.close()


def settle(shelf, *wishes):
    return shelf.settle(wishes, deadline=monotonic() + 20)


def take(shelf, *asks):
    return settle(shelf, Wish(asks))[0]


def rows_in(url):
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.select(BUCKETS).order_by(BUCKETS.c.bucket)).all()
    engine.dispose()
    return [tuple(row) for row in found]


def through(url, proxy):
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize("algorithm", [GCRA, EXACT, SLIDING])
def test_two_processes_share_the_buckets(shelves, url, algorithm):
    """What one has taken the other cannot; a refusal writes nothing; what is put back is there."""
    one, other = shelves
    ask = Ask("k", quota(algorithm, 2))
    assert take(one, ask)[0].allowed
    assert take(other, ask)[0].allowed
    before = rows_in(url)
    assert not take(one, ask)[0].allowed
    assert rows_in(url) == before
    assert settle(other, Wish((ask,), back=True)) == [()]
    assert take(one, ask)[0].allowed


def test_a_request_takes_from_all_of_its_buckets_or_from_none(shelves, url):
    one, other = shelves
    narrow, wide = Ask("narrow", quota(EXACT, 1)), Ask("wide", quota(GCRA, 10))
    assert all(taken.allowed for taken in take(one, wide, narrow))
    before = rows_in(url)
    assert [taken.allowed for taken in take(other, narrow, wide)] == [False, True]
    assert rows_in(url) == before


def test_the_time_is_the_servers_whatever_clock_a_client_has(shelves, monkeypatch):
    """One client's clock is an hour ahead and the other's behind: they agree on what is left."""
    one, other = shelves
    ask = Ask("k", quota(GCRA, 1))
    real = time.time()
    for shelf, hours in ((one, 1), (other, -1)):
        monkeypatch.setattr(time, "time", lambda hours=hours: real + 3600 * hours)
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: int(real + 3600 * hours) * SECOND)
        taken = take(shelf, ask)[0]
        assert taken.allowed is (shelf is one)
        assert abs(taken.reset_ns - ask.quota.period_ns) < 60 * SECOND


def test_a_server_in_another_time_zone_tells_the_same_time(shelves, url):
    """Ours is the time since 1970, by the server's clock, which is this machine's here."""
    take(shelves[0], Ask("k", quota(GCRA, 1, SECOND)))
    ((_, until_ns, _),) = rows_in(url)
    assert abs(until_ns - time.time_ns()) < 30 * SECOND


def test_many_requests_are_one_transaction(shelves):
    """Forty for ten: exactly ten are admitted, in order, and in the same batch as another key."""
    ask, lone = Ask("k", quota(EXACT, 10)), Ask("lone", quota(SLIDING, 1))
    answers = settle(shelves[0], *[Wish((ask,))] * 40, Wish((lone,)))
    assert [answer[0].allowed for answer in answers] == [True] * 10 + [False] * 30 + [True]


def test_two_who_add_the_same_key_at_once_share_it(shelves):
    """Neither finds it, both add it, and there is one: the first who locks it has it."""
    both_found_none = threading.Barrier(2)
    ask = Ask("new", quota(EXACT, 1))
    answers = []

    def first_time(shelf):
        add = shelf._add

        def wait(keys):
            both_found_none.wait(20)
            add(keys)

        shelf._add = wait
        answers.append(take(shelf, ask)[0].allowed)

    threads = [threading.Thread(target=first_time, args=(shelf,)) for shelf in shelves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [False, True]


def test_what_has_run_out_is_deleted_by_whoever_comes(shelves, url):
    """A thousand keys that live for a microsecond leave a few, and what is in use stays."""
    shelf = shelves[0]
    kept = Ask("f" * 32, quota(EXACT, 5))
    take(shelf, kept)
    for batch in range(20):
        asks = [Ask(f"{batch:02x}{number:030x}", quota(GCRA, 1, 1000)) for number in range(50)]
        settle(shelf, *[Wish((ask,)) for ask in asks])
    rows = rows_in(url)
    assert rows[-1][0] == kept.key
    assert len(rows) < 600


def test_without_its_table_it_says_how_to_make_it(request):
    """Also to a process that runs on: the table may be made meanwhile."""
    url = request.getfixturevalue("postgres_url")
    shelf = SqlShelf(url)
    with pytest.raises(BucketsUnavailable, match="run `shipworthy db migrate`"):
        take(shelf, Ask("k", quota(GCRA, 1)))
    engine = sa.create_engine(url)
    BUCKETS.create(engine)
    engine.dispose()
    assert take(shelf, Ask("k", quota(GCRA, 1)))[0].allowed
    shelf.close()


def test_a_deadlock_is_begun_again(shelves, monkeypatch):
    """Nothing is left of such a transaction; one that goes on for ever is given up."""
    shelf = shelves[0]

    class Deadlock(Exception):
        sqlstate = "40P01"

    transaction = shelf._transaction
    failures = [3]

    def fail(wishes):
        if failures[0]:
            failures[0] -= 1
            raise sa.exc.OperationalError("", None, Deadlock())
        return transaction(wishes)

    shelf._transaction = fail
    assert take(shelf, Ask("k", quota(GCRA, 1)))[0].allowed
    failures[0] = 100
    with pytest.raises(BucketsUnavailable):
        take(shelf, Ask("k", quota(GCRA, 1)))


def test_a_connection_that_the_server_closed_is_replaced(shelves, url):
    """It lay idle, and nobody was told: the next request has another one, and waits for it."""
    shelf = shelves[0]
    ask = Ask("k", quota(GCRA, 10))
    take(shelf, ask)
    say, end = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[shelf._engine.dialect.name]
    with shelf._engine.connect() as connection:
        number = connection.exec_driver_sql(say).scalar()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(end.format(number))
    engine.dispose()
    assert take(shelf, ask)[0].remaining == 8


def test_a_process_that_stops_in_a_transaction_is_ended_by_the_server(shelves):
    """It holds the locks of what it took for a second, and of nobody's requests for longer."""
    stopped, other = shelves
    ask = Ask("k", quota(GCRA, 10))
    take(other, ask)
    with stopped._engine.connect() as connection:
        connection.exec_driver_sql(*stopped._say.lock([ask.key])).all()
        began = monotonic()
        while True:
            try:
                assert take(other, ask)[0].allowed
                break
            except BucketsUnavailable:
                assert monotonic() < began + 20
        # The server has closed it.
        connection.invalidate()


@pytest.mark.parametrize("fault", [Refuse(), Silence()], ids=["refused", "blackholed"])
def test_a_server_that_is_away_costs_the_bound_once_and_comes_back(url, fault):
    """Then nothing for each request, and the loop is never blocked; a trial finds it back."""

    async def run(proxy) -> None:
        # Long enough for a connection to be made on a loaded machine.
        buckets = open_buckets(through(url, proxy), bound_seconds=1.0)
        ask = Ask("k", quota(GCRA, 1000))
        assert (await buckets.take([ask]))[0].allowed
        await buckets.close()

        buckets = open_buckets(through(url, proxy), bound_seconds=0.05)
        proxy.apply(fault)
        loop = asyncio.get_running_loop()
        with Lateness() as late:
            began = loop.time()
            with pytest.raises(BucketsUnavailable):
                await buckets.take([ask])
            took = loop.time() - began
        assert took <= 0.05 + late.allowed_seconds
        with Lateness() as late:
            began = loop.time()
            for _ in range(100):
                with pytest.raises(BucketsUnavailable):
                    await buckets.take([ask])
            took = loop.time() - began
        # Each would cost 50 ms; two trials may be among them.
        assert took <= 0.1 + 2 * late.allowed_seconds
        await buckets.close()

        proxy.clear()
        buckets = open_buckets(through(url, proxy), bound_seconds=1.0)
        await _until_answered(buckets, ask)
        await buckets.close()

    with FaultProxy.in_thread("127.0.0.1", urlsplit(url).port) as proxy:
        asyncio.run(run(proxy))


def test_a_server_that_falls_silent_and_wakes_is_used_again(url):
    """The connection that hung is cut, and another one is made, by the same buckets."""

    async def run(proxy) -> None:
        buckets = open_buckets(through(url, proxy), bound_seconds=0.5)
        ask = Ask("k", quota(GCRA, 1000))
        await _until_answered(buckets, ask)
        proxy.apply(Silence())
        with pytest.raises(BucketsUnavailable):
            await buckets.take([ask])
        proxy.clear()
        await _until_answered(buckets, ask)
        await buckets.close()

    with FaultProxy.in_thread("127.0.0.1", urlsplit(url).port) as proxy:
        asyncio.run(run(proxy))


async def _until_answered(buckets, ask) -> None:
    give_up = monotonic() + 20
    while True:
        try:
            assert (await buckets.take([ask]))[0].allowed
        except BucketsUnavailable:
            assert monotonic() < give_up
            await asyncio.sleep(0.02)
            continue
        return


def test_eight_processes_admit_exactly_the_quota(url):
    """Whoever asks one after the other or four at once, and nothing is burnt in the others."""
    got = race(url)
    assert got["admitted"] == SMALLEST, got
    shelf = SqlShelf(url)
    left = [
        take(shelf, Ask(key, quota(kind, count)))[0].remaining + 1
        for key, kind, count in (("race-gcra", GCRA, 100), ("race-sliding", SLIDING, 80))
    ]
    assert left == [100 - SMALLEST, 80 - SMALLEST]
    shelf.close()
