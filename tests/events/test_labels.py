"""The domains of labels: what may become a series is known before the first request."""

from enum import StrEnum

import pytest

from shipworthy.events import OTHER, Declared, FirstNames, OneOf, Routes


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_one_of_holds_what_it_names_and_nothing_else() -> None:
    """The members of an enum are the texts they stand for."""
    domain = OneOf(*Colour, "green")

    assert domain.values == ("red", "blue", "green")
    assert {type(value) for value in domain.values} == {str}
    assert domain == OneOf("red", "blue", "green")
    assert (domain.most, domain.holds("red"), domain.holds("pink")) == (3, True, False)


@pytest.mark.parametrize("values", [(), ("a", "a"), ("a", OTHER)])
def test_one_of_without_distinct_values_is_refused(values: tuple[str, ...]) -> None:
    """None, the same twice, or the one that stands for all others."""
    with pytest.raises(ValueError, match="distinct values, without '_other'"):
        OneOf(*values)


@pytest.mark.parametrize("kind", [Declared, Routes])
def test_names_are_bounded_in_number_and_never_empty(kind: type[Declared | Routes]) -> None:
    """Any name may be one, and there is an end to them."""
    assert kind(3).most == 3
    assert (kind().holds("orders"), kind().holds("")) == (True, False)
    for most in (0, 1001):
        with pytest.raises(ValueError, match=f"between 1 and 1,000 values, this one {most}"):
            kind(most)


def test_the_first_names_keep_theirs_and_all_others_are_one() -> None:
    """Whoever makes names up at run time makes no ever new series, and no memory grows."""
    names = FirstNames(2)

    assert [names.of(name) for name in ("a", "b", "c", "a", "d", "b")] == [
        "a", "b", OTHER, "a", OTHER, "b",
    ]  # fmt: skip
