"""What happens to a row of PostgreSQL leaves the entries that it should, in their order."""

import pytest
import sqlalchemy as sa

from audit.dialects.postgresql_trail import TREE, entries, install, run, table_of
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT


def test_each_way_to_write_is_captured(connection: sa.Connection) -> None:
    """INSERT, COPY, upsert, MERGE, UPDATE of a key, and nothing for what changes nothing."""
    install(connection, "CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    run(connection, "INSERT INTO t VALUES (1, 'one', 1), (2, NULL, 2)")
    with (
        connection.connection.driver_connection.cursor() as cursor,
        cursor.copy("COPY t FROM STDIN") as copy,
    ):
        copy.write("3\tthree\t\\N\n")
    run(
        connection,
        "INSERT INTO t VALUES (1, 'uno', 9) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
        "INSERT INTO t VALUES (1, 'uno', 9) ON CONFLICT (id) DO NOTHING",
        "MERGE INTO t USING (VALUES (2, 'two'), (4, 'four')) s(id, a) ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET a = s.a"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.a, 4)",
        "UPDATE t SET id = 5, b = b WHERE id = 4",
        "UPDATE t SET a = a, b = b",
        "DELETE FROM t WHERE id = 3",
    )
    assert entries(connection) == [
        ("I", '["1"]', None, {"id": "1", "a": "one", "b": "1"}),
        ("I", '["2"]', None, {"id": "2", "a": None, "b": "2"}),
        ("I", '["3"]', None, {"id": "3", "a": "three", "b": None}),
        ("U", '["1"]', {"a": "one"}, {"a": "uno"}),
        ("U", '["2"]', {"a": None}, {"a": "two"}),
        ("I", '["4"]', None, {"id": "4", "a": "four", "b": "4"}),
        ("U", '["4"]', {"id": "4"}, {"id": "5"}),
        ("D", '["3"]', {"id": "3", "a": "three", "b": None}, None),
    ]


def test_what_a_foreign_key_does_is_captured(connection: sa.Connection) -> None:
    """A cascade deletes and sets to NULL, and the parent comes first."""
    install(connection, *TREE)
    run(
        connection,
        "INSERT INTO client VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO project VALUES (1, 1, NULL), (2, 2, 1), (3, 1, 1)",
    )
    connection.commit()
    run(connection, "DELETE FROM client WHERE id = 1")
    found = entries(connection)[5:]
    assert [(op, key) for op, key, _, _ in found if op == "D"] == [
        ("D", '["1"]'),
        ("D", '["1"]'),
        ("D", '["3"]'),
    ]
    assert ("U", '["2"]', {"follows": "1"}, {"follows": None}) in found


def test_a_truncate_is_one_delete_for_each_row_and_a_marker(connection: sa.Connection) -> None:
    """Also of the tables that CASCADE takes with it; what is personal stays apart there too."""
    install(
        connection,
        *TREE,
        "CREATE TABLE person (id int PRIMARY KEY, mail text, born date)",
        personal={"person": {"mail": "id", "born": "id"}},
    )
    run(
        connection,
        "INSERT INTO client VALUES (1, 'a')",
        "INSERT INTO project VALUES (7, 1, NULL)",
        "INSERT INTO person VALUES (3, 'ana@example.org', '1999-01-02'), (4, NULL, NULL)",
    )
    connection.commit()
    run(connection, "TRUNCATE client CASCADE", "TRUNCATE person")
    assert entries(connection)[4:] == [
        ("D", '["1"]', {"id": "1", "name": "a"}, None),
        ("T", None, None, None),
        ("D", '["7"]', {"id": "7", "client": "1", "follows": None}, None),
        ("T", None, None, None),
        ("D", '["3"]', {"id": "3", "mail": True, "born": True}, None),
        ("D", '["4"]', {"id": "4", "mail": None, "born": None}, None),
        ("T", None, None, None),
    ]
    apart = connection.execute(
        sa.text(
            "SELECT e.op, p.side, p.name, p.subject, p.value FROM shipworthy_audit_personal p"
            " JOIN shipworthy_audit_entries e USING (seq) ORDER BY seq, name"
        )
    ).all()
    assert apart == [
        ("I", "n", "born", "3", "1999-01-02"),
        ("I", "n", "mail", "3", "ana@example.org"),
        ("D", "o", "born", "3", "1999-01-02"),
        ("D", "o", "mail", "3", "ana@example.org"),
    ]


