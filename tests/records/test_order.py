"""Each row goes in after what it needs, also where rows need each other."""

from hypothesis import given, strategies as st

from shipworthy.records.order import RowLink, dependents, insert_order

LINKS = st.lists(
    st.builds(
        RowLink,
        child=st.integers(0, 8),
        parent=st.integers(0, 8),
        name=st.sampled_from("ab"),
        optional=st.booleans(),
    ),
    max_size=20,
)


@given(LINKS)
def test_every_row_goes_in_once_and_after_what_it_needs(links: list[RowLink]) -> None:
    """But for links that are set later, and circles that cannot be otherwise."""
    rows = list(range(9))

    order = insert_order(rows, links)

    assert sorted(row for wave in order.waves for row in wave) == rows
    place = {row: number for number, wave in enumerate(order.waves) for row in wave}
    early = [
        link
        for link in links
        if link.child != link.parent and place[link.child] <= place[link.parent]
    ]
    assert {id(link) for link in order.later} <= {id(link) for link in links if link.optional}
    assert all(link.optional for link in early if not order.circular)
    assert {id(link) for link in early if link.optional} <= {id(link) for link in order.later}


@given(LINKS)
def test_without_circles_nothing_is_put_off(links: list[RowLink]) -> None:
    """Links that all lead down make no circle."""
    down = [link for link in links if link.parent < link.child]
    order = insert_order(range(9), down)
    assert (order.later, order.circular) == ((), False)


def test_a_circle_that_cannot_be_cut_is_told() -> None:
    """Its rows go in all the same: the database checks at the end."""
    links = [
        RowLink(child=1, parent=2, name="a"),
        RowLink(child=2, parent=1, name="b"),
        RowLink(child=3, parent=1, name="a"),
    ]
    order = insert_order([1, 2, 3], links)
    assert (sorted(row for wave in order.waves for row in wave), order.circular) == (
        [1, 2, 3],
        True,
    )


def test_a_long_chain_is_no_recursion() -> None:
    """Ten thousand rows, each below the one before."""
    links = [RowLink(child=row, parent=row - 1, name="a") for row in range(1, 10_000)]
    assert len(insert_order(range(10_000), links).waves) == 10_000
    assert len(dependents([0], links)) == 9_999


@given(LINKS, st.sets(st.integers(0, 8)))
def test_dependents_are_all_below_and_nothing_else(links: list[RowLink], rows: set[int]) -> None:
    """Each dependent refers to one of `rows` or to a dependent, and nobody else does."""
    found = dependents(rows, links)
    lost = found | rows
    assert not found & rows
    assert {link.child for link in links if link.parent in lost} <= lost
    assert all(any(link.child == row and link.parent in lost for link in links) for row in found)
