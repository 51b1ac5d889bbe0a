"""The lint: what is known, what is large, what is refused."""

import pytest

from shipworthy.db.migrate.findings import accepted_in, lint, refusals, tables_of
from shipworthy.db.migrate.rule import LARGE_ROWS, MigrationSeverity
from shipworthy.db.migrate.statements import read_statements

PG_INDEX = "CREATE INDEX ix ON t (a)"


def found(sql, dialect="postgresql", *, begin=True, **options):
    statements = read_statements(sql, revision="r1", in_transaction=begin)
    return lint(statements, dialect, **options)


def rules(sql, dialect="postgresql", **options):
    return {finding.rule for finding in found(sql, dialect, **options)}


def test_a_dialect_without_rules_is_not_judged():
    """Nothing is known about it, so nothing is said."""
    assert found("CREATE INDEX ix ON t (a)", "oracle") == []


@pytest.mark.parametrize(
    ("rows", "refused"),
    [({"t": LARGE_ROWS}, True), ({"t": LARGE_ROWS - 1}, False), ({}, False), (None, True)],
)
def test_a_lock_on_a_large_table_is_refused_and_on_a_small_one_only_said(rows, refused):
    """A table whose size nobody told may be large."""
    (finding,) = found(PG_INDEX, table_rows=rows)

    assert finding.refused is refused
    assert finding.severity is MigrationSeverity.LOCKS


def test_the_larger_of_two_tables_counts():
    """A foreign key locks the table it points to as well."""
    sql = "ALTER TABLE small ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES big (id)"

    (finding,) = found(sql, table_rows={"small": 3, "big": 5_000_000})

    assert (finding.tables, finding.rows, finding.refused) == (("small", "big"), 5_000_000, True)


def test_what_the_server_would_refuse_is_refused_whatever_the_size():
    """The migration would stop there, after what came before it."""
    (finding,) = found("CREATE INDEX CONCURRENTLY ix ON t (a)", table_rows={"t": 1})

    assert finding.rule == "concurrently-in-transaction"
    assert finding.refused


def test_a_new_column_without_a_value_is_no_failure_on_an_empty_table():
    """PostgreSQL refuses it only where a row would be left without a value."""
    sql = "ALTER TABLE t ADD COLUMN a int NOT NULL"

    assert "column-not-null-without-default" not in rules(sql, table_rows={"t": 0})
    assert "column-not-null-without-default" in rules(sql, table_rows={"t": 1})


def test_what_breaks_old_code_is_said_and_not_refused():
    """Sooner or later a column must go; only people know when."""
    (finding,) = found("ALTER TABLE t DROP COLUMN a", table_rows={"t": 10**9})

    assert finding.severity is MigrationSeverity.BREAKS
    assert not finding.refused


def test_nobody_waits_for_a_table_that_the_plan_has_made():
    """Also under its new name, and in a later revision of the same plan."""
    sql = (
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a); ALTER TABLE t RENAME TO u;"
        "ALTER TABLE u ADD CONSTRAINT c CHECK (a > 0); UPDATE u SET a = 1"
    )

    assert not [finding for finding in found(sql) if finding.refused]


def test_a_column_that_a_check_has_proven_may_be_set_not_null():
    """The proof may be older than the plan, or be made in it."""
    sql = "ALTER TABLE t ALTER COLUMN a SET NOT NULL"

    assert "not-null-scans" not in rules(sql, proven={("t", "a")})
    assert "not-null-scans" in rules(sql, proven={("t", "b")})
    assert "not-null-scans" not in rules(
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL);" + sql
    )


def test_a_validated_constraint_that_is_no_such_check_proves_nothing():
    """Only a CHECK of exactly that column spares the scan."""
    assert "not-null-scans" in rules(
        "ALTER TABLE t VALIDATE CONSTRAINT other; ALTER TABLE t ALTER COLUMN a SET NOT NULL"
    )


def test_a_rule_for_old_servers_is_silent_on_new_ones():
    """And on one whose version nobody knows."""
    sql = "ALTER TABLE t ADD COLUMN a int DEFAULT 0"

    assert "default-rewrites-old-server" in rules(sql, server_version=(10, 23))
    assert "default-rewrites-old-server" not in rules(sql, server_version=(11,))
    assert "default-rewrites-old-server" not in rules(sql)


def test_a_rule_for_new_servers_is_silent_on_old_ones():
    """There is nothing better to write there."""
    assert "detach-blocks" not in rules("ALTER TABLE t DETACH PARTITION p", server_version=(13, 4))


def test_each_action_of_an_alter_table_is_judged():
    """One harmless action does not hide another."""
    sql = "ALTER TABLE t ADD COLUMN a int, ALTER COLUMN b TYPE bigint, DROP COLUMN c"

    assert rules(sql) == {"column-type-rewrites", "column-dropped"}


def test_revisions_are_judged_apart():
    """What one revision altered does not count in the next."""
    plan = [
        *read_statements("ALTER TABLE t ADD COLUMN a int", revision="r1", in_transaction=True),
        *read_statements("ALTER TABLE u ADD COLUMN a int", revision="r2", in_transaction=True),
    ]

    assert lint(plan, "postgresql") == []


def test_a_finding_says_where_what_why_and_what_to_write():
    """One line for people, with the size where it is known."""
    (finding,) = found("\n\n" + PG_INDEX, table_rows={"t": 1_234_567})

    assert str(finding).startswith(
        "r1, line 3: index-blocks-writes: CREATE INDEX without CONCURRENTLY (t, about 1,234,567 "
        "rows): every write waits"
    )
    assert "postgresql_concurrently=True" in str(finding)
    assert finding.sql == PG_INDEX


def test_a_long_statement_is_shortened():
    """The finding names it; the whole of it is in the plan."""
    (finding,) = found(f"CREATE INDEX ix ON t ({', '.join('abc' for _ in range(100))})")

    assert len(finding.sql) == 160
    assert finding.sql.endswith("...")


def test_a_finding_without_a_table_says_so_by_silence():
    """A domain has tables, but the statement does not name them: any may be large."""
    (finding,) = found("ALTER DOMAIN d SET NOT NULL", table_rows={"t": 1})

    assert "(" not in str(finding).partition(":")[2].partition(":")[0]
    assert finding.refused


def test_a_marker_accepts_rules_in_its_revision_only():
    """Everywhere, or in the file whose author has looked at it."""
    findings = found(PG_INDEX)

    assert refusals(findings, {}) == findings
    assert refusals(findings, {"": {"index-blocks-writes"}}) == []
    assert refusals(findings, {"r1": {"index-blocks-writes"}}) == []
    assert refusals(findings, {"r2": {"index-blocks-writes"}}) == findings
    assert refusals(found("ALTER TABLE t DROP COLUMN a"), {}) == []


def test_markers_are_read_from_comments():
    """Several in a line, with commas; text that only looks like one is none."""
    source = "# shipworthy: accept a-b, c\nx = 1  # shipworthy: accept d\n# accept e\n"

    assert accepted_in(source) == {"a-b", "c", "d"}


def test_the_tables_of_a_plan_are_those_that_are_there_before():
    """A table that the plan makes has nobody who uses it."""
    plan = read_statements(
        "CREATE TABLE n (id int REFERENCES t (id)); CREATE INDEX i ON n (id);"
        "ALTER TABLE u ADD COLUMN a int; SELECT 1"
    )

    assert tables_of(plan) == {"t", "u"}
