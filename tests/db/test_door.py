"""The door: who comes in, who waits, who is refused, and what is learned of a route."""

import asyncio
import threading
import time
import timeit
from contextvars import copy_context
from math import inf

import pytest
from anyio.to_thread import current_default_thread_limiter, run_sync
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine

from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, request_scope
from shipworthy.db import PoolDoor, Standing, protect, route_key
from shipworthy.db.door import (
    FORGET_AFTER,
    FREE_AFTER,
    GUESS,
    OPEN_AFTER,
    PATIENCE_SECONDS,
    ROUTES,
    SPARE_THREADS,
    UNASKED_SECONDS,
    WAITING,
    AskedPool,
    Visit,
)

ITEMS, POLL = "GET /items", "GET /poll"
FAR = 1e9


class Pool:
    """A pool that knows whom it serves."""

    def __init__(self, capacity: int | None = 2) -> None:
        self.capacity = capacity
        self.serving: set[object] = set()

    def serves(self, request: object) -> bool:
        return request in self.serving


class Driven:
    """A door, its pool and its clock; requests are made as the tests need them."""

    def __init__(self, capacity: int | None = 2) -> None:
        self.door = PoolDoor()
        self.pool = Pool(capacity)
        self.clock = ManualClock()

    def arrive(self, key: str = ITEMS, *, seconds: float = FAR) -> Visit:
        now = self.clock.now()
        return self.door.arrive(key, object(), now, now + seconds)

    def take(self, visit: Visit) -> Visit:
        """Have the request take a connection in a worker thread."""
        self.pool.serving.add(visit.request)
        visit.asks(self.pool)
        return visit

    def give_back(self, visit: Visit) -> None:
        self.pool.serving.discard(visit.request)

    def leave(self, visit: Visit) -> None:
        self.give_back(visit)
        self.door.leave(visit, self.clock.now())

    def look(self, visit: Visit) -> float:
        return self.door.look(visit, self.clock.now())

    def holding(self) -> "Driven":
        """Teach it that the requests of ITEMS keep a connection."""
        visit = self.take(self.arrive())
        visit.kept()
        self.leave(visit)
        return self

    def ended(self, key: str, times: int) -> None:
        """Have so many requests come and go without a connection."""
        for _ in range(times):
            self.leave(self.arrive(key))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/", "GET /"),
        ("/items/all", "GET /items/all"),
        ("/items/7", "GET /items/*"),
        ("/items/7/tags/", "GET /items/*/tags/"),
        ("/v1/users/4f0c-aa", "GET /*/users/*"),
        ("/files/" + "a" * 33, "GET /files/*"),
        ("/files/" + "a" * 32, "GET /files/" + "a" * 32),
        ("/" + "/".join(["abc"] * 1000), "GET /" + "/".join(["abc"] * 63) + "/abc"),
        ("", "GET "),
    ],
)
def test_what_varies_in_a_path_does_not_make_another_route(path, key):
    """Ids hold a digit or are long; and no path makes a key longer than 256 characters."""
    assert route_key("GET", path) == key[: 4 + 256]


def test_the_key_of_any_path_takes_a_bounded_time():
    """A path of 64 KiB costs no more than some ten times one of 256 characters, whatever it is."""
    for long in ("a" * 65536, "/" * 65536, "/a1" * 20000, "1" * 65536):
        took = min(timeit.repeat(lambda path=long: route_key("GET", path), number=20, repeat=5))
        usual = min(timeit.repeat(lambda: route_key("GET", "/a1b" * 64), number=20, repeat=5))
        assert took < 20 * usual


def test_no_more_come_in_than_there_are_connections_and_the_rest_in_turn():
    """Two connections: the third and fourth wait, and each that leaves lets in the next."""
    driven = Driven(2).holding()
    first, second, third, fourth = [driven.arrive() for _ in range(4)]

    before = [visit.standing for visit in (first, second, third, fourth)]
    driven.leave(second)

    assert before == [Standing.PLACED, Standing.PLACED, Standing.WAITING, Standing.WAITING]
    assert (third.standing, fourth.standing) == (Standing.PLACED, Standing.WAITING)
    stands = driven.door.statistics()
    assert (stands.limit, stands.inside, stands.waiting, stands.waited_total) == (2, 2, 1, 2)


