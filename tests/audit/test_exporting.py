"""Entries handed out as lines, and that they were."""

import io
import json

import pytest
import sqlalchemy as sa

from audit.past_database import installed, run, sqlite_engine
from shipworthy.audit import ExportFilter, TrailMissing, export
from shipworthy.audit.tables import ENTRIES


def test_entries_come_oldest_first_within_what_was_asked(tmp_path):
    """By table and time; what is written meanwhile, and the export's own entry, are not in it."""
    people = "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT)"
    with sqlite_engine(
        tmp_path / "e.db", people, "CREATE TABLE t (id INTEGER PRIMARY KEY)"
    ) as engine:
        installed(engine, personal=("people.email = id",))
        run(engine, "INSERT INTO people VALUES (1, 'a@x')", "INSERT INTO t VALUES (1)")

        def exported(**wanted):
            file = io.StringIO()
            count = export(engine, ExportFilter(**wanted), file, by="ana")
            lines = [json.loads(line) for line in file.getvalue().splitlines()]
            assert len(lines) == count
            return lines

        assert [line["table"] for line in exported()] == ["people", "t"]
        [line] = exported(table="people", personal=True)
        assert line["new"] == {"id": 1, "email": "a@x"}
        assert exported(until_microseconds=1) == []
        assert exported(since_microseconds=2**52) == []
        with pytest.raises(TrailMissing):
            exported(table="nothing")
        with engine.connect() as connection:
            deeds = connection.scalars(sa.select(ENTRIES.c.new).where(ENTRIES.c.op == "A")).all()
        assert [json.loads(deed)["table"] for deed in deeds] == ["", "people", "", ""]
