"""Buckets in Redis or Valkey: one atomic call, by the time of the server, within the bound."""

import asyncio
import sys
import time
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from racing import EXACT, GCRA, SLIDING, SMALLEST, asks, quota, race

import services
from lateness import Lateness
from shipworthy.errors import Misuse
from shipworthy.events import listen
from shipworthy.faults import Delay, FaultProxy, Refuse, Silence
from shipworthy.resilience import BreakerChanged
from shipworthy.store import Algorithm, Ask, BucketsUnavailable, Quota, open_buckets
from shipworthy.store.bucket_rows import Wish, settle, state_of
from shipworthy.store.bucket_waiting import WAITING_MOST
from shipworthy.store.redis import PREFIX, SCRIPT, RedisBuckets, heard, spoken

SECOND = 1_000_000_000
# A bound that is met only when something is wrong.
PATIENCE = 20.0
# The server may be everybody's, so what a test leaves there bears the name of this process.
TAG = uuid4().hex[:12]


@pytest.fixture
def server(redis_port):
    """A client of the server, which takes away what the test has left there."""
    client = redis.Redis(port=redis_port)
    yield client
    for key in client.scan_iter(f"{PREFIX}{TAG}*"):
        client.delete(key)
    client.close()


@pytest.fixture
def url(server, redis_port):
    return f"redis://127.0.0.1:{redis_port}/0"


def named(*asks):
    """Give the keys names that no other test has."""
    tag = f"{TAG}-{uuid4().hex[:12]}"
    return [ask._replace(key=f"{tag}-{ask.key}") for ask in asks]


def run(work):
    return asyncio.run(work)


