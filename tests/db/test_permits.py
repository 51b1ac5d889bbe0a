"""Permits: who gets one, who waits, and who would wait for ever."""

from types import SimpleNamespace

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.clock import ManualClock
from shipworthy.db.permits import Holding, Permits, Waiting, stuck
from shipworthy.db.place import NOWHERE


class Flow:
    def __init__(self) -> None:
        self.over = False

    def done(self) -> bool:
        return self.over


def waiting(flow: Flow, **facts) -> Waiting:
    return Waiting(flow, NOWHERE, 0.0, **facts)


def held(permits: Permits, flow: Flow, **facts) -> Holding:
    holding = permits.ask(waiting(flow, **facts), 0.0)
    assert holding is not None
    return holding


def queued(permits: Permits, flow: Flow, **facts) -> Waiting:
    asked = waiting(flow, **facts)
    assert permits.ask(asked, 0.0) is None
    return asked


def test_a_permit_that_comes_back_goes_to_whoever_waited_longest():
    """The queue is served in the order of asking, and nobody else slips in."""
    permits = Permits(1)
    first = held(permits, Flow())
    second, third = queued(permits, Flow()), queued(permits, Flow())

    woken = permits.give_back(first, 1.0)

    assert woken is second
    assert second.holding is not None
    assert second.holding.since == 1.0
    assert third.holding is None
    assert permits.in_use == 1


def test_giving_back_twice_is_once():
    """A connection that is reported as returned by two ways does not make two permits."""
    permits = Permits(1)
    holding = held(permits, Flow())

    permits.give_back(holding, 1.0)
    permits.give_back(holding, 1.0)

    assert permits.in_use == 0
    held(permits, Flow())
    queued(permits, Flow())


def test_a_pool_without_a_limit_never_lets_anybody_wait():
    """An unlimited pool grants each request, and still knows who holds what."""
    permits = Permits(None)

    for _ in range(100):
        held(permits, Flow())

    assert permits.in_use == 100


def test_what_was_out_before_counts_and_comes_back_unnamed():
    """Connections that were out when the pool came under guard take up room until they return."""
    permits = Permits(2, adopted=2)
    asked = queued(permits, Flow())

    woken = permits.give_back_adopted(1.0)

    assert woken is asked
    assert permits.in_use == 2
    assert permits.give_back_adopted(1.0) is None
    assert permits.give_back_adopted(1.0) is None
    assert permits.in_use == 1


def test_a_waiter_that_leaves_gets_what_was_granted_in_the_same_moment():
    """A grant that crosses with a cancellation is not lost: it is returned to whoever leaves."""
    permits = Permits(1)
    first, asked = held(permits, Flow()), queued(permits, Flow())
    gone = queued(permits, Flow())

    permits.give_back(first, 1.0)

    assert permits.withdraw(asked) is asked.holding is not None
    assert permits.withdraw(gone) is None
    assert not permits.queue


def test_a_shared_connection_may_be_taken_again_by_who_holds_it():
    """One flow may nest on the one connection, another flow waits."""
    permits = Permits(1, shared=True)
    flow = Flow()
    held(permits, flow)

    held(permits, flow)
    queued(permits, Flow())

    assert permits.in_use == 2


def test_the_next_waiter_of_a_shared_connection_waits_for_the_last_return():
    """A nested use that ends gives nobody the connection that is still in use."""
    permits = Permits(1, shared=True)
    flow = Flow()
    outer, inner = held(permits, flow), held(permits, flow)
    asked = queued(permits, Flow())

    assert permits.give_back(inner, 1.0) is None
    assert permits.give_back(outer, 1.0) is asked


def test_refusing_all_gives_each_an_error_of_its_own():
    """Exceptions are not shared: a traceback would grow with each that raises it."""
    permits = Permits(1)
    held(permits, Flow())
    one, two = queued(permits, Flow()), queued(permits, Flow())

    refused = permits.refuse_all(lambda: RuntimeError("closed"))

    assert refused == [one, two]
    assert isinstance(one.error, RuntimeError)
    assert one.error is not two.error
    assert not permits.queue


