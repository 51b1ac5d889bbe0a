"""Which rules a database's migrations are held to."""

from typing import Final

from shipworthy.db.dialects.migration_rules_mariadb import MARIADB_RULES
from shipworthy.db.dialects.migration_rules_postgresql import POSTGRESQL_RULES
from shipworthy.db.dialects.migration_rules_sqlite import SQLITE_RULES
from shipworthy.db.migrate.rule import Knowledge, MigrationRule, MigrationSeverity
from shipworthy.db.migrate.statements import Clause, SqlStatement

_OURS: Final = "shipworthy_"


def _of_ours(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    del statement, known
    return any(table.startswith(_OURS) for table in clause.tables)


# The same on every database.
_COMMON: Final = (
    MigrationRule(
        id="ours-dropped",
        severity=MigrationSeverity.LOSES,
        what="a table of Shipworthy's own is dropped",
        why="with it goes what it has recorded; Alembic proposes so where a table is in no model",
        rewrite="leave out tables that begin with shipworthy_ by include_name in env.py; to remove "
        "them, use `shipworthy audit uninstall` or `shipworthy db migrate --remove-ours`",
        pattern=r"DROP TABLE\b",
        when=_of_ours,
    ),
)
_MARIADB: Final = (*MARIADB_RULES, *_COMMON)
_RULES: dict[str, tuple[MigrationRule, ...]] = {
    "mariadb": _MARIADB,
    "mysql": _MARIADB,
    "postgresql": (*POSTGRESQL_RULES, *_COMMON),
    "sqlite": (*SQLITE_RULES, *_COMMON),
}


def rules_of(dialect: str) -> tuple[MigrationRule, ...]:
    """Return the rules for what SQLAlchemy calls `dialect`; none for one we do not know."""
    return _RULES.get(dialect, ())
