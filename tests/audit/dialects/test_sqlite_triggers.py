"""SQLite: every write of a row is in the log, whoever wrote it and however."""

import json
import sqlite3

import pytest
import sqlalchemy as sa

from audit.dialects.sqlite_trail import capture, captured, changes, stranger, table_of, work_for
from shipworthy.audit.cells import read_image, write_key
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT
from shipworthy.audit.model import Shape
from shipworthy.audit.tables import ENTRIES, META, METADATA, PERSONAL

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT UNIQUE COLLATE NOCASE, n)"


@pytest.fixture
def database(tmp_path):
    """Make captured databases, each in a file of its own."""
    engines = []

    def make(*statements, personal=None):
        path = tmp_path / f"{len(engines)}.db"
        engines.append(captured(f"sqlite:///{path}", *statements, personal=personal))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def written(engine, *statements, strange=False):
    """Run each statement as a transaction of its own, and return what the log has of them."""
    if strange:
        client = stranger(engine)
        for statement in statements:
            client.execute(statement)
        client.close()
    else:
        with engine.connect() as connection:
            work_for(connection, None)
            for statement in statements:
                connection.exec_driver_sql(statement)
                connection.commit()
    with engine.connect() as connection:
        return changes(connection)


def ops(found):
    return "".join(change.op for change in found)


def test_an_insert_is_logged_with_all_columns(database):
    """Also those that the statement did not name."""
    [change] = written(database(NOTES), "INSERT INTO notes (body) VALUES ('a')")

    assert change == ("I", '["i1"]', None, '{"id":"i1","body":"ta","n":null}')


def test_an_update_is_logged_with_what_changed(database):
    """Under the key that the row had, with the values before and after."""
    found = written(
        database(NOTES),
        "INSERT INTO notes VALUES (1, 'a', 1)",
        "UPDATE notes SET id=2, body='a', n=NULL",
    )

    assert found[1:] == [("U", '["i1"]', '{"id":"i1","n":"i1"}', '{"id":"i2","n":null}')]


def test_an_update_that_changes_nothing_is_not_logged(database):
    """The same value of the same class; a text in other letters is another value all the same."""
    found = written(
        database(NOTES),
        "INSERT INTO notes VALUES (1, 'a', 1)",
        "UPDATE notes SET body='a', n=1",
        "UPDATE notes SET body='A'",
        "UPDATE notes SET n=1.0",
    )

    assert [change.new for change in found[1:]] == ['{"body":"tA"}', '{"n":"r1+0"}']


def test_a_delete_is_logged_with_the_whole_row(database):
    """One entry a row, DELETE of all rows too."""
    found = written(
        database(NOTES),
        "INSERT INTO notes VALUES (1, 'a', x'00'), (2, NULL, 2.5)",
        "DELETE FROM notes",
    )

    assert found[2:] == [
        ("D", '["i1"]', '{"id":"i1","body":"ta","n":"b00"}', None),
        ("D", '["i2"]', '{"id":"i2","body":null,"n":"r2+2305843009213693952"}', None),
    ]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT OR IGNORE INTO notes VALUES (3, 'A', 0)", ""),
        ("INSERT OR IGNORE INTO notes VALUES (3, 'c', 0)", "I"),
        ("INSERT OR REPLACE INTO notes VALUES (1, 'c', 0)", "DI"),
        ("INSERT OR REPLACE INTO notes VALUES (1, 'B', 0)", "DDI"),
        ("REPLACE INTO notes VALUES (3, 'a', 0)", "DI"),
        ("UPDATE OR REPLACE notes SET body='b' WHERE id=1", "DU"),
        ("UPDATE OR IGNORE notes SET body='b' WHERE id=1", ""),
        ("INSERT INTO notes VALUES (1, 'c', 0) ON CONFLICT (id) DO UPDATE SET n=9", "U"),
        ("INSERT INTO notes VALUES (1, 'c', 0) ON CONFLICT DO NOTHING", ""),
        ("INSERT INTO notes (body) VALUES ('c'), ('d') RETURNING id", "II"),
        ("UPDATE notes SET n=n+1 RETURNING n", "UU"),
        ("DELETE FROM notes RETURNING body", "DD"),
        ("INSERT INTO notes (body, n) SELECT body || 'x', n FROM notes", "II"),
        ("UPDATE notes SET n=5 FROM (SELECT 1 AS one) WHERE notes.id=one", "U"),
        ("WITH one AS (SELECT 1 AS id) DELETE FROM notes WHERE id IN one", "D"),
        ("UPDATE notes SET rowid=7 WHERE id=1", "U"),
    ],
)
def test_every_way_to_write_is_logged(database, statement, expected):
    """Conflict clauses, upserts, RETURNING, sub-selects, CTEs."""
    engine = database(NOTES)
    before = written(engine, "INSERT INTO notes VALUES (1, 'a', 1), (2, 'b', 2)")

    found = written(engine, statement)[len(before) :]

    assert ops(found) == expected
    with engine.connect() as connection:
        assert folded(changes(connection)) == live(connection, "notes")


