"""Who starts before whom, and who gets how much of the time that is left."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from shipworthy.errors import ComponentFailed
from shipworthy.lifecycle import Component
from shipworthy.lifecycle.components import levels, share


def named(sorted_levels: list[tuple[Component, ...]]) -> list[list[str]]:
    return [[component.name for component in level] for level in sorted_levels]


def test_components_without_requirements_are_one_level_in_the_order_they_were_added() -> None:
    """What depends on nothing starts together."""
    assert named(levels([Component("b"), Component("a")])) == [["b", "a"]]


def test_a_component_comes_after_all_it_requires() -> None:
    """A level holds what needs only the levels before it."""
    components = [
        Component("app", requires=("db", "cache")),
        Component("migrations", requires=("db",)),
        Component("db"),
        Component("cache", requires=("settings",)),
        Component("settings"),
    ]

    assert named(levels(components)) == [["db", "settings"], ["migrations", "cache"], ["app"]]


def test_nothing_to_start_is_no_level() -> None:
    """No components is fine."""
    assert levels([]) == []


def test_an_unknown_requirement_is_named_with_what_there_is() -> None:
    """The message names the component, the missing one and the known ones."""
    with pytest.raises(ComponentFailed) as failed:
        levels([Component("app", requires=("bd",)), Component("db")])

    assert str(failed.value) == (
        "component 'app' did not start: it requires 'bd', and no component has that name; "
        "there are app, db"
    )


@pytest.mark.parametrize(
    ("components", "circle"),
    [
        pytest.param([Component("a", requires=("a",))], "a -> a", id="itself"),
        pytest.param(
            [
                Component("outside", requires=("b",)),
                Component("a", requires=("free", "c")),
                Component("b", requires=("a",)),
                Component("c", requires=("b",)),
                Component("free"),
            ],
            "b -> a -> c -> b",
            id="by a detour, seen from outside of it",
        ),
    ],
)
def test_a_circle_is_shown_all_the_way_round(components: list[Component], circle: str) -> None:
    """The message holds exactly those that require one another, in order."""
    with pytest.raises(ComponentFailed) as failed:
        levels(components)

    assert failed.value.because == f"it requires itself: {circle}"


@st.composite
def graphs(draw: st.DrawFn) -> list[Component]:
    """Components that require any of each other, circles included."""
    names = [f"c{number}" for number in range(draw(st.integers(0, 7)))]
    return [
        Component(name, requires=tuple(draw(st.lists(st.sampled_from(names), max_size=2))))
        for name in names
    ]


@pytest.mark.slow
@given(graphs())
def test_every_order_is_right_or_the_circle_is_real(components: list[Component]) -> None:
    """Each component appears once, after all it requires; or the circle that is named exists."""
    requires = {component.name: component.requires for component in components}

    try:
        sorted_levels, circle = named(levels(components)), []
    except ComponentFailed as failed:
        sorted_levels = []
        circle = failed.because.removeprefix("it requires itself: ").split(" -> ")

    if circle:
        assert circle[0] == circle[-1]
        assert len(circle) > 1
        assert all(after in requires[before] for before, after in pairwise(circle))
    else:
        place = {name: at for at, level in enumerate(sorted_levels) for name in level}
        assert sorted(name for level in sorted_levels for name in level) == sorted(requires)
        assert all(place[other] < place[name] for name in requires for other in requires[name])


@pytest.mark.parametrize(
    ("wanted", "left", "later", "got"),
    [
        pytest.param(5.0, 30.0, [5.0, 5.0], 5.0, id="there is plenty: what it wants"),
        pytest.param(20.0, 30.0, [5.0], 20.0, id="more than its equal part, if others leave it"),
        pytest.param(5.0, 6.0, [5.0, 5.0], 2.0, id="too little for all: equal parts"),
        pytest.param(5.0, 5.0, [], 5.0, id="the last one: all that is left"),
        pytest.param(5.0, 3.0, [], 3.0, id="the last one: no more than is left"),
        pytest.param(5.0, 6.0, [0.0, 0.0], 5.0, id="those that want nothing take nothing"),
        pytest.param(5.0, -1.0, [5.0], 0.0, id="nothing is left"),
    ],
)
def test_a_share_of_the_time_left(
    wanted: float, left: float, later: list[float], got: float
) -> None:
    """All that later steps do not want, and always the equal part."""
    assert share(wanted, left_seconds=left, later_seconds=later) == got


@given(
    st.lists(st.tuples(st.floats(0.0, 60.0), st.booleans()), min_size=1, max_size=8),
    st.floats(0.0, 60.0),
)
def test_shares_never_exceed_the_time_and_starve_nobody(
    steps: list[tuple[float, bool]], total: float
) -> None:
    """Whoever hangs for all of their share, the sum stays in time and each gets a fair minimum."""
    left = total
    for place, (wanted, hangs) in enumerate(steps):
        later = [seconds for seconds, _ in steps[place + 1 :]]
        seconds = share(wanted, left_seconds=left, later_seconds=later)

        assert seconds >= min(wanted, total / len(steps)) - 1e-9
        left -= seconds if hangs else 0.0
        assert left >= -1e-9
