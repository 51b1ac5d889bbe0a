"""How many at once: by what requests take now, and what they took before."""

from math import inf

import pytest
from hypothesis import given, strategies as st

from shipworthy.admission import ConcurrencyLimit
from shipworthy.admission.concurrency import ROUTES


def learned(floor=4, **seconds):
    """A limit that knows what these routes take by themselves."""
    limit = ConcurrencyLimit(floor=floor)
    for route, own in seconds.items():
        for _ in range(10):
            limit.ended(route, own)
    limit.learn(10.0, late=False)
    return limit


def look(limit, now, inside, *, late=False, **seconds):
    """A tenth of a second in which ten requests of each route took so long."""
    for route, took in seconds.items():
        for _ in range(10):
            limit.ended(route, took)
    limit.adjust(now, inside, late=late)


def test_there_is_no_limit_while_nothing_is_overloaded():
    """However many are inside, and however long they take."""
    limit = learned(fast=0.1)
    for second in range(10):
        for _ in range(500):
            limit.ended("fast", 30.0)
        limit.learn(11.0 + second, late=False)
    assert limit.limit == inf


def test_what_a_route_takes_is_learned_slowly_and_not_from_what_is_late():
    """Fifty requests count for a half; what came late for nothing."""
    limit = learned(fast=0.1)
    assert limit.own_seconds("fast") == pytest.approx(0.1)
    for _ in range(50):
        limit.ended("fast", 0.3)
    limit.learn(10.5, late=False)
    assert limit.own_seconds("fast") == pytest.approx(0.1)
    limit.learn(11.0, late=True)
    limit.learn(11.0, late=False)
    assert limit.own_seconds("fast") == pytest.approx(0.2)
    limit.learn(12.5, late=False)
    assert limit.own_seconds("other") == 0.0


def test_it_begins_with_what_is_inside():
    """Which is what was served so far."""
    limit = learned(fast=0.1)
    look(limit, 10.5, 40, fast=0.1)
    limit.begin(11.0, 40)
    assert limit.limit == 40
    limit.end(12.0)
    assert limit.limit == inf


def test_where_that_takes_longer_already_it_begins_with_what_they_need():
    """A crowd inside is more than can be served: 100 a second of 50 ms are 5 at once."""
    limit = learned(fast=0.05)
    for _ in range(100):
        limit.ended("fast", 1.0)
    limit.begin(11.0, 300)
    assert limit.limit == pytest.approx(2 * 100 * 0.05)


def test_it_never_falls_below_the_floor():
    """Whatever was measured."""
    limit = learned(floor=7, fast=0.001)
    limit.begin(11.0, 0)
    for number in range(50):
        look(limit, 11.125 + number / 8, 7, late=True, fast=5.0)
    assert limit.limit == 7


def test_it_falls_while_requests_take_longer_and_rises_again_when_they_do_not():
    """By a tenth at a look, at the most."""
    limit = learned(fast=0.01)
    limit.begin(11.0, 100)
    look(limit, 11.125, 100, fast=1.0)
    assert limit.limit == pytest.approx(100 - 0.2 * (100 * 0.5 - 10))
    for number in range(40):
        look(limit, 11.25 + number / 8, 30, fast=1.0)
    low = limit.limit
    assert low < 10
    for number in range(40):
        look(limit, 20 + number / 8, int(limit.limit), fast=0.012)
    assert limit.limit > 2 * low


def test_a_limit_that_nobody_meets_does_not_rise():
    """Nothing was learned that would allow it; and none rises far above what was ever inside."""
    limit = learned(fast=0.01)
    limit.begin(11.0, 20)
    look(limit, 11.125, 5, fast=0.01)
    assert limit.limit == 20
    for number in range(200):
        look(limit, 11.25 + number / 8, 12, fast=0.01)
    assert 20 < limit.limit <= 100


def test_a_loop_that_comes_late_lowers_it_at_once():
    """To what is inside, and then by a tenth at each look: threads that compute keep the loop."""
    limit = learned(fast=0.01)
    limit.begin(11.0, 40)
    look(limit, 11.125, 10, late=True, fast=0.01)
    assert limit.limit == pytest.approx(9)
    look(limit, 11.25, 10, late=True, fast=0.01)
    assert limit.limit == pytest.approx(8.1)


def test_an_overload_with_another_cause_does_not_starve_those_who_only_wait():
    """400 a second that wait for a second are 400 at once: never less than twice that many."""
    limit = learned(rest=1.0)
    limit.begin(11.0, 400)
    for number in range(100):
        for _ in range(50):
            limit.ended("rest", 1.7)
        limit.adjust(11.125 + number / 8, 400, late=True)
    assert limit.limit >= 799


def test_a_look_needs_ten_requests_or_a_second():
    """Of three nobody can say that they are slow."""
    limit = learned(fast=0.01)
    limit.begin(11.0, 40)
    for _ in range(3):
        limit.ended("fast", 1.0)
    limit.adjust(11.05, 40, late=False)
    limit.adjust(11.5, 40, late=False)
    assert limit.limit == 40
    limit.adjust(12.0, 40, late=False)
    assert limit.limit < 40
    held = limit.limit
    limit.adjust(13.5, 40, late=False)
    assert limit.limit == held


def test_in_an_overload_only_a_shorter_time_is_believed():
    """What takes long in it says nothing of the route; a route nobody knew is as it is seen."""
    limit = learned(fast=0.1)
    limit.begin(11.0, 40)
    look(limit, 11.125, 40, fast=1.0, new=0.5)
    assert limit.own_seconds("fast") == pytest.approx(0.1)
    assert limit.own_seconds("new") == pytest.approx(0.5)
    look(limit, 11.25, 40, fast=0.04)
    assert 0.04 < limit.own_seconds("fast") < 0.1


def test_a_route_that_takes_no_time_divides_nothing():
    """A clock may stand still between two readings."""
    limit = learned(none=0.0)
    limit.begin(11.0, 40)
    look(limit, 11.125, 40, none=0.0)
    assert limit.limit > 40


def test_no_more_routes_are_remembered_than_an_application_has():
    """Their number is bounded by us as well."""
    limit = ConcurrencyLimit(floor=1)
    for number in range(ROUTES + 10):
        limit.ended(f"/{number}", 1.0)
    limit.learn(10.0, late=False)
    assert limit.own_seconds(f"/{ROUTES - 1}") == 1.0
    assert limit.own_seconds(f"/{ROUTES}") == 0.0


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.floats(0.05, 2.0), st.integers(0, 2000), st.booleans(), st.floats(0.0, 60.0),
            st.integers(0, 40),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_it_stays_between_the_floor_and_what_was_ever_needed(looks):
    """Whatever is measured, however long it lasts."""
    limit = learned(floor=4, fast=0.02)
    now, most = 11.0, 40
    limit.begin(now, 40)
    needed = 0.0
    for gap, inside, late, took, count in looks:
        now += gap
        most = max(most, inside)
        for _ in range(count):
            limit.ended("fast", took)
        needed = max(needed, 60.0 * 40 * len(looks) / 0.05)
        limit.adjust(now, inside, late=late)
        assert 4 <= limit.limit <= max(5 * most, 2 * needed)
