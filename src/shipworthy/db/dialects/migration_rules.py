"""Which rules a database's migrations are held to."""

from shipworthy.db.dialects.migration_rules_mariadb import MARIADB_RULES
from shipworthy.db.dialects.migration_rules_postgresql import POSTGRESQL_RULES
from shipworthy.db.dialects.migration_rules_sqlite import SQLITE_RULES
from shipworthy.db.migrate.rule import MigrationRule

_RULES: dict[str, tuple[MigrationRule, ...]] = {
    "mariadb": MARIADB_RULES,
    "mysql": MARIADB_RULES,
    "postgresql": POSTGRESQL_RULES,
    "sqlite": SQLITE_RULES,
}


def rules_of(dialect: str) -> tuple[MigrationRule, ...]:
    """Return the rules for what SQLAlchemy calls `dialect`; none for one we do not know."""
    return _RULES.get(dialect, ())
