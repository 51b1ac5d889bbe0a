"""The trail on MariaDB: what is written, by whom, and what no session can do to it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from audit.dialects.mariadb_trail import catalog_of, entries, install, personal, script
from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects.mariadb import MARIADB_AUDIT
from shipworthy.audit.model import Context, TableName
from shipworthy.audit.tables import CONTEXTS, ENTRIES
from shipworthy.errors import Misuse


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(mariadb_url)
    yield engine
    engine.dispose()


@pytest.fixture
def items(engine: sa.Engine) -> sa.Engine:
    """A database with one small captured table."""
    script(
        engine,
        "CREATE TABLE items (id int auto_increment primary key, name varchar(50) unique, n int)",
    )
    install(engine)
    return engine


def _context(tx: str, **facts: str) -> Context:
    return Context(tx=tx * 32, at_microseconds=1_700_000_000_000_000, **facts)


def _bind(connection: sa.Connection, context: Context) -> None:
    MARIADB_AUDIT.bind(connection.connection.dbapi_connection, context)


def _written(connection: sa.Connection) -> list[tuple[str, str | None]]:
    return [(entry["op"], entry["key"]) for entry in entries(connection)]


def test_an_update_has_only_what_changed(items: sa.Engine) -> None:
    """Bytes decide: another case is a change though the collation thinks it the same."""
    script(
        items,
        "INSERT INTO items VALUES (1,'a',1),(2,NULL,2)",
        "UPDATE items SET n=n, name=name",
        "UPDATE items SET name='A' WHERE id=1",
        "UPDATE items SET name='b', n=NULL, id=20 WHERE id=2",
    )
    with items.connect() as connection:
        updates = entries(connection, "U")
    assert [(it["key"], it["old"], it["new"]) for it in updates] == [
        ('["1"]', {"name": "a"}, {"name": "A"}),
        ('["2"]', {"id": "2", "name": None, "n": "2"}, {"id": "20", "name": "b", "n": None}),
    ]


def test_every_way_of_writing_is_captured(items: sa.Engine, tmp_path: Path) -> None:
    """REPLACE, ON DUPLICATE KEY, INSERT IGNORE, SELECT, several tables at once, LOAD DATA."""
    script(items, "CREATE TABLE others (id int primary key, item int)")
    install(items)
    loaded = tmp_path / "rows.csv"
    loaded.write_text("50,x,5\n51,y,6\n")
    with items.connect() as connection:

        def run(statement: str) -> list[tuple[str, str | None]]:
            before = len(_written(connection))
            connection.exec_driver_sql(statement)
            return _written(connection)[before:]

        assert run("INSERT INTO items VALUES (1,'a',1),(2,'b',2)") == [
            ("I", '["1"]'),
            ("I", '["2"]'),
        ]
        assert run("REPLACE INTO items VALUES (3,'a',9)") == [("D", '["1"]'), ("I", '["3"]')]
        assert run("INSERT INTO items VALUES (2,'z',1) ON DUPLICATE KEY UPDATE n=77") == [
            ("U", '["2"]')
        ]
        assert run("INSERT IGNORE INTO items VALUES (2,'q',1)") == []
        both = Counter({("I", '["2"]'): 1, ("I", '["3"]'): 1})
        assert Counter(run("INSERT INTO others SELECT id, id FROM items")) == both
        twice = Counter({("U", '["2"]'): 2, ("U", '["3"]'): 2})
        joined = "UPDATE items i JOIN others o ON o.item=i.id SET i.n=5, o.item=0"
        assert Counter(run(joined)) == twice
        assert Counter(run("DELETE i, o FROM items i JOIN others o ON o.id=i.id")) == Counter(
            {("D", '["2"]'): 2, ("D", '["3"]'): 2}
        )
    url = items.url
    with pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, database=url.database,
        local_infile=True, password=url.password or "",
    ) as raw, raw.cursor() as cursor:  # fmt: skip
        cursor.execute("SELECT @@GLOBAL.local_infile")
        if not cursor.fetchone()[0]:
            cursor.execute(f"LOAD DATA INFILE '{loaded}' INTO TABLE items FIELDS TERMINATED BY ','")
        else:
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{loaded}' INTO TABLE items FIELDS TERMINATED BY ','"
            )
        raw.commit()
    with items.connect() as connection:
        assert _written(connection)[-2:] == [("I", '["50"]'), ("I", '["51"]')]


def test_what_the_application_sees_is_unchanged(items: sa.Engine) -> None:
    """The last id, the rows counted and the warnings are those of its own statement."""
    with items.connect() as connection:
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('x')")
        inserted = connection.exec_driver_sql("INSERT INTO items (name,n) VALUES ('a',1),('b',2)")
        assert inserted.lastrowid == 2
        assert inserted.rowcount == 2
        assert connection.exec_driver_sql("SELECT LAST_INSERT_ID()").scalar_one() == 2
        assert connection.exec_driver_sql("DELETE FROM items").rowcount == 3
        assert connection.exec_driver_sql("SHOW WARNINGS").all() == []


def test_a_context_is_noted_once_for_a_transaction(items: sa.Engine) -> None:
    """Entries name it, and it says who it was for, with the user of the database beside."""
    with items.begin() as connection:
        _bind(connection, _context("a", actor='ana "😀\\', actor_kind="user", route="/x"))
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('a'),('b')")
        connection.exec_driver_sql("UPDATE items SET n=5")
    with items.connect() as connection:
        assert {entry["tx"] for entry in entries(connection)} == {"a" * 32}
        (noted,) = connection.execute(sa.select(CONTEXTS)).mappings()
    assert noted["actor"] == 'ana "😀\\'
    assert (noted["actor_kind"], noted["route"]) == ("user", "/x")
    assert noted["at_microseconds"] == 1_700_000_000_000_000
    assert noted["db_user"].startswith("root@")


def test_a_statement_of_another_client_is_a_transaction(items: sa.Engine) -> None:
    """Without a context the database's user is the actor; rows of a statement stay together."""
    script(items, "INSERT INTO items (name) VALUES ('a'),('b')", "UPDATE items SET n=1")
    with items.connect() as connection:
        txs = [entry["tx"] for entry in entries(connection)]
        kinds = connection.scalars(sa.select(CONTEXTS.c.actor_kind)).all()
        users = connection.scalars(sa.select(CONTEXTS.c.db_user)).all()
    assert txs[0] == txs[1] != txs[2] == txs[3]
    assert kinds == ["database", "database"]
    assert all(user.startswith("root@") for user in users)


