"""Which databases can be looked back at."""

import pytest

from shipworthy.audit.dialects.past import past_dialect
from shipworthy.errors import Misuse


@pytest.mark.parametrize(
    ("name", "numbers_stay", "in_order"),
    [("sqlite", False, True), ("postgresql", True, False), ("mariadb", False, False)],
)
def test_each_database_with_a_trail_can_be_looked_back_at(name, numbers_stay, in_order):
    """And says what its columns' numbers and its entries' numbers mean."""
    dialect = past_dialect(name)
    assert (dialect.numbers_stay, dialect.commits_in_order) == (numbers_stay, in_order)


def test_another_database_has_no_past():
    """Nothing is guessed."""
    with pytest.raises(Misuse, match="oracle is not known here"):
        past_dialect("oracle")
