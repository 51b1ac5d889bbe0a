"""Every type of MariaDB, written by triggers as cells and put back from them, to the byte."""

import json
import math
import random
import struct
from collections.abc import Iterator
from itertools import islice

import pytest
import sqlalchemy as sa

from audit.dialects.mariadb_trail import entries, install, script
from shipworthy.audit.cells import write_key
from shipworthy.audit.dialects.mariadb import MARIADB_AUDIT
from shipworthy.audit.dialects.mariadb_cells import literal

HOSTILE = (
    "SET SESSION sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",
    "SET SESSION sql_mode=CONCAT(@@sql_mode,',PIPES_AS_CONCAT,IGNORE_SPACE,REAL_AS_FLOAT')",
    "SET SESSION time_zone='-07:00'",
    "SET SESSION collation_connection='latin1_german2_ci'",
    "SET SESSION div_precision_increment=0",
    "SET SESSION lc_time_names='de_DE'",
)
LENIENT = "SET SESSION sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'"

HARD = "\x00\b\t\n\x0b\f\r\x1f\x7f\"'\\/%s:é€😀\u2028\ufeff"
# A column of each type, and what is written into it, as SQL.
TYPES = {
    "tiny tinyint": ("-128", "127", "NULL"),
    "tinyu tinyint unsigned": ("255", "0"),
    "big bigint": ("-9223372036854775808", "9223372036854775807", "9007199254740993"),
    "bigu bigint unsigned": ("18446744073709551615", "9007199254740993"),
    "zero int(9) zerofill": ("42",),
    "money decimal(65,30)": (f"{'1234567890' * 3}12345.{'1234567890' * 3}", "-0.1"),
    "whole decimal(20)": ("-99999999999999999999",),
    "f float": ("0.1e0", "3.4028234e38", "16777217e0", "1e-45", "NULL"),
    "f2 float(7,3)": ("1234.567e0",),
    "d double": ("0.1e0+0.2e0", "1.7976931348623157e308", "5e-324", "-0e0", "9007199254740993e0"),
    "d2 double(20,4)": ("123456789012345.6789e0",),
    "b bit(64)": ("0xffffffffffffffff", "0", "1"),
    "b3 bit(3)": ("5",),
    "bi binary(5)": ("x'00ff'", "x'2020202020'", "x''"),
    "vb varbinary(300)": ("x'00ff5c27220a'", "x''", "NULL"),
    "bl longblob": ("x'c3a9ff'", "REPEAT(x'00ff',5000)"),
    "dt date": ("'2026-02-31'", "'0000-00-00'", "'9999-12-31'"),
    "tm time(6)": ("'-838:59:59.999999'", "'00:00:00.000001'"),
    "tm0 time": ("'838:59:59'",),
    "dtm datetime(6)": ("'2026-11-30 12:00:00.123456'", "'0000-00-00'", "'1000-01-01'"),
    "dtm0 datetime": ("'2026-11-30 12:00:00'",),
    "ts timestamp(6) null": ("'2026-10-25 00:30:00.000001'", "0", "'2038-01-19 03:14:07'"),
    "ts0 timestamp null": ("'2026-11-30 12:00:00'", "NULL"),
    "y year": ("2155", "1901", "'0000'"),
    "c char(9)": ("'a'", "'a   '", "''", "NULL"),
    "v varchar(400)": ("'a  '", literal(HARD), "'null'", "''"),
    "v3 varchar(40) character set utf8mb3": (literal("é€"),),
    "l1 varchar(300) character set latin1": (f"_latin1 x'{bytes(range(256)).hex()}'",),
    "asc_ varchar(40) character set ascii": ("'plain'",),
    "ru varchar(40) character set cp1251": ("_cp1251 x'cfeef798'", "''"),
    "jp varchar(40) character set sjis": ("_sjis x'815c8386'",),
    "u2 varchar(40) character set ucs2": ("_ucs2 x'0041d800'",),
    "u16 text character set utf16": (literal("a😀"),),
    "lt longtext": ("REPEAT('ab\"',20000)",),
    "e enum('a','b\"','c''d','é')": ("'a'", literal('b"'), "'c''d'", literal("é"), "''"),
    "e1 enum('ж','ю') character set cp1251": ("1",),
    "s set('a','b','c')": ("'a,c'", "''", "7"),
    "js json": ("'{\"a\": [1, 2.50, \"x\\u00e9\"],  \"b\":null}'", "'null'", "'\"t\"'", "NULL"),
    "u uuid": ("'0f515bbe-ecb9-11f1-befa-02fc00000001'",),
    "i4 inet4": ("'192.0.2.1'",),
    "i6 inet6": ("'::ffff:192.0.2.1'", "'2001:db8::1'"),
    "g geometry": ("ST_GeomFromText('POINT(1 2)',4326)", "NULL",
                   "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1e-300))')"),
    "po polygon": ("ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))',3857)",),
    "gv int as (tiny+1) virtual": (),
    "gs varchar(20) as (concat(tiny,'!')) stored": (),
    "inv int invisible default 7": ("8",),
}  # fmt: skip
# What tells two stored values apart, whatever the type: its bytes as far as SQL shows them.
_BYTES = "HEX({0})"


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(mariadb_url)
    yield engine
    engine.dispose()