def test_it_tells_since_when_the_first_waits():
    """Who watches for a crowd asks this; infinite where nobody waits."""
    driven = Driven()
    inside = [driven.take(driven.arrive()) for _ in range(2)]
    assert driven.door.waits_since() == inf
    driven.clock.advance(1.0)
    since = driven.clock.now()
    driven.arrive()
    driven.clock.advance(1.0)
    driven.arrive()
    assert driven.door.waits_since() == since
    driven.leave(inside[0])
    assert driven.door.waits_since() == driven.clock.now()


def test_who_is_let_in_is_woken_once():
    """The shell waits for this and nothing else."""
    driven = Driven(1).holding()
    first, second = driven.arrive(), driven.arrive()
    woken = []
    second.wake = lambda: woken.append(second)

    driven.leave(first)
    driven.look(second)

    assert woken == [second]


def test_before_any_pool_is_known_a_guess_is_made():
    """The first burst of a process must not fill the threads before anything is learned."""
    driven = Driven()

    visits = [driven.arrive() for _ in range(GUESS + 1)]

    assert [visit.standing for visit in visits[-2:]] == [Standing.PLACED, Standing.WAITING]


def test_who_waits_when_its_route_turns_out_to_hold_goes_on_to_wait():
    """What was unknown at its arrival is judged by what is known when its moment is over."""
    driven = Driven(GUESS)
    inside = [driven.arrive() for _ in range(GUESS)]
    waiting = driven.arrive(seconds=10.0)

    driven.take(inside[0])
    driven.clock.advance(PATIENCE_SECONDS)
    again = driven.look(waiting)

    assert waiting.route.holds
    assert again > 0
    assert waiting.standing is Standing.WAITING


def test_a_known_route_is_refused_when_its_time_is_over():
    """Not before, and it is told when to look again."""
    driven = Driven(1).holding()
    driven.take(driven.arrive())
    late = driven.arrive(seconds=5.0)

    seconds = driven.look(late)
    driven.clock.advance(4.9)
    before = (driven.look(late), late.standing)
    driven.clock.advance(0.1)
    after = driven.look(late)

    assert 0 < seconds <= 5.0
    assert before[0] == pytest.approx(0.1)
    assert before[1] is Standing.WAITING
    assert (after, late.standing) == (0.0, Standing.REFUSED)
    assert driven.door.statistics().refused_total == 1


def test_an_unknown_route_waits_a_moment_and_is_never_refused():
    """A long poll that nobody knows yet is late by the patience at most, whatever holds places."""
    driven = Driven(1).holding()
    driven.take(driven.arrive())
    poll = driven.arrive(POLL, seconds=5.0)
    other = driven.arrive(POLL, seconds=0.5)

    assert driven.look(other) == pytest.approx(0.5)
    driven.clock.advance(0.5)
    assert (driven.look(other), other.standing) == (0.0, Standing.PLACED)
    driven.clock.advance(PATIENCE_SECONDS - 0.5)
    assert (driven.look(poll), poll.standing) == (0.0, Standing.PLACED)


def test_a_route_whose_requests_end_without_a_connection_is_free():
    """After three it passes at once, and only its own kind does."""
    driven = Driven(1).holding()

    driven.ended(POLL, FREE_AFTER - 1)
    before = driven.door.free(POLL)
    driven.ended(POLL, 1)
    driven.take(driven.arrive())

    assert before is None
    driven.arrive()  # waits, and reads the news
    assert driven.door.free(POLL) is not None
    assert driven.door.free(ITEMS) is None
    assert driven.door.free("GET /else") is None


def test_a_request_of_a_free_route_does_not_wait_behind_others():
    """Also where it has to be looked up under the lock, because there is news."""
    driven = Driven(1).holding()
    driven.ended(POLL, FREE_AFTER)
    first = driven.arrive()
    driven.arrive()
    first.asks(driven.pool)

    assert driven.door.free(POLL) is None
    assert driven.arrive(POLL).standing is Standing.LET_IN


