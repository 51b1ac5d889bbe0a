"""PostgreSQL: partial indexes built beside the traffic, guards that wait, and views over tables."""

from collections.abc import Sequence
from typing import Final, final

from shipworthy.audit import CatalogForeignKey, CatalogTable, CatalogUnique
from shipworthy.records.flag.dialects import (
    FlaggedCatalogTable,
    FlagStatement,
    own_name,
    refusal,
)
from shipworthy.records.flag.marks import ID_CHARACTERS, ID_COLUMN

SHADOW: Final = "shipworthy_live"


@final
class PostgresqlFlags:
    """The statements of PostgreSQL."""

    upserts_name_the_index = True
    new_id = "replace(gen_random_uuid()::text, '-', '')"

    def add_columns(
        self, table: CatalogTable, columns: Sequence[str], column: str
    ) -> list[FlagStatement]:
        # Nullable and without a default: a change of the catalog alone.
        kinds = {column: "timestamptz", ID_COLUMN: f"varchar({ID_CHARACTERS})"}
        return [
            FlagStatement(sql=f"ALTER TABLE {_name(table)} ADD COLUMN {_quote(it)} {kinds[it]}")
            for it in columns
        ]

    def index_ids(self, table: CatalogTable) -> list[FlagStatement]:
        name = own_name("id", table.name.name)
        return [
            _concurrently(
                "", name, table, f"({_quote(ID_COLUMN)}) WHERE {_quote(ID_COLUMN)} IS NOT NULL"
            )
        ]

    def pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        table, name = _name(flagged.table), _quote(own_name("pair", flagged.name.name))
        both = f"({_quote(flagged.column)} IS NULL) = ({_quote(ID_COLUMN)} IS NULL)"
        return [
            FlagStatement(
                sql=f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({both}) NOT VALID",
                undo=f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}",
            )
        ]

    def prove_pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        name = _quote(own_name("pair", flagged.name.name))
        sql = f"ALTER TABLE {_name(flagged.table)} VALIDATE CONSTRAINT {name}"
        return [FlagStatement(sql=sql)]

    def live_unique(
        self, flagged: FlaggedCatalogTable, unique: CatalogUnique, *, constraint: bool
    ) -> list[FlagStatement]:
        table = flagged.table
        columns = ", ".join(_quote(it) for it in unique.columns)
        only = f"({columns}) WHERE {_quote(flagged.column)} IS NULL"
        old = _quote(unique.name)
        if constraint:
            drop = f"ALTER TABLE {_name(table)} DROP CONSTRAINT {old}"
            again = f"ALTER TABLE {_name(table)} ADD CONSTRAINT {old} UNIQUE ({columns})"
        else:
            drop = f"DROP INDEX CONCURRENTLY {_place(table)}{old}"
            again = f"CREATE UNIQUE INDEX CONCURRENTLY {old} ON {_name(table)} ({columns})"
        return [
            _concurrently("UNIQUE ", own_name("live", table.name.name, unique.name), table, only),
            FlagStatement(sql=drop, undo=again, alone=not constraint),
        ]

    def guard(
        self, child: CatalogTable, key: CatalogForeignKey, parent: FlaggedCatalogTable
    ) -> list[FlagStatement]:
        name = _quote(own_name("guard", child.name.name, key.name))
        function = f"{_place(child)}{name}"
        pairs = list(zip(key.columns, key.target_columns, strict=True))
        same = " AND ".join(f"p.{_quote(far)} = NEW.{_quote(near)}" for near, far in pairs)
        columns = ", ".join(_quote(near) for near in key.columns)
        text = refusal(child.name.name, parent.name.name)
        # FOR SHARE waits for whoever is flagging the parent, and then reads what became of it.
        body = f"""
DECLARE gone timestamptz;
BEGIN
  SELECT p.{_quote(parent.column)} INTO gone FROM {_name(parent.table)} p WHERE {same} FOR SHARE;
  IF gone IS NOT NULL THEN
    RAISE EXCEPTION '{text}' USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NEW;
END"""
        return [
            FlagStatement(
                sql=f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
                f"AS $guard${body}$guard$",
                undo=f"DROP FUNCTION IF EXISTS {function}()",
            ),
            FlagStatement(
                sql=f"CREATE OR REPLACE TRIGGER {name} BEFORE INSERT OR UPDATE OF {columns} "
                f"ON {_name(child)} FOR EACH ROW EXECUTE FUNCTION {function}()",
                undo=f"DROP TRIGGER IF EXISTS {name} ON {_name(child)}",
            ),
        ]

    def shadow(
        self,
        flagged: FlaggedCatalogTable,
        along: Sequence[tuple[FlaggedCatalogTable, CatalogForeignKey]],
    ) -> list[FlagStatement]:
        table = flagged.table
        view = f"{SHADOW}.{_quote(table.name.name)}"
        function = f"{SHADOW}.{_quote(own_name('delete', table.name.name))}"
        mine = " AND ".join(f"{_quote(it)} = OLD.{_quote(it)}" for it in table.primary_key)
        others = "".join(
            f"\n  UPDATE {_name(child.table)} SET {_quote(child.column)} = "
            f"NEW.{_quote(flagged.column)}, {_quote(ID_COLUMN)} = NEW.{_quote(ID_COLUMN)} WHERE "
            + " AND ".join(
                f"{_quote(near)} = NEW.{_quote(far)}"
                for near, far in zip(key.columns, key.target_columns, strict=True)
            )
            + f" AND {_quote(child.column)} IS NULL;"
            for child, key in along
        )
        cascade = own_name("along", table.name.name)
        began = f"OLD.{_quote(flagged.column)} IS NULL AND NEW.{_quote(flagged.column)} IS NOT NULL"
        body = f"""
BEGIN
  UPDATE {_name(table)} SET {_quote(flagged.column)} = now(),
    {_quote(ID_COLUMN)} = md5(current_database() || pg_current_xact_id()::text)
  WHERE {mine} AND {_quote(flagged.column)} IS NULL;
  RETURN OLD;
END"""
        return [
            FlagStatement(sql=f"CREATE SCHEMA IF NOT EXISTS {SHADOW}"),
            FlagStatement(
                sql=f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {_name(table)} "
                f"WHERE {_quote(flagged.column)} IS NULL",
                undo=f"DROP VIEW IF EXISTS {view}",
            ),
            FlagStatement(
                sql=f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
                f"SECURITY DEFINER SET search_path = pg_catalog AS $flag${body}$flag$",
                undo=f"DROP FUNCTION IF EXISTS {function}() CASCADE",
            ),
            FlagStatement(
                sql=f"CREATE OR REPLACE TRIGGER {_quote(own_name('delete', table.name.name))} "
                f"INSTEAD OF DELETE ON {view} FOR EACH ROW EXECUTE FUNCTION {function}()"
            ),
            FlagStatement(
                sql=f"CREATE OR REPLACE FUNCTION {SHADOW}.{_quote(cascade)}() RETURNS trigger "
                "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog "
                f"AS $along$\nBEGIN{others}\n  RETURN NULL;\nEND$along$",
                undo=f"DROP FUNCTION IF EXISTS {SHADOW}.{_quote(cascade)}() CASCADE",
            ),
            FlagStatement(
                sql=f"CREATE OR REPLACE TRIGGER {_quote(cascade)} AFTER UPDATE OF "
                f"{_quote(flagged.column)} ON {_name(table)} FOR EACH ROW WHEN ({began}) "
                f"EXECUTE FUNCTION {SHADOW}.{_quote(cascade)}()",
            ),
        ]

    def shadow_role(self, role: str) -> list[FlagStatement]:
        name = _quote(role)
        return [
            FlagStatement(sql=f"GRANT USAGE ON SCHEMA {SHADOW} TO {name}"),
            FlagStatement(
                sql="GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "
                f"{SHADOW} TO {name}"
            ),
            FlagStatement(
                sql=_here(f"ALTER ROLE {name} IN DATABASE %I SET search_path = {SHADOW}, public"),
                undo=_here(f"ALTER ROLE {name} IN DATABASE %I RESET search_path"),
            ),
        ]


def _here(sql: str) -> str:
    """Return what runs `sql` with the name of this database for its %I: no other is concerned."""
    return f"DO $here$BEGIN EXECUTE format($sql${sql}$sql$, current_database()); END$here$"


def _concurrently(kind: str, name: str, table: CatalogTable, what: str) -> FlagStatement:
    # One that a build left behind is not valid and serves nobody, hence it is dropped before.
    return FlagStatement(
        sql=f"CREATE {kind}INDEX CONCURRENTLY IF NOT EXISTS {_quote(name)} "
        f"ON {_name(table)} {what}",
        undo=f"DROP INDEX CONCURRENTLY IF EXISTS {_place(table)}{_quote(name)}",
        alone=True,
    )


def _quote(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _place(table: CatalogTable) -> str:
    return f"{_quote(table.name.schema)}." if table.name.schema else ""


def _name(table: CatalogTable) -> str:
    return f"{_place(table)}{_quote(table.name.name)}"


POSTGRESQL_FLAGS: Final = PostgresqlFlags()
