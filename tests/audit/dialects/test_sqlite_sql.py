"""SQLite: what only the text of CREATE tells is read from it."""

import pytest

from shipworthy.audit.dialects.sqlite_sql import (
    ReferenceClause,
    index_predicate,
    reference_clauses,
)


def clause(name="", *, deferrable=False, deferred=False):
    return ReferenceClause(name=name, deferrable=deferrable, initially_deferred=deferred)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("a INTEGER REFERENCES p", clause()),
        ("a REFERENCES p DEFERRABLE", clause(deferrable=True)),
        ("a REFERENCES p DEFERRABLE INITIALLY DEFERRED", clause(deferrable=True, deferred=True)),
        ("a REFERENCES p deferrable initially immediate", clause(deferrable=True)),
        ("a REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED", clause()),
        ("a REFERENCES p(x) ON DELETE SET NULL NOT DEFERRABLE", clause()),
        ("a CONSTRAINT fk REFERENCES p", clause("fk")),
        ('a CONSTRAINT "f k" REFERENCES p', clause("f k")),
        ("a CONSTRAINT [f k] REFERENCES p", clause("f k")),
        ("a CONSTRAINT nn NOT NULL REFERENCES p", clause()),
        ("a CONSTRAINT nn CHECK (a > 0) CONSTRAINT fk REFERENCES p", clause("fk")),
        ("a DEFAULT 'REFERENCES x DEFERRABLE' REFERENCES p", clause()),
        ("a /* REFERENCES x */ REFERENCES p -- DEFERRABLE\n", clause()),
        ('"references" INTEGER, a REFERENCES p', clause()),
        ("a, b, CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES p (x, y)", clause("fk")),
    ],
)
def test_a_reference_is_read(column, expected):
    """Its name and whether it waits for COMMIT; comments, texts and names are not keywords."""
    assert reference_clauses(f"CREATE TABLE t ({column})") == [expected]


def test_references_are_read_in_their_order():
    """Each with what belongs to it."""
    found = reference_clauses(
        "CREATE TABLE t (a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b REFERENCES p, c, "
        "CONSTRAINT third FOREIGN KEY (c) REFERENCES q DEFERRABLE)"
    )

    assert found == [
        clause(deferrable=True, deferred=True),
        clause(),
        clause("third", deferrable=True),
    ]


@pytest.mark.parametrize(
    ("index", "predicate"),
    [
        ("CREATE UNIQUE INDEX i ON t (a)", ""),
        ("CREATE UNIQUE INDEX i ON t (a) WHERE b IS NULL", "b IS NULL"),
        ("create unique index i on t (a) where a > 1 and b = ' where '", "a > 1 and b = ' where '"),
        ('CREATE UNIQUE INDEX "where" ON t ("where") WHERE "where" > 0', '"where" > 0'),
        ("CREATE UNIQUE INDEX i ON t (CASE WHEN a THEN ' WHERE ' END)", ""),
    ],
)
def test_the_condition_of_a_partial_index_is_read(index, predicate):
    """As it was written."""
    assert index_predicate(index) == predicate