# What each request of a trace does: wait, then take or put back of some of these buckets.
QUOTAS = st.builds(
    lambda algorithm, count, share, period_us: Quota(
        algorithm=algorithm,
        count=count,
        period_ns=period_us * 1000,
        burst=max(1, count * share // 100) if algorithm is GCRA else count,
    ),
    st.sampled_from(Algorithm),
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(100, 366 * 86_400 * 1_000_000),
)
STEPS = st.lists(
    st.tuples(
        st.integers(-(10**6), 2 * 10**6),
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=4),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@given(quotas=st.lists(QUOTAS, min_size=4, max_size=4), steps=STEPS, scale=st.integers(1, 10**7))
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_decides_what_judge_decides(server, quotas, steps, scale):
    """Over any trace, also with a clock that goes back: the same states, and the same answers."""
    keys = [f"{PREFIX}{TAG}-judge-{number}" for number in range(4)]
    server.delete(*keys)
    at_us = 1_700_000_000_123_456
    # The server's own time cannot be set, and it forgets by it; the rest is the script as it is.
    script = SCRIPT
    for its_own, ours in (
        ("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}"),
        ("'PX', string.format('%.0f', lifetimes[key])", "'KEEPTTL'"),
    ):
        assert its_own in script
        script = script.replace(its_own, ours)
    rows = {}
    for wait, wanted, back in steps:
        at_us = max(10**15, at_us + wait * scale)
        wishes = tuple(
            Ask(keys[number], quotas[number], min(cost, quotas[number].burst))
            for number, cost in wanted
        )
        given_arguments = ["back" if back else "take"]
        for ask in wishes:
            given_arguments += spoken(ask.quota, ask.cost)
        seconds, microseconds = divmod(at_us, 1_000_000)
        _, _, done, *_ = server.eval(
            script,
            len(wishes),
            *[ask.key for ask in wishes],
            *given_arguments,
            seconds,
            microseconds,
        )
        settled = settle([Wish(wishes, back=back)], rows, at_us * 1000)
        answer = settled.answers[0]
        assert bool(done) is all(taken.allowed for taken in answer)
        rows.update(settled.rows)
        for ask in wishes:
            kept = server.get(ask.key)
            known = state_of(rows[ask.key]) if ask.key in rows else None
            assert (None if kept is None else heard(kept)) == known


def test_an_exact_product_is_compared_where_doubles_are_not(server):
    """Two products that differ in their 30th digit, of factors that 2^53 still holds exactly."""
    start = SCRIPT.index("local SPLIT")
    end = SCRIPT.index("local function counts")
    program = SCRIPT[start:end] + (
        "local a, b, c, d = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]),"
        " tonumber(ARGV[4])\nreturn more(a, b, c, d) and 1 or 0"
    )
    big = 2**45
    for a, b, c, d in (
        (big - 1, big + 1, big, big),
        (big, big, big - 1, big + 1),
        (big, big, big, big),
        (3 * 10**13, 31_622_400_000_000, 3 * 10**13 - 1, 31_622_400_000_001),
        (0, 5, 0, 7),
    ):
        assert bool(server.eval(program, 0, a, b, c, d)) is (a * b > c * d)


@pytest.mark.parametrize("algorithm", [GCRA, EXACT, SLIDING])
def test_two_processes_share_the_buckets(url, server, algorithm):
    """What one has taken the other cannot; a refusal writes nothing; what is put back is there."""
    (ask,) = named(Ask("k", quota(algorithm, 2)))

    async def work():
        one, other = (RedisBuckets(url, bound_seconds=PATIENCE) for _ in range(2))
        assert [(await buckets.take([ask]))[0].remaining for buckets in (one, other)] == [1, 0]
        before = server.get(PREFIX + ask.key), server.pexpiretime(PREFIX + ask.key)
        refused = (await one.take([ask]))[0]
        assert not refused.allowed
        assert refused.retry_after_ns > 0
        assert (server.get(PREFIX + ask.key), server.pexpiretime(PREFIX + ask.key)) == before
        await other.give_back([ask])
        assert (await one.take([ask]))[0].allowed
        await one.close()
        await other.close()

    run(work())


def test_a_request_takes_from_all_of_its_buckets_or_from_none(url):
    narrow, wide = named(Ask("narrow", quota(EXACT, 1)), Ask("wide", quota(GCRA, 10)))

    async def work():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        assert all(taken.allowed for taken in await buckets.take([wide, narrow]))
        for _ in range(5):
            answer = await buckets.take([wide, narrow])
            assert [(one.allowed, one.remaining) for one in answer] == [(True, 9), (False, 0)]
        await buckets.close()

    run(work())


def test_a_bucket_is_forgotten_when_it_is_as_if_never_used(url, server):
    """And not before; so what an attacker makes up goes by itself."""
    three = named(
        Ask("g", quota(GCRA, 1, 60 * SECOND)),
        Ask("e", quota(EXACT, 1, 60 * SECOND)),
        Ask("s", quota(SLIDING, 1, 60 * SECOND)),
    )

    async def work():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        for ask in three:
            (taken,) = await buckets.take([ask])
            left = server.pttl(PREFIX + ask.key)
            assert 0 <= taken.reset_ns / 1e6 - left + 2 <= 5_000
        await buckets.close()

    run(work())


def test_the_time_is_the_servers_whatever_clock_a_client_has(url, monkeypatch):
    """One client's clock is an hour ahead and the other's behind: they agree on what is left."""
    (ask,) = named(Ask("k", quota(GCRA, 1)))

    async def work():
        real = time.time()
        for hours in (1, -1):
            monkeypatch.setattr(time, "time", lambda hours=hours: real + 3600 * hours)
            buckets = RedisBuckets(url, bound_seconds=PATIENCE)
            (taken,) = await buckets.take([ask])
            assert taken.allowed is (hours == 1)
            assert abs(taken.reset_ns - ask.quota.period_ns) < 60 * SECOND
            await buckets.close()

    run(work())


def test_what_comes_while_the_server_is_asked_goes_to_it_together(url):
    """A hundred at once on one connection, answered in order."""
    (ask,) = named(Ask("k", quota(EXACT, 60)))

    async def work():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        answers = await asyncio.gather(*(buckets.take([ask]) for _ in range(100)))
        assert [answer[0].allowed for answer in answers] == [True] * 60 + [False] * 40
        with pytest.raises(ValueError, match="costs between 1 and"):
            await buckets.take([ask._replace(cost=61)])
        await buckets.close()
        with pytest.raises(BucketsUnavailable, match="was closed"):
            await buckets.take([ask])

    run(work())


def test_it_serves_one_event_loop_after_the_other(url):
    """As the tests of an application have them; each loop has connections of its own."""
    (ask,) = named(Ask("k", quota(EXACT, 5)))
    buckets = RedisBuckets(url, bound_seconds=PATIENCE)

    async def once():
        left = (await buckets.take([ask]))[0].remaining
        await buckets._let_go()
        return left

    assert [run(once()) for _ in range(3)] == [4, 3, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [Refuse(), Silence(), Delay(seconds=2.0)],
    ids=["refused", "blackholed", "two-seconds-slow"],
)
def test_a_server_that_is_away_costs_the_bound_once_and_comes_back(url, redis_port, fault):
    """Then next to nothing for each request, one event says so, and a trial finds it back."""
    (ask,) = named(Ask("k", quota(GCRA, 1000)))
    changes = []

    async def work(proxy):
        target = f"redis://127.0.0.1:{proxy.port}/0"
        buckets = RedisBuckets(target, bound_seconds=0.05, name="away")
        await _until_answered(buckets, ask)
        changes.clear()
        proxy.apply(fault)
        if isinstance(fault, Refuse):
            proxy.cut_all()
        loop = asyncio.get_running_loop()
        with Lateness() as late:
            began = loop.time()
            with pytest.raises(BucketsUnavailable):
                await buckets.take([ask])
            took = loop.time() - began
        assert took <= 0.05 + late.allowed_seconds
        with Lateness() as late:
            began = loop.time()
            for _ in range(200):
                with pytest.raises(BucketsUnavailable):
                    await buckets.take([ask])
            took = loop.time() - began
        # Each would cost 50 ms, which is ten seconds; two trials may be among them.
        assert took <= 0.1 + 2 * late.allowed_seconds
        assert changes[0] == "open"
        assert len(changes) <= 5
        proxy.clear()
        await _until_answered(buckets, ask)
        assert changes[-1] == "closed"
        await buckets.close()

    stop = listen(lambda fact: changes.append(fact.after), BreakerChanged)
    try:
        with FaultProxy.in_thread("127.0.0.1", redis_port) as proxy:
            run(work(proxy))
    finally:
        stop()


@pytest.mark.slow
def test_a_server_that_may_not_write_is_full_or_forgot_the_script(own_redis):
    """Each is unavailable or goes on by itself, and all of it with the server that runs on."""
    ask = Ask("k", quota(GCRA, 1000))

    async def work(port):
        server = redis.Redis(port=port)
        buckets = RedisBuckets(f"valkey://127.0.0.1:{port}", bound_seconds=PATIENCE)
        await _until_answered(buckets, ask)

        server.script_flush()
        answers = await asyncio.gather(*(buckets.take([ask]) for _ in range(5)))
        assert all(answer[0].allowed for answer in answers)

        server.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(BucketsUnavailable, match=r"(?i)read ?only"):
            await buckets.take([ask])
        server.execute_command("REPLICAOF", "NO", "ONE")
        await _until_answered(buckets, ask)

        server.config_set("maxmemory", "1")
        with pytest.raises(BucketsUnavailable, match=r"(?i)memory"):
            await buckets.take([ask])
        server.config_set("maxmemory", "0")
        await _until_answered(buckets, ask)
        await buckets.close()
        server.close()

    with own_redis() as port:
        run(work(port))


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_begins_anew(own_redis):
    """It kept nothing on a disk: the quota is there again, the script is learnt again."""
    ask = Ask("k", quota(EXACT, 1))

    async def work():
        with own_redis() as port:
            buckets = RedisBuckets(f"redis://127.0.0.1:{port}", bound_seconds=1.0)
            await _until_answered(buckets, ask)
            assert not (await buckets.take([ask]))[0].allowed
        with pytest.raises(BucketsUnavailable):
            await buckets.take([ask])
        with own_redis(port=port):
            await _until_answered(buckets, ask)
            await buckets.close()

    run(work())


@pytest.mark.slow
def test_a_restart_of_ours_changes_nothing(url):
    """What a worker has taken its successor finds."""
    (ask,) = named(Ask("k", quota(EXACT, 2)))

    async def worker():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        taken = (await buckets.take([ask]))[0]
        await buckets.close()
        return taken.allowed

    assert [run(worker()) for _ in range(3)] == [True, True, False]


@pytest.mark.slow
def test_in_a_cluster_all_keys_of_a_request_lie_on_one_node(own_redis):
    """So the script may have them; a key without the tag would be refused there."""
    five = [Ask(f"k{number}", quota(GCRA, 10)) for number in range(5)]

    async def work(port):
        server = redis.Redis(port=port)
        server.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in server.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)
        buckets = RedisBuckets(f"redis://127.0.0.1:{port}?cluster=true", bound_seconds=PATIENCE)
        answers = await asyncio.gather(*(buckets.take(five) for _ in range(12)))
        admitted = [all(one.allowed for one in answer) for answer in answers]
        assert sum(admitted) == 10
        await buckets.close()
        server.close()

    # Its other port would be 10,000 higher, which may be none.
    bus = str(services.free_port())
    with own_redis("--cluster-enabled", "yes", "--cluster-port", bus) as port:
        run(work(port))


@pytest.mark.slow
def test_eight_processes_admit_exactly_the_quota(url, server):
    """Whoever asks one after the other or four at once, and nothing is burnt in the others."""
    got = race(url, tag=TAG)
    assert got["admitted"] == SMALLEST, got

    gcra, _, sliding = asks(TAG)

    async def left():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        found = [(await buckets.take([ask]))[0].remaining + 1 for ask in (gcra, sliding)]
        await buckets.close()
        return found

    assert run(left()) == [100 - SMALLEST, 80 - SMALLEST]


def test_when_too_many_wait_the_next_is_told_at_once(redis_port):
    async def work(proxy):
        buckets = RedisBuckets(f"redis://127.0.0.1:{proxy.port}", bound_seconds=PATIENCE)
        ask = Ask("crowd", quota(GCRA, 10_000))
        crowd = [asyncio.create_task(buckets.take([ask])) for _ in range(WAITING_MOST)]
        await asyncio.sleep(0)
        with pytest.raises(BucketsUnavailable, match="wait for the store of buckets already"):
            await buckets.take([ask])
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await buckets.close()

    with FaultProxy.in_thread("127.0.0.1", redis_port) as proxy:
        run(work(proxy))


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(Misuse, match=r"pip install 'shipworthy\[redis\]'"):
        open_buckets("redis://127.0.0.1:6379/0")


@pytest.mark.parametrize("text", ["http://host", "redis:", "redis://"])
def test_what_is_no_url_of_a_server_is_refused(text):
    with pytest.raises(Misuse, match="has a URL like redis://"):
        RedisBuckets(text)


def test_a_sliding_quota_is_for_whole_microseconds():
    """The server's clock knows no less."""
    with pytest.raises(ValueError, match="whole microseconds, not for 1000001 ns"):
        spoken(quota(SLIDING, 1, 1_000_001), 1)


def test_a_request_that_cannot_be_said_is_told_so_and_harms_no_other(url):
    """It is refused before anything is sent; the store is there for whoever comes with it."""
    (ask,) = named(Ask("k", quota(EXACT, 5)))
    never = ask._replace(quota=quota(SLIDING, 1, 1_000_001))

    async def work():
        buckets = RedisBuckets(url, bound_seconds=PATIENCE)
        told = await asyncio.gather(
            buckets.take([ask]), buckets.take([never]), return_exceptions=True
        )
        assert told[0][0].allowed
        assert isinstance(told[1], ValueError)
        assert (await buckets.take([ask]))[0].allowed
        await buckets.close()

    run(work())


def test_what_somebody_else_has_written_is_no_state():
    assert heard(b"x123") is None


async def _until_answered(buckets, ask):
    give_up = monotonic() + PATIENCE
    while True:
        try:
            assert (await buckets.take([ask]))[0].allowed
        except BucketsUnavailable:
            assert monotonic() < give_up
            await asyncio.sleep(0.02)
            continue
        return
