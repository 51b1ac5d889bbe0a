"""The rules for SQLite, each with what it speaks against and what it lets pass."""

import pytest

from db.migrate.samples import SQLITE, ids, speaks_only_against_the_bad


@pytest.mark.parametrize("rule", SQLITE)
def test_a_rule_speaks_against_its_bad_sample_and_not_against_the_good_one(rule):
    """Each was seen to find something, and to pass what it tells people to write instead."""
    assert speaks_only_against_the_bad("sqlite", rule, SQLITE[rule])


def test_every_rule_has_a_sample():
    """A rule that nobody has seen at work is none; and there are as many as people need."""
    assert ids("sqlite") == sorted(SQLITE)
    assert len(SQLITE) >= 5
