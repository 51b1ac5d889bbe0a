"""The triggers of a table come and go whole."""

import sqlalchemy as sa

from audit.dialects.postgresql_trail import TREE, capture_of, install, run, table_of
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT
from shipworthy.audit.model import Shape


def test_taken_away_whole(connection: sa.Connection) -> None:
    """Neither a function nor a trigger of ours remains, and all of it can be made twice."""
    catalog = install(connection, *TREE)
    for number, name in enumerate(catalog.tables, 1):
        run(connection, *capture_of(catalog, name.name, number).create)
    run(connection, *POSTGRESQL_AUDIT.base_ddl())
    for number, name in enumerate(catalog.tables, 1):
        ddl = capture_of(catalog, name.name, number)
        run(connection, *ddl.drop, *ddl.drop)
    run(connection, *POSTGRESQL_AUDIT.base_drop(), *POSTGRESQL_AUDIT.base_drop())
    left = connection.scalars(
        sa.text(
            "SELECT proname FROM pg_proc WHERE proname LIKE '%shipworthy%'"
            " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE '%shipworthy%'"
        )
    )
    assert list(left) == []
    run(connection, "INSERT INTO client VALUES (1, 'a')")


def test_what_erasure_cannot_reach_is_said(connection: sa.Connection) -> None:
    """Entries are found by their key, so a personal value in it stays."""
    catalog = install(connection, "CREATE TABLE person (mail text PRIMARY KEY, name text)")
    table = table_of(catalog, "person")
    shape = Shape(id=1, table_id=1, table=table, personal={"mail": "mail", "name": "mail"})
    said = POSTGRESQL_AUDIT.capture(shape, catalog).refused
    assert said.startswith("mail is personal and part of the primary key")
    assert POSTGRESQL_AUDIT.capture(Shape(id=1, table_id=1, table=table), catalog).refused == ""