def test_a_truncate_can_be_refused(connection: sa.Connection) -> None:
    """The rows stay, and the message says what to do."""
    install(connection, *TREE, blocks_truncate=True)
    run(connection, "INSERT INTO client VALUES (1, 'a')")
    connection.commit()
    with pytest.raises(sa.exc.ProgrammingError, match=r"client refuses TRUNCATE\s.*use DELETE"):
        run(connection, "TRUNCATE client CASCADE")


def test_personal_values_lie_beside_the_log_with_a_salt(connection: sa.Connection) -> None:
    """Of an update both sides of what changed; of NULL nothing; each salt is another."""
    install(
        connection,
        "CREATE TABLE person (id int PRIMARY KEY, mail text, note text)",
        personal={"person": {"mail": "id"}},
    )
    run(
        connection,
        "INSERT INTO person VALUES (1, NULL, 'x')",
        "UPDATE person SET mail = 'a'",
        "UPDATE person SET note = 'y'",
        "UPDATE person SET mail = 'b'",
        "DELETE FROM person",
    )
    assert [(op, old, new) for op, _, old, new in entries(connection)] == [
        ("I", None, {"id": "1", "mail": None, "note": "x"}),
        ("U", {"mail": None}, {"mail": True}),
        ("U", {"note": "x"}, {"note": "y"}),
        ("U", {"mail": True}, {"mail": True}),
        ("D", {"id": "1", "mail": True, "note": "y"}, None),
    ]
    apart = connection.execute(
        sa.text("SELECT seq, side, value, salt FROM shipworthy_audit_personal ORDER BY seq, side")
    ).all()
    assert [tuple(row[:3]) for row in apart] == [
        (2, "n", "a"),
        (4, "n", "b"),
        (4, "o", "a"),
        (5, "o", "b"),
    ]
    salts = {row.salt for row in apart}
    assert len(salts) == 4
    assert all(len(bytes.fromhex(salt)) == 32 for salt in salts)


def test_a_table_without_a_key_is_known_by_all_its_values(connection: sa.Connection) -> None:
    """An update has the whole row on both sides, and none where nothing changed."""
    install(connection, "CREATE TABLE t (a int, b text)")
    run(connection, "INSERT INTO t VALUES (1, 'x')", "UPDATE t SET b = b", "UPDATE t SET b = 'y'")
    assert entries(connection)[1:] == [
        ("U", None, {"a": "1", "b": "x"}, {"a": "1", "b": "y"}),
    ]


def test_a_table_of_hundreds_of_columns_is_captured(connection: sa.Connection) -> None:
    """No function of the server takes so many arguments."""
    install(connection, f"CREATE TABLE t ({', '.join(f'c{n} int' for n in range(400))})")
    run(connection, "INSERT INTO t DEFAULT VALUES", "UPDATE t SET c399 = 1")
    first, second = entries(connection)
    assert list(first[3]) == [f"c{n}" for n in range(400)]
    assert (second[2]["c399"], second[3]["c399"]) == (None, "1")


