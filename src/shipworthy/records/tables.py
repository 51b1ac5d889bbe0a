"""The tables of the trash in the application's database: `audit install` makes them with its own.

A worker of the version before or after reads them as they are: columns are only ever added, and
with a default.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from shipworthy.audit import TABLE_OPTIONS

METADATA: Final = sa.MetaData()

DELETIONS: Final = sa.Table(
    "shipworthy_deletions",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tx", sa.String(32), nullable=False, index=True),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False, index=True),
    sa.Column("actor", sa.String(200), nullable=False, server_default=""),
    sa.Column("actor_kind", sa.String(16), nullable=False, server_default="unknown"),
    sa.Column("title", sa.String(500), nullable=False),
    # JSON: the number of rows by table; the first roots, each as table and key.
    sa.Column("tables", sa.Text, nullable=False),
    sa.Column("roots", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("relink_count", sa.BigInteger, nullable=False, server_default="0"),
    # 1 where it is all that its transaction removed: its entries are then those of the transaction.
    sa.Column("whole", sa.SmallInteger, nullable=False),
    # The last entry of the transaction that was seen: one that went on is read again.
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, server_default="deleted"),
    # Why it must not be purged, '' where it may.
    sa.Column("hold", sa.String(200), nullable=False, server_default=""),
    **TABLE_OPTIONS,
)
# The entries of a deletion where its transaction has others too (`member`), and those of its rows
# that a restore has left out (`left`).
DELETION_ENTRIES: Final = sa.Table(
    "shipworthy_deletion_entries",
    METADATA,
    sa.Column("deletion_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("part", sa.String(8), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    **TABLE_OPTIONS,
)
sa.Index("ix_shipworthy_deletion_entries_seq", DELETION_ENTRIES.c.seq)
# Every change of state; what was restored stays told.
DELETION_CHANGES: Final = sa.Table(
    "shipworthy_deletion_changes",
    METADATA,
    sa.Column("deletion_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False, server_default=""),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("note", sa.String(200), nullable=False, server_default=""),
    **TABLE_OPTIONS,
)
TABLES: Final[Sequence[sa.Table]] = (DELETIONS, DELETION_ENTRIES, DELETION_CHANGES)
