"""A shop whose rows were deleted, and the endpoints that ask it."""

from pathlib import Path

import sqlalchemy as sa

from shipworthy import audit, records
from shipworthy.operations import Endpoint, RecordedApi, trail_endpoints, trash_endpoints
from shipworthy.settings import Loaded, load


def settings(database: str) -> Loaded:
    """Return the settings of a service of that database, '' for none."""
    return load(environ={}, overrides={"db.url": database} if database else {})


def everything(database: str) -> tuple[Endpoint, ...]:
    """Return the endpoints about what is recorded."""
    loaded = settings(database)
    api = RecordedApi(loaded)
    return (*trash_endpoints(api, loaded), *trail_endpoints(api, loaded))


def deleted_client(folder: Path) -> str:
    """Make a database with a trail, where a client with two orders was deleted; give its URL."""
    url = f"sqlite:///{folder / 'shop.sqlite3'}"
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT)")
        connection.exec_driver_sql(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, client_id INTEGER NOT NULL "
            "REFERENCES clients (id) ON DELETE CASCADE)"
        )
        connection.exec_driver_sql("INSERT INTO clients VALUES (7, 'Borealis')")
        connection.exec_driver_sql("INSERT INTO orders VALUES (1, 7), (2, 7)")
    audit.add_tables(records.TABLES)
    audit.install(engine, audit.AuditSettings())
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM clients")
    engine.dispose()
    return url
