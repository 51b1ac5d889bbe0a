"""What the database says of itself."""

from shipworthy.db.dialects.migration import migration_dialect
from shipworthy.db.migrate.catalog import (
    LongTransaction,
    long_transactions,
    plain,
    proven_columns,
    shortened,
    table_rows,
)


def look(engine, tables=frozenset(), most=1000):
    with engine.connect() as connection:
        dialect = migration_dialect(engine.dialect.name)
        return table_rows(connection, dialect, tables=tables, most=most)


def test_postgresql_estimates_tables_partitions_and_indexes(postgres_url, connect, sql):
    """Before anything was analyzed from the size of their files, afterwards as its planner does."""
    sql(
        postgres_url,
        'CREATE TABLE "Big One" (id int PRIMARY KEY, a int)',
        'INSERT INTO "Big One" SELECT n, n FROM generate_series(1, 20000) n',
        "CREATE TABLE p (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100000)",
        "INSERT INTO p SELECT n FROM generate_series(1, 20000) n",
        "CREATE TABLE empty (id int)",
    )
    before = look(connect(postgres_url))
    sql(postgres_url, "ANALYZE")
    after = look(connect(postgres_url))

    assert before["big_one"] > 5000
    assert after["big_one"] == after["public.big_one"] == 20000
    assert before["p"] > 500
    assert after["p"] == 20000
    assert after["big one_pkey".replace(" ", "_")] > 5000
    assert before["empty"] == after["empty"] == 0


def test_sqlite_counts_what_is_asked_for_and_not_for_ever(sqlite_url, connect, sql):
    """It keeps no estimate; a bound is enough to know that a table is large."""
    sql(
        sqlite_url,
        "CREATE TABLE t (id INTEGER)",
        "CREATE TABLE other (id INTEGER)",
        "INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 50)"
        " SELECT n FROM s",
    )

    assert look(connect(sqlite_url), frozenset({"t"}), most=1000) == {"t": 50}
    assert look(connect(sqlite_url), frozenset({"t"}), most=10) == {"t": 10}


def test_only_a_validated_check_of_one_column_is_a_proof(postgres_url, connect, sql):
    """One that is not validated yet says nothing about old rows."""
    sql(
        postgres_url,
        "CREATE TABLE t (a int, b int, c int, d int)",
        "ALTER TABLE t ADD CONSTRAINT a CHECK (a IS NOT NULL)",
        "ALTER TABLE t ADD CONSTRAINT b CHECK (b IS NOT NULL) NOT VALID",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (c IS NOT NULL OR d > 0)",
        "ALTER TABLE t ADD CONSTRAINT d CHECK (d > 0)",
    )

    with connect(postgres_url).connect() as connection:
        assert proven_columns(connection, migration_dialect("postgresql")) == {("t", "a")}


def test_sqlite_has_nobody_in_the_way(sqlite_url, connect):
    """Whoever writes there holds the whole file, and not for long."""
    with connect(sqlite_url).connect() as connection:
        found = long_transactions(
            connection, migration_dialect("sqlite"), seconds=0.0, tables=frozenset({"t"})
        )
    assert found == []


def test_a_transaction_is_told_in_a_line():
    """With its tables where they are known."""
    known = LongTransaction(
        pid=7, user="report", age_seconds=31.4, query="SELECT 1", tables=("t", "u")
    )
    unknown = LongTransaction(pid=7, user="report", age_seconds=31.4, query="", tables=None)

    assert str(known) == (
        "process 7 of user 'report' is in a transaction for 31 s (it holds t, u), last statement: "
        "SELECT 1"
    )
    assert str(unknown).endswith("(its tables cannot be seen), last statement: unknown")


def test_a_query_is_shortened_and_holds_no_secret():
    """One line, whatever somebody wrote."""
    assert shortened("SELECT\n  1") == "SELECT 1"
    assert len(shortened("x" * 500)) == 120
    assert "hunter2" not in shortened("SET password = 'hunter2'")


def test_names_are_as_a_clause_has_them():
    """So that none is missed for its spelling."""
    assert plain("My  Table") == "my_table"
