"""A flood of lines is thinned out, and what is left says how many there were."""

from hypothesis import given, strategies as st

from shipworthy.telemetry.cells import Cell
from shipworthy.telemetry.line_sampling import Sampler


def test_up_to_so_many_in_a_second_each_stands_for_itself() -> None:
    """The next second begins anew, whenever it is that something comes."""
    left_out = Cell()
    sampler = Sampler(full_per_second=3, one_in=4, left_out=left_out)
    assert [sampler.weight(100.0 + index / 100) for index in range(11)] == [
        1, 1, 1, 0, 0, 0, 4, 0, 0, 0, 4
    ]  # fmt: skip
    assert left_out.numbers() == [6.0]
    assert [sampler.weight(101.0) for _ in range(3)] == [1, 1, 1]
    assert left_out.numbers() == [6.0]


@given(
    full=st.integers(0, 50),
    one_in=st.integers(1, 20),
    waits=st.lists(st.floats(0, 2), max_size=300),
)
def test_what_is_written_stands_for_all_but_a_rest(full: int, one_in: int, waits: list[float]):
    """In each second less than `one_in` are missing from the sum, and each left out is counted."""
    left_out = Cell()
    sampler = Sampler(full_per_second=full, one_in=one_in, left_out=left_out)
    at, seconds, weights = 1000.0, set[int](), []
    for wait in waits:
        at += wait
        seconds.add(int(at))
        weights.append(sampler.weight(at))
    assert len(weights) - len(seconds) * (one_in - 1) <= sum(weights) <= len(weights)
    assert left_out.numbers() == [float(weights.count(0))]
