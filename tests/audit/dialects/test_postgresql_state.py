"""Our triggers read back as they were generated, and what was done to them shows."""

from typing import Any

import sqlalchemy as sa

from audit.dialects.postgresql_trail import TREE, capture_of, install, run
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT


def test_what_was_generated_is_what_is_there(connection: sa.Connection) -> None:
    """Each trigger reads back as predicted, and shows when it is switched off or changed."""
    catalog = install(
        connection,
        *TREE,
        'CREATE TABLE "Odd ""name""" ("a ""b"" %s :c $body$" int PRIMARY KEY, at timestamptz)',
        "CREATE TABLE m (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10)",
    )

    def found() -> dict[tuple[str, str], Any]:
        return {
            (str(it.table), it.name): it
            for it in POSTGRESQL_AUDIT.triggers(connection)
            if not it.table.name.startswith("shipworthy_")
        }

    wanted = {
        (str(it.table), it.name): it
        for number, name in enumerate(catalog.tables, 1)
        for it in capture_of(catalog, name.name, number).triggers
    }
    assert found() == wanted

    run(
        connection,
        'ALTER TABLE m1 DISABLE TRIGGER "00_shipworthy_audit_3_insert"',
        'ALTER TABLE client ENABLE TRIGGER "00_shipworthy_audit_2_update"',
        'DROP TRIGGER "00_shipworthy_audit_4_delete" ON project',
        "CREATE OR REPLACE FUNCTION shipworthy_audit_2_truncate() RETURNS trigger"
        " LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
    )
    now = found()
    assert {key for key, it in now.items() if not it.enabled} == {
        ("m", "00_shipworthy_audit_3_insert"),
        ("client", "00_shipworthy_audit_2_update"),
    }
    assert set(wanted) - set(now) == {("project", "00_shipworthy_audit_4_delete")}
    assert {key for key, it in now.items() if it.text != wanted[key].text} == {
        ("client", "00_shipworthy_audit_2_truncate")
    }


def test_the_guards_of_the_log_are_looked_at_too(connection: sa.Connection) -> None:
    """One that is missing is off, for nothing else would miss it; so is the context's function."""
    install(connection, *TREE)

    def off() -> set[tuple[str, str]]:
        return {
            (it.table.name, it.name)
            for it in POSTGRESQL_AUDIT.triggers(connection)
            if not it.enabled or ("".join(it.text.split()) not in made and it.name[:2] != "00")
        }

    made = "".join("\n".join(POSTGRESQL_AUDIT.base_ddl()).split())
    assert off() == set()
    run(
        connection,
        "DROP TRIGGER shipworthy_audit_guard ON shipworthy_audit_entries",
        "ALTER TABLE shipworthy_audit_contexts DISABLE TRIGGER shipworthy_audit_guard",
        "CREATE OR REPLACE FUNCTION shipworthy_audit_enter() RETURNS void LANGUAGE sql AS ''",
    )
    assert off() == {
        ("shipworthy_audit_entries", "shipworthy_audit_guard"),
        ("shipworthy_audit_contexts", "shipworthy_audit_guard"),
        ("shipworthy_audit_contexts", "shipworthy_audit_enter"),
    }
    run(connection, *POSTGRESQL_AUDIT.base_ddl())
    assert off() == set()
