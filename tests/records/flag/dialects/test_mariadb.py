"""What MariaDB alone has: a column that says which rows are live, and upserts by any index."""

import pytest
import sqlalchemy as sa

from records.plain_tables import FLAGGED, METADATA
from shipworthy.records import AdoptOptions, adopt


def _run(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.mark.slow
def test_an_upsert_meets_live_rows_alone(mariadb_url: str):
    """One of a value that a deleted row has inserts, one of a live row's updates."""
    engine = sa.create_engine(mariadb_url)
    METADATA.create_all(engine)
    adopt(engine, "clients", FLAGGED, AdoptOptions(free_unique=True), say=lambda _: None)
    _run(engine, "INSERT INTO clients (id, email, deleted_at) VALUES (1, 'a', now())")

    for number in (2, 3):
        _run(
            engine,
            f"INSERT INTO clients (id, email) VALUES ({number}, 'a') "
            "ON DUPLICATE KEY UPDATE boss_id = NULL",
        )

    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT id FROM clients ORDER BY id")).all() == [1, 2]
    engine.dispose()
