"""What SQLite alone has: unique constraints that come off only with their table."""

import pytest
import sqlalchemy as sa

from shipworthy.errors import Misuse
from shipworthy.records import AdoptOptions, adopt


def test_a_unique_constraint_of_the_table_itself_stays(sqlite: sa.Engine):
    """It is refused with the reason, and nothing is changed."""
    with sqlite.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE)")

    with pytest.raises(Misuse, match=r"unique constraint \(code\) of t is part of its CREATE"):
        adopt(sqlite, "t", ["t.deleted_at"], AdoptOptions(free_unique=True), say=lambda _: None)

    assert len(sa.inspect(sqlite).get_columns("t")) == 2
