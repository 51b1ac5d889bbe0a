"""The page of migrations has the rules that there are, and no others."""

import re
from pathlib import Path

import pytest

from shipworthy.db.dialects.migration_rules import rules_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "migrate.md").read_text()


@pytest.mark.parametrize(
    ("title", "dialect"),
    [("PostgreSQL", "postgresql"), ("MariaDB", "mariadb"), ("SQLite", "sqlite")],
)
def test_the_page_lists_every_rule_with_its_severity(title, dialect):
    """In the order of the code."""
    part = PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0]

    listed = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", part, re.MULTILINE)

    assert listed == [(rule.id, str(rule.severity)) for rule in rules_of(dialect)]
