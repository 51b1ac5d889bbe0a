"""What is dangerous on a live PostgreSQL.

An ALTER TABLE takes ACCESS EXCLUSIVE, unless said otherwise: while it works, and while it waits,
nobody reads or writes the table. That is harmless for a change of the catalog, and is not for one
that looks at every row.
"""

import re
from typing import Final

from shipworthy.db.migrate.rule import (
    Knowledge,
    MigrationRule,
    MigrationSeverity,
    in_transaction,
    not_empty,
)
from shipworthy.db.migrate.statements import Clause, SqlStatement, name_of

_ADD = (
    r"ALTER TABLE ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT |CHECK |UNIQUE |PRIMARY "
    r"|FOREIGN |EXCLUDE )"
)
_CONSTRAINT = r"ALTER TABLE ADD (?:CONSTRAINT \S+ )?"
_COLUMN = r"ALTER TABLE ALTER (?:COLUMN )?"
# Of functions in a default only those that give every row of one statement the same value are
# stored once; these are the volatile ones that people use, in the core and in common extensions.
_VOLATILE = (
    r"\bDEFAULT\b.*\b(RANDOM|GEN_RANDOM_UUID|UUID_GENERATE_V\d\w*|UUIDV\d|CLOCK_TIMESTAMP|TIMEOFDAY"
    r"|NEXTVAL|GEN_RANDOM_BYTES|SETVAL|TXID_CURRENT|PG_CURRENT_XACT_ID) \("
)


