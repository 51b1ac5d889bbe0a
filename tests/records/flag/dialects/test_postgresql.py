"""What PostgreSQL alone has: views that raw SQL finds before the tables."""

import pytest
import sqlalchemy as sa

from records.plain_tables import FLAGGED, METADATA
from shipworthy.records import AdoptOptions, adopt, flagged_deletions


def _run(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.mark.slow
def test_raw_sql_reads_and_deletes_through_a_view_on_postgresql(postgres_url: str):
    """A session whose path has the views first sees live rows alone, and its DELETE flags."""
    engine = sa.create_engine(postgres_url)
    METADATA.create_all(engine)
    _run(engine, "INSERT INTO clients (id, email) VALUES (1, 'a'), (2, 'b')")
    flagged = [*FLAGGED, "orders.deleted_at"]
    options = AdoptOptions(shadow=True)
    for table in ("orders", "clients"):
        adopt(engine, table, flagged, options, say=lambda _: None)
    _run(engine, "INSERT INTO orders (id, client_id) VALUES (1, 2)")
    path = {"options": "-csearch_path=shipworthy_live,public"}
    app = sa.create_engine(postgres_url, connect_args=path)

    with app.begin() as connection:
        gone = connection.exec_driver_sql("DELETE FROM clients WHERE id = 2 RETURNING email")
        assert gone.scalars().all() == ["b"]
        made = connection.exec_driver_sql("INSERT INTO clients (id) VALUES (3) RETURNING id")
        assert made.scalar() == 3
        assert (
            connection.exec_driver_sql("UPDATE clients SET email = 'z' WHERE id > 1").rowcount == 1
        )
        assert set(connection.exec_driver_sql("SELECT id FROM clients").scalars()) == {1, 3}
        assert connection.exec_driver_sql("SELECT count(*) FROM orders").scalar() == 0

    (deletion,) = flagged_deletions(engine, flagged)
    assert deletion.tables == {"clients": 1, "orders": 1}
    for one in (app, engine):
        one.dispose()