def folded(found):
    """Return the rows that a log says there are, by key."""
    rows = {}
    for change in found:
        if change.op == "I":
            rows[change.key] = read_image(change.new)
        elif change.op == "D":
            assert rows.pop(change.key) == read_image(change.old)
        else:
            row = rows.pop(change.key)
            assert read_image(change.old).items() <= row.items()
            row |= read_image(change.new)
            rows[write_key([row["id"]])] = row
    return rows


def live(connection, name):
    """Return the rows that there are, by key."""
    images = SQLITE_AUDIT.select_rows(connection, table_of(connection, name), (), ())
    return {write_key([image["id"]]): image for image in images}


def test_a_client_without_us_writes_and_is_logged(database):
    """Nothing of ours is needed to write; what REPLACE displaces is all it can hide."""
    found = written(
        database(NOTES),
        "INSERT INTO notes VALUES (1, 'a', 1)",
        "UPDATE notes SET n=2",
        "REPLACE INTO notes VALUES (1, 'b', 3)",
        "DELETE FROM notes",
        strange=True,
    )

    assert ops(found) == "IUID"


def test_what_replace_displaces_is_deleted_where_the_client_asks_for_it(database):
    """`recursive_triggers` of a client is what its REPLACE goes by."""
    found = written(
        database(NOTES),
        "PRAGMA recursive_triggers=ON",
        "INSERT INTO notes VALUES (1, 'a', 1)",
        "REPLACE INTO notes VALUES (2, 'a', 3)",
        strange=True,
    )

    assert ops(found) == "IDI"


TREE = (
    "CREATE TABLE clients (id INTEGER PRIMARY KEY)",
    """CREATE TABLE tasks (id INTEGER PRIMARY KEY,
    client INT REFERENCES clients ON DELETE CASCADE ON UPDATE CASCADE,
    parent INT REFERENCES tasks ON DELETE CASCADE)""",
    """CREATE TABLE labels (id INTEGER PRIMARY KEY,
    task INT REFERENCES tasks ON DELETE SET NULL,
    client INT DEFAULT 9 REFERENCES clients ON DELETE SET DEFAULT ON UPDATE CASCADE)""",
    "INSERT INTO clients VALUES (1), (9)",
    "INSERT INTO tasks VALUES (1, 1, NULL), (2, NULL, 1), (3, NULL, 2), (4, NULL, 3)",
    "INSERT INTO labels VALUES (1, 4, 1), (2, 2, 9)",
)


@pytest.mark.parametrize("strange", [False, True])
def test_what_a_foreign_key_does_is_logged(database, strange):
    """Cascades through a table that refers to itself, SET NULL, SET DEFAULT, in every client."""
    found = written(
        database(*TREE), "PRAGMA foreign_keys=ON", "DELETE FROM clients WHERE id=1", strange=strange
    )

    assert sorted((change.op, change.key, change.new) for change in found) == [
        ("D", '["i1"]', None),
        ("D", '["i1"]', None),
        ("D", '["i2"]', None),
        ("D", '["i3"]', None),
        ("D", '["i4"]', None),
        ("U", '["i1"]', '{"client":"i9"}'),
        ("U", '["i1"]', '{"task":null}'),
        ("U", '["i2"]', '{"task":null}'),
    ]


def test_a_cascaded_update_is_logged(database):
    """Of the row whose key changed and of those that follow it."""
    found = written(database(*TREE), "PRAGMA foreign_keys=ON", "UPDATE clients SET id=5 WHERE id=1")

    assert sorted(change.new for change in found if change.op == "U") == [
        '{"client":"i5"}',
        '{"client":"i5"}',
        '{"id":"i5"}',
    ]


