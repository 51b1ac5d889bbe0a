"""Wait until what was written is final: on PostgreSQL that takes all who work on the server."""

import time

import sqlalchemy as sa

from shipworthy.audit import ENTRIES, audit_dialect

# Also transactions of other databases hold it up, such as those of a test beside this one.
PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.02


def is_soon_final(engine: sa.Engine) -> bool:
    """Wait until every entry that is committed is final; say whether it came to that in time.

    Where entries are in the order of their numbers they are final at once.
    """
    dialect = audit_dialect(engine.dialect.name)
    assert dialect is not None
    if dialect.position_column == "seq":
        return True
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        with engine.connect() as connection:
            last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.position))) or 0
            if last < dialect.horizon(connection):
                return True
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_SECONDS)
