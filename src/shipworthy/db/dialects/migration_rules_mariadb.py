"""What is dangerous on a live MariaDB.

InnoDB changes a table in one of four ways: of the catalog alone (INSTANT), in place, by a new copy
made in place, or by a copy that lets nobody write (COPY). The server chooses the best it can;
ALGORITHM and LOCK in the statement make it refuse rather than choose a worse one, so a statement
that says LOCK=NONE or ALGORITHM=INSTANT blocks nobody. DDL commits by itself.
"""

from typing import Final

from shipworthy.db.migrate.rule import Knowledge, MigrationRule, MigrationSeverity, not_empty
from shipworthy.db.migrate.statements import Clause, SqlStatement

# The server holds the statement to it, so there is nothing left to fear.
_HELD = r"\b(LOCK ?=? ?NONE|ALGORITHM ?=? ?(INSTANT|NOCOPY))\b"
_ADD = (
    r"ALTER TABLE ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT |CHECK |UNIQUE |PRIMARY "
    r"|FOREIGN |KEY |INDEX |FULLTEXT |SPATIAL |PARTITION |SYSTEM )"
)
_DROP = (
    r"ALTER TABLE DROP (?:COLUMN )?(?!PRIMARY |FOREIGN |CONSTRAINT |INDEX |KEY |PARTITION "
    r"|CHECK |SYSTEM )"
)
_CONSTRAINT = (
    r"ALTER TABLE ADD (?:CONSTRAINT (?:IF NOT EXISTS )?(?:(?!FOREIGN|CHECK|PRIMARY|UNIQUE)\S+ )?)?"
)
_LOCKS = MigrationSeverity.LOCKS
_FAILS = MigrationSeverity.FAILS
_BREAKS = MigrationSeverity.BREAKS
_ADVICE = MigrationSeverity.ADVICE


