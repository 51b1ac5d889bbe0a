"""What happens to a connection, decided from its bytes: the same harm however they are cut."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, strategies as st

from shipworthy.faults import (
    Bandwidth,
    Charge,
    Cut,
    Delay,
    Direction,
    HalfClose,
    Pass,
    Placed,
    Plan,
    Reset,
    Silence,
    Struck,
)

UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.BOTH

patterns = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.lists(st.sampled_from([b"a", b"ab", b"aab", b"aba", b"b"]), min_size=1, max_size=3).map(
        tuple
    ),
)
places = st.one_of(
    st.builds(dict, after_bytes=st.integers(0, 12)),
    st.builds(dict, at=patterns, before=st.booleans()),
    st.builds(dict, answer_to=patterns),
)
shares = st.builds(dict, chance=st.sampled_from([1.0, 0.5]), times=st.sampled_from([None, 1]))


@st.composite
def faults(draw: st.DrawFn) -> Placed:
    kind = draw(st.sampled_from([Delay, Bandwidth, Silence, HalfClose, Cut, Reset]))
    ways = [UP, DOWN] if kind is HalfClose else [UP, DOWN, BOTH]
    facts = draw(places) | draw(shares) | {"direction": draw(st.sampled_from(ways))}
    if kind is Delay:
        return Delay(1.0, jitter_seconds=draw(st.sampled_from([0.0, 3.0])), **facts)
    return (
        Bandwidth(draw(st.sampled_from([10, 20])), **facts) if kind is Bandwidth else kind(**facts)
    )


text = st.one_of(st.binary(max_size=8), st.text("ab", max_size=8).map(str.encode))
# A conversation: who speaks, and what is said, cut into pieces in two different ways.
turns = st.lists(st.tuples(st.sampled_from([UP, DOWN]), text), max_size=6)


@pytest.mark.slow
@given(st.lists(faults(), max_size=3), turns, st.integers(0, 5), st.data())
def test_the_same_bytes_meet_the_same_harm_however_they_are_cut(
    given_faults: list[Placed], conversation: list[tuple[Direction, bytes]], seed: int, data
) -> None:
    """What passes, how late and how fast, what begins where: none of it depends on the pieces."""
    cuts = [
        data.draw(st.lists(st.integers(0, len(said)), max_size=4).map(sorted), "cuts")
        for _, said in conversation
    ]

    whole = told(given_faults, conversation, [[] for _ in conversation], seed)
    pieces = told(given_faults, conversation, cuts, seed)

    assert pieces == whole


@pytest.mark.slow
@given(st.lists(faults(), max_size=3), turns, st.integers(0, 5))
def test_what_passes_is_what_was_sent_up_to_where_it_stops(
    given_faults: list[Placed], conversation: list[tuple[Direction, bytes]], seed: int
) -> None:
    """No byte is changed, doubled or left out before a fault ends the stream."""
    plan = planned(*given_faults, seed=seed)
    plan.start()
    passed = {UP: b"", DOWN: b""}
    sent = {UP: b"", DOWN: b""}

    for way, said in conversation:
        sent[way] += said
        fed = plan.feed(way, said)
        passed[way] += b"".join(step.data for step in fed.steps if isinstance(step, Pass))
        assert fed.held == b"" or plan.silent(way)

    for way in (UP, DOWN):
        assert sent[way].startswith(passed[way])


@given(
    st.lists(st.text("ab", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=3),
    st.text("ab", max_size=12).map(str.encode),
    st.booleans(),
)
@example([b"aab"], b"aaab", True)
@example([b"aba", b"b"], b"aab", True)
@example([b"bbb", b"ab"], b"bbab", False)
def test_a_cut_before_patterns_lets_nobody_have_one_whole(
    sought: list[bytes], stream: bytes, singly: bool
) -> None:
    """All up to the last byte of whichever ends first passes, at once or byte by byte."""
    plan = planned(Cut(at=tuple(sought)))
    plan.start()

    passed = b"".join(fed_singly(plan, UP, stream) if singly else fed_whole(plan, UP, stream))

    seen = [stream.find(pattern) + len(pattern) for pattern in sought if pattern in stream]
    assert passed == (stream[: min(seen) - 1] if seen else stream)


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=40))
def test_a_cut_behind_a_pattern_passes_it_whole(pattern: bytes, stream: bytes) -> None:
    """With before=False the pattern is the last thing that arrives."""
    plan = planned(Cut(at=pattern, before=False))
    plan.start()

    passed = b"".join(fed_singly(plan, UP, stream))

    found = stream.find(pattern)
    assert passed == (stream if found < 0 else stream[: found + len(pattern)])


def test_a_fault_without_a_place_begins_before_any_byte() -> None:
    """It is there when the connection is, so nothing passes."""
    plan = planned(Cut())

    begun = plan.start()

    assert begun == (Struck(Cut(), UP, 0),)
    assert plan.feed(UP, b"hello").steps == ()
    assert plan.feed(DOWN, b"hello").steps == ()


def test_a_place_after_bytes_is_reached_by_its_last_byte() -> None:
    """The fault does not wait for a byte that may never come."""
    plan = planned(Cut(after_bytes=3, direction=UP))

    assert plan.start() == ()
    assert plan.feed(DOWN, b"12345").steps == (Pass(b"12345"),)
    assert plan.feed(UP, b"123").steps == (
        Pass(b"123"),
        Struck(Cut(after_bytes=3, direction=UP), UP, 3),
    )


def test_an_answer_begins_after_the_request_and_not_with_what_came_before() -> None:
    """Bytes that go down before the request is whole are no answer to it."""
    fault = Cut(answer_to=b"COMMIT")
    plan = planned(fault)
    plan.start()

    assert plan.feed(UP, b"COM").steps == (Pass(b"COM"),)
    assert plan.feed(DOWN, b"notice").steps == (Pass(b"notice"),)
    assert plan.feed(UP, b"MIT").steps == (Pass(b"MIT"),)
    assert plan.feed(DOWN, b"").steps == ()
    assert plan.feed(DOWN, b"done").steps == (Struck(fault, DOWN, 6),)


def test_a_request_that_did_not_pass_has_no_answer() -> None:
    """Two faults on one request: the server never had it, so the second has no place."""
    lost, answer = Silence(at=b"COMMIT", direction=UP), Cut(answer_to=b"COMMIT")
    plan = planned(lost, answer)
    plan.start()

    assert plan.feed(UP, b"COMMIT").held == b"T"
    assert plan.feed(DOWN, b"notice").steps == (Pass(b"notice"),)


def test_silence_gives_back_what_must_wait() -> None:
    """Nothing of it is lost, so it can arrive once the fault is cleared."""
    plan = planned(Silence(after_bytes=2, direction=DOWN))
    plan.start()

    fed = plan.feed(DOWN, b"abcdef")

    assert fed.steps == (Pass(b"ab"), Struck(Silence(after_bytes=2, direction=DOWN), DOWN, 2))
    assert fed.held == b"cdef"
    assert plan.silent(DOWN)
    assert not plan.silent(UP)
    assert plan.feed(DOWN, b"more").held == b"more"


def test_a_silence_of_both_directions_begins_in_both_at_once() -> None:
    """A pattern that is seen going up makes the way down silent too."""
    plan = planned(Silence(at=b"x"))
    plan.start()

    plan.feed(UP, b"x")

    assert plan.silent(UP)
    assert plan.silent(DOWN)


def test_a_half_close_drops_what_follows_in_its_direction_only() -> None:
    """The other direction goes on."""
    plan = planned(HalfClose(after_bytes=1))
    plan.start()

    assert plan.feed(DOWN, b"abc").steps == (Pass(b"a"), Struck(HalfClose(after_bytes=1), DOWN, 1))
    assert plan.feed(DOWN, b"def").steps == ()
    assert plan.feed(UP, b"abc").steps == (Pass(b"abc"),)


def test_delays_add_up_and_the_smallest_bandwidth_holds() -> None:
    """Two slow hops are slower than one; the narrowest of them says how fast."""
    plan = planned(Delay(1), Delay(2, direction=UP), Bandwidth(10), Bandwidth(5), Bandwidth(7))
    plan.start()

    assert plan.feed(UP, b"a").steps == (Pass(b"a", 3.0, 5),)
    assert plan.feed(DOWN, b"a").steps == (Pass(b"a", 1.0, 5),)


def test_faults_begin_in_the_order_of_their_places() -> None:
    """Not in the order in which they are given."""
    plan = planned(Cut(after_bytes=3, direction=UP), Delay(1, after_bytes=1, direction=UP))
    plan.start()

    passed_on = [step for step in plan.feed(UP, b"abcd").steps if isinstance(step, Pass)]

    assert passed_on == [Pass(b"a"), Pass(b"bc", 1.0)]


def test_faults_on_the_same_place_begin_in_the_order_in_which_they_are_given() -> None:
    """And what comes behind an end does not begin."""
    plan = planned(Delay(1, after_bytes=1), Cut(after_bytes=1), Delay(2, after_bytes=1))
    plan.start()

    steps = plan.feed(UP, b"ab").steps

    begun = [step.fault for step in steps if isinstance(step, Struck)]
    assert begun == [Delay(1, after_bytes=1), Cut(after_bytes=1)]


def test_the_nth_connection_counts_from_when_the_faults_were_applied() -> None:
    """An older connection has no number, so it is never the nth."""
    charges = [Charge(Cut(nth=2))]

    harmed = [
        Plan(charges, seed=0, connection=7, ordinal=ordinal).start() for ordinal in (None, 1, 2, 3)
    ]

    assert [bool(begun) for begun in harmed] == [False, False, True, False]


def test_times_bounds_how_many_connections_are_harmed() -> None:
    """The count is shared, and one connection uses it up once, in both directions."""
    charges = [Charge(Delay(1, times=2))]
    plans = [Plan(charges, seed=0, connection=n, ordinal=n) for n in (1, 2, 3)]

    late = [[step.delay_seconds for step in passed(plan)] for plan in plans]

    assert late == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


def test_a_fault_that_ran_out_before_its_place_does_not_begin() -> None:
    """Two connections stand before the same pattern; only the first that says it is harmed."""
    charges = [Charge(Cut(at=b"x", times=1))]
    first, second = (Plan(charges, seed=0, connection=n, ordinal=n) for n in (1, 2))

    assert second.feed(UP, b"x").steps == (Struck(charges[0].fault, UP, 0),)
    assert first.feed(UP, b"xx").steps == (Pass(b"xx"),)


def test_chance_is_drawn_from_the_seed_and_the_number_of_the_connection() -> None:
    """The same seed harms the same connections, another one others, and the share is right."""
    fault = Cut(chance=0.25)

    runs = [
        [bool(planned(fault, seed=s, connection=n).start()) for n in range(1000)] for s in (1, 1, 2)
    ]

    assert runs[0] == runs[1] != runs[2]
    assert 200 < sum(runs[0]) < 300


def test_two_faults_draw_for_themselves() -> None:
    """Otherwise two rare faults would always come together."""
    coin = Delay(1, chance=0.5, direction=UP)

    counts = [len(planned(coin, coin, connection=n).start()) for n in range(200)]

    assert set(counts) == {0, 1, 2}


def test_jitter_is_drawn_once_for_a_connection() -> None:
    """It lies in its bounds, and every byte of one connection is late by the same."""
    fault = Delay(1, jitter_seconds=2)
    plans = [planned(fault, connection=n) for n in range(50)]

    late = [{step.delay_seconds for step in [*passed(plan), *passed(plan)]} for plan in plans]

    assert all(len(each) == 1 for each in late)
    assert all(1 <= min(each) < 3 for each in late)
    assert len({min(each) for each in late}) == 50


def planned(*given_faults: Placed, seed: int = 0, connection: int = 1) -> Plan:
    charges = [Charge(fault, index) for index, fault in enumerate(given_faults)]
    return Plan(charges, seed=seed, connection=connection, ordinal=connection)


def passed(plan: Plan) -> list[Pass]:
    steps = [*plan.start(), *plan.feed(UP, b"a").steps, *plan.feed(DOWN, b"a").steps]
    return [step for step in steps if isinstance(step, Pass)]


def fed_whole(plan: Plan, way: Direction, stream: bytes) -> list[bytes]:
    return [step.data for step in plan.feed(way, stream).steps if isinstance(step, Pass)]


def fed_singly(plan: Plan, way: Direction, stream: bytes) -> list[bytes]:
    return [data for byte in stream for data in fed_whole(plan, way, bytes([byte]))]


def told(
    given_faults: Sequence[Placed],
    conversation: Sequence[tuple[Direction, bytes]],
    cuts: Sequence[Sequence[int]],
    seed: int,
) -> list[object]:
    """Feed a conversation in pieces and return all that was decided, the pieces put together."""
    plan = planned(*given_faults, seed=seed)
    decided: list[object] = [*plan.start()]
    waiting = {UP: b"", DOWN: b""}
    for (way, said), places_cut in zip(conversation, cuts, strict=True):
        for start, end in zip([0, *places_cut], [*places_cut, len(said)], strict=True):
            fed = plan.feed(way, said[start:end])
            waiting[way] += fed.held
            for step in fed.steps:
                last = decided[-1] if decided else None
                if isinstance(step, Pass) and isinstance(last, Pass) and alike(step, last):
                    decided[-1] = replace(last, data=last.data + step.data)
                else:
                    decided.append(step)
        decided.append("turn")
    return [*decided, waiting]


def alike(one: Pass, other: Pass) -> bool:
    return replace(one, data=b"") == replace(other, data=b"")
