"""The rules for MariaDB, each with what it speaks against and what it lets pass."""

import pytest

from db.migrate.samples import MARIADB, ids, speaks_only_against_the_bad


@pytest.mark.parametrize("rule", MARIADB)
def test_a_rule_speaks_against_its_bad_sample_and_not_against_the_good_one(rule):
    """Each was seen to find something, and to pass what it tells people to write instead."""
    assert speaks_only_against_the_bad("mariadb", rule, MARIADB[rule])


def test_every_rule_has_a_sample():
    """A rule that nobody has seen at work is none; and there are as many as people need."""
    assert ids("mariadb") == sorted(MARIADB)
    assert len(MARIADB) >= 10