def test_a_rolled_back_savepoint_leaves_no_entry_without_its_context(items: sa.Engine) -> None:
    """What the savepoint took away, the next entry notes again."""
    with items.begin() as connection:
        _bind(connection, _context("b", actor="ben"))
        savepoint = connection.begin_nested()
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('lost')")
        savepoint.rollback()
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('kept')")
    with items.connect() as connection:
        (entry,) = entries(connection)
        assert entry["new"]["name"] == "kept"
        assert connection.scalars(sa.select(CONTEXTS.c.tx)).all() == [entry["tx"]] == ["b" * 32]


def test_a_statement_that_failed_inside_a_procedure_loses_no_context(items: sa.Engine) -> None:
    """Nobody outside sees that it failed; the next entry has its context all the same."""
    script(
        items,
        "CREATE PROCEDURE two_tries() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; "
        "INSERT INTO items (id,name) VALUES (1,'a'),(1,'b'); "
        "INSERT INTO items (name) VALUES ('kept'); END",
    )
    with items.begin() as connection:
        _bind(connection, _context("f", actor="fay"))
        connection.exec_driver_sql("CALL two_tries()")
    with items.connect() as connection:
        (entry,) = entries(connection)
        assert entry["new"]["name"] == "kept"
        (noted,) = connection.execute(sa.select(CONTEXTS)).mappings()
        assert (noted["tx"], noted["actor"]) == (entry["tx"], "fay")


def test_a_context_does_not_outlive_its_clearing(items: sa.Engine) -> None:
    """After the statement that clears, the connection's next transaction is nobody's of ours."""
    with items.connect() as connection:
        text = write_context(_context("c", actor="cat"))
        connection.execute(sa.text(MARIADB_AUDIT.context_statement), {"context": text})
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('hers')")
        connection.commit()
        connection.execute(sa.text(MARIADB_AUDIT.clear_statement))
        connection.exec_driver_sql("INSERT INTO items (name) VALUES ('not hers')")
        connection.commit()
        first, second = entries(connection)
    assert first["tx"] == "c" * 32
    assert second["tx"] != "c" * 32
    assert second["tx"] == second["tx"].lower()
    assert len(second["tx"]) == 32


def test_two_connections_have_their_own_contexts(items: sa.Engine) -> None:
    """Interleaved transactions keep apart who they were for."""
    with items.connect() as one, items.connect() as two:
        for connection, tx, name in ((one, "d", "x"), (two, "e", "y")):
            _bind(connection, _context(tx, actor=name))
            connection.exec_driver_sql(f"INSERT INTO items (name) VALUES ('{name}1')")
        for connection, name in ((one, "x"), (two, "y")):
            connection.exec_driver_sql(f"INSERT INTO items (name) VALUES ('{name}2')")
        two.commit()
        one.commit()
    with items.connect() as connection:
        assert {(entry["tx"][0], entry["new"]["name"]) for entry in entries(connection)} == {
            ("d", "x1"), ("d", "x2"), ("e", "y1"), ("e", "y2"),
        }  # fmt: skip


