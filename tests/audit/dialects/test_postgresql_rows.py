"""Rows go back as they were captured, many at once."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

import services
from audit.dialects.postgresql_trail import (
    TREE,
    actors,
    bytes_of,
    context,
    images,
    install,
    run,
    table_of,
)
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT


def test_rows_come_back_set_by_set(connection: sa.Connection) -> None:
    """Identity, generated columns, keys and images with strange names; NULL is never equal."""
    catalog = install(
        connection,
        'CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "a:rows %s """ text,'
        " twice int GENERATED ALWAYS AS (id * 2) STORED)",
    )
    table = table_of(catalog, "t")
    run(
        connection, 'INSERT INTO t ("a:rows %s """) SELECT \'x:\' || n FROM generate_series(1, 5) n'
    )
    before = bytes_of(connection, "t")
    run(connection, "DELETE FROM t")
    columns = [column.name for column in table.columns]
    assert POSTGRESQL_AUDIT.insert_rows(connection, table, columns, images(connection)) == 5
    assert bytes_of(connection, "t") == before

    odd = columns[1]
    assert POSTGRESQL_AUDIT.update_row(connection, table, ["2"], {odd: None, "twice": "9"}) == 1
    assert POSTGRESQL_AUDIT.update_row(connection, table, ["77"], {odd: None}) == 0
    rows = POSTGRESQL_AUDIT.select_rows(
        connection, table, [odd, "id"], [["x:1", "1"], [None, "2"], ["x:3", "1"]]
    )
    assert rows == [{"id": "1", odd: "x:1", "twice": "2"}]
    assert POSTGRESQL_AUDIT.delete_rows(connection, table, [["1"], ["5"], ["77"]]) == 2
    assert POSTGRESQL_AUDIT.insert_rows(connection, table, columns, []) == 0


def test_what_cannot_be_put_back_is_refused(connection: sa.Connection) -> None:
    """A personal value that was not filled in would become the text 'true'."""
    catalog = install(connection, *TREE)
    table = table_of(catalog, "client")
    with pytest.raises(ValueError, match="client has a personal value that was not put back"):
        POSTGRESQL_AUDIT.insert_rows(connection, table, ["id", "name"], [{"id": "1", "name": True}])
    with pytest.raises(ValueError, match="client has no column nope; it has id, name"):
        POSTGRESQL_AUDIT.insert_rows(connection, table, ["nope"], [{"nope": "1"}])


def test_settings_of_the_session_are_as_before(connection: sa.Connection) -> None:
    """What capture and restore set for a moment is put back, also what was only local."""
    catalog = install(connection, "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, i interval)")
    run(
        connection,
        "SET TimeZone = 'Asia/Tokyo'",
        "SET LOCAL IntervalStyle = 'iso_8601'",
        "INSERT INTO t VALUES (1, '2024-01-01 00:00+00', '1 day')",
    )
    table = table_of(catalog, "t")
    POSTGRESQL_AUDIT.select_rows(connection, table, [], [])
    shown = "SELECT current_setting('TimeZone'), current_setting('IntervalStyle')"
    assert connection.execute(sa.text(shown)).one() == ("Asia/Tokyo", "iso_8601")
    connection.commit()
    assert connection.execute(sa.text(shown)).one() == ("Asia/Tokyo", "postgres")
    assert images(connection, "I") == [{"id": "1", "at": "2024-01-01T00:00:00+00:00", "i": "1 day"}]


@pytest.mark.slow
def test_behind_a_pooler_neither_settings_nor_names_reach_another_client(
    connection: sa.Connection, postgres_url: str, debian: Callable[[str, str], str]
) -> None:
    """PgBouncer gives the same two connections to everybody, a transaction at a time."""
    debian("pgbouncer", "pgbouncer")
    catalog = install(connection, "CREATE TABLE t (id int PRIMARY KEY, i interval)")
    run(connection, "INSERT INTO t VALUES (0, '1 day')")
    connection.commit()
    table = table_of(catalog, "t")
    with services.pgbouncer(postgres_url) as url:
        ana, ben, nobody = (
            sa.create_engine(url, pool_size=1, connect_args={"prepare_threshold": None})
            for _ in range(3)
        )
        for number in range(1, 25):
            for name, engine in (("ana", ana), ("ben", ben), ("", nobody)):
                with engine.begin() as one:
                    if name:
                        POSTGRESQL_AUDIT.bind(
                            one.connection.dbapi_connection,
                            context(number * 10 + len(name) + ord(name[0]) * 1000, name),
                        )
                    shown = one.scalar(sa.text("SHOW IntervalStyle"))
                    run(one, "SET LOCAL IntervalStyle = 'iso_8601'")
                    image = {"id": f"{number}{len(name)}{ord((name or ' ')[0])}", "i": "1 day"}
                    POSTGRESQL_AUDIT.insert_rows(one, table, ["id", "i"], [image])
                    assert shown == "postgres"
        for engine in (ana, ben, nobody):
            engine.dispose()
    wanted = [("ana", "user"), ("ben", "user"), ("", "database")] * 24
    assert [(actor, kind) for actor, kind, _ in actors(connection)][1:] == wanted
    assert {image["i"] for image in images(connection, "I")} == {"1 day"}