def _numbers(form: str, chance: random.Random) -> Iterator[float]:
    while True:
        yield struct.unpack(form, chance.randbytes(struct.calcsize(form)))[0]


def _fingerprint(connection: sa.Connection, columns: list[str]) -> list[dict[str, object]]:
    """Return the rows as what is stored, as far as SQL shows it."""
    connection.exec_driver_sql("SET SESSION sql_mode=''")
    listed = []
    for column in columns:
        kind = next(text for text in TYPES if text.split()[0] == column).split(" ", 1)[1]
        if kind.startswith(("geometry", "polygon")):
            listed += [f"ST_SRID(`{column}`)", f"HEX(ST_AsWKB(`{column}`))"]
        elif kind.startswith("timestamp"):
            listed += [f"UNIX_TIMESTAMP(`{column}`)"]
        elif kind.startswith("float"):
            listed += [f"HEX(CAST(CAST(`{column}` AS DOUBLE) AS CHAR))"]
        else:
            listed += [f"HEX(CAST(`{column}` AS BINARY))"]
            if kind.startswith(("enum", "set")):
                listed += [f"`{column}`+0"]
    query = f"SELECT id,{','.join(listed)} FROM things ORDER BY id"
    return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [False, True], ids=["calm", "hostile"])
def test_every_type_comes_back_to_the_byte(engine: sa.Engine, hostile: bool) -> None:
    """What was inserted, updated and deleted under any session is inserted again exactly."""
    columns = [text.split()[0] for text in TYPES]
    script(
        engine,
        LENIENT,
        f"CREATE TABLE things (id int primary key, {', '.join(TYPES)}) DEFAULT CHARSET utf8mb4",
    )
    shapes = install(engine, before=HOSTILE if hostile else ())
    rows = max(map(len, TYPES.values()))
    written = [column for column in columns if not column.startswith(("gv", "gs"))]
    inserts = []
    for row in range(rows):
        values = [
            texts[row % len(texts)] for text, texts in TYPES.items() if text.split()[0] in written
        ]
        inserts.append(
            f"INSERT INTO things (id,{','.join(written)}) VALUES ({row + 1},{','.join(values)})"
        )
    script(engine, LENIENT, "SET SESSION time_zone='+00:00'", *inserts)
    with engine.connect() as connection:
        before = _fingerprint(connection, columns)
        connection.rollback()
        # No change: every column set to itself, under a session that pads and shifts.
        script(engine, *(HOSTILE if hostile else ()), LENIENT, "UPDATE things SET tiny=tiny, v=v")
        script(engine, *(HOSTILE if hostile else ()), "DELETE FROM things")
        inserted, updated, deleted = (entries(connection, op) for op in "IUD")
        assert updated == []
        images = [entry["old"] for entry in deleted]
        assert [entry["new"] for entry in inserted] == images

        table = shapes["things"].table
        names = [it.name for it in table.columns]
        for statement in HOSTILE if hostile else ():
            connection.exec_driver_sql(statement)
        assert MARIADB_AUDIT.insert_rows(connection, table, names, images) == rows
        for now, then in zip(_fingerprint(connection, columns), before, strict=True):
            assert {name: now[name] for name in then if now[name] != then[name]} == {}
        assert MARIADB_AUDIT.select_rows(connection, table, [], []) == images
        keys = [[image["id"]] for image in images]
        found = MARIADB_AUDIT.select_rows(connection, table, ["id"], keys)
        assert found == images
        # And by update: the row of one id gets every value of another.
        first, other = images[0], images[1]
        MARIADB_AUDIT.update_row(connection, table, [first["id"]], {**other, "id": first["id"]})
        assert _fingerprint(connection, columns)[0] == {**before[1], "id": 1}


