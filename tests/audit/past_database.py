"""A database whose tables are copied at times, to compare what the past says they were."""

import datetime as dt
import time
from contextlib import contextmanager

import sqlalchemy as sa

from shipworthy.audit import AuditSettings, audit_dialect, install
from shipworthy.audit.dialects.past import past_dialect


def installed(engine, **settings):
    """Install the trail and say nothing."""
    install(engine, AuditSettings(**settings), say=lambda sentence: None)


@contextmanager
def sqlite_engine(path, *statements):
    """A new SQLite file after these statements."""
    engine = sa.create_engine(f"sqlite:///{path}")
    run(engine, *statements)
    try:
        yield engine
    finally:
        engine.dispose()


def run(engine, *statements):
    """Run statements in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def copy_of(engine, table):
    """Return the rows of a table as images, in an order of their own."""
    dialect = audit_dialect(engine.dialect.name)
    with engine.connect() as connection:
        catalog = dialect.read_catalog(connection)
        [found] = [one for name, one in catalog.tables.items() if name.name == table]
        return ordered(dialect.select_rows(connection, found, (), ()))


def ordered(images):
    """Return images so that equal sets of rows are equal lists."""
    return sorted(
        (dict(image) for image in images), key=lambda image: sorted(map(str, image.items()))
    )


def a_moment_between(engine):
    """Return a time after everything written until now and before everything written from now on.

    By the database's own clock, which may be a coarse one.
    """
    dialect = past_dialect(engine.dialect.name)
    with engine.connect() as connection:

        def tick():
            before = dialect.now_microseconds(connection)
            while (now := dialect.now_microseconds(connection)) <= before + 2_000:
                time.sleep(0.0005)
            return now

        tick()
        found = tick()
        tick()
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=found)
