"""After an erasure nothing planted is found, and every proof is valid."""

import gzip
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.past_database import installed, run
from audit.sealed_people import erased
from shipworthy.audit.holds import add_hold, lift_hold
from shipworthy.audit.personal import SubjectHeld, erase, personal_info, personal_of
from shipworthy.audit.tables import ENTRIES, PERSONAL
from shipworthy.errors import Misuse


def test_an_erasure_leaves_every_proof_valid(sealed_people):
    """Sealed entries and those not sealed yet; the others' values stay; it is on record."""
    trail = sealed_people
    run(trail.engine, "UPDATE people SET email = 'planted-four' WHERE id = 1")
    done = erased(trail, "1")
    assert (done.values, done.entries) == (5, 3)
    trail.seal()
    assert trail.problems() == []
    with trail.engine.connect() as connection:
        [deed] = connection.scalars(sa.select(ENTRIES.c.new).where(ENTRIES.c.op == "X")).all()
        facts = json.loads(deed)
        assert (facts["values"], facts["reason"]) == (5, "asked")
        assert facts["subject"] == done.subject_digest
        [left] = connection.scalars(sa.select(PERSONAL.c.value).where(PERSONAL.c.value != "")).all()
        assert left == "tplanted-two"
    assert erased(trail, "1").values == 0


def test_an_erasure_without_a_person_or_a_reason_is_refused(sealed_people):
    """It could not be answered for."""
    trail = sealed_people
    with trail.engine.connect() as connection:
        with pytest.raises(Misuse, match="whose values"):
            erase(connection, "", reason="x", by="y")
        with pytest.raises(Misuse, match="with its reason"):
            erase(connection, "1", reason="", by="y")


def test_values_from_before_they_were_personal_are_told(sealed_people):
    """They stand in the log itself: nobody is told that they are gone."""
    trail = sealed_people
    installed(trail.engine, personal=("people.email = id", "people.city = id"))
    done = erased(trail, "1")
    assert any(
        "3 entries of people were written before city became personal" in it for it in done.remains
    )


def contents(engine):
    """Return everything that every table of a database has, as one text."""
    tables = sa.inspect(engine).get_table_names()
    with engine.connect() as connection:
        return "".join(
            repr(connection.execute(sa.text(f"SELECT * FROM {table}")).all()) for table in tables
        )


def check_nothing_planted_is_found(trail):
    """Some archived, some not; the application erases its own rows first."""
    trail.retain()
    run(
        trail.engine,
        "UPDATE people SET city = 'moved'",
        "UPDATE people SET email = 'planted-five' WHERE id = 1",
    )
    trail.seal()
    run(trail.engine, "DELETE FROM people")
    for subject in ("1", "2"):
        erased(trail, subject)
    trail.seal()
    assert trail.problems() == []
    assert "planted" not in contents(trail.engine)
    for path in Path(trail.folder).rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            text = gzip.decompress(raw) if path.suffix == ".gz" else raw
            assert b"planted" not in text, path.name


def test_nothing_planted_is_found_after_an_erasure_in_a_sqlite_file(sealed_people, tmp_path):
    """Not in the file either, once it was vacuumed as the erasure says."""
    trail = sealed_people
    check_nothing_planted_is_found(trail)
    with trail.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
    trail.engine.dispose()
    for path in tmp_path.glob("app.db*"):
        assert b"planted" not in path.read_bytes()


@pytest.mark.slow
def test_nothing_planted_is_found_after_an_erasure_on_a_server(people_on_a_server):
    """In no table and no archive."""
    check_nothing_planted_is_found(people_on_a_server)


def check_long_and_missing_names(trail):
    """One member has a name longer than is kept of it, the other none."""
    name = "é" * 250
    run(trail.engine, "CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT, email VARCHAR(50))")
    installed(trail.engine, personal=("people.email = id", "members.email = name"))
    run(
        trail.engine,
        f"INSERT INTO members VALUES (1, '{name}', 'planted-long')",
        "INSERT INTO members VALUES (2, NULL, 'planted-nobody')",
        "DELETE FROM members WHERE id = 1",
    )
    trail.seal()
    assert any(
        "1 personal values in the log are of nobody" in it for it in erased(trail, "nobody").remains
    )
    with trail.engine.begin() as connection:
        hold = add_hold(connection, "subject", name, reason="case 7", by="eve")
    trail.seal()
    trail.retain()
    with pytest.raises(SubjectHeld):
        erased(trail, name)
    with trail.engine.begin() as connection:
        lift_hold(connection, hold.id, reason="closed", by="eve")
    done = erased(trail, name)
    assert (done.values, done.archived_values) == (2, 2)
    assert "planted-long" not in contents(trail.engine)
    assert trail.problems() == []


def test_a_long_name_is_found_and_values_of_nobody_are_told(sealed_people):
    """Of a name 200 characters are kept; a value whose person is NULL is found by no name."""
    check_long_and_missing_names(sealed_people)


@pytest.mark.slow
def test_a_long_name_is_found_on_a_server(people_on_a_server):
    """Likewise."""
    check_long_and_missing_names(people_on_a_server)


def test_personal_columns_are_marked_in_the_model():
    """And read from an application's metadata, as the setting has them."""
    metadata = sa.MetaData()
    sa.Table(
        "people",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(50), info=personal_info("id")),
    )
    assert personal_of(metadata) == ("people.email = id",)
