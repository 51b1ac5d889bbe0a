"""The tables of the trail in the application's database: what they are, not who makes them.

`install` makes them and `uninstall` takes them away. A worker of the version before or after reads
them as they are: columns are only ever added, and with a default.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from shipworthy.audit.dialects.mariadb_text import StoredUtf8mb4
from shipworthy.audit.dialects.positions import has_positions
from shipworthy.audit.dialects.sqlite_text import StoredText
from shipworthy.store import STORE_TABLES

VERSION: Final = 1
PREFIX: Final = "shipworthy_"
# Facts in the trail's own table of facts: which version made it, a digest of what was made once
# beside the tables, and what it was told to capture.
VERSION_FACT: Final = "version"
BASE_FACT: Final = "base"
SETTINGS_FACT: Final = "settings"
METADATA: Final = sa.MetaData()
# Keys, ids and values must not be taken for one another because a collation thinks them alike.
TABLE_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
# SQLite numbers by itself only what it calls INTEGER.
_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG_TEXT: Final = (
    sa.Text()
    .with_variant(StoredUtf8mb4(mysql.LONGTEXT()), "mysql", "mariadb")
    .with_variant(StoredText(), "sqlite")
)
# Compared by bytes: a language's order costs much more, and is no use here.
_KEY: Final = (
    sa.Text()
    .with_variant(sa.Text(collation="C"), "postgresql")
    .with_variant(StoredUtf8mb4(mysql.VARCHAR(700)), "mysql", "mariadb")
    .with_variant(StoredText(), "sqlite")
)
# Of an application's row, as keys are.
_SUBJECT: Final = sa.String(200).with_variant(StoredUtf8mb4(mysql.VARCHAR(200)), "mysql", "mariadb")


META: Final = sa.Table(
    "shipworthy_audit_meta",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(1000), nullable=False),
    **TABLE_OPTIONS,
)
SHAPES: Final = sa.Table(
    "shipworthy_audit_shapes",
    METADATA,
    # Given by whoever installs, under a lock: a plan says beforehand which it will be.
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("table_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("table_schema", sa.String(64), nullable=False),
    sa.Column("table_name", sa.String(64), nullable=False),
    # The catalog's facts as JSON (`shapes.dump_shape`), and a digest of them and of the triggers.
    sa.Column("facts", _LONG_TEXT, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    **TABLE_OPTIONS,
)
CONTEXTS: Final = sa.Table(
    "shipworthy_audit_contexts",
    METADATA,
    sa.Column("tx", sa.String(32), primary_key=True),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False, server_default=""),
    sa.Column("actor_kind", sa.String(16), nullable=False, server_default="unknown"),
    sa.Column("on_behalf_of", sa.String(200), nullable=False, server_default=""),
    sa.Column("correlation_id", sa.String(128), nullable=False, server_default=""),
    sa.Column("trace_id", sa.String(32), nullable=False, server_default=""),
    sa.Column("route", sa.String(200), nullable=False, server_default=""),
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("db_user", sa.String(128), nullable=False, server_default=""),
    sa.Column("application", sa.String(128), nullable=False, server_default=""),
    sa.Column("note", sa.String(1000), nullable=False, server_default=""),
    sa.Column("continues", sa.String(32), nullable=False, server_default="", index=True),
    # The number that the engine gives the transaction itself, where it has one, as in
    # `ENTRIES.position`: a context belongs to entries of that transaction alone.
    sa.Column("position", sa.BigInteger, nullable=False, server_default="0"),
    **TABLE_OPTIONS,
)
ENTRIES: Final = sa.Table(
    "shipworthy_audit_entries",
    METADATA,
    sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    # The clock's time of the write itself (clock_timestamp(), SYSDATE(6)), never the beginning of
    # its statement or transaction: whoever waited for a lock then has the later time, so the times
    # of a transaction's last writes are an order in which transactions may be cut (`past`).
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    sa.Column("tx", sa.String(32), nullable=False, index=True),
    sa.Column("table_id", sa.BigInteger, nullable=False),
    sa.Column("shape_id", sa.BigInteger, nullable=False),
    sa.Column("op", sa.CHAR(1), nullable=False),
    sa.Column("key", _KEY),
    sa.Column("old", _LONG_TEXT),
    sa.Column("new", _LONG_TEXT),
    **TABLE_OPTIONS,
)
sa.Index("ix_shipworthy_audit_entries_position", ENTRIES.c.position).ddl_if(callable_=has_positions)
sa.Index("ix_shipworthy_audit_entries_row", ENTRIES.c.table_id, ENTRIES.c.key, ENTRIES.c.seq)
PERSONAL: Final = sa.Table(
    "shipworthy_audit_personal",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("side", sa.CHAR(1), primary_key=True),  # o: of the old image, n: of the new
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("subject", _SUBJECT, nullable=False, index=True),
    # Erasure empties both; what remains is the commitment, written when the entry is sealed.
    sa.Column("salt", sa.String(64)),
    sa.Column("value", _LONG_TEXT),
    sa.Column("commitment", sa.String(64)),
    **TABLE_OPTIONS,
)
BATCHES: Final = sa.Table(
    "shipworthy_audit_batches",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("after_position", sa.BigInteger, nullable=False),
    sa.Column("to_position", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("root", sa.String(64), nullable=False),
    # JSON: what the leaf of the batch covers; see `ledger.batch`.
    sa.Column("header", _LONG_TEXT, nullable=False),
    # JSON: which entries the batch has, in its order, and a print of each to find the one that was
    # changed; its digest is in the header. It stays when the entries leave the log.
    sa.Column("leaves", _LONG_TEXT),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    **TABLE_OPTIONS,
)
CHECKPOINTS: Final = sa.Table(
    "shipworthy_audit_checkpoints",
    METADATA,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.String(64), nullable=False),
    sa.Column("note", _LONG_TEXT, nullable=False),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    **TABLE_OPTIONS,
)
# What must not be erased, and not leave the log, until somebody lifts it.
HOLDS: Final = sa.Table(
    "shipworthy_audit_holds",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),  # subject, table or transaction
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("reason", sa.String(1000), nullable=False),
    sa.Column("held_by", sa.String(200), nullable=False, server_default=""),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    **TABLE_OPTIONS,
)
# Which batches have left the log for which file. The batches themselves stay, with their roots.
ARCHIVES: Final = sa.Table(
    "shipworthy_audit_archives",
    METADATA,
    sa.Column("first_batch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last_batch", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    # The time of the newest entry in it: before that nothing can be looked at any more.
    sa.Column("written_microseconds", sa.BigInteger, nullable=False),
    # written: the file is whole; dropping: its entries begin to leave the log; dropped: they have
    # left it; gone: the file, too.
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("file", sa.String(200), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at_microseconds", sa.BigInteger, nullable=False),
    **TABLE_OPTIONS,
)
TABLES: Final[Sequence[sa.Table]] = (
    META,
    SHAPES,
    CONTEXTS,
    ENTRIES,
    PERSONAL,
    BATCHES,
    CHECKPOINTS,
    HOLDS,
    ARCHIVES,
    *STORE_TABLES,
)
_beside: Final[list[sa.Table]] = []


def add_tables(tables: Sequence[sa.Table]) -> None:
    """Have the tables of a room above be made and dropped with those of the trail; again is
    nothing.
    """
    _beside.extend(table for table in tables if table not in _beside)


def our_tables() -> tuple[sa.Table, ...]:
    """Return every table that belongs to the trail, in the order in which they are made."""
    return (*TABLES, *_beside)
