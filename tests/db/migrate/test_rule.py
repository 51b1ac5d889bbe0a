"""What a rule looks at."""

from shipworthy.db.migrate.rule import Knowledge, MigrationRule, MigrationSeverity
from shipworthy.db.migrate.statements import read_statements

RULE = MigrationRule(
    id="a",
    severity=MigrationSeverity.LOCKS,
    what="",
    why="",
    rewrite="",
    pattern="ALTER TABLE ADD",
    unless="NOT VALID",
    since=(12,),
    before=(15,),
)


def speaks(sql, version=(12, 3), **known):
    (statement,) = read_statements(sql)
    return RULE.speaks_against(statement.clauses[0], statement, Knowledge(version=version, **known))


def test_a_rule_is_for_some_versions_and_some_statements():
    """From one version on, before another, and not where the statement says the saving word."""
    assert speaks("ALTER TABLE t ADD c")
    assert not speaks("ALTER TABLE t ADD c", (11, 9))
    assert not speaks("ALTER TABLE t ADD c", (15,))
    assert not speaks("ALTER TABLE t DROP c")
    assert not speaks("ALTER TABLE t ADD c NOT VALID")


def test_a_server_of_unknown_version_is_taken_for_the_newest():
    """What is wrong before some version is not said of it."""
    assert not speaks("ALTER TABLE t ADD c", ())


def test_a_table_that_the_plan_made_is_nobodys():
    """Unless the rule is about any table."""
    assert not speaks("ALTER TABLE t ADD c", made={"t"})


def test_the_rows_of_the_largest_table_count():
    """A table that the catalog does not have is empty; without a catalog nobody knows."""
    known = Knowledge(rows={"a": 3, "b": 5})

    assert known.rows_of(("a", "b")) == 5
    assert known.rows_of(("c",)) == 0
    assert known.rows_of(()) is None
    assert Knowledge().rows_of(("a",)) is None


def test_what_ended_is_forgotten():
    """A transaction, and a revision."""
    known = Knowledge()
    first, second, third = (
        *read_statements("BEGIN; A; COMMIT; BEGIN; B", revision="r1"),
        *read_statements("C", revision="r2"),
    )
    known.reach(first)
    known.altered.add("t")
    known.altered_in_transaction.add("t")
    known.reach(second)
    assert (known.altered, known.altered_in_transaction) == ({"t"}, set())
    known.reach(third)
    assert known.altered == set()