def test_the_time_of_an_entry_is_the_clocks(items: sa.Engine) -> None:
    """A session whose own time stands still, in whatever zone, does not move it."""
    script(
        items,
        "SET timestamp=1000",
        "SET time_zone='+13:00'",
        "INSERT INTO items (name) VALUES ('a')",
    )
    items.dispose()
    with items.connect() as connection:
        (at,) = connection.scalars(sa.select(ENTRIES.c.at_microseconds))
        now = connection.exec_driver_sql("SELECT UNIX_TIMESTAMP()").scalar_one()
    assert abs(at / 1e6 - now) < 60


def test_the_log_is_only_added_to(items: sa.Engine) -> None:
    """Rows of the log are neither changed nor removed, but inside a retention."""
    script(items, "INSERT INTO items (name) VALUES ('a')")
    with items.connect() as connection:
        for statement in (
            "DELETE FROM shipworthy_audit_entries",
            "UPDATE shipworthy_audit_entries SET op='D'",
            "REPLACE INTO shipworthy_audit_entries SELECT * FROM shipworthy_audit_entries",
            "DELETE FROM shipworthy_audit_contexts",
            "UPDATE shipworthy_audit_contexts SET actor='x'",
        ):
            with pytest.raises(DBAPIError, match="only added to"):
                connection.exec_driver_sql(statement)
        with MARIADB_AUDIT.retention(connection):
            assert connection.exec_driver_sql("DELETE FROM shipworthy_audit_entries").rowcount == 1
        with pytest.raises(DBAPIError, match="only added to"):
            connection.exec_driver_sql("DELETE FROM shipworthy_audit_contexts")


def test_personal_values_lie_beside_the_log(engine: sa.Engine) -> None:
    """The image says that there is one; who it is about, a salt and the text are erasable."""
    script(
        engine,
        "CREATE TABLE people (id int primary key, email varchar(50), phone varchar(20))",
        "CREATE TABLE letters (id int primary key, person int, body text, "
        "FOREIGN KEY (person) REFERENCES people (id) ON DELETE CASCADE)",
    )
    install(engine, {"people": {"email": "id", "phone": "id"}, "letters": {"body": "person"}})
    script(
        engine,
        "INSERT INTO people VALUES (7,'a@x',NULL)",
        "UPDATE people SET email='b@x'",
        "INSERT INTO letters VALUES (1,7,'dear')",
        "DELETE FROM people",
    )
    with engine.connect() as connection:
        log, beside = entries(connection), personal(connection)
    images = [(entry["op"], entry["old"], entry["new"]) for entry in log]
    assert images == [
        ("I", None, {"id": "7", "email": True, "phone": None}),
        ("U", {"email": True}, {"email": True}),
        ("I", None, {"id": "1", "person": "7", "body": True}),
        ("D", {"id": "1", "person": "7", "body": True}, None),
        ("D", {"id": "7", "email": True, "phone": None}, None),
    ]
    place = {entry["seq"]: number for number, entry in enumerate(log)}
    assert [(place[it["seq"]], it["side"], it["name"], it["value"]) for it in beside] == [
        (0, "n", "email", "a@x"),
        (1, "n", "email", "b@x"),
        (1, "o", "email", "a@x"),
        (2, "n", "body", "dear"),
        (3, "o", "body", "dear"),
        (4, "o", "email", "b@x"),
    ]
    assert {it["subject"] for it in beside} == {"7"}
    assert len({it["salt"] for it in beside}) == len(beside)
    assert all(len(it["salt"]) == 32 for it in beside)


def test_a_table_without_a_key_has_whole_rows(engine: sa.Engine) -> None:
    """Its rows have no name, so an update has all columns of both."""
    script(engine, "CREATE TABLE loose (a int, b int)")
    install(engine)
    script(engine, "INSERT INTO loose VALUES (1,2)", "UPDATE loose SET b=3", "DELETE FROM loose")
    with engine.connect() as connection:
        log = [(it["op"], it["key"], it["old"], it["new"]) for it in entries(connection)]
    assert log == [
        ("I", None, None, {"a": "1", "b": "2"}),
        ("U", None, {"a": "1", "b": "2"}, {"a": "1", "b": "3"}),
        ("D", None, {"a": "1", "b": "3"}, None),
    ]


