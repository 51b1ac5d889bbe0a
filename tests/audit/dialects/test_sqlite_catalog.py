"""SQLite: tables as the database itself has them."""

import pytest
import sqlalchemy as sa

from audit.dialects.sqlite_trail import capture, captured, table_of
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT
from shipworthy.audit.model import CatalogColumn, CatalogForeignKey, CatalogUnique, Shape, TableName


@pytest.fixture
def connection():
    """An empty database in memory."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def made(connection, *statements):
    for statement in statements:
        connection.exec_driver_sql(statement)
    return SQLITE_AUDIT.read_catalog(connection)


def named(name):
    return TableName(schema="", name=name)


def test_only_tables_of_the_application_are_read(connection):
    """No views, no virtual tables nor what lies under them, no temporary ones, none of ours."""
    catalog = made(
        connection,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE shipworthy_audit_meta (name TEXT)",
        "CREATE TABLE shipworthyx (name TEXT)",
        "CREATE VIEW open_orders AS SELECT * FROM orders",
        "CREATE VIRTUAL TABLE search USING fts5(words)",
        "CREATE TEMP TABLE scratch (x)",
        "ATTACH ':memory:' AS other",
        "CREATE TABLE other.elsewhere (x)",
    )

    assert [str(name) for name in catalog.tables] == ["orders", "shipworthyx"]
    assert catalog.dialect == "sqlite"


def test_columns_are_read_with_what_a_restore_must_know(connection):
    """Types with their lengths, defaults, what may be NULL, what is generated or numbered."""
    made(
        connection,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC(20, 6) NOT NULL DEFAULT 1.5, "
        "anything, \"sel ect\" VARCHAR(20) DEFAULT 'x', double INT AS (n * 2), "
        "stored TEXT GENERATED ALWAYS AS (n || 'x') STORED)",
    )

    assert table_of(connection, "t").columns == (
        CatalogColumn(name="id", type="INTEGER", number=1, nullable=False, identity="default"),
        CatalogColumn(name="n", type="NUMERIC(20, 6)", number=2, nullable=False, default="1.5"),
        CatalogColumn(name="anything", type="", number=3),
        CatalogColumn(name="sel ect", type="VARCHAR(20)", number=4, default="'x'"),
        CatalogColumn(name="double", type="INT", number=5, generated=True),
        CatalogColumn(name="stored", type="TEXT", number=6, generated=True),
    )


@pytest.mark.parametrize(
    ("statement", "key", "traits"),
    [
        ("(a INTEGER PRIMARY KEY)", ("a",), {"rowid_column": "a"}),
        ("(a integer, PRIMARY KEY (a))", ("a",), {"rowid_column": "a"}),
        ("(a INTEGER PRIMARY KEY DESC)", ("a",), {}),
        ("(a INT PRIMARY KEY)", ("a",), {}),
        ("(a, b, c, PRIMARY KEY (c, a))", ("c", "a"), {}),
        ("(a INTEGER PRIMARY KEY) WITHOUT ROWID", ("a",), {"without_rowid": "yes"}),
        (
            "(a ANY, b TEXT, PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID",
            ("b", "a"),
            {"without_rowid": "yes", "strict": "yes"},
        ),
        ("(a)", (), {}),
    ],
)
def test_a_primary_key_is_read_in_its_own_order(connection, statement, key, traits):
    """And whether it is the rowid, which only an INTEGER PRIMARY KEY is."""
    made(connection, f"CREATE TABLE t {statement}")
    table = table_of(connection, "t")

    assert table.primary_key == key
    assert dict(table.traits) == traits


def test_foreign_keys_are_read_whole(connection):
    """Names, actions, whether they wait for COMMIT, and what they point to, as it is spelled."""
    catalog = made(
        connection,
        "CREATE TABLE Parent (Id INTEGER PRIMARY KEY, x, y, UNIQUE (x, y))",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, "
        "p INT REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL, "
        "x, y, up INT CONSTRAINT tree REFERENCES child(ID) DEFERRABLE INITIALLY DEFERRED, "
        "gone INT REFERENCES nowhere(id), "
        "FOREIGN KEY (x, y) REFERENCES PARENT (X, y) ON DELETE SET DEFAULT)",
    )
    child = catalog.tables[named("child")]

    assert child.foreign_keys == (
        CatalogForeignKey(
            name="p -> Parent",
            columns=("p",),
            target=named("Parent"),
            target_columns=("Id",),
            on_delete="cascade",
            on_update="set null",
        ),
        CatalogForeignKey(
            name="tree",
            columns=("up",),
            target=named("child"),
            target_columns=("id",),
            deferrable=True,
            initially_deferred=True,
        ),
        CatalogForeignKey(
            name="gone -> nowhere",
            columns=("gone",),
            target=named("nowhere"),
            target_columns=("id",),
        ),
        CatalogForeignKey(
            name="x,y -> Parent",
            columns=("x", "y"),
            target=named("Parent"),
            target_columns=("x", "y"),
            on_delete="set default",
        ),
    )
    assert [table.name for table, _ in catalog.references_to(named("Parent"))] == [
        named("child"),
        named("child"),
    ]


def test_unique_indexes_are_read_whole(connection):
    """Constraints, whole and partial indexes, those over expressions; not what is only an index."""
    made(
        connection,
        "CREATE TABLE t (id INT PRIMARY KEY, a UNIQUE, b, c)",
        "CREATE UNIQUE INDEX both ON t (b, c)",
        "CREATE UNIQUE INDEX living ON t (b) WHERE c IS NULL",
        "CREATE UNIQUE INDEX folded ON t (lower(b))",
        "CREATE INDEX plain ON t (c)",
    )

    assert table_of(connection, "t").uniques == (
        CatalogUnique(name="both", columns=("b", "c")),
        CatalogUnique(name="folded", columns=()),
        CatalogUnique(name="living", columns=("b",), predicate="c IS NULL"),
        CatalogUnique(name="sqlite_autoindex_t_2", columns=("a",)),
    )


def test_triggers_of_the_application_and_counts_of_analyze_are_read(connection):
    """Ours are not the application's; without ANALYZE nobody knows how many rows there are."""
    made(
        connection,
        "CREATE TABLE Orders (id INTEGER PRIMARY KEY)",
        "CREATE TRIGGER touch AFTER INSERT ON orders BEGIN SELECT 1; END",
        "CREATE TRIGGER shipworthy_audit_1_insert AFTER INSERT ON orders BEGIN SELECT 1; END",
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
    )
    assert table_of(connection, "Orders").triggers == ("touch",)
    assert table_of(connection, "Orders").estimated_rows == -1

    connection.exec_driver_sql("INSERT INTO orders VALUES (1), (2), (3)")
    connection.exec_driver_sql("ANALYZE")

    assert table_of(connection, "Orders").estimated_rows == 3
    assert table_of(connection, "other").estimated_rows == -1


