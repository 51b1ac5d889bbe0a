"""What a role that may only use the application's tables can do to the log: by SQL, nothing.

What it can do is say that it is somebody else, for the actor is a setting of the session; whom the
database let in is noted beside it, and that it cannot choose.
"""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from audit.dialects.postgresql_trail import actors, context, entries, install, run, table_of
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT
from shipworthy.audit.model import Catalog, Shape
from shipworthy.audit.tables import METADATA

REFUSED = "permission denied|must be owner"


@pytest.fixture
def owner(postgres_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def app(owner: sa.Connection, postgres_url: str) -> Iterator[sa.Connection]:
    """A role with all rights on the application's table, which owns a schema of its own.

    Rights on whatever is made were given to everybody beforehand, as careless people do.
    """
    role = sa.make_url(postgres_url).database
    run(
        owner,
        f"CREATE ROLE {role} LOGIN",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC",
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO {role}",
    )
    install(owner, "CREATE TABLE t (id int PRIMARY KEY, a text)")
    run(owner, f"CREATE SCHEMA evil AUTHORIZATION {role}")
    owner.commit()
    engine = sa.create_engine(sa.make_url(postgres_url).set(username=role))
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    owner.rollback()
    run(owner, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
    owner.commit()


def test_the_log_is_closed_to_who_may_use_the_tables(
    app: sa.Connection, owner: sa.Connection
) -> None:
    """Neither read nor written nor emptied, though default privileges had opened it."""
    run(app, "INSERT INTO t VALUES (1, 'x')")
    app.commit()
    for table in METADATA.sorted_tables:
        for statement in (
            f"SELECT * FROM {table.name}",
            f"INSERT INTO {table.name} DEFAULT VALUES",
            f"UPDATE {table.name} SET {next(iter(table.columns)).name} = NULL",
            f"DELETE FROM {table.name}",
            f"TRUNCATE {table.name}",
            f"ALTER TABLE {table.name} DISABLE TRIGGER ALL",
            f"DROP TABLE {table.name}",
        ):
            with pytest.raises(sa.exc.ProgrammingError, match=REFUSED):
                run(app, statement)
            app.rollback()
    for statement in (
        "SELECT nextval('shipworthy_audit_entries_seq_seq')",
        "SELECT setval('shipworthy_audit_entries_seq_seq', 1)",
        "SELECT shipworthy_audit_enter()",
        'ALTER TABLE t DISABLE TRIGGER "00_shipworthy_audit_1_insert"',
        'DROP TRIGGER "00_shipworthy_audit_1_insert" ON t',
        "SET session_replication_role = replica",
        (
            "CREATE OR REPLACE FUNCTION public.shipworthy_audit_1_rows() RETURNS trigger"
            " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        ),
    ):
        with pytest.raises(sa.exc.ProgrammingError, match=REFUSED):
            run(app, statement)
        app.rollback()
    assert entries(owner) == [("I", '["1"]', None, {"id": "1", "a": "x"})]


def test_entries_cannot_be_forged_by_our_own_functions(app: sa.Connection) -> None:
    """A trigger of ours cannot be put on a table of one's own."""
    for function in ("shipworthy_audit_1_rows", "shipworthy_audit_1_truncate"):
        run(app, "CREATE TABLE evil.t (id int PRIMARY KEY, a text)")
        with pytest.raises(sa.exc.ProgrammingError, match=REFUSED):
            run(
                app,
                f"CREATE TRIGGER forged AFTER INSERT ON evil.t FOR EACH ROW"
                f" EXECUTE FUNCTION public.{function}()",
            )
        app.rollback()


def test_nothing_of_the_writer_runs_with_the_rights_of_the_owner(
    app: sa.Connection, owner: sa.Connection
) -> None:
    """Operators, functions, types and tables of his schemas are not what capture means by them."""
    steal = "AS $$BEGIN RAISE EXCEPTION 'run as %', current_user; END$$ LANGUAGE plpgsql"
    run(
        app,
        *(
            f"CREATE FUNCTION evil.{name}({arguments}) RETURNS {result} {steal}"
            for name, arguments, result in (
                ("same", "text, text", "bool"),
                ("sum", "text, text", "text"),
                ("to_json", "text", "json"),
                ("concat", "text, text", "text"),
                ("substr", "text, int, int", "text"),
                ("txid_current", "", "bigint"),
                ("current_setting", "text, bool", "text"),
                ("set_config", "text, text, bool", "text"),
                ("left", "text, int", "text"),
                ("clock_timestamp", "", "timestamptz"),
            )
        ),
        "CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text)",
        "CREATE OPERATOR evil.<> (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text)",
        "CREATE OPERATOR evil.|| (FUNCTION = evil.sum, LEFTARG = text, RIGHTARG = text)",
        "CREATE OPERATOR evil.->> (FUNCTION = evil.sum, LEFTARG = text, RIGHTARG = text)",
        "CREATE DOMAIN evil.text AS int",
        "CREATE TEMP TABLE shipworthy_audit_contexts (tx varchar(32), position bigint)",
        "CREATE TEMP TABLE shipworthy_audit_entries (tx varchar(32))",
        "SET search_path = evil, pg_temp, public, pg_catalog",
        "INSERT INTO public.t VALUES (1, 'x')",
        "UPDATE public.t SET a = 'y'",
        "DELETE FROM public.t",
    )
    app.commit()
    assert [op for op, *_ in entries(owner)] == ["I", "U", "D"]
    assert {kind for _, kind, _ in actors(owner)} == {"database"}


def test_a_cast_of_a_type_of_ones_own_does_not_run_with_the_rights_of_the_owner(
    app: sa.Connection, owner: sa.Connection
) -> None:
    """Values are written by output functions, which only a superuser makes."""
    role = app.scalar(sa.text("SELECT session_user"))
    app.rollback()
    run(
        owner,
        f"GRANT USAGE ON SCHEMA evil TO {role}",
        "CREATE TYPE evil.mood AS ENUM ('sad')",
        "CREATE TYPE evil.pair AS (a int, m evil.mood)",
        f"ALTER TYPE evil.mood OWNER TO {role}",
        f"ALTER TYPE evil.pair OWNER TO {role}",
        "CREATE TABLE felt (id int PRIMARY KEY, m evil.mood, p evil.pair, s evil.mood[])",
    )
    shape = Shape(
        id=9,
        table_id=9,
        table=table_of(POSTGRESQL_AUDIT.read_catalog(owner), "felt"),
    )
    run(owner, *POSTGRESQL_AUDIT.capture(shape, Catalog(dialect="", tables={})).create)
    owner.commit()
    run(
        app,
        *(
            f"CREATE FUNCTION evil.told(evil.{kind}) RETURNS text LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'run as %', current_user; END$$"
            for kind in ("mood", "pair")
        ),
        "CREATE CAST (evil.mood AS text) WITH FUNCTION evil.told(evil.mood) AS IMPLICIT",
        "CREATE CAST (evil.pair AS text) WITH FUNCTION evil.told(evil.pair) AS IMPLICIT",
        "INSERT INTO felt VALUES (1, 'sad', ROW(1, 'sad'), '{sad}')",
        "UPDATE felt SET m = NULL, p = ROW(NULL, NULL)",
    )
    app.commit()
    assert [op for op, *_ in entries(owner)] == ["I", "U"]


def test_an_actor_can_be_made_up_but_not_who_the_database_let_in(
    app: sa.Connection, owner: sa.Connection
) -> None:
    """Nor can an entry be put under the context of another transaction."""
    raw = owner.connection.dbapi_connection
    POSTGRESQL_AUDIT.bind(raw, context(1, "ana"))
    run(owner, "INSERT INTO t VALUES (1, 'x')")
    owner.commit()
    POSTGRESQL_AUDIT.bind(app.connection.dbapi_connection, context(1, "ana"))
    run(app, "INSERT INTO t VALUES (2, 'y')")
    app.commit()

    role = app.scalar(sa.text("SELECT session_user"))
    assert actors(owner) == [("ana", "user", "postgres"), ("ana", "user", role)]
    assert owner.scalar(sa.text("SELECT count(*) FROM shipworthy_audit_contexts")) == 2


def test_the_log_only_grows_also_for_its_owner(owner: sa.Connection) -> None:
    """What retention removes it says first, for one transaction; nothing empties it at once."""
    install(owner, "CREATE TABLE t (id int PRIMARY KEY, a text)")
    run(owner, "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    owner.commit()
    for statement in (
        "DELETE FROM shipworthy_audit_entries",
        "UPDATE shipworthy_audit_entries SET op = 'D'",
        "UPDATE shipworthy_audit_contexts SET actor = 'ben'",
        "TRUNCATE shipworthy_audit_entries",
        "SET session_replication_role = replica; DELETE FROM shipworthy_audit_entries",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="the audit trail only grows"):
            run(owner, statement)
        owner.rollback()

    with POSTGRESQL_AUDIT.retention(owner):
        run(owner, "DELETE FROM shipworthy_audit_entries WHERE seq = 1")
        with pytest.raises(sa.exc.ProgrammingError, match="only grows"), owner.begin_nested():
            run(owner, "TRUNCATE shipworthy_audit_entries")
    with pytest.raises(sa.exc.ProgrammingError, match="only grows"):
        run(owner, "DELETE FROM shipworthy_audit_entries")
    owner.rollback()


def test_who_was_given_to_read_the_log_keeps_it(app: sa.Connection, owner: sa.Connection) -> None:
    """To make the guards again takes no more than rights to write."""
    role = app.scalar(sa.text("SELECT session_user"))
    run(owner, f"GRANT SELECT, DELETE ON shipworthy_audit_entries TO {role}")
    run(owner, *POSTGRESQL_AUDIT.base_ddl())
    owner.commit()
    run(app, "SELECT * FROM shipworthy_audit_entries")
    with pytest.raises(sa.exc.ProgrammingError, match=REFUSED):
        run(app, "DELETE FROM shipworthy_audit_entries")


def test_serializable_transactions_that_share_nothing_do_not_conflict(
    owner: sa.Connection, postgres_url: str
) -> None:
    """Each writes its context where the other does; neither may be taken to have read there."""
    install(owner, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    run(owner, "INSERT INTO t VALUES (0)")
    owner.commit()
    engine = sa.create_engine(postgres_url, isolation_level="SERIALIZABLE")
    with engine.connect() as one, engine.connect() as other:
        for number, (connection, table) in enumerate(((one, "t"), (other, "u"), (one, "t")), 1):
            driver = connection.connection.dbapi_connection
            POSTGRESQL_AUDIT.bind(driver, context(number, f"actor {number}"))
            run(connection, f"INSERT INTO {table} VALUES ({number})")
        other.commit()
        one.commit()
    engine.dispose()
    assert len(entries(owner)) == 4