def test_triggers_of_the_application_are_seen_and_kept(engine: sa.Engine) -> None:
    """What they change of a row is in the log, and what they write elsewhere too."""
    script(
        engine,
        "CREATE TABLE a (id int primary key, n int)",
        "CREATE TABLE b (id int auto_increment primary key, n int)",
        "CREATE TRIGGER app_before BEFORE INSERT ON a FOR EACH ROW SET NEW.n=NEW.n*2",
        "CREATE TRIGGER app_after AFTER DELETE ON a FOR EACH ROW INSERT INTO b (n) VALUES (OLD.n)",
    )
    install(engine)
    catalog = catalog_of(engine)
    assert catalog.tables[TableName(schema="", name="a")].triggers == ("app_after", "app_before")
    script(engine, "INSERT INTO a VALUES (1,5)", "DELETE FROM a")
    with engine.connect() as connection:
        log = [(it["table_name"], it["op"], it["new"] or it["old"]) for it in entries(connection)]
    assert sorted(log) == [
        ("a", "D", {"id": "1", "n": "10"}),
        ("a", "I", {"id": "1", "n": "10"}),
        ("b", "I", {"id": "1", "n": "10"}),
    ]


def test_drift_of_a_trigger_is_seen(items: sa.Engine) -> None:
    """The database gives back what was generated; whatever was done to it does not look so."""
    catalog = catalog_of(items)
    (table,) = catalog.tables.values()
    with items.connect() as connection:
        made = {it.name: it for it in MARIADB_AUDIT.triggers(connection)}
        guards = "\n".join(MARIADB_AUDIT.base_ddl())
        assert all(it.text in guards for name, it in made.items() if "guard" in name)
    shapes = install(items)
    expected = MARIADB_AUDIT.capture(shapes["items"], catalog_of(items))
    with items.connect() as connection:
        made = {it.name: it for it in MARIADB_AUDIT.triggers(connection)}
    assert [made[it.name] for it in expected.triggers] == list(expected.triggers)
    assert table.triggers == ()
    name = expected.triggers[0].name
    script(items, f"CREATE OR REPLACE TRIGGER {name} AFTER INSERT ON items FOR EACH ROW SET @x=1")
    with items.connect() as connection:
        made = {it.name: it for it in MARIADB_AUDIT.triggers(connection)}
    assert made[name] != expected.triggers[0]
    script(items, *expected.drop, *MARIADB_AUDIT.base_drop())
    with items.connect() as connection:
        assert MARIADB_AUDIT.triggers(connection) == []


def test_a_wait_for_a_lock_is_bounded(items: sa.Engine) -> None:
    """Making a trigger beside an open transaction gives up."""
    shapes = install(items)
    ddl = MARIADB_AUDIT.capture(shapes["items"], catalog_of(items))
    with items.connect() as reader, items.connect() as installer:
        reader.exec_driver_sql("SELECT * FROM items").all()
        for statement in MARIADB_AUDIT.lock_limit(0.1):
            installer.exec_driver_sql(statement)
        with pytest.raises(DBAPIError, match="Lock wait timeout"):
            installer.exec_driver_sql(ddl.create[0])


def test_a_column_that_became_text_is_told_as_json_all_the_same(items: sa.Engine) -> None:
    """Until the triggers are made anew they take the column for what it was."""
    script(
        items,
        "ALTER TABLE items MODIFY n varchar(20)",
        "INSERT INTO items VALUES (1,'a','x\"y')",
        "UPDATE items SET n='\\\\'",
    )
    with items.connect() as connection:
        inserted, updated = entries(connection)
    assert inserted["new"]["n"] == updated["old"]["n"] == 'x"y'
    assert updated["new"] == {"n": "\\"}


def test_a_session_may_change_its_letters_between_statements(items: sa.Engine) -> None:
    """What the triggers keep in the session is compared as bytes, whatever it collates by."""
    with items.begin() as connection:
        _bind(connection, _context("d", actor="dan"))
        for number, names in enumerate(
            ("utf8mb4", "latin1", "utf8mb4 COLLATE utf8mb4_unicode_ci", "ascii"), 1
        ):
            connection.exec_driver_sql(f"SET NAMES {names}")
            connection.exec_driver_sql(f"INSERT INTO items VALUES ({number},'{number}',1)")
        connection.exec_driver_sql("SET NAMES utf8mb4")
    with items.connect() as connection:
        assert [it["tx"] for it in entries(connection)] == ["d" * 32] * 4
        assert connection.scalars(sa.select(CONTEXTS.c.actor)).all() == ["dan"]


def test_a_server_that_is_too_old_is_told_so(engine: sa.Engine) -> None:
    """In a sentence of ours: a command says it, and no traceback."""
    with engine.connect() as connection:
        connection.dialect.server_version_info = (10, 5, 9)
        with pytest.raises(Misuse, match=r"10\.6 or later, and this is MariaDB 10\.5\.9"):
            MARIADB_AUDIT.read_catalog(connection)
