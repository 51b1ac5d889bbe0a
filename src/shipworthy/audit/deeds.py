"""What was done with the trail itself, written into it: exports, erasures, holds, prunings.

Such an entry is of no table (`table_id` 0) and has no values of anybody, only what was done, by
whom and why. It is sealed like any other, so it cannot be taken back unseen.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.attribution import NAME_CHARACTERS, clean
from shipworthy.audit.binding import new_tx
from shipworthy.audit.dialects.past import PastDialect
from shipworthy.audit.tables import CONTEXTS, ENTRIES
from shipworthy.context import ActorKind

ACCESSED: Final = "A"
ERASED_SUBJECT: Final = "X"
HELD: Final = "H"
PRUNED: Final = "P"


def record(
    connection: sa.Connection,
    dialect: PastDialect,
    deed: str,
    facts: Mapping[str, Any],
    *,
    by: str,
    kind: ActorKind = "user",
) -> None:
    """Write into the log, in this transaction, that `by` did this; the caller commits."""
    tx = new_tx()
    at = dialect.now_microseconds(connection)
    position = dialect.new_position()
    connection.execute(
        CONTEXTS.insert().values(
            tx=tx,
            at_microseconds=at,
            actor=clean(by, NAME_CHARACTERS),
            actor_kind=kind if by else "unknown",
            application="shipworthy",
            position=0 if position is None else position,
        )
    )
    connection.execute(
        ENTRIES.insert().values(
            position=0 if position is None else position,
            at_microseconds=at,
            tx=tx,
            table_id=0,
            shape_id=0,
            op=deed,
            new=json.dumps(facts, ensure_ascii=False, separators=(",", ":")),
        )
    )
