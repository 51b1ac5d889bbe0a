"""Rows of MariaDB that are put back: what is refused."""

import pytest
import sqlalchemy as sa

from audit.dialects.mariadb_trail import catalog_of, script
from shipworthy.audit.dialects.mariadb_rows import insert_rows, select_rows, update_row


def test_what_is_not_a_whole_row_is_refused(mariadb_url: str) -> None:
    """A personal value without its text, a key of another length, a column that is not there."""
    engine = sa.create_engine(mariadb_url)
    script(engine, "CREATE TABLE t (id int primary key, v int)")
    (table,) = catalog_of(engine).tables.values()
    with engine.connect() as connection:
        with pytest.raises(TypeError, match="personal and lies beside the log"):
            insert_rows(connection, table, ["id", "v"], [{"id": "1", "v": True}])
        with pytest.raises(ValueError, match="2 cells were given"):
            update_row(connection, table, ["1", "2"], {"v": "1"})
        with pytest.raises(ValueError, match="no column 'w'"):
            select_rows(connection, table, ["w"], [["1"]])
        assert update_row(connection, table, ["1"], {"v": "1"}) == 0
    engine.dispose()