def test_a_trigger_of_the_application_is_logged_after_what_fired_it(database):
    """What it writes is a write; and it does not run for ever because we are there."""
    engine = database(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)",
        "CREATE TRIGGER count AFTER UPDATE ON t BEGIN UPDATE t SET n=n+1 WHERE id=NEW.id; END",
        "CREATE TRIGGER start AFTER INSERT ON t BEGIN UPDATE t SET n=0 WHERE id=NEW.id; END",
    )

    found = written(engine, "INSERT INTO t VALUES (1, NULL)", "UPDATE t SET n=10")

    assert [change.new for change in found] == [
        '{"id":"i1","n":null}',
        '{"n":"i0"}',
        '{"n":"i1"}',
        '{"n":"i10"}',
        '{"n":"i11"}',
    ]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("(a TEXT, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID", '["i2","tx"]'),
        ("(a TEXT PRIMARY KEY, b INT, c)", '["tx"]'),
        ("(a ANY, b INT, c ANY, PRIMARY KEY (c, b)) STRICT", '["r1+2305843009213693952","i2"]'),
        ("(a, b INTEGER PRIMARY KEY DESC, c)", '["i2"]'),
        ("(a, b, c)", None),
    ],
)
def test_a_key_of_any_form_is_logged(database, table, key):
    """Composite, in its own order, of any class; a row without a key is known by all its values."""
    found = written(
        database(f"CREATE TABLE t {table}"),
        "INSERT INTO t VALUES ('x', 2, 1.5)",
        "UPDATE t SET a='y'",
        "DELETE FROM t",
    )

    assert [change.key for change in found[:2]] == [key, key]
    if key is None:
        assert found[1] == (
            "U",
            None,
            '{"a":"tx","b":"i2","c":"r1+2305843009213693952"}',
            '{"a":"ty","b":"i2","c":"r1+2305843009213693952"}',
        )
    else:
        assert (found[1].old, found[1].new) == ('{"a":"tx"}', '{"a":"ty"}')


def test_names_of_any_kind_are_logged_as_they_are(database):
    """Tables and columns with quotes, blanks, braces, keywords and letters of all kinds."""
    columns = [
        "id",
        "select",
        'q"uo',
        "ap'os",
        "{brace}",
        "ünï 表",
        " ",
        "back\\slash",
        "tab\there",
    ]
    quoted = ['"' + column.replace('"', '""') + '"' for column in columns]
    engine = database(
        f"""CREATE TABLE "it's ""x"" {{}}" ({",".join(quoted)}, PRIMARY KEY ({quoted[2]}))"""
    )

    found = written(
        engine,
        f"""INSERT INTO "it's ""x"" {{}}" VALUES ({",".join("1" * len(columns))})""",
        f"""UPDATE "it's ""x"" {{}}" SET {",".join(f"{one}=2" for one in quoted)}""",
        """DELETE FROM "it's ""x"" {}" """,
    )

    assert list(json.loads(found[0].new)) == columns
    assert json.loads(found[1].old) == dict.fromkeys(columns, "i1")
    assert json.loads(found[1].new) == dict.fromkeys(columns, "i2")
    assert json.loads(found[2].old) == dict.fromkeys(columns, "i2")


@pytest.mark.slow
@pytest.mark.parametrize("count", [48, 49, 99, 250, 1900])
def test_a_table_of_many_columns_is_logged_whole(database, count):
    """More than json_object takes arguments, and more than an expression may be deep."""
    columns = [f"c{number}" for number in range(count)]
    with_default = ",".join(f"{column} DEFAULT 7" for column in columns)
    engine = database(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {with_default})")

    found = written(
        engine,
        "INSERT INTO t (id, c1) VALUES (1, '{}')",
        f"UPDATE t SET c0='}}', c{count - 1}=NULL",
        "DELETE FROM t",
    )

    image = {"id": "i1"} | dict.fromkeys(columns, "i7") | {"c1": "t{}"}
    assert json.loads(found[0].new) == image
    assert json.loads(found[1].old) == {"c0": "i7", f"c{count - 1}": "i7"}
    assert json.loads(found[1].new) == {"c0": "t}", f"c{count - 1}": None}
    assert json.loads(found[2].old) == image | {"c0": "t}", f"c{count - 1}": None}


def test_a_key_of_many_columns_is_logged_whole(database):
    """More than json_array takes arguments."""
    columns = [f"c{number}" for number in range(120)]
    engine = database(f"CREATE TABLE t ({','.join(columns)}, PRIMARY KEY ({','.join(columns)}))")

    [change] = written(engine, f"INSERT INTO t VALUES ({','.join(map(str, range(120)))})")

    assert change.key == write_key([f"i{number}" for number in range(120)])


def test_generated_columns_are_logged(database):
    """For people: both kinds, with what they became."""
    found = written(
        database("CREATE TABLE t (id INTEGER PRIMARY KEY, n, a AS (n*2), b AS (n||'x') STORED)"),
        "INSERT INTO t VALUES (1, 2)",
        "UPDATE t SET n=3",
    )

    assert found[0].new == '{"id":"i1","n":"i2","a":"i4","b":"t2x"}'
    assert found[1].new == '{"n":"i3","a":"i6","b":"t3x"}'


