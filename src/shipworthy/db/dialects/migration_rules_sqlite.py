"""What is dangerous on a live SQLite.

There is one writer at a time for the whole file: whatever takes long keeps every other writer out.
And ALTER TABLE can do little; what it cannot do, Alembic's batch mode does by copying the table.
"""

from typing import Final

from shipworthy.db.migrate.rule import (
    Knowledge,
    MigrationRule,
    MigrationSeverity,
    in_transaction,
    not_empty,
)
from shipworthy.db.migrate.statements import Clause, SqlStatement


def _for_good(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    # Alembic's batch mode drops a table to put its copy in the place.
    del statement
    return f"_alembic_tmp_{clause.tables[0]}" not in known.made


_ADD = r"ALTER TABLE ADD (?:COLUMN )?(?!CONSTRAINT |CHECK |UNIQUE |PRIMARY |FOREIGN )"
_LOCKS = MigrationSeverity.LOCKS
_FAILS = MigrationSeverity.FAILS
_BREAKS = MigrationSeverity.BREAKS

SQLITE_RULES: Final = (
    MigrationRule(
        id="table-copied",
        severity=_LOCKS,
        what="a table is copied row by row",
        why="nobody else writes to the file meanwhile",
        rewrite="do what ALTER TABLE can do (add or rename a column), or copy in batches with "
        "shipworthy.db.backfill",
        pattern=r"INSERT INTO .*\bSELECT\b.*\bFROM\b",
        anywhere=True,
    ),
    MigrationRule(
        id="index-blocks-writes",
        severity=_LOCKS,
        what="CREATE INDEX",
        why="nobody else writes to the file until the index is built",
        rewrite="build it in a quiet hour and accept the rule, or index a part by WHERE",
        pattern=r"CREATE (UNIQUE )?INDEX\b",
    ),
    MigrationRule(
        id="reindex-blocks-writes",
        severity=_LOCKS,
        what="REINDEX",
        why="nobody else writes to the file until it is done",
        rewrite="do it in a quiet hour",
        pattern=r"REINDEX\b",
        anywhere=True,
    ),
    MigrationRule(
        id="vacuum-copies",
        severity=_LOCKS,
        what="VACUUM",
        why="the whole file is copied while nobody else writes",
        rewrite="use auto_vacuum = INCREMENTAL, or do it while the service is stopped",
        pattern=r"VACUUM\b",
        anywhere=True,
    ),
    MigrationRule(
        id="vacuum-in-transaction",
        severity=_FAILS,
        what="VACUUM inside a transaction",
        why="SQLite refuses it there",
        rewrite="put it inside `with op.get_context().autocommit_block():`",
        pattern=r"VACUUM\b",
        when=in_transaction,
        anywhere=True,
    ),
    MigrationRule(
        id="update-every-row",
        severity=_LOCKS,
        what="UPDATE of every row in one transaction",
        why="nobody else writes to the file until all are done",
        rewrite="use shipworthy.db.backfill after the migration",
        pattern=r"UPDATE (?!.*\bWHERE\b)",
    ),
    MigrationRule(
        id="delete-every-row",
        severity=_LOCKS,
        what="DELETE of every row in one transaction",
        why="nobody else writes to the file until all are gone",
        rewrite="delete in batches by key",
        pattern=r"DELETE FROM (?!.*\bWHERE\b)",
    ),
    MigrationRule(
        id="column-not-null-without-default",
        severity=_FAILS,
        what="a new NOT NULL column without a default",
        why="SQLite refuses it",
        rewrite="give it a server_default that is a constant",
        pattern=_ADD + r".*\bNOT NULL\b(?!.*\bDEFAULT\b)",
        unless=r"\b(DEFAULT (?!NULL)|GENERATED|AS \()",
        anywhere=True,
    ),
    MigrationRule(
        id="default-not-constant",
        severity=_FAILS,
        what="a new column whose default is no constant",
        why="SQLite refuses it on a table that has rows",
        rewrite="add the column without a default and fill it with shipworthy.db.backfill",
        pattern=_ADD + r".*\bDEFAULT (\(|CURRENT_)",
        when=not_empty,
    ),
    MigrationRule(
        id="unique-with-column",
        severity=_FAILS,
        what="a new column with UNIQUE or PRIMARY KEY",
        why="SQLite refuses it",
        rewrite="add the column alone, then create a unique index",
        pattern=_ADD + r".*\b(UNIQUE|PRIMARY KEY)\b",
        anywhere=True,
    ),
    MigrationRule(
        id="stored-with-column",
        severity=_FAILS,
        what="a new stored generated column",
        why="SQLite refuses it",
        rewrite="make it VIRTUAL",
        pattern=_ADD + r".*\bAS \(.*\bSTORED\b",
        anywhere=True,
    ),
    MigrationRule(
        id="constraint-not-supported",
        severity=_FAILS,
        what="a constraint or a column that is altered",
        why="SQLite knows no such ALTER TABLE",
        rewrite="use op.batch_alter_table, which copies the table",
        pattern=r"ALTER TABLE (ADD (CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN)|ALTER"
        r"|DROP CONSTRAINT)\b",
        anywhere=True,
    ),
    MigrationRule(
        id="column-drop-rewrites",
        severity=_LOCKS,
        what="a column is dropped",
        why="every row is written anew while nobody else writes to the file",
        rewrite="leave the column and stop naming it, or drop it in a quiet hour",
        pattern=r"ALTER TABLE DROP (?!CONSTRAINT )",
    ),
    MigrationRule(
        id="column-dropped",
        severity=_BREAKS,
        what="a column is dropped",
        why="processes of the version before still read and write it",
        rewrite="drop it one release after the last code that names it",
        pattern=r"ALTER TABLE DROP (?!CONSTRAINT )",
    ),
    MigrationRule(
        id="column-renamed",
        severity=_BREAKS,
        what="a column is renamed",
        why="processes of the version before know the old name only",
        rewrite="add a column, write to both, fill it, read from it, drop the old one",
        pattern=r"ALTER TABLE RENAME (?!TO )",
    ),
    MigrationRule(
        id="table-dropped",
        severity=_BREAKS,
        what="a table is dropped",
        why="processes of the version before still read and write it",
        rewrite="drop it one release after the last code that names it",
        pattern=r"DROP TABLE\b",
        when=_for_good,
    ),
    MigrationRule(
        id="table-renamed",
        severity=_BREAKS,
        what="a table is renamed",
        why="processes of the version before know the old name only",
        rewrite="keep the name, or leave a view of the old name",
        pattern=r"ALTER TABLE RENAME TO\b",
    ),
)