def test_who_waits_when_its_route_turns_out_free_is_let_in():
    """A burst on a new route without a database waits for three of its requests, not for all."""
    driven = Driven(1).holding()
    held = driven.take(driven.arrive())
    polls = [driven.arrive(POLL) for _ in range(FREE_AFTER)]
    for poll in polls:
        driven.door.let_in(poll, driven.clock.now())
    more = [driven.arrive(POLL) for _ in range(2)]
    woken = []
    for visit in more:
        visit.wake = lambda: woken.append(1)

    for poll in polls:
        driven.leave(poll)

    assert [visit.standing for visit in more] == [Standing.LET_IN] * 2
    assert woken == [1, 1]
    assert held.standing is Standing.PLACED


def test_a_free_route_that_takes_a_connection_is_not_free_any_more():
    """Learned from one request, by way of the route itself: such requests have no visit."""
    driven = Driven(1).holding()
    driven.ended(POLL, FREE_AFTER)
    route = driven.door.free(POLL)
    assert route is not None

    route.asks(driven.pool)
    driven.arrive()

    assert driven.door.free(POLL) is None
    assert driven.arrive(POLL).standing is Standing.WAITING


def test_a_route_is_forgotten_after_many_requests_without_a_connection():
    """What holds only now and then goes on to count; what never does any more is free again."""
    driven = Driven(1).holding()

    driven.ended(ITEMS, FORGET_AFTER - 1)
    assert driven.door.free(ITEMS) is None
    driven.leave(driven.take(driven.arrive()))
    driven.ended(ITEMS, FORGET_AFTER - 1)
    assert driven.door.free(ITEMS) is None
    driven.ended(ITEMS, 1)

    assert driven.door.free(ITEMS) is not None


def test_an_answer_that_begins_without_a_connection_gives_its_place_back():
    """A stream of events is not counted for as long as its client listens."""
    driven = Driven(1).holding()
    stream = driven.take(driven.arrive())
    waiting = driven.arrive()

    driven.door.answering(stream, driven.clock.now())
    kept = waiting.standing
    driven.give_back(stream)
    driven.door.answering(stream, driven.clock.now())

    assert (kept, waiting.standing) == (Standing.WAITING, Standing.PLACED)


def test_an_answer_that_takes_a_connection_later_has_its_place_again():
    """And from then on the requests of that route keep theirs: an export reads as it sends."""
    driven = Driven(1).holding()
    export = driven.arrive()
    driven.door.answering(export, driven.clock.now())
    assert driven.door.statistics().inside == 0

    driven.take(export)
    waiting = driven.arrive()
    assert (export.standing, waiting.standing) == (Standing.PLACED, Standing.WAITING)

    driven.leave(export)
    driven.door.answering(waiting, driven.clock.now())
    assert waiting.standing is Standing.PLACED


def test_what_was_asked_before_the_answer_began_does_not_count_as_later():
    """Also where the door hears of it only then."""
    driven = Driven(1).holding()
    slow = driven.arrive(POLL)
    waiting = driven.arrive()
    driven.clock.advance(PATIENCE_SECONDS)
    driven.look(waiting)
    assert slow.standing is Standing.LET_IN

    driven.take(slow)
    driven.door.answering(slow, driven.clock.now())

    assert slow.standing is Standing.PLACED
    assert not slow.route.late


def test_a_request_that_keeps_no_connection_loses_its_place_after_a_while():
    """A long poll that only asked who the user is; it has a place again when it asks once more."""
    driven = Driven(1).holding()
    poll = driven.take(driven.arrive())
    driven.give_back(poll)
    waiting = driven.arrive()

    driven.clock.advance(PATIENCE_SECONDS)
    driven.look(waiting)
    assert (poll.standing, waiting.standing) == (Standing.LET_IN, Standing.PLACED)

    driven.take(poll)
    driven.look(waiting)
    assert poll.standing is Standing.PLACED
    assert driven.door.statistics().inside == 2