def test_bytes_that_are_no_text_do_not_make_the_log_unreadable(database):
    """SQLite calls text what it is told is text; each byte of it comes back."""
    engine = database(NOTES)

    [change] = written(engine, "INSERT INTO notes (body) VALUES (CAST(x'61FFC3' AS TEXT))")

    cell = json.loads(change.new)["body"]
    assert cell[1:].encode("utf-8", "surrogateescape") == b"a\xff\xc3"


def test_what_the_driver_tells_of_a_write_is_what_it_was(database):
    """The rows changed and the id given are those of the application's own statement."""
    with database(NOTES).connect() as connection:
        work_for(connection, None)
        written_row = connection.exec_driver_sql("INSERT INTO notes (id, body) VALUES (41, 'a')")
        assert written_row.lastrowid == 41
        assert connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('b')").lastrowid == 42
        assert connection.exec_driver_sql("UPDATE notes SET n=1").rowcount == 2
        assert connection.exec_driver_sql("SELECT changes()").scalar() == 2


def test_a_savepoint_that_is_rolled_back_is_not_in_the_log(database):
    """And the numbers of what was in it are not missed."""
    engine = database(NOTES)
    with engine.begin() as connection:
        work_for(connection, None)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('b')")
            savepoint.rollback()
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('c')")

    with engine.connect() as connection:
        assert [json.loads(one.new)["body"] for one in changes(connection)] == ["ta", "tc"]
        assert SQLITE_AUDIT.horizon(connection) == 3


def test_the_horizon_is_after_the_last_entry(database):
    """Writers follow one another, so there is nothing that is not final; and at first nothing."""
    engine = database(NOTES)
    with engine.connect() as connection:
        assert SQLITE_AUDIT.horizon(connection) == 1
    written(engine, "INSERT INTO notes (body) VALUES ('a'), ('b')")
    with engine.connect() as connection:
        assert SQLITE_AUDIT.horizon(connection) == 3
        assert SQLITE_AUDIT.position_column == "seq"


PEOPLE = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, email TEXT, ref TEXT UNIQUE)",
    "CREATE TABLE logins (name TEXT, ref TEXT)",
)
PERSONAL_COLUMNS = {
    "people": {"name": "ref", "email": "ref"},
    "logins": {"name": "ref"},
}


def test_personal_values_lie_beside_the_log(database):
    """Each with a salt of its own and the person it is about; NULL needs no place to lie."""
    engine = database(*PEOPLE, personal=PERSONAL_COLUMNS)
    found = written(
        engine,
        "INSERT INTO people VALUES (1, 'Ana', NULL, 'p1')",
        "UPDATE people SET email='a@example.org'",
        "UPDATE people SET name='Ana B', email=NULL, ref='p2'",
        "DELETE FROM people",
    )

    assert [(change.old, change.new) for change in found] == [
        (None, '{"id":"i1","name":true,"email":null,"ref":"tp1"}'),
        ('{"email":null}', '{"email":true}'),
        (
            '{"name":true,"email":true,"ref":"tp1"}',
            '{"name":true,"email":null,"ref":"tp2"}',
        ),
        ('{"id":"i1","name":true,"email":null,"ref":"tp2"}', None),
    ]
    with engine.connect() as connection:
        rows = connection.execute(sa.select(PERSONAL).order_by(PERSONAL.c.seq)).all()
    assert [(row.seq, row.side, row.name, row.subject, row.value) for row in rows] == [
        (1, "n", "name", "p1", "tAna"),
        (2, "n", "email", "p1", "ta@example.org"),
        (3, "n", "name", "p2", "tAna B"),
        (3, "o", "email", "p1", "ta@example.org"),
        (3, "o", "name", "p1", "tAna"),
        (4, "o", "name", "p2", "tAna B"),
    ]
    salts = [row.salt for row in rows]
    assert len(set(salts)) == len(salts)
    assert all(len(bytes.fromhex(salt)) == 16 for salt in salts)


def test_personal_values_of_a_table_without_a_key_lie_beside_both_images(database):
    """Its updates have the whole row twice, so what did not change lies there too."""
    engine = database(*PEOPLE, personal=PERSONAL_COLUMNS)
    found = written(engine, "INSERT INTO logins VALUES ('Ana', 'p1')", "UPDATE logins SET ref='p2'")

    assert found[1].old == '{"name":true,"ref":"tp1"}'
    with engine.connect() as connection:
        rows = connection.execute(sa.select(PERSONAL).where(PERSONAL.c.seq == 2)).all()
    assert {(row.side, row.subject, row.value) for row in rows} == {
        ("o", "p1", "tAna"),
        ("n", "p2", "tAna"),
    }


