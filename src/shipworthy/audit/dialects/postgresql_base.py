"""What the trail needs once in a PostgreSQL database: the context's function, guards, rights."""

from typing import Final

from shipworthy.audit.dialects.postgresql_names import ENTER, GUARD, WHOLE, dollar_quoted, literal
from shipworthy.audit.dialects.postgresql_text import SETTINGS
from shipworthy.audit.tables import (
    BATCHES,
    CHECKPOINTS,
    CONTEXTS,
    ENTRIES,
    PREFIX,
    SHAPES,
    TABLES,
)

# Only ever added to; what is removed from them by retention says so first.
GUARDED: Final = tuple(it.name for it in (ENTRIES, CONTEXTS, SHAPES, BATCHES, CHECKPOINTS))

# The setting that ends with the transaction: who and what it is for, as
# `cells.write_context` has it. Capture takes the name of the transaction from where that has it.
# Whatever was set, entries name a context that this transaction wrote itself, which `position`
# shows, so nobody writes in the name of a transaction of others; `db_user` is never taken from it.
# Where that context lies is kept beside it: it is found by its place, not by its name, because to
# read the index makes two SERIALIZABLE transactions that have nothing in common conflict.
_ENTER_SOURCE: Final = """
DECLARE
  v_said text := coalesce(current_setting('shipworthy.context', true), '');
  v_context jsonb := '{}';
  v_here boolean := false;  -- our layer, or somebody who says who he is
  v_note text := '';
  v_tx text;
  v_place tid;
  v_first text;
  v_position bigint := txid_current();
BEGIN
  IF v_said <> '' THEN
    BEGIN
      v_context := v_said;
      v_here := v_context ? 'actor_kind';
    EXCEPTION WHEN data_exception THEN
      -- The write is the application's and goes on; who the database saw remains.
      v_context := '{}';
      v_note := 'the context that was set could not be read';
    END;
  END IF;
  v_tx := v_context ->> 'tx';
  v_first := left(coalesce(v_context ->> 'continues', ''), 32);
  IF v_first <> '' THEN
    IF EXISTS (
      SELECT FROM @schema.shipworthy_audit_contexts c
      WHERE c.tx = v_first AND c.position <> v_position
    ) THEN
      v_first := '';  -- that is another transaction
    END IF;
  END IF;
  WHILE v_place IS NULL LOOP
    IF v_tx IS NULL OR v_tx !~ '^[0-9a-f]{32}$' THEN
      v_tx := lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 20);
    END IF;
    INSERT INTO @schema.shipworthy_audit_contexts (tx, at_microseconds, position, actor,
      actor_kind, on_behalf_of, correlation_id, trace_id, route, address, db_user, application,
      note, continues)
    VALUES (
      v_tx,
      (date_part('epoch', clock_timestamp()) * 1000000)::bigint,
      v_position,
      left(coalesce(v_context ->> 'actor', ''), 200),
      CASE WHEN v_here THEN left(v_context ->> 'actor_kind', 16) ELSE 'database' END,
      left(coalesce(v_context ->> 'on_behalf_of', ''), 200),
      left(coalesce(v_context ->> 'correlation_id', ''), 128),
      left(coalesce(v_context ->> 'trace_id', ''), 32),
      left(coalesce(v_context ->> 'route', ''), 200),
      left(coalesce(
        CASE WHEN v_here THEN v_context ->> 'address' ELSE host(inet_client_addr()) END, ''), 64),
      left(session_user, 128),
      left(coalesce(nullif(v_context ->> 'application', ''),
        current_setting('application_name', true), ''), 128),
      left(coalesce(nullif(v_note, ''), v_context ->> 'note', ''), 1000),
      v_first
    ) ON CONFLICT (tx) DO NOTHING RETURNING ctid INTO v_place;
    IF v_place IS NULL THEN
      -- This transaction comes back to it; or it is that of another, and a new name is made.
      SELECT c.ctid INTO v_place FROM @schema.shipworthy_audit_contexts c
      WHERE c.tx = v_tx AND c.position = v_position;
      v_tx := CASE WHEN v_place IS NULL THEN NULL ELSE v_tx END;
    END IF;
  END LOOP;
  -- It goes back with the savepoint that takes the context back.
  PERFORM set_config('shipworthy.place', v_place::text, true);
  IF substr(v_said, 8, 32) <> v_tx THEN
    PERFORM set_config('shipworthy.context', '{"tx":"' || v_tx || '"}', true);
  END IF;
END
"""
_GUARD_SOURCE: Final = """
BEGIN
  IF TG_OP <> 'TRUNCATE' AND current_setting('shipworthy.removal', true) = 'on' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'the audit trail only grows: % of % is refused', lower(TG_OP), TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege',
    HINT = 'old entries are removed by retention, all of it by uninstall';
END
"""
# A row of a table that changed after its capture was generated: its key and its image, column by
# column as they are now. Slow; it is there so that no write fails until capture is made anew. Where
# some are personal, a column is shown only if it has the number and the name of one that is known
# not to be: of any other the image has that there was a value, which is kept nowhere.
_WHOLE_SOURCE: Final = """
DECLARE
  v_name text;
  v_number int2;
  v_cell text;
  v_image jsonb := '{}';
  v_hidden jsonb := '{}';
BEGIN
  FOR v_name, v_number IN
    SELECT a.attname, a.attnum FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.oid = pg_typeof(p_row) AND a.attnum > 0 AND NOT a.attisdropped
  LOOP
    EXECUTE format(
      'SELECT CASE WHEN num_nulls(($1).%1$I) = 0 THEN concat(($1).%1$I) END', v_name
    ) INTO v_cell USING p_row;
    v_image := v_image || jsonb_build_object(v_name, v_cell);
    IF v_cell IS NOT NULL AND concat(v_number, ' ', v_name) <> ALL (p_shown) THEN
      v_hidden := v_hidden || jsonb_build_object(v_name, true);
    END IF;
  END LOOP;
  RETURN ARRAY[
    (SELECT '[' || string_agg(coalesce(to_json(v_image ->> k.name)::text, 'null'), ','
      ORDER BY k.place) || ']' FROM unnest(p_key) WITH ORDINALITY k(name, place)),
    (v_image || v_hidden)::text
  ];
END
"""
# What runs with the rights of its owner must not look anything up where the caller wants it.
_SAFELY: Final = "SET search_path = pg_catalog, pg_temp"


