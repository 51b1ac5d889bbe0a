"""What a statement does, told by its first words."""

import pytest

from shipworthy.audit.dialects.writes import Does, what


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1", "select * FROM t FOR UPDATE", "  SELECT 1", "/* hint */ SELECT 1",
        "-- why\nSELECT 1", "(SELECT 1) UNION (SELECT 2)", "WITH a AS (SELECT 1) SELECT * FROM a",
        "EXPLAIN SELECT 1", "SHOW TABLES", "PRAGMA foreign_keys", "SAVEPOINT s", "RELEASE s",
        "SET @a = 1", "ANALYZE TABLE t",
        "CREATE TABLE t (id int)", "ALTER TABLE t ADD a int", "VALUES (1)",
        "DECLARE c CURSOR FOR SELECT 1", "FETCH 10 FROM c",
    ],
)  # fmt: skip
def test_what_changes_no_row_tells_the_database_nothing(statement):
    """It would be a round trip for nothing."""
    assert what(statement) is Does.NOTHING


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (1)", "  update t SET a = 1", "/* a */ -- b\n DELETE FROM t",
        "REPLACE INTO t VALUES (1)", "MERGE INTO t USING s ON a = b", "TRUNCATE t",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "CALL p()", "EXECUTE p",
        "DO $$ BEGIN END $$", "COPY t FROM STDIN", "LOAD DATA INFILE 'f' INTO TABLE t",
        "SET STATEMENT max_statement_time=9 FOR INSERT INTO t VALUES (1)",
        "ANALYZE UPDATE t SET a=1",
        "EXPLAIN ANALYZE DELETE FROM t", "", "what is this",
    ],
)  # fmt: skip
def test_what_may_change_a_row_is_a_write(statement):
    """What we do not know too: a name too many is better than one too few."""
    assert what(statement) is Does.WRITE


@pytest.mark.parametrize(
    ("statement", "does"),
    [
        ("ROLLBACK TO SAVEPOINT s", Does.UNDO),
        ("rollback work to s", Does.UNDO),
        ("ROLLBACK", Does.END),
        ("COMMIT", Does.END),
        ("BEGIN IMMEDIATE", Does.END),
        ("START TRANSACTION", Does.END),
        ("COMMIT PREPARED 'x'", Does.END),
    ],
)
def test_what_ends_something_beside_sqlalchemy_is_noticed(statement, does):
    """A transaction of its own hand gets contexts of its own."""
    assert what(statement) is does