def test_a_personal_key_is_refused_with_the_reason(database):
    """By the key entries are found, so it cannot lie elsewhere; everything else is captured."""
    engine = database("CREATE TABLE t (mail TEXT PRIMARY KEY, x)")
    with engine.connect() as connection:
        catalog = SQLITE_AUDIT.read_catalog(connection)
        [table] = catalog.tables.values()
        ddl = SQLITE_AUDIT.capture(shape_of(table, {"mail": "mail"}), catalog)

    assert "mail of t is personal and part of the primary key" in ddl.refused
    assert len(ddl.triggers) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE shipworthy_audit_entries SET new='{}'",
        "UPDATE shipworthy_audit_entries SET tx='forged'",
        "UPDATE shipworthy_audit_entries SET rowid=9",
        "DELETE FROM shipworthy_audit_entries",
        "INSERT OR REPLACE INTO shipworthy_audit_entries SELECT * FROM shipworthy_audit_entries",
        "UPDATE shipworthy_audit_contexts SET actor='bo'",
        "DELETE FROM shipworthy_audit_contexts",
    ],
)
def test_the_log_is_only_added_to(database, statement):
    """By us or by another client: what is written stays as it was written."""
    engine = database(NOTES)
    before = written(engine, "INSERT INTO notes (body) VALUES ('a')")
    client = stranger(engine)
    client.execute("INSERT INTO shipworthy_audit_contexts (tx, at_microseconds) VALUES ('t', 1)")

    with pytest.raises(sqlite3.IntegrityError, match="only added to"):
        client.execute(statement)

    client.close()
    assert written(engine) == before


def test_retention_may_remove_entries_in_its_own_transaction(database):
    """And nobody after it."""
    engine = database(NOTES)
    written(engine, "INSERT INTO notes (body) VALUES ('a'), ('b')")

    with engine.begin() as connection, SQLITE_AUDIT.retention(connection):
        connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 1))

    with engine.connect() as connection:
        assert len(changes(connection)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(META)) == 0
        with pytest.raises(sa.exc.IntegrityError, match="only added to"):
            connection.execute(sa.delete(ENTRIES))


def test_the_number_of_an_entry_is_never_given_again(database):
    """Retention may take all but the newest: the next one is numbered after it."""
    engine = database(NOTES)
    written(engine, "INSERT INTO notes (body) VALUES ('a'), ('b'), ('c')")

    with (
        engine.connect() as connection,
        SQLITE_AUDIT.retention(connection),
        pytest.raises(sa.exc.IntegrityError, match="would be given to another"),
    ):
        connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq >= 2))
    with engine.begin() as connection, SQLITE_AUDIT.retention(connection):
        connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq < 3))

    written(engine, "DELETE FROM notes WHERE id=1")
    with engine.connect() as connection:
        assert connection.scalars(sa.select(ENTRIES.c.seq).order_by(ENTRIES.c.seq)).all() == [3, 4]


def test_it_leaves_without_a_trace(database):
    """With its triggers, guards and tables dropped the schema is what it was."""
    engine = database(NOTES, "CREATE INDEX i ON notes (n)")
    with engine.begin() as connection:
        catalog = SQLITE_AUDIT.read_catalog(connection)
        for number, table in enumerate(catalog.tables.values(), start=1):
            shape = shape_of(table, {}, number)
            for statement in SQLITE_AUDIT.capture(shape, catalog).drop:
                connection.exec_driver_sql(statement)
        for statement in SQLITE_AUDIT.base_drop():
            connection.exec_driver_sql(statement)
        METADATA.drop_all(connection)

    client = stranger(engine)
    names = {name for (name,) in client.execute("SELECT name FROM sqlite_schema")}
    client.close()
    assert names == {"notes", "i", "sqlite_autoindex_notes_1"}


def test_capture_is_made_anew_over_itself(database):
    """Twice is once: each write is still logged once."""
    engine = database(NOTES)
    with engine.begin() as connection:
        for statement in SQLITE_AUDIT.base_ddl():
            connection.exec_driver_sql(statement)
        capture(connection, {})

    assert len(written(engine, "INSERT INTO notes (body) VALUES ('a')")) == 1


def shape_of(table, personal, number=1):
    return Shape(id=1, table_id=number, table=table, personal=personal)