def _not_proven(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    del statement
    found = re.match(rf"{_COLUMN}(\S+) SET NOT NULL", clause.text)
    return found is None or (clause.tables[0], name_of(found[1])) not in known.proven


def _after_ddl(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    del clause
    return statement.in_transaction and bool(known.altered_in_transaction)


def _other_table(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    return statement.in_transaction and bool(known.altered_in_transaction - {clause.tables[0]})


_LOCKS = MigrationSeverity.LOCKS
_FAILS = MigrationSeverity.FAILS
_BREAKS = MigrationSeverity.BREAKS
_ADVICE = MigrationSeverity.ADVICE

POSTGRESQL_RULES: Final = (
    MigrationRule(
        id="index-blocks-writes",
        severity=_LOCKS,
        what="CREATE INDEX without CONCURRENTLY",
        why="every write waits until the index is built",
        rewrite="create it in a revision of its own with postgresql_concurrently=True inside "
        "op.get_context().autocommit_block()",
        pattern=r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY )",
    ),
    MigrationRule(
        id="index-drop-blocks",
        severity=_LOCKS,
        what="DROP INDEX without CONCURRENTLY",
        why="it waits for every reader, and all that come later wait behind it",
        rewrite="drop it with postgresql_concurrently=True inside "
        "op.get_context().autocommit_block()",
        pattern=r"DROP INDEX (?!CONCURRENTLY )",
    ),
    MigrationRule(
        id="concurrently-in-transaction",
        severity=_FAILS,
        what="CONCURRENTLY inside a transaction",
        why="PostgreSQL refuses it there",
        rewrite="put it inside `with op.get_context().autocommit_block():`, in a revision of its "
        "own",
        pattern=r"(CREATE (?:UNIQUE )?INDEX|DROP INDEX|REINDEX .*?|ALTER TABLE DETACH .*) "
        r"?CONCURRENTLY\b",
        when=in_transaction,
        anywhere=True,
    ),
    MigrationRule(
        id="not-in-transaction",
        severity=_FAILS,
        what="a statement that cannot be in a transaction",
        why="PostgreSQL refuses it there",
        rewrite="put it inside `with op.get_context().autocommit_block():`",
        pattern=r"(VACUUM|ALTER SYSTEM|CREATE DATABASE|DROP DATABASE|CREATE TABLESPACE"
        r"|DROP TABLESPACE)\b",
        when=in_transaction,
        anywhere=True,
    ),
    MigrationRule(
        id="foreign-key-scans",
        severity=_LOCKS,
        what="a foreign key that is validated at once",
        why="writes to both tables wait while every row is looked up",
        rewrite="add it with postgresql_not_valid=True, then VALIDATE CONSTRAINT in the next "
        "revision",
        pattern=_CONSTRAINT + r"FOREIGN KEY\b",
        unless=r"\bNOT VALID\b",
    ),
    MigrationRule(
        id="foreign-key-with-column",
        severity=_LOCKS,
        what="a new column with REFERENCES",
        why="writes to both tables wait, and with a default every row is looked up",
        rewrite="add the column alone, then the foreign key with postgresql_not_valid=True, then "
        "VALIDATE CONSTRAINT in the next revision",
        pattern=_ADD + r".*\bREFERENCES\b",
    ),
    MigrationRule(
        id="check-scans",
        severity=_LOCKS,
        what="a CHECK that is validated at once",
        why="nobody reads or writes the table while every row is looked at",
        rewrite="add it with NOT VALID, then VALIDATE CONSTRAINT in the next revision",
        pattern=_CONSTRAINT + r"CHECK\b",
        unless=r"\bNOT VALID\b",
    ),
    MigrationRule(
        id="validate-with-constraint",
        severity=_LOCKS,
        what="VALIDATE CONSTRAINT in the transaction that altered a table",
        why="the lock of the ALTER TABLE is held while every row is looked at",
        rewrite="validate in a revision of its own",
        pattern=r"ALTER TABLE VALIDATE CONSTRAINT\b",
        when=_after_ddl,
    ),
    MigrationRule(
        id="unique-builds-index",
        severity=_LOCKS,
        what="a UNIQUE constraint that builds its index",
        why="nobody reads or writes the table until the index is built",
        rewrite="create a unique index concurrently, then ADD CONSTRAINT ... UNIQUE USING INDEX",
        pattern=_CONSTRAINT + r"UNIQUE\b",
        unless=r"\bUSING INDEX\b",
    ),
    MigrationRule(
        id="unique-with-column",
        severity=_LOCKS,
        what="a new column with UNIQUE or PRIMARY KEY",
        why="nobody reads or writes the table until the index is built",
        rewrite="add the column alone, create a unique index concurrently, then ADD CONSTRAINT "
        "... USING INDEX",
        pattern=_ADD + r".*\b(UNIQUE|PRIMARY KEY)\b",
    ),
    MigrationRule(
        id="primary-key-builds-index",
        severity=_LOCKS,
        what="a PRIMARY KEY that builds its index",
        why="nobody reads or writes the table until the index is built and no NULL was found",
        rewrite="create a unique index concurrently on NOT NULL columns, then ADD CONSTRAINT ... "
        "PRIMARY KEY USING INDEX",
        pattern=_CONSTRAINT + r"PRIMARY KEY\b",
        unless=r"\bUSING INDEX\b",
    ),
    MigrationRule(
        id="exclude-builds-index",
        severity=_LOCKS,
        what="an EXCLUDE constraint",
        why="nobody reads or writes the table until its index is built; there is no way around",
        rewrite="add it while the table is small, or in a new table that the old one is copied to",
        pattern=_CONSTRAINT + r"EXCLUDE\b",
    ),
    MigrationRule(
        id="not-null-scans",
        severity=_LOCKS,
        what="SET NOT NULL",
        why="nobody reads or writes the table while every row is looked at",
        rewrite="add CHECK (column IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT in the next "
        "revision, then SET NOT NULL, which believes it, then drop the CHECK",
        pattern=_COLUMN + r"\S+ SET NOT NULL",
        when=_not_proven,
    ),
    MigrationRule(
        id="column-not-null-without-default",
        severity=_FAILS,
        what="a new NOT NULL column without a default",
        why="the rows that are there have no value for it",
        rewrite="give it a server_default, or add it nullable, fill it with shipworthy.db.backfill "
        "and set NOT NULL later",
        pattern=_ADD + r".*\bNOT NULL\b(?!.*\bDEFAULT\b)",
        unless=r"\b(SERIAL|BIGSERIAL|SMALLSERIAL|GENERATED|DEFAULT)\b",
        when=not_empty,
    ),
    MigrationRule(
        id="column-type-rewrites",
        severity=_LOCKS,
        what="another type for a column",
        why="the table and its indexes are written anew while nobody reads or writes it",
        rewrite="add a column of the new type, write to both, fill it with shipworthy.db.backfill, "
        "read from it, drop the old one; where the server need not rewrite (a longer varchar), "
        "accept the rule",
        pattern=_COLUMN + r"\S+ (?:SET DATA )?TYPE "
        r"(?!(?:TEXT|VARCHAR|CHARACTER VARYING)(?: COLLATE \S+)?$)",
    ),
    MigrationRule(
        id="default-rewrites",
        severity=_LOCKS,
        what="a new column whose default differs from row to row",
        why="the table is written anew while nobody reads or writes it",
        rewrite="add the column without a default, set the default, fill old rows with "
        "shipworthy.db.backfill",
        pattern=_ADD + ".*" + _VOLATILE,
    ),
    MigrationRule(
        id="default-rewrites-old-server",
        severity=_LOCKS,
        what="a new column with a default",
        why="before PostgreSQL 11 the table is written anew while nobody reads or writes it",
        rewrite="add the column without a default, set the default, fill old rows with "
        "shipworthy.db.backfill",
        pattern=_ADD + r".*\bDEFAULT\b",
        before=(11,),
    ),
    MigrationRule(
        id="generated-rewrites",
        severity=_LOCKS,
        what="a new stored generated column",
        why="the table is written anew while nobody reads or writes it",
        rewrite="add a plain column that a trigger fills, or compute the value where it is read",
        pattern=_ADD + r".*\bGENERATED ALWAYS AS \(.*\bSTORED\b",
    ),
    MigrationRule(
        id="identity-rewrites",
        severity=_LOCKS,
        what="a new column that counts by itself",
        why="the table is written anew while nobody reads or writes it",
        rewrite="add a plain column, make a sequence its default, fill old rows with "
        "shipworthy.db.backfill",
        pattern=_ADD + r"\S+ (?:(?:BIG|SMALL)?SERIAL\b|.*\bAS IDENTITY\b)",
    ),
    MigrationRule(
        id="vacuum-full",
        severity=_LOCKS,
        what="VACUUM FULL",
        why="the table is written anew while nobody reads or writes it",
        rewrite="let autovacuum work, or use an extension that repacks online",
        pattern=r"VACUUM (?:\( (?:\S+ , )*FULL\b|(?:\w+ )*?FULL\b)",
    ),
    MigrationRule(
        id="cluster",
        severity=_LOCKS,
        what="CLUSTER",
        why="the table is written anew while nobody reads or writes it",
        rewrite="use an extension that repacks online",
        pattern=r"CLUSTER\b",
    ),
    MigrationRule(
        id="reindex-blocks-writes",
        severity=_LOCKS,
        what="REINDEX without CONCURRENTLY",
        why="writes wait, and so do reads that would use the index",
        rewrite="use REINDEX ... CONCURRENTLY inside op.get_context().autocommit_block()",
        pattern=r"REINDEX\b(?!.*\bCONCURRENTLY\b)",
    ),
    MigrationRule(
        id="refresh-blocks-reads",
        severity=_LOCKS,
        what="REFRESH MATERIALIZED VIEW without CONCURRENTLY",
        why="nobody reads the view until it is filled",
        rewrite="give the view a unique index and refresh it CONCURRENTLY",
        pattern=r"REFRESH MATERIALIZED VIEW (?!CONCURRENTLY )",
        unless=r"\bWITH NO DATA\b",
    ),
    MigrationRule(
        id="lock-table",
        severity=_LOCKS,
        what="LOCK TABLE",
        why="others wait until the transaction ends",
        rewrite="lock the rows that are meant, or take a lock that lets others write",
        pattern=r"LOCK (?:TABLE )?",
        unless=r"\bIN (ACCESS SHARE|ROW SHARE|ROW EXCLUSIVE|SHARE UPDATE EXCLUSIVE) MODE\b",
    ),
    MigrationRule(
        id="truncate",
        severity=_LOCKS,
        what="TRUNCATE",
        why="nobody reads or writes the table until the transaction ends, and its rows are gone",
        rewrite="delete in batches, or make a new table",
        pattern=r"TRUNCATE\b",
    ),
    MigrationRule(
        id="logged-rewrites",
        severity=_LOCKS,
        what="SET LOGGED or UNLOGGED",
        why="the table is written anew while nobody reads or writes it",
        rewrite="make a new table and copy in batches",
        pattern=r"ALTER TABLE SET (UN)?LOGGED\b",
    ),
    MigrationRule(
        id="tablespace-rewrites",
        severity=_LOCKS,
        what="another tablespace or access method",
        why="the table is copied while nobody reads or writes it",
        rewrite="make a new table there and copy in batches, or repack online",
        pattern=r"ALTER TABLE SET (TABLESPACE|ACCESS METHOD)\b",
    ),
    MigrationRule(
        id="update-every-row",
        severity=_LOCKS,
        what="UPDATE of every row in one transaction",
        why="whoever writes one of the rows waits until all are done",
        rewrite="use shipworthy.db.backfill after the migration",
        pattern=r"UPDATE (?!.*\bWHERE\b)",
    ),
    MigrationRule(
        id="delete-every-row",
        severity=_LOCKS,
        what="DELETE of every row in one transaction",
        why="whoever writes one of the rows waits until all are gone",
        rewrite="delete in batches by key",
        pattern=r"DELETE FROM (?!.*\bWHERE\b)",
    ),
    MigrationRule(
        id="rows-after-ddl",
        severity=_LOCKS,
        what="rows written in the transaction that altered a table",
        why="nobody reads or writes that table until the last row is written",
        rewrite="write the rows in a revision of their own, or with shipworthy.db.backfill",
        pattern=r"(UPDATE|DELETE FROM|INSERT INTO .*\bSELECT)\b",
        unless=r"\bALEMBIC_VERSION\b",
        when=_after_ddl,
    ),
    MigrationRule(
        id="two-tables-in-transaction",
        severity=_ADVICE,
        what="two tables altered in one transaction",
        why="the first stays locked while the second is waited for, and two such waits can "
        "deadlock",
        rewrite="alter one table in each revision",
        pattern=r"ALTER TABLE\b",
        when=_other_table,
    ),
    MigrationRule(
        id="detach-blocks",
        severity=_LOCKS,
        what="DETACH PARTITION without CONCURRENTLY",
        why="nobody reads or writes the whole partitioned table meanwhile",
        rewrite="use DETACH PARTITION ... CONCURRENTLY inside op.get_context().autocommit_block()",
        pattern=r"ALTER TABLE DETACH PARTITION\b(?!.*\b(CONCURRENTLY|FINALIZE)\b)",
        since=(14,),
    ),
    MigrationRule(
        id="attach-scans",
        severity=_LOCKS,
        what="ATTACH PARTITION",
        why="the new partition is locked while every row is compared with its bounds",
        rewrite="first give the partition a validated CHECK that says the same; then accept the "
        "rule",
        pattern=r"ALTER TABLE ATTACH PARTITION\b",
    ),
    MigrationRule(
        id="domain-scans",
        severity=_LOCKS,
        what="a constraint of a domain that is validated at once",
        why="every table with a column of the domain is locked while its rows are looked at",
        rewrite="add it with NOT VALID, then ALTER DOMAIN ... VALIDATE CONSTRAINT",
        pattern=r"ALTER DOMAIN \S+ (ADD|SET NOT NULL)\b",
        unless=r"\bNOT VALID\b",
        # The tables are not in the statement, so their size is not known.
        anywhere=True,
    ),
    MigrationRule(
        id="enum-value-in-transaction",
        severity=_FAILS,
        what="ALTER TYPE ... ADD VALUE inside a transaction",
        why="PostgreSQL refuses it there before version 12",
        rewrite="put it inside `with op.get_context().autocommit_block():`",
        pattern=r"ALTER TYPE \S+ ADD VALUE\b",
        when=in_transaction,
        before=(12,),
        anywhere=True,
    ),
    MigrationRule(
        id="column-dropped",
        severity=_BREAKS,
        what="a column is dropped",
        why="processes of the version before still read and write it",
        rewrite="drop it one release after the last code that names it",
        pattern=r"ALTER TABLE DROP (?:COLUMN )?(?!CONSTRAINT |EXPRESSION )",
    ),
    MigrationRule(
        id="column-renamed",
        severity=_BREAKS,
        what="a column is renamed",
        why="processes of the version before know the old name only",
        rewrite="add a column, write to both, fill it, read from it, drop the old one",
        pattern=r"ALTER TABLE RENAME (?!TO |CONSTRAINT )",
    ),
    MigrationRule(
        id="table-dropped",
        severity=_BREAKS,
        what="a table is dropped",
        why="processes of the version before still read and write it",
        rewrite="drop it one release after the last code that names it",
        pattern=r"DROP TABLE\b",
    ),
    MigrationRule(
        id="table-renamed",
        severity=_BREAKS,
        what="a table is renamed",
        why="processes of the version before know the old name only",
        rewrite="keep the name, or leave a view of the old name that can be written to",
        pattern=r"ALTER TABLE RENAME TO\b",
    ),
    MigrationRule(
        id="key-too-small",
        severity=_ADVICE,
        what="a counting key of 32 bits",
        why="it ends at 2,147,483,647, and to widen it later rewrites the table",
        rewrite="use BigInteger",
        pattern=r"(CREATE TABLE|ALTER TABLE ADD)\b.*(\b(?:SMALL)?SERIAL\b"
        r"|\b(?:INTEGER|INT|SMALLINT) (?:NOT NULL )?GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY\b)",
        anywhere=True,
    ),
    MigrationRule(
        id="json-without-equality",
        severity=_ADVICE,
        what="a column of type json",
        why="it has no equality, so SELECT DISTINCT and UNION over it fail",
        rewrite="use JSONB",
        pattern=r"(CREATE TABLE|ALTER TABLE ADD)\b.* JSON\b",
        anywhere=True,
    ),
    MigrationRule(
        id="instant-without-zone",
        severity=_ADVICE,
        what="a timestamp without time zone",
        why="it means another instant in every session with another time zone",
        rewrite="use DateTime(timezone=True)",
        pattern=r"(CREATE TABLE|ALTER TABLE ADD)\b.*\bTIMESTAMP\b"
        r"(?! WITH TIME ZONE| \( \d \) WITH TIME)",
        anywhere=True,
    ),
)