def test_a_table_of_any_name_is_read(connection):
    """Quotes, blanks, keywords and letters of all kinds, in names of tables and columns."""
    catalog = made(
        connection,
        """CREATE TABLE "it's ""odd"" " ("o'ne" REFERENCES "it's ""odd"" ", "tw""o" PRIMARY KEY)""",
        'CREATE TABLE "Ünïcode 表" ("select" INTEGER PRIMARY KEY, [from] TEXT UNIQUE)',
    )

    odd = catalog.tables[named('it\'s "odd" ')]
    assert odd.primary_key == ('tw"o',)
    assert odd.foreign_keys[0].target == odd.name
    assert odd.foreign_keys[0].target_columns == ('tw"o',)
    assert catalog.tables[named("Ünïcode 表")].uniques[0].columns == ("from",)


def test_what_stands_is_what_was_generated(tmp_path):
    """The text of each trigger, for a check to compare; one that is gone is missing."""
    engine = captured(f"sqlite:///{tmp_path / 'a.db'}", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with engine.begin() as connection:
        catalog = capture(connection, {})
        [table] = catalog.tables.values()
        ddl = SQLITE_AUDIT.capture(Shape(id=11, table_id=1, table=table), catalog)
        found = {one.name: one for one in SQLITE_AUDIT.triggers(connection)}
        assert [found[one.name] for one in ddl.triggers] == list(ddl.triggers)
        guards = set(found) - {one.name for one in ddl.triggers}
        assert len(guards) == 6
        assert all(found[one].text in SQLITE_AUDIT.base_ddl() for one in guards)

        connection.exec_driver_sql("DROP TRIGGER shipworthy_audit_1_update")
        assert "shipworthy_audit_1_update" not in {
            one.name for one in SQLITE_AUDIT.triggers(connection)
        }
    engine.dispose()


def test_a_newer_trigger_of_the_application_is_a_difference(tmp_path):
    """It would run before ours, and its own change would come into the log too early."""
    engine = captured(f"sqlite:///{tmp_path / 'a.db'}", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with engine.begin() as connection:
        before = [one.text for one in SQLITE_AUDIT.triggers(connection)]
        connection.exec_driver_sql(
            "CREATE TRIGGER late AFTER INSERT ON T BEGIN UPDATE t SET id=id+1 WHERE id=NEW.id; END"
        )
        changed = SQLITE_AUDIT.triggers(connection)
        assert sum("after late" in one.text for one in changed) == 3

        capture(connection, {})

        assert sorted(one.text for one in SQLITE_AUDIT.triggers(connection)) == sorted(before)
    engine.dispose()
