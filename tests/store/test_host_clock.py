"""All processes of a machine have one time, and nobody sets it."""

from shipworthy.store.host_clock import Anchor, HostClock, host_clock

SECOND = 1_000_000_000


def clock(*, boot="b1", steady=100 * SECOND, wall=1_700_000_000 * SECOND):
    return HostClock(boot=boot, steady_ns=lambda: steady, wall_ns=lambda: wall)


def test_the_first_of_a_start_goes_by_the_wall():
    anchor = clock().anchored(None)
    assert anchor.offset_ns + 100 * SECOND == 1_700_000_000 * SECOND


def test_those_after_it_go_by_the_first_whatever_the_wall_says():
    """One was started an hour later by a wall clock that was corrected: it has the same time."""
    first = clock().anchored(None)
    for wall in (1_700_003_600, 1_699_996_400):
        assert clock(wall=wall * SECOND).anchored(first) == first


def test_after_another_start_of_the_machine_time_never_lies_before_what_was_seen():
    """The battery of its clock is empty, and it is 1970: the buckets go on from where they were."""
    before = Anchor("b1", 0, 1_700_000_500 * SECOND)
    woken = clock(boot="b2", steady=5 * SECOND, wall=0).anchored(before)
    assert woken.offset_ns + 5 * SECOND == 1_700_000_500 * SECOND
    right = clock(boot="b2", steady=5 * SECOND, wall=1_700_009_000 * SECOND).anchored(before)
    assert right.offset_ns + 5 * SECOND == 1_700_009_000 * SECOND


def test_a_machine_that_does_not_name_its_start_asks_the_wall_each_time():
    """What was anchored there may have been in another start."""
    known = Anchor("", 7, 0)
    assert clock(boot="").anchored(known) != known


def test_this_machine_has_a_clock_that_goes_on():
    here = host_clock()
    assert here.steady_ns() <= here.steady_ns()
    assert here.wall_ns() > 1_700_000_000 * SECOND
