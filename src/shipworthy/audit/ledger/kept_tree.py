"""The tree before the last batch, kept so that a sealer that begins need not read every batch.

A log of years has tens of millions of them: to read them all takes longer than a lease lasts. What
is kept here need not be believed: with the last batch it gives the root that was signed, or not.
"""

import json
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.ledger.merkle import Frontier
from shipworthy.audit.tables import META

_NAME: Final = "ledger.tree"


def keep_tree(connection: sa.Connection, tree: Frontier) -> None:
    """Keep a tree, in the transaction that adds a batch to it."""
    text = json.dumps([tree.size, [part.hex() for part in tree.parts]], separators=(",", ":"))
    changed = connection.execute(sa.update(META).where(META.c.name == _NAME).values(value=text))
    if not changed.rowcount:
        connection.execute(sa.insert(META).values(name=_NAME, value=text))


def kept_tree(connection: sa.Connection) -> Frontier:
    """Return the tree that was kept; an empty one where there is none, or it cannot be read."""
    text = connection.scalar(sa.select(META.c.value).where(META.c.name == _NAME))
    try:
        size, parts = json.loads(text or "[0,[]]")
        return Frontier.resumed(int(size), [bytes.fromhex(part) for part in parts])
    except (ValueError, TypeError, OverflowError):
        return Frontier()
