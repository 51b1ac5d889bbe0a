"""Statements that mean the same in each dialect."""

from hypothesis import given, strategies as st

from shipworthy.db.dialects.statements import number_of


@given(st.text())
def test_a_name_is_the_same_64_bit_number_everywhere(name):
    """Two processes that mean the same lock must say the same number."""
    assert -(2**63) <= number_of(name) < 2**63
    assert number_of(name) == number_of(name)


def test_the_number_of_a_name_never_changes():
    """An older worker and a newer one meet at the same lock."""
    assert number_of("shipworthy/migrate") == -7569493418136775641
