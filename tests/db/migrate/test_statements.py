"""Reading SQL just far enough."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.db.migrate.statements import name_of, read_statements


def normals(sql):
    return [one.normal for one in read_statements(sql)]


def test_statements_end_at_semicolons_outside_of_text_and_comments():
    """Dollar quotes, doubled quotes, escapes, identifiers and comments may hold any."""
    sql = """
    SELECT ';', E'\\';', 'it''s;' , $$;$$, $f$ ; $f$, ";", `;` -- ;
    /* ; */ ; # ;
    SELECT 2;
    """
    # A hash begins a comment at the start of a line only: elsewhere it is an operator.
    assert len(read_statements(sql.replace("; # ;", ";\n# ;"))) == 2


def test_words_are_in_capitals_and_literals_empty():
    """What a rule looks at has one spelling, and no data of users."""
    assert normals("update  Sales.\"Order Items\"\n set a='secret', b = 1.5") == [
        "UPDATE SALES.\"ORDER_ITEMS\" SET A = '' , B = 1.5"
    ]


def test_begin_and_commit_say_what_is_between_them():
    """They are no statements themselves; a rollback to a savepoint ends nothing."""
    found = read_statements("A; BEGIN; B; ROLLBACK TO s; COMMIT; C; START TRANSACTION; D; END; E")

    assert [(one.normal, one.in_transaction) for one in found] == [
        ("A", False),
        ("B", True),
        ("ROLLBACK TO S", True),
        ("C", False),
        ("D", True),
        ("E", False),
    ]


def test_a_statement_knows_its_line():
    """Comments before it do not count."""
    one, two = read_statements("-- first\n\nSELECT 1;\n/* a\n b */ SELECT\n 2", revision="r")

    assert (one.line, two.line) == (3, 5)
    assert two.text == "SELECT\n 2"


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("ALTER TABLE IF EXISTS ONLY s.t ADD a int", ("s.t",)),
        ('ALTER TABLE "My T" ADD FOREIGN KEY (a) REFERENCES u (id)', ("my_t", "u")),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY t USING btree (a)", ("t",)),
        ("DROP INDEX i", ("i",)),
        ("DROP INDEX i ON t", ("t",)),
        ("CREATE TEMPORARY TABLE IF NOT EXISTS t (a int)", ("t",)),
        ("CREATE TABLE t(a int REFERENCES u)", ("t", "u")),
        ("INSERT INTO a (x) SELECT b.x FROM b", ("b",)),
        ("INSERT INTO a VALUES (1)", ("a",)),
        ("DELETE FROM ONLY t", ("t",)),
        ("VACUUM (FULL, ANALYZE) t", ("t",)),
        ("VACUUM", ()),
        ("LOCK TABLES t WRITE", ("t",)),
        ("REINDEX INDEX CONCURRENTLY i", ("i",)),
        ("CREATE OR REPLACE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f()", ("t",)),
        ("COMMENT ON TABLE t IS 'x'", ()),
    ],
)
def test_the_tables_of_a_statement_are_found(sql, tables):
    """The table that is changed comes first."""
    (one,) = read_statements(sql)

    assert one.tables == tables


def test_an_alter_table_is_split_into_its_actions():
    """Commas in brackets split nothing."""
    (one,) = read_statements("ALTER TABLE t ADD a numeric(10, 2) DEFAULT 0, DROP b")

    assert [clause.text for clause in one.clauses] == [
        "ALTER TABLE ADD A NUMERIC ( 10 , 2 ) DEFAULT 0",
        "ALTER TABLE DROP B",
    ]


def test_a_name_is_in_small_letters_without_quotes():
    """As the catalog has it, once its own names are made so."""
    assert name_of('S."T"') == "s.t"


@given(st.text(alphabet="abc'\"`$;-*/#\n\\ (),.E:", max_size=60))
def test_no_text_makes_it_fail(text):
    """Whatever it does not understand it passes on, and never more than there was."""
    found = read_statements(text)

    assert all(one.normal and one.tables == one.tables for one in found)
    assert len(found) <= text.count(";") + 1