def base_ddl() -> tuple[str, ...]:
    """Return the functions and guards of the log, made again where they are there already."""
    return (
        _do(
            f"CREATE OR REPLACE FUNCTION @schema.{ENTER}() RETURNS pg_catalog.void"
            f" LANGUAGE plpgsql SECURITY DEFINER {_SAFELY} AS $body${_ENTER_SOURCE}$body$"
        ),
        _do(
            f"CREATE OR REPLACE FUNCTION @schema.{GUARD}() RETURNS pg_catalog.trigger"
            f" LANGUAGE plpgsql {_SAFELY} AS $body${_GUARD_SOURCE}$body$"
        ),
        _do(
            f"CREATE OR REPLACE FUNCTION @schema.{WHOLE}(p_row anyelement, p_key text[],"
            f" p_shown text[]) RETURNS text[] LANGUAGE plpgsql {_SAFELY} {_fixed()}"
            f" AS $body${_WHOLE_SOURCE}$body$"
        ),
        _rights(),
        *(_do(statement) for table in GUARDED for statement in _guard(table)),
    )


def base_drop() -> tuple[str, ...]:
    """Return what takes it away; the tables stay."""
    triggers = [
        f"IF to_regclass(quote_ident(current_schema()) || '.{table}') IS NOT NULL THEN "
        f"EXECUTE format('DROP TRIGGER IF EXISTS {GUARD} ON %I.{table}', current_schema()); END IF;"
        for table in GUARDED
    ]
    return (
        "DO $do$ BEGIN " + " ".join(triggers) + " END $do$",
        _do(f"DROP FUNCTION IF EXISTS @schema.{GUARD}()"),
        _do(f"DROP FUNCTION IF EXISTS @schema.{ENTER}()"),
        _do(f"DROP FUNCTION IF EXISTS @schema.{WHOLE}(anyelement, text[], text[])"),
        # As it was before it knew what may be shown.
        _do(f"DROP FUNCTION IF EXISTS @schema.{WHOLE}(anyelement, text[])"),
    )


def owner_only(function: str) -> str:
    """Return what leaves a function to its owner, whatever default privileges gave to others.

    A role that may execute a trigger function can put it on a table of its own, and write entries.
    """
    named = literal(function)
    body = f"""DECLARE v_role text; BEGIN
  FOR v_role IN
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE p.oid = {named}::regprocedure AND a.grantee <> p.proowner
  LOOP
    EXECUTE 'REVOKE ALL ON FUNCTION ' || {named} || ' FROM ' || v_role;
  END LOOP;
END"""
    return f"DO {dollar_quoted(body)}"


def _guard(table: str) -> tuple[str, ...]:
    return (
        (
            f"CREATE OR REPLACE TRIGGER {GUARD} BEFORE UPDATE OR DELETE OR TRUNCATE"
            f" ON @schema.{table} FOR EACH STATEMENT EXECUTE FUNCTION @schema.{GUARD}()"
        ),
        f"ALTER TABLE @schema.{table} ENABLE ALWAYS TRIGGER {GUARD}",
    )


def _rights() -> str:
    """Take from others what default privileges gave; what they were given to read since stays."""
    names = ", ".join(f"'{table.name}'" for table in TABLES)
    return f"""DO $do$
DECLARE
  v_grant record;
  v_first boolean := NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = '{GUARD}'
    AND tgrelid = to_regclass(quote_ident(current_schema()) || '.{GUARDED[0]}'));
BEGIN
  FOR v_grant IN
    SELECT c.oid::regclass AS relation, c.relkind, a.privilege_type AS privilege,
      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
    FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.relnamespace = current_schema()::regnamespace AND a.grantee <> c.relowner
    AND (c.relname IN ({names}) OR (c.relkind = 'S' AND c.relname LIKE '{PREFIX}audit\\_%'))
    AND (v_first OR a.privilege_type <> 'SELECT')
  LOOP
    EXECUTE format('REVOKE %s ON %s %s FROM %s', v_grant.privilege,
      CASE v_grant.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, v_grant.relation,
      v_grant.role);
  END LOOP;
  FOR v_grant IN
    SELECT p.oid::regprocedure AS routine,
      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
    FROM pg_proc p, aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a
    WHERE p.pronamespace = current_schema()::regnamespace AND
      p.proname IN ('{ENTER}', '{GUARD}', '{WHOLE}')
    AND a.grantee <> p.proowner
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_grant.routine, v_grant.role);
  END LOOP;
END $do$"""


def _fixed() -> str:
    """Return the SET clauses of a function that writes any type."""
    return " ".join(
        f"SET {name} = {literal(one.wanted)}"
        for name, one in SETTINGS.items()
        if name != "search_path"
    )


def _do(statement: str) -> str:
    """Return `statement` with the schema put in when it runs, that being known only then."""
    return (
        f"DO $do$ BEGIN EXECUTE replace($sql${statement}$sql$, '@schema',"
        " quote_ident(current_schema())); END $do$"
    )
