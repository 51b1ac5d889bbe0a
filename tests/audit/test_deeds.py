"""What was done with the trail itself stands in it."""

import json

import pytest
import sqlalchemy as sa

from audit.past_database import installed, sqlite_engine
from shipworthy.audit.deeds import ACCESSED, record
from shipworthy.audit.dialects.past import past_dialect
from shipworthy.audit.tables import CONTEXTS, ENTRIES


@pytest.mark.parametrize(("by", "kind"), [("ana", "user"), ("", "unknown")])
def test_a_deed_is_an_entry_of_no_table_with_who_did_it(tmp_path, by, kind):
    """In the caller's transaction: gone where that is rolled back."""
    with sqlite_engine(tmp_path / "d.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)") as engine:
        installed(engine)
        with engine.connect() as connection:
            record(connection, past_dialect("sqlite"), ACCESSED, {"export": "csv"}, by=by)
            entry = connection.execute(sa.select(ENTRIES)).one()
            context = connection.execute(sa.select(CONTEXTS)).one()
            assert (entry.table_id, entry.op, json.loads(entry.new)) == (0, "A", {"export": "csv"})
            assert (context.tx, context.actor, context.actor_kind) == (entry.tx, by, kind)
            connection.rollback()
            assert connection.execute(sa.select(ENTRIES)).all() == []