def test_partitions_are_captured_through_their_table(connection: sa.Connection) -> None:
    """Also one that comes later, one written to by its own name, and a row that moves."""
    catalog = install(
        connection,
        "CREATE TABLE m (id int, day date, note text, PRIMARY KEY (id, day))"
        " PARTITION BY RANGE (day)",
        "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        # Its columns stand in another order.
        "CREATE TABLE m2 (note text, day date NOT NULL, id int NOT NULL)",
        "ALTER TABLE m ATTACH PARTITION m2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )
    assert [str(name) for name in catalog.tables] == ["m"]
    run(
        connection,
        "CREATE TABLE m3 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "SET session_replication_role = replica",
        "INSERT INTO m2 VALUES ('x', '2025-02-03', 1)",
        "INSERT INTO m3 VALUES (2, '2026-02-03', 'y')",
        "UPDATE m SET day = '2024-02-03' WHERE id = 1",
        "TRUNCATE m1",
    )
    assert [(op, key) for op, key, _, _ in entries(connection)] == [
        ("I", '["1","2025-02-03"]'),
        ("I", '["2","2026-02-03"]'),
        ("D", '["1","2025-02-03"]'),
        ("I", '["1","2024-02-03"]'),
        ("D", '["1","2024-02-03"]'),
        ("T", None),
    ]
    run(connection, "RESET session_replication_role")
    table = table_of(catalog, "m")
    assert POSTGRESQL_AUDIT.select_rows(connection, table, ["id"], [["2"]]) == [
        {"id": "2", "day": "2026-02-03", "note": "y"}
    ]


def test_a_session_that_only_repeats_is_captured_too(connection: sa.Connection) -> None:
    """`session_replication_role` switches usual triggers off, and cascades."""
    install(connection, *TREE)
    run(connection, "SET session_replication_role = replica", "INSERT INTO client VALUES (1, 'a')")
    assert [op for op, *_ in entries(connection)] == ["I"]


def test_entries_stand_in_the_order_of_what_happened(connection: sa.Connection) -> None:
    """A trigger of the application that changes the row again comes after us, whatever its name."""
    install(
        connection,
        "CREATE TABLE t (id int PRIMARY KEY, n int)",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN UPDATE t SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END$$",
        'CREATE TRIGGER "AA_touch" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch()',
    )
    run(connection, "INSERT INTO t VALUES (1, 1)")
    assert [(op, new) for op, _, _, new in entries(connection)] == [
        ("I", {"id": "1", "n": "1"}),
        ("U", {"n": "2"}),
    ]


def test_no_write_fails_because_columns_changed(connection: sa.Connection) -> None:
    """Until capture is made again each entry has the whole row as it is now, its key where it can.

    That is what a migration leaves behind it that nobody told us of.
    """
    install(connection, "CREATE TABLE t (id int PRIMARY KEY, a text, b int, at timestamptz)")
    run(
        connection,
        "INSERT INTO t VALUES (1, 'x', 2, '2024-01-02 03:04+00')",
        "ALTER TABLE t RENAME COLUMN a TO c",
        "ALTER TABLE t DROP COLUMN b",
        "SET TimeZone = 'Asia/Tokyo'",
        "UPDATE t SET c = 'y'",
        "ALTER TABLE t ALTER COLUMN c TYPE text[] USING ARRAY[c]",
        "DELETE FROM t",
        "INSERT INTO t VALUES (2, NULL)",
    )
    at = "2024-01-02 03:04:00+00"
    assert entries(connection)[1:] == [
        ("U", '["1"]', {"id": "1", "c": "x", "at": at}, {"id": "1", "c": "y", "at": at}),
        ("D", '["1"]', {"id": "1", "c": "{y}", "at": at}, None),
        ("I", '["2"]', None, {"id": "2", "c": None, "at": None}),
    ]


def test_columns_that_changed_beside_personal_ones_are_not_guessed(
    connection: sa.Connection,
) -> None:
    """One that was renamed may hold what must not stand in the log: not even under a known name."""
    install(
        connection,
        "CREATE TABLE person (id int PRIMARY KEY, mail text, note text, n int)",
        "INSERT INTO person VALUES (1, 'ana@example.org', 'x', 5)",
        personal={"person": {"mail": "id"}},
    )
    run(
        connection,
        "ALTER TABLE person DROP COLUMN note",
        "ALTER TABLE person RENAME COLUMN mail TO note",
        "ALTER TABLE person ADD COLUMN more text",
        "UPDATE person SET note = 'ana@example.net', more = 'ana'",
        "DELETE FROM person",
        "INSERT INTO person VALUES (2, NULL, 7, 'ben@example.org')",
    )
    whole = {"id": "1", "note": True, "n": "5", "more": True}
    assert entries(connection) == [
        ("U", '["1"]', {**whole, "more": None}, whole),
        ("D", '["1"]', whole, None),
        ("I", '["2"]', None, {"id": "2", "note": None, "n": "7", "more": True}),
    ]
    beside = "SELECT count(*) FROM shipworthy_audit_personal"
    assert connection.scalar(sa.text(beside)) == 0