def test_a_flow_that_holds_all_and_wants_one_more_is_stuck():
    """Nested checkout on a pool of one: nobody else could ever give the connection back."""
    permits, flow = Permits(1), Flow()
    held(permits, flow)
    asked = queued(permits, flow)

    assert stuck([permits]) == {asked}


def test_two_holders_that_want_one_more_are_stuck_and_one_refusal_frees_both():
    """After the newest is refused and gives back, the other is served."""
    permits, one, two = Permits(2), Flow(), Flow()
    held(permits, one)
    second = held(permits, two)
    first_ask = queued(permits, one)
    assert stuck([permits]) == set()
    second_ask = queued(permits, two)

    found = stuck([permits])
    permits.withdraw(second_ask)
    woken = permits.give_back(second, 1.0)

    assert found == {first_ask, second_ask}
    assert woken is first_ask
    assert stuck([permits]) == set()


def test_one_holder_that_goes_on_is_enough():
    """While anybody who holds a connection does not wait, there is hope."""
    permits, one = Permits(2), Flow()
    held(permits, one)
    held(permits, Flow())
    queued(permits, one)

    assert stuck([permits]) == set()


def test_waiters_that_hold_nothing_are_stuck_with_those_that_do():
    """Whoever stands behind a circle waits for ever too, and none of its members is at fault."""
    permits, one = Permits(1), Flow()
    held(permits, one)
    outsider = queued(permits, Flow())
    asked = queued(permits, one)

    assert stuck([permits]) == {outsider, asked}


def test_a_circle_through_two_pools_is_found():
    """One holds A and wants B, the other holds B and wants A."""
    a, b, one, two = Permits(1), Permits(1), Flow(), Flow()
    held(a, one)
    held(b, two)
    on_b = queued(b, one)
    on_a = queued(a, two)

    assert stuck([a, b]) == {on_a, on_b}


def test_a_chain_through_two_pools_that_ends_in_somebody_free_is_none():
    """One wants B, whose holder goes on, so what waits for One is served in time."""
    a, b, one, two = Permits(1), Permits(1), Flow(), Flow()
    held(a, one)
    held(b, two)
    queued(b, one)
    queued(a, Flow())

    assert stuck([a, b]) == set()


def test_holders_nobody_knows_are_trusted_to_come_back():
    """What was out before we came may return at any time."""
    permits, flow = Permits(2, adopted=1), Flow()
    held(permits, flow)
    queued(permits, flow)

    assert stuck([permits]) == set()


def test_a_holder_whose_job_is_over_hangs_on_its_request():
    """A dependency took a connection in a thread and is done; its own request wants one more."""
    request, other = object(), object()
    permits, dependency, endpoint = Permits(1), Flow(), Flow()
    held(permits, dependency, request=request)
    stranger = queued(permits, Flow(), request=other)
    dependency.over = True
    assert stuck([permits]) == set()

    asked = queued(permits, endpoint, request=request)

    assert stuck([permits]) == {stranger, asked}


def test_a_holder_whose_job_is_over_and_nobody_knows_for_whom_is_trusted():
    """Without a request there is nothing to be sure of; the deadline decides."""
    permits, gone, flow = Permits(1), Flow(), Flow()
    held(permits, gone)
    gone.over = True
    queued(permits, flow)

    assert stuck([permits]) == set()


def test_parallel_flows_of_one_request_are_no_deadlock():
    """A request whose tasks hold all connections and want one more goes on when one task ends."""
    request = object()
    permits, flows = Permits(2), [Flow(), Flow(), Flow()]
    held(permits, flows[0], request=request)
    held(permits, flows[1], request=request)
    queued(permits, flows[2], request=request)

    assert stuck([permits]) == set()


def test_a_wait_that_blocks_the_loop_of_all_holders_is_stuck():
    """A synchronous wait inside the event loop: the tasks that would give back cannot run."""
    loop = SimpleNamespace()
    permits, holder = Permits(1), Flow()
    held(permits, holder, loop=loop)
    asked = queued(permits, Flow(), loop=loop, blocks=loop)

    assert stuck([permits]) == {asked}