def test_a_request_with_a_connection_keeps_its_place_however_long_it_takes():
    """One of a route that holds, and did not ask yet, keeps it for longer, but not for ever.

    It may not have got a thread to begin in.
    """
    driven = Driven(2).holding()
    slow, unasked = driven.take(driven.arrive()), driven.arrive()
    waiting, last = driven.arrive(), driven.arrive()

    for _ in range(4):
        driven.clock.advance(PATIENCE_SECONDS)
        driven.look(waiting)
    assert (slow.standing, unasked.standing) == (Standing.PLACED, Standing.PLACED)
    assert waiting.standing is Standing.WAITING

    driven.clock.advance(UNASKED_SECONDS - 4 * PATIENCE_SECONDS)
    driven.look(waiting)
    assert (slow.standing, unasked.standing) == (Standing.PLACED, Standing.LET_IN)
    assert (waiting.standing, last.standing) == (Standing.PLACED, Standing.WAITING)


def test_unknown_requests_that_keep_nothing_make_room_and_teach_that_their_route_is_free():
    """So a burst of long polls is late once, and does not keep others out."""
    driven = Driven(GUESS)
    for _ in range(GUESS):
        driven.arrive(POLL)
    more = [driven.arrive(POLL) for _ in range(GUESS)]

    driven.clock.advance(PATIENCE_SECONDS)
    driven.look(more[0])

    assert all(visit.standing is Standing.LET_IN for visit in more)
    assert driven.door.statistics().inside == 0
    assert driven.door.free(POLL) is not None


def test_several_pools_allow_more_but_not_so_many_that_one_could_take_all_threads():
    """Pools of 5, 15 and 100: all at the smallest would be 8 threads that wait."""
    driven = Driven(5).holding()
    limits = [driven.door.statistics().limit]
    pools = [Pool(2), Pool(100), Pool(None)]

    for pool in pools:
        visit = driven.arrive()
        visit.asks(pool)
        driven.leave(visit)
        limits.append(driven.door.statistics().limit)

    assert limits == [5, 7, 2 + SPARE_THREADS, 2 + SPARE_THREADS]


def test_a_pool_that_is_gone_does_not_count():
    """An engine for one test, or one tenant, must not throttle the service for good."""
    driven = Driven(1).holding()
    other = Pool(20)
    visit = driven.arrive()
    visit.asks(other)
    driven.leave(visit)
    before = driven.door.statistics().limit

    del driven.pool, visit
    driven.pool = other
    driven.leave(driven.arrive())

    assert (before, driven.door.statistics().limit) == (1 + SPARE_THREADS, 20)


def test_a_pool_that_comes_in_the_place_of_another_is_counted():
    """`dispose()` makes a new one, and it may have another size."""
    driven = Driven(1).holding()
    visit = driven.arrive()

    driven.pool = Pool(20)
    driven.leave(driven.take(visit))

    assert driven.door.statistics().limit == 20


@pytest.mark.parametrize("capacity", [None, 0])
def test_pools_without_a_limit_hold_nobody_back(capacity):
    """Nobody waits for their connections, so no thread does."""
    driven = Driven(capacity).holding()

    visits = [driven.arrive() for _ in range(100)]

    assert all(visit.standing is Standing.PLACED for visit in visits)
    assert driven.door.statistics().limit is None


def test_the_door_opens_where_connections_are_given_back_by_the_job_that_took_them():
    """All threads may wait then: whoever has a connection needs no other thread."""
    driven = Driven(1)
    for _ in range(OPEN_AFTER - 1):
        driven.leave(driven.take(driven.arrive()))
    holder, waiting = driven.arrive(), driven.arrive()
    assert (driven.door.open, waiting.standing) == (False, Standing.WAITING)

    driven.door.leave(holder, driven.clock.now())
    assert (driven.door.open, waiting.standing) == (True, Standing.PLACED)
    driven.door.asks(driven.pool)
    assert driven.door.open

    driven.door.kept()
    driven.leave(waiting)
    assert not driven.door.open
    assert driven.door.statistics().limit == 1


