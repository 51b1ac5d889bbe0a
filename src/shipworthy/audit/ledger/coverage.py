"""What is captured, as one digest in each batch: so that triggers switched off leave a trace."""

from collections.abc import Iterable
from hashlib import sha256
from json import dumps

import sqlalchemy as sa

from shipworthy.audit.dialects import AuditDialect, TriggerState
from shipworthy.audit.tables import SHAPES


def coverage_digest(connection: sa.Connection, dialect: AuditDialect) -> str:
    """Return a digest of our triggers as they are now, and of the shapes they were made for."""
    shapes = connection.execute(sa.select(SHAPES.c.id, SHAPES.c.digest).order_by(SHAPES.c.id))
    return digest_of(
        ((int(number), str(digest)) for number, digest in shapes), dialect.triggers(connection)
    )


def digest_of(shapes: Iterable[tuple[int, str]], triggers: Iterable[TriggerState]) -> str:
    """Return the digest of these facts; their order does not matter. Pure."""
    facts = [
        sorted(shapes),
        sorted((str(one.table), one.name, one.enabled, one.text) for one in triggers),
    ]
    return sha256(dumps(facts, separators=(",", ":")).encode()).hexdigest()