def _second_ddl(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    del clause, statement
    return bool(known.altered)


MARIADB_RULES: Final = (
    MigrationRule(
        id="column-type-copies",
        severity=_LOCKS,
        what="a column declared anew by MODIFY or CHANGE",
        why="with another type, nobody writes while the table is copied",
        rewrite="say LOCK=NONE, so that the server refuses rather than copies; where it refuses, "
        "add a column of the new type, fill it with shipworthy.db.backfill and drop the old one",
        pattern=r"ALTER TABLE (MODIFY|CHANGE)\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="foreign-key-copies",
        severity=_LOCKS,
        what="a foreign key on an existing table",
        why="nobody writes while the table is copied and every row is looked up",
        rewrite="find the rows that have no parent first, then add it with SET foreign_key_checks "
        "= 0 in the session and LOCK=NONE",
        pattern=_CONSTRAINT + r"FOREIGN KEY\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="check-copies",
        severity=_LOCKS,
        what="a CHECK on an existing table",
        why="nobody writes while the table is copied and every row is looked at",
        rewrite="find the rows it would refuse first, then make it the column's own: MODIFY column "
        "... CHECK (...), LOCK=NONE",
        pattern=_CONSTRAINT + r"CHECK\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="primary-key-dropped",
        severity=_LOCKS,
        what="a primary key dropped without a new one",
        why="nobody writes while the table is copied",
        rewrite="drop and add in one ALTER TABLE with LOCK=NONE",
        pattern=r"ALTER TABLE DROP PRIMARY KEY\b",
        unless=_HELD + r"|\bADD (CONSTRAINT \S+ )?PRIMARY KEY\b",
    ),
    MigrationRule(
        id="fulltext-blocks-writes",
        severity=_LOCKS,
        what="a FULLTEXT index",
        why="nobody writes until it is built, and the first one copies the table",
        rewrite="build it in a new table that is filled in batches, or search elsewhere",
        pattern=r"(CREATE FULLTEXT INDEX|ALTER TABLE ADD FULLTEXT)\b",
    ),
    MigrationRule(
        id="spatial-blocks-writes",
        severity=_LOCKS,
        what="a SPATIAL index",
        why="nobody writes until it is built",
        rewrite="build it in a new table that is filled in batches",
        pattern=r"(CREATE SPATIAL INDEX|ALTER TABLE ADD SPATIAL)\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="index-not-held",
        severity=_ADVICE,
        what="an index without LOCK=NONE",
        why="the server builds it in place where it can, and copies the table where it cannot",
        rewrite="write ALTER TABLE ... ADD INDEX ..., LOCK=NONE by op.execute, so that it refuses "
        "instead",
        pattern=r"(CREATE (UNIQUE )?INDEX|ALTER TABLE ADD (UNIQUE )?(INDEX|KEY))\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="charset-copies",
        severity=_LOCKS,
        what="another character set for a table",
        why="nobody writes while the table is copied",
        rewrite="convert column by column: add, fill with shipworthy.db.backfill, drop",
        pattern=r"ALTER TABLE CONVERT TO\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="engine-copies",
        severity=_LOCKS,
        what="another storage engine",
        why="nobody writes while the table is copied",
        rewrite="make a new table and copy in batches",
        pattern=r"ALTER TABLE ENGINE\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="auto-increment-copies",
        severity=_LOCKS,
        what="a new column that counts by itself",
        why="nobody writes while the table is copied",
        rewrite="add a plain column, fill it with shipworthy.db.backfill, then make it the key",
        pattern=_ADD + r".*\bAUTO_INCREMENT\b",
    ),
    MigrationRule(
        id="generated-copies",
        severity=_LOCKS,
        what="a new stored generated column",
        why="nobody writes while the table is copied",
        rewrite="make it VIRTUAL, or fill a plain column with shipworthy.db.backfill",
        pattern=_ADD + r".*\bAS \(.*\b(STORED|PERSISTENT)\b",
        unless=_HELD,
    ),
    MigrationRule(
        id="partition-copies",
        severity=_LOCKS,
        what="a table is partitioned anew",
        why="nobody writes while the table is copied",
        rewrite="make a new table and copy in batches",
        pattern=r"ALTER TABLE (.* )?(PARTITION BY|REMOVE PARTITIONING|REORGANIZE PARTITION)\b",
    ),
    MigrationRule(
        id="versioning-copies",
        severity=_LOCKS,
        what="system versioning is added or dropped",
        why="nobody writes while the table is copied",
        rewrite="make a new table WITH SYSTEM VERSIONING and copy in batches",
        pattern=r"ALTER TABLE (ADD|DROP) SYSTEM VERSIONING\b",
    ),
    MigrationRule(
        id="order-copies",
        severity=_LOCKS,
        what="ORDER BY on a table",
        why="nobody writes while the table is copied, and InnoDB does not keep the order",
        rewrite="leave it out",
        pattern=r"ALTER TABLE ORDER BY\b",
    ),
    MigrationRule(
        id="copy-asked-for",
        severity=_LOCKS,
        what="a copy or a lock that the statement itself asks for",
        why="nobody writes meanwhile",
        rewrite="leave it out, or say LOCK=NONE",
        pattern=r".*\b(ALGORITHM ?=? ?COPY|LOCK ?=? ?(SHARED|EXCLUSIVE))\b",
    ),
    MigrationRule(
        id="column-copies-old-server",
        severity=_LOCKS,
        what="a new column",
        why="before MariaDB 10.3 the table is written anew",
        rewrite="say LOCK=NONE and do it in a quiet hour",
        pattern=_ADD,
        unless=_HELD,
        before=(10, 3),
    ),
    MigrationRule(
        id="drop-copies-old-server",
        severity=_LOCKS,
        what="a dropped column",
        why="before MariaDB 10.4 the table is written anew",
        rewrite="say LOCK=NONE and do it in a quiet hour",
        pattern=_DROP,
        unless=_HELD,
        before=(10, 4),
    ),
    MigrationRule(
        id="column-not-null-without-default",
        severity=_ADVICE,
        what="a new NOT NULL column without a default",
        why="old rows get 0 or an empty text that nobody chose, and old code's INSERT fails",
        rewrite="give it a server_default, or add it nullable and fill it with "
        "shipworthy.db.backfill",
        pattern=_ADD + r".*\bNOT NULL\b(?!.*\bDEFAULT\b)",
        unless=r"\b(AUTO_INCREMENT|DEFAULT|AS \()",
        when=not_empty,
    ),
    MigrationRule(
        id="lock-tables",
        severity=_LOCKS,
        what="LOCK TABLES",
        why="others wait until the session unlocks",
        rewrite="leave it out: DDL takes the locks it needs",
        pattern=r"LOCK TABLES?\b",
    ),
    MigrationRule(
        id="truncate",
        severity=_LOCKS,
        what="TRUNCATE",
        why="it waits for every reader, all that come later wait behind it, and the rows are gone",
        rewrite="delete in batches by key",
        pattern=r"TRUNCATE\b",
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
        id="ddl-not-transactional",
        severity=_ADVICE,
        what="more than one change of the schema in a revision",
        why="each commits by itself, so a failure between them leaves the revision half done",
        rewrite="make one change in each revision",
        pattern=r"(ALTER TABLE|CREATE (UNIQUE )?INDEX|DROP INDEX|RENAME TABLE)\b",
        when=_second_ddl,
    ),
    MigrationRule(
        id="column-dropped",
        severity=_BREAKS,
        what="a column is dropped",
        why="processes of the version before still read and write it",
        rewrite="drop it one release after the last code that names it",
        pattern=_DROP,
    ),
    MigrationRule(
        id="column-renamed",
        severity=_BREAKS,
        what="a column is renamed",
        why="processes of the version before know the old name only",
        rewrite="add a column, write to both, fill it, read from it, drop the old one",
        pattern=r"ALTER TABLE (RENAME COLUMN\b|CHANGE (?:COLUMN )?(?:IF EXISTS )?(\S+) (?!\2 ))",
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
        pattern=r"(RENAME TABLE|ALTER TABLE RENAME (?!COLUMN |INDEX |KEY ))\b",
    ),
)