def test_leaks_are_named_once_and_the_next_look_is_known():
    """A holding is named when it has lasted the length, and not again."""
    permits = Permits(None)
    early = held(permits, Flow())
    late = permits.ask(Waiting(Flow(), NOWHERE, 0.0), 5.0)

    assert permits.leaks(10.0, 10.0) == ([early], 15.0)
    assert permits.leaks(12.0, 10.0) == ([], 15.0)
    assert permits.leaks(15.0, 10.0) == ([late], None)
    assert early.leaked


def test_the_next_look_for_leaks_is_at_the_first_that_may_be_one():
    """Of several that are out, the longest is looked at next."""
    permits = Permits(None)
    for since in (3.0, 1.0, 2.0):
        permits.ask(Waiting(Flow(), NOWHERE, 0.0), since)

    assert permits.leaks(4.0, 10.0) == ([], 11.0)


class Harbour(RuleBasedStateMachine):
    """Flows that take, nest, return, give up and fail, on two pools, under a clock that jumps.

    I1 no wait outlasts its deadline, I3 a free permit and a waiter never meet, I4 who cannot be
    served is found and refused, nobody who could be served is.
    """

    FLOWS = 5

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(0.0)
        self.pools = [Permits(1), Permits(2)]
        self.flows = [Flow() for _ in range(self.FLOWS)]
        self.holds: dict[int, list[Holding]] = {index: [] for index in range(self.FLOWS)}
        self.waits: dict[int, tuple[Permits, Waiting, float]] = {}
        self.granted_in_order: list[int] = []

    def collect(self) -> None:
        for index, (_, asked, _) in list(self.waits.items()):
            if asked.holding is not None:
                del self.waits[index]
                self.holds[index].append(asked.holding)

    @rule(index=st.integers(0, FLOWS - 1), pool=st.integers(0, 1), patience=st.integers(1, 9))
    def ask(self, index, pool, patience):
        if index in self.waits:
            return
        permits = self.pools[pool]
        asked = waiting(self.flows[index])
        holding = permits.ask(asked, self.clock.now())
        if holding is not None:
            self.holds[index].append(holding)
            return
        self.waits[index] = (permits, asked, self.clock.now() + patience)
        if asked in stuck(self.pools):
            permits.withdraw(asked)
            del self.waits[index]
            assert self.holds[index], "only who holds something can close a circle"

    @rule(index=st.integers(0, FLOWS - 1))
    def give_back(self, index):
        if index in self.waits or not self.holds[index]:
            return
        holding = self.holds[index].pop()
        first = next(iter(holding.permits.queue), None)

        woken = holding.permits.give_back(holding, self.clock.now())

        assert woken is first
        self.collect()

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def cancel(self, data):
        index = data.draw(st.sampled_from(sorted(self.waits)))
        permits, asked, _ = self.waits.pop(index)
        assert permits.withdraw(asked) is None

    @rule(seconds=st.integers(0, 5))
    def advance(self, seconds):
        self.clock.advance(seconds)
        for index, (permits, asked, until) in list(self.waits.items()):
            if until <= self.clock.now():
                assert permits.withdraw(asked) is None
                del self.waits[index]

    @invariant()
    def nobody_waits_past_the_deadline(self):
        assert all(until > self.clock.now() for _, _, until in self.waits.values())

    @invariant()
    def no_permit_is_free_while_somebody_waits(self):
        for permits in self.pools:
            assert permits.in_use <= permits.capacity
            assert not permits.queue or permits.in_use == permits.capacity

    @invariant()
    def permits_are_neither_lost_nor_made(self):
        for permits in self.pools:
            ours = [h for held in self.holds.values() for h in held if h.permits is permits]
            assert set(ours) == set(permits.holdings)

    @invariant()
    def whoever_waits_can_be_served_by_somebody_who_does_not(self):
        assert stuck(self.pools) == set()
        served: set[int] = {index for index in range(self.FLOWS) if index not in self.waits}
        while True:
            more = {
                index
                for index, (permits, _, _) in self.waits.items()
                if index not in served
                and any(holding in permits.holdings for at in served for holding in self.holds[at])
            }
            if not more:
                break
            served |= more
        assert served == set(range(self.FLOWS))


Harbour.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHarbour = pytest.mark.slow(Harbour.TestCase)