def test_a_route_may_tell_that_a_connection_was_kept():
    """A request that had no visit closes the door too."""
    driven = Driven(1)
    driven.ended(POLL, OPEN_AFTER)
    opened = driven.door.open
    route = driven.door.free(POLL)
    assert route is not None

    route.kept()

    assert (opened, driven.door.open) == (True, False)


def test_what_is_remembered_is_bounded():
    """Whatever paths clients make up, and whatever takes a connection."""
    driven = Driven(1)
    for index in range(ROUTES + 10):
        driven.leave(driven.take(driven.arrive(f"GET /hold-{index}")))
        driven.ended(f"GET /free-{index}", 1)
    door = driven.door

    assert len(door._holding) == ROUTES
    assert len(door._others) == ROUTES
    assert not door._holding.keys() & door._others.keys()
    assert not driven.arrive(f"GET /hold-{ROUTES + 9}").route.holds


def test_a_route_learned_twice_is_forgotten_once():
    """One that was dropped from memory while its request ran comes back beside its twin."""
    driven = Driven(1)
    old = driven.arrive(POLL)
    for index in range(ROUTES):
        driven.ended(f"GET /{index}", 1)
    new = driven.arrive(POLL)
    assert new.route is not old.route

    driven.take(old)
    driven.take(new)
    driven.leave(old)
    driven.leave(new)
    for route in (old.route, new.route):
        route.without = FORGET_AFTER - 1
        driven.door._went_without(route)

    assert driven.door._holding == {}


def test_so_many_may_wait_and_no_more():
    """The next of a known route is refused at once, the next of an unknown one let in."""
    driven = Driven(1).holding()
    driven.take(driven.arrive())
    for _ in range(WAITING):
        driven.arrive()

    assert driven.arrive().standing is Standing.REFUSED
    assert driven.arrive(POLL).standing is Standing.PLACED
    assert driven.door.statistics().waiting == WAITING


def test_who_gives_up_leaves_the_queue_and_teaches_nothing():
    """Its client left, or its task was cancelled."""
    driven = Driven(1).holding()
    driven.take(driven.arrive())
    waiting = driven.arrive()
    without = waiting.route.without

    driven.door.leave(waiting, driven.clock.now())

    assert waiting.standing is Standing.OVER
    assert driven.door.statistics().waiting == 0
    assert waiting.route.without == without


class Ears:
    """What a pool tells of the connections of one request."""

    def __init__(self) -> None:
        self.asked: list[AskedPool] = []
        self.kept_times = 0

    def asks(self, pool: AskedPool) -> None:
        self.asked.append(pool)

    def kept(self) -> None:
        self.kept_times += 1


def test_a_pool_tells_what_worker_threads_ask_of_it_and_keep(tmp_path):
    """Kept is what the job that took it did not give back, though the next ran in its thread."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'x.db'}",
        pool_size=3,
        max_overflow=1,
        connect_args={"check_same_thread": False},
    )
    protection = protect(engine)
    record = RequestRecord("", "", "", "")
    record.connections = ears = Ears()

    def briefly() -> None:
        with engine.connect():
            pass

    def give_back_beside_another() -> None:
        with engine.connect():
            taken.pop().close()

    def give_back_in_a_thread() -> None:
        connection = engine.connect()
        helper = threading.Thread(target=copy_context().run, args=(connection.close,))
        helper.start()
        helper.join()

    taken: list[Connection] = []

    async def play() -> list[object]:
        current_default_thread_limiter().total_tokens = 1
        with request_scope(record):
            await run_sync(briefly)
            told = [ears.kept_times]
            taken.append(await run_sync(engine.connect))
            (first, second) = ears.asked
            told += [first is second, second.capacity, second.serves(record)]
            await run_sync(taken.pop().close)
            told += [ears.kept_times, second.serves(record)]
            taken.append(await run_sync(engine.connect))
            await run_sync(give_back_beside_another)
            told.append(ears.kept_times)
            await run_sync(give_back_in_a_thread)
            told.append(ears.kept_times)
            asked = len(ears.asked)
            briefly()  # in the loop's own thread
            assert (len(ears.asked), ears.kept_times) == (asked, 3)
        return told

    try:
        assert asyncio.run(play()) == [0, True, 4, True, 1, False, 2, 3]
    finally:
        protection.undo()
        engine.dispose()


def test_a_request_is_served_also_while_it_waits(tmp_path):
    """Its place is not taken back because it has no connection yet."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}", pool_size=1, max_overflow=0)
    protection = protect(engine)
    record = RequestRecord("", "", "", "")
    record.connections = ears = Ears()

    def wait() -> None:
        with request_scope(record), engine.connect():
            pass

    waiter = threading.Thread(target=wait)
    try:
        with engine.connect():
            waiter.start()
            while not protection.statistics().waiting:
                time.sleep(0)
            assert ears.asked[0].serves(record)
            assert not ears.asked[0].serves(RequestRecord("", "", "", ""))
        waiter.join()
    finally:
        protection.undo()
        engine.dispose()


