"""What errors of databases repeat, and what of it stays."""

import time

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from shipworthy.redact import redact, without_values

BACKGROUND = "(Background on this error at: https://sqlalche.me/e/20/gkpj)"


def test_an_error_of_sqlalchemy_keeps_its_story_and_loses_its_values():
    """The real text of a real error: statement, reason and link stay."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE clients (id INTEGER PRIMARY KEY, note TEXT)"))
        with pytest.raises(sa.exc.IntegrityError) as caught:
            for _ in range(2):
                connection.execute(
                    sa.text("INSERT INTO clients VALUES (:id, :note)"),
                    {"id": 7, "note": "hunter2]\n[hunter3"},
                )
    engine.dispose()

    shown = redact(str(caught.value))

    assert "hunter" not in shown
    assert "UNIQUE constraint failed: clients.id" in shown
    assert "[SQL: INSERT INTO clients VALUES (?, ?)]\n[parameters: ***]\n(Background on" in shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (
            f"a\n[SQL: SELECT 'x', '', 7\nFROM b WHERE c = 'it''s']\n{BACKGROUND}\nd 'e'",
            f"a\n[SQL: SELECT '***', '', 7\nFROM b WHERE c = '***']\n{BACKGROUND}\nd 'e'",
        ),
        ("[SQL: SELECT 'cut of", "[SQL: SELECT '***'"),
        ("[SQL: SELECT 1]\n[parameters: [(1,), (2,)]]\nx", "[SQL: SELECT 1]\n[parameters: ***]\nx"),
        ("[parameters: (1,\nx", "[parameters: ***\nx"),
        (
            f"[parameters: (1,)]\n'a'\n[parameters: (2,)]\n{BACKGROUND}" + "x" * 17000,
            "[parameters: ***]\n" + BACKGROUND + "x" * 17000,
        ),
        ("LINE 1: SELECT 'x' FROM b\n  ^", "LINE 1: SELECT '***' FROM b\n  ^"),
        (
            "CONTEXT:  unnamed portal parameter $1 = 'x''y'",
            "CONTEXT:  unnamed portal parameter $1 = ***",
        ),
        (
            "Incorrect integer value: 'x' for column `a`",
            "Incorrect integer value: *** for column `a`",
        ),
        (
            "in your SQL syntax; check near 'x' at line 1",
            "in your SQL syntax; check near *** at line 1",
        ),
        ("Key (token)=(a) b) already exists.", "Key (token)=(***) already exists."),
        ("Key (token)=(a", "Key (token)=(***"),
        ("Key (id)=(7) is not present in table", "Key (id)=(7) is not present in table"),
        ("Duplicate entry 'a-7' for key 'name'", "Duplicate entry 'a-7' for key 'name'"),
        (
            f"[SQL: a '1']\n{BACKGROUND}\nx\n[SQL: b '2']\n{BACKGROUND}",
            f"[SQL: a '***']\n{BACKGROUND}\nx\n[SQL: b '***']\n{BACKGROUND}",
        ),
        ("Duplicate entry 'a", "Duplicate entry 'a"),
        ("Duplicate entry 'a' for key 'u.token'\")", "Duplicate entry '***' for key 'u.token'\")"),
    ],
)
def test_values_go_and_structure_stays(text, safe):
    """Cut, over several lines, twice in a text, in each database's own words."""
    assert redact(text) == safe


def test_parameters_that_close_too_far_away_end_with_their_line():
    """What stands between two errors is not hidden with them."""
    between = "\n".join(f"row {number}" for number in range(4000))
    text = f"[parameters: (1,)]\n{between}\n[parameters: (2,)]\n{BACKGROUND}"

    assert redact(text) == f"[parameters: ***]\n{between}\n[parameters: ***]\n{BACKGROUND}"


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("SELECT * FROM t WHERE a = $1 AND b = %s AND c = :c1", None),
        ("SELECT a1, t2.b FROM t2 LIMIT 10", "SELECT a1, t2.b FROM t2 LIMIT ?"),
        ("UPDATE t SET a = 'it''s', b = 1.5e3", "UPDATE t SET a = ?, b = ?"),
        ("SELECT 'open to the end", "SELECT ?"),
        (r"SELECT 'a\', 'secret'", "SELECT ?"),
        ("SELECT $$secret$$, $x$ $$ $x$, 'b'", "SELECT ?, ?, ?"),
        ("/* secret */ SELECT 1 -- secret\nFROM t", "  SELECT ?  \nFROM t"),
        ('SELECT "Order"."id" FROM "Order" JOIN "B" ON x = "secret"',
         'SELECT "Order"."id" FROM "Order" JOIN "B" ON x = ?'),
        ("SELECT 0xDEADBEEF, x'53'", "SELECT ?, x?"),
    ],
)  # fmt: skip
def test_a_statement_keeps_its_shape_and_none_of_its_values(statement, shape):
    """Texts, numbers and comments go; names and placeholders stay."""
    assert without_values(statement) == (statement if shape is None else shape)


@given(st.text(st.characters(codec="ascii"), max_size=200))
def test_no_text_of_a_statement_stays(value):
    """Whatever is between the quotes, written as SQL has it."""
    literal = value.replace("'", "''")
    shape = without_values(f"SELECT a FROM t WHERE b = '{literal}' AND c = 'tail-secret'")

    assert "tail-secret" not in shape
    assert len(value) < 3 or value not in shape or value in "SELECT a FROM t WHERE b = ? AND c = ?"


@pytest.mark.parametrize("piece", ["'", '"', "$$", "$a$", "/*", "--", "'\\", "1", '"a".'])
def test_a_hostile_statement_takes_linear_time(piece):
    """A hundred thousand openings without an end."""
    began = time.process_time()
    without_values("SELECT " + piece * 100_000)

    assert time.process_time() - began < 2.0