@pytest.mark.slow
def test_random_floats_are_written_exactly(engine: sa.Engine) -> None:
    """The cell of a double reads as the same double, and a float as the float it is."""
    script(engine, "CREATE TABLE numbers (id int auto_increment primary key, d double, f float)")
    install(engine)
    chance = random.Random(5)
    doubles, floats = (
        list(islice(filter(math.isfinite, _numbers(form, chance)), 3000)) for form in ("<d", "<f")
    )
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO numbers (d,f) VALUES (:d,:f)"),
            [{"d": d, "f": f} for d, f in zip(doubles, floats, strict=True)],
        )
    with engine.connect() as connection:
        images = [entry["new"] for entry in entries(connection, "I")]
    assert [float(image["d"]) for image in images] == doubles
    assert [float(image["f"]) for image in images] == floats


def test_a_key_is_the_text_that_python_writes(engine: sa.Engine) -> None:
    """Keys are searched by equality, so quotes and control characters are written alike."""
    texts = [
        "", "a", 'a"b', "a\\b", "é😀\u2028", "/", "\x7f", "\\u001F", "a'b", " x ", "\u0085",
        *(f"<{chr(code)}>" for code in range(32)),
    ]  # fmt: skip
    script(
        engine,
        "CREATE TABLE named (a varchar(50), b decimal(9,2), c binary(2), primary key (a,b,c)) "
        "CHARSET utf8mb4 COLLATE utf8mb4_nopad_bin",
    )
    shapes = install(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO named VALUES (:a, 1.5, x'0a')"), [{"a": text} for text in texts]
        )
    with engine.connect() as connection:
        found = entries(connection, "I")
        keys = [entry["key"] for entry in found]
        assert keys == [write_key([text, "1.50", "0A00"]) for text in texts]
        assert [entry["new"]["a"] for entry in found] == texts
        columns = shapes["named"].table.columns
        row = connection.execute(sa.text("SELECT a,b,c FROM named WHERE a='a'")).one()
        cells = [
            MARIADB_AUDIT.cell(value, column.type)
            for value, column in zip(row, columns, strict=True)
        ]
        assert write_key(cells) == '["a","1.50","0A00"]'


def test_names_may_have_any_character(engine: sa.Engine) -> None:
    """Backticks, quotes, percent signs, colons and letters of any script are only names."""
    table, column, parent = "we`ird % :t\"'é", "c`o\\l % :x\"'ß", "pa`rent"
    quoted = [f"`{name.replace('`', '``')}`" for name in (table, column, parent)]
    script(
        engine,
        f"CREATE TABLE {quoted[2]} (id int primary key)",
        f"CREATE TABLE {quoted[0]} ({quoted[1]} int primary key, v int, "
        f"FOREIGN KEY ({quoted[1]}) REFERENCES {quoted[2]} (id) ON DELETE CASCADE)",
    )
    shapes = install(engine)
    script(
        engine,
        f"INSERT INTO {quoted[2]} VALUES (1)",
        f"INSERT INTO {quoted[0]} VALUES (1,2)",
        f"UPDATE {quoted[0]} SET v=3",
        f"DELETE FROM {quoted[2]}",
    )
    with engine.connect() as connection:
        deleted = [entry for entry in entries(connection, "D") if entry["table_name"] == table]
        assert [entry["old"] for entry in deleted] == [{column: "1", "v": "3"}]
        script(engine, f"INSERT INTO {quoted[2]} VALUES (1)")
        there = shapes[table].table
        assert MARIADB_AUDIT.insert_rows(connection, there, [column, "v"], [deleted[0]["old"]]) == 1
        assert MARIADB_AUDIT.update_row(connection, there, ["1"], {"v": "9"}) == 1
        assert MARIADB_AUDIT.select_rows(connection, there, [column], [["1"]]) == [
            {column: "1", "v": "9"}
        ]


def test_values_for_people_have_their_types() -> None:
    """Integers and floats become numbers, times have an ISO form, the rest stays text."""
    value = MARIADB_AUDIT.value
    assert value("7", "int(11)") == 7
    assert value("0.1", "double") == 0.1
    assert value("1.50", "decimal(9,2)") == "1.50"
    assert value("2026-01-01 00:00:00.5", "timestamp(1)") == "2026-01-01T00:00:00.5Z"
    assert value("CFEE", "varchar(9) character set cp1251") == "По"
    assert value('{"a":1}', "json character set utf8mb4") == {"a": 1}
    assert value("{", "json character set utf8mb4") == "{"
    assert value(True, "int(11)") is True
    assert value(None, "int(11)") is None
    assert json.dumps(value("x", "text character set utf8mb4")) == '"x"'