class Traffic(RuleBasedStateMachine):
    """Any requests of three routes: some keep connections, in some order, for some time."""

    keys = st.sampled_from([ITEMS, POLL, "GET /mixed"])

    @initialize(capacity=st.integers(1, 4), holding=st.booleans())
    def begin(self, capacity: int, holding: bool) -> None:
        self.driven = Driven(capacity)
        self.visits: list[Visit] = []
        if holding:
            self.driven.holding()

    @property
    def inside(self) -> list[Visit]:
        known = (Standing.PLACED, Standing.LET_IN)
        return [visit for visit in self.visits if visit.standing in known]

    @property
    def waiting(self) -> list[Visit]:
        return [visit for visit in self.visits if visit.standing is Standing.WAITING]

    @rule(key=keys, seconds=st.floats(0.1, 10.0))
    def arrive(self, key: str, seconds: float) -> None:
        self.visits.append(self.driven.arrive(key, seconds=seconds))

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), kept=st.booleans())
    def take(self, data: st.DataObject, kept: bool) -> None:
        visit = data.draw(st.sampled_from(self.inside))
        self.driven.take(visit)
        if kept:
            visit.kept()

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), over=st.booleans())
    def go_on(self, data: st.DataObject, over: bool) -> None:
        visit = data.draw(st.sampled_from(self.inside))
        self.driven.give_back(visit)
        if over:
            self.driven.leave(visit)
            self.visits.remove(visit)
        else:
            self.driven.door.answering(visit, self.driven.clock.now())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        visit = data.draw(st.sampled_from(self.waiting))
        self.driven.leave(visit)
        self.visits.remove(visit)

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.driven.clock.advance(seconds)
        now = self.driven.clock.now()
        for visit in self.waiting:
            again = self.driven.look(visit)
            assert again <= max(0.0, visit.until - now)
            if not visit.route.holds:
                assert visit.standing is not Standing.REFUSED
                assert again <= PATIENCE_SECONDS

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        stands = self.driven.door.statistics()
        if stands.waiting and not self.driven.door.news:
            assert stands.limit is not None
            assert stands.inside >= stands.limit

    @invariant()
    def everybody_is_counted(self) -> None:
        stands = self.driven.door.statistics()
        assert stands.waiting == len(self.waiting)
        assert stands.inside == sum(visit.standing is Standing.PLACED for visit in self.visits)

    @invariant()
    def no_free_route_waits(self) -> None:
        assert not any(visit.route.free for visit in self.waiting)

    @invariant()
    def whoever_came_first_waits_no_longer(self) -> None:
        assert list(self.driven.door._queue) == self.waiting

    def teardown(self) -> None:
        for visit in list(getattr(self, "visits", ())):
            self.driven.leave(visit)
        if self.visits:
            stands = self.driven.door.statistics()
            assert (stands.inside, stands.waiting) == (0, 0)


Traffic.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTraffic = pytest.mark.slow(Traffic.TestCase)
