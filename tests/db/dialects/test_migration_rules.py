"""Which rules a database is held to."""

import pytest

from shipworthy.db.dialects.migration_rules import rules_of


def test_mysql_is_held_to_the_rules_of_mariadb():
    """Both names mean the same dialect here."""
    assert rules_of("mysql") is rules_of("mariadb")


def test_a_dialect_that_is_not_known_has_none():
    """Nothing is said about what nobody knows."""
    assert rules_of("oracle") == ()


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb", "sqlite"])
def test_each_rule_says_what_why_and_what_to_write(dialect):
    """In parts of one sentence, under a name of its own."""
    rules = rules_of(dialect)

    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert all((rule.what, rule.why, rule.rewrite))
        assert not any(part.endswith(".") for part in (rule.what, rule.why, rule.rewrite))
