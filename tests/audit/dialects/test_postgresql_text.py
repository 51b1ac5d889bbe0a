"""Every type comes back from the log as it was stored, whatever the session had set."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from audit.dialects.postgresql_trail import (
    HOSTILE,
    bytes_of,
    entries,
    images,
    install,
    run,
    table_of,
)
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT

# A type, and values of it that are easily harmed.
VALUES: dict[str, tuple[str, ...]] = {
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "0"),
    "bigint": ("9223372036854775807", "-9223372036854775808"),
    "numeric": ("'NaN'", "'Infinity'", "'-Infinity'", "1e-300", "0.00", "1.50", "-0.000"),
    "numeric(38,10)": ("9999999999999999999999999999.9999999999", "0.0000000001"),
    "numeric(12,-3)": ("123456789",),
    "real": ("'NaN'", "'-Infinity'", "'-0'", "3.4028235e38", "1.1754944e-38", "0.1"),
    "double precision": (
        "'NaN'",
        "'Infinity'",
        "'-0'",
        "0.1::float8 + 0.2::float8",
        "1.7976931348623157e308",
        "5e-324",
        "1e15",
        "123456789012345678",
    ),
    "money": ("'-92233720368547758.08'::money", "1234567.89::numeric::money"),
    "boolean": ("true", "false"),
    "text": (
        "''",
        "E'q\"u''o\\\\t\\te\\n\\u0001\\u007f'",
        "'é ü 漢字 😀'",
        "'null'",
        "'{\"a\":1}'",
    ),
    "varchar(5)": ("'ab  '", "'äöüßé'"),
    "char(4)": ("'ab'", "'    '"),
    "bpchar": ("'ab  '", "'  '"),
    '"char"': ("'x'", "'\\377'"),
    "name": ("'Some Name'",),
    "bytea": ("'\\x'", "'\\x00ff27225c0a'", "'\\x41'"),
    "date": ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'0001-01-01'"),
    "time": ("'24:00:00'", "'23:59:59.999999'"),
    "time(2)": ("'12:00:00.12'",),
    "timetz": ("'23:59:59.999999-15:59:59'", "'00:00+05:45'"),
    "timestamp": (
        "'infinity'",
        "'4713-01-01 00:00:00 BC'",
        "'294276-12-31 23:59:59.999999'",
        "'2024-02-29 01:02:03.000001'",
    ),
    "timestamptz": (
        "'-infinity'",
        "'1883-11-18 12:03:58 America/New_York'",
        "'0044-03-15 12:00 Europe/Rome BC'",
        "'294276-12-31 23:59:59.999999+00'",
        "'2024-03-31 02:30:00 Europe/Berlin'",
        "'2024-10-27 02:30:00.5+01'",
    ),
    "interval": (
        "'1 mon -1 day +00:00:00.000001'",
        "'-178000000 years'",
        "'24:00:00'",
        "'1 day'",
        "'P1Y2M3DT4H5M6S'",
        "'-1 year 2 mons -3 days 04:00:00'",
    ),
    "interval day to second(3)": ("'3 days 04:05:06.789'",),
    "uuid": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",),
    "json": ('\'{"a" :  1.0, "a": [null]}\'', "'null'", "'\"text\"'", "'  1e400 '"),
    "jsonb": ('\'{"b":1.50,"a":null}\'', "'null'", '\'"t\\"x"\'', "'12345678901234567890.1'"),
    "xml": ("'<a b=\"1\">&lt;é</a>'", "'text only'", "'<!DOCTYPE a><a/>'"),
    "inet": ("'192.168.0.1'", "'192.168.0.1/24'", "'::ffff:1.2.3.4/96'"),
    "cidr": ("'10.0.0.0/8'", "'2001:db8::/32'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'",),
    "bit(5)": ("B'10101'",),
    "varbit": ("B''", "B'101'"),
    "point": ("'(0.1,-0)'", "'(1e300,NaN)'"),
    "line": ("'{1,2,0.30000000000000004}'",),
    "lseg": ("'[(0.1,0.2),(0.30000000000000004,4)]'",),
    "box": ("'(1.1,2.2),(0.1,0.2)'",),
    "path": ("'[(0.1,0.2),(3,4)]'", "'((0.1,0.2),(3,4))'"),
    "polygon": ("'((0.1,0.2),(3,4),(5,6.000000000000001))'",),
    "circle": ("'<(0.1,0.2),0.30000000000000004>'",),
    "tsvector": ("'a:1A ''it''''s'':2,3B c'", "''"),
    "tsquery": ("'a & !(b <-> c:AB*)'",),
    "pg_lsn": ("'16/B374D848'",),
    "oid": ("4294967295",),
    "regclass": ("'pg_class'::regclass", "'things'::regclass", "4294967295::oid::regclass"),
    "regtype": ("'pg_catalog.int4'::regtype",),
    "xid8": ("'18446744073709551615'",),
    "pg_snapshot": ("'10:20:10,14,15'",),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "numrange": ("'[1.0,1.00]'", "'(,5.50]'"),
    "tsrange": ("'[2024-02-03 04:05:06.7,infinity)'",),
    "tstzrange": ("'[2024-02-03 04:05:06+05:45,)'",),
    "daterange": ("'[2024-02-03,2024-05-04)'",),
    "int8multirange": ("'{[1,3),[5,9)}'", "'{}'"),
    "tstzmultirange": ("'{[2024-01-01 00:00+00,2024-02-01 00:00+09)}'",),
    "int4[]": ("'{}'", "'{1,NULL,3}'", "'[0:1]={7,8}'", "'{{1,2},{3,4}}'"),
    "text[]": ("ARRAY['a,b', 'NULL', NULL, '\"q\"', E'back\\\\slash', '', '{}']",),
    "float8[]": ("ARRAY[0.1::float8 + 0.2::float8, '-0', 'NaN']",),
    "bytea[]": ("ARRAY['\\x00ff'::bytea, NULL]",),
    "interval[]": ("ARRAY['1 mon 2 days'::interval]",),
    "timestamptz[]": ("ARRAY['2024-02-03 04:05:06+05:45'::timestamptz, 'infinity']",),
    "money[]": ("ARRAY[1234.5::numeric::money]",),
    "json[]": ("ARRAY['{\"a\":  1}'::json]",),
    "regclass[]": ("ARRAY['things'::regclass, 'pg_class'::regclass]",),
    "mood": ("'sad'", "'it''s \"fine\"'"),
    "mood[]": ("ARRAY['sad', 'it''s \"fine\"']::mood[]",),
    "pair": ("ROW(NULL, '2024-02-03 04:05:06+02', 0.1, 'x\"y,(z)')::pair", "ROW(1,NULL,NULL,'')"),
    "pair[]": ("ARRAY[ROW(1, '2024-02-03 04:05:06+02', '-0', NULL)::pair, NULL]",),
    "floatrange": ("'[0.1,0.30000000000000004]'",),
    "positive": ("1.50",),
    "short": ("'ab  '",),
    "moments": ("ARRAY['2024-02-03 04:05:06+05:45'::timestamptz]",),
    "moody": ("'sad'",),
    "document": ("'{\"a\":  1}'",),
    "citext": ("'MiXed'",),
    "hstore": ('\'a=>NULL, "b c"=>"d\\"e"\'',),
    "ltree": ("'Top.Science'",),
    "cube": ("'(0.1,0.30000000000000004)'",),
}
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s \"fine\"')",
    "CREATE TYPE pair AS (a int, at timestamptz, f float8, t text)",
    "CREATE TYPE floatrange AS RANGE (subtype = float8)",
    "CREATE DOMAIN positive AS numeric(10,4) CHECK (VALUE > 0)",
    "CREATE DOMAIN short AS varchar(6)",
    "CREATE DOMAIN moments AS timestamptz[]",
    "CREATE DOMAIN moody AS mood",
    "CREATE DOMAIN document AS json",
)
EXTENSIONS = ("citext", "hstore", "ltree", "cube")


def _column(number: int) -> str:
    return f"\"c{number}: %s 'q'\""


def _matrix(connection: sa.Connection) -> tuple[str, list[str]]:
    """Return DDL of a table with a column of each type, and statements that fill it."""
    there = set(connection.scalars(sa.text("SELECT name FROM pg_available_extensions")))
    extensions = [name for name in EXTENSIONS if name in there]
    run(connection, *(f"CREATE EXTENSION {name}" for name in extensions), *TYPES)
    left_out = set(EXTENSIONS) - set(extensions)
    columns = {name: values for name, values in VALUES.items() if name not in left_out}
    ddl = ", ".join(f"{_column(number)} {name}" for number, name in enumerate(columns))
    rows = []
    for number, values in enumerate(columns.values()):
        rows += [f"INSERT INTO things ({_column(number)}) VALUES ({value})" for value in values]
    return f"CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {ddl})", rows


@pytest.mark.slow
def test_each_type_comes_back_byte_for_byte_under_settings_that_would_harm_it(
    connection: sa.Connection,
) -> None:
    """Rows that were captured, deleted and inserted again are sent as the same bytes."""
    ddl, rows = _matrix(connection)
    catalog = install(connection, ddl)
    run(connection, *rows)
    before = bytes_of(connection, "things")
    connection.commit()

    run(connection, *HOSTILE, "DELETE FROM things")
    captured = images(connection)
    table = table_of(catalog, "things")
    columns = [column.name for column in table.columns]
    inserted = POSTGRESQL_AUDIT.insert_rows(connection, table, columns, captured)

    assert inserted == len(before)
    assert bytes_of(connection, "things") == before
    shown = connection.scalar(sa.text("SELECT current_setting('DateStyle')"))
    assert shown == "German, DMY", "the session has its settings back"


@pytest.mark.slow
def test_the_text_of_a_value_is_the_same_in_every_session(connection: sa.Connection) -> None:
    """Insert, delete, truncate and a read write the same image, with settings and without."""
    ddl, rows = _matrix(connection)
    catalog = install(connection, ddl)
    run(connection, *rows)
    usual = images(connection, "I")
    connection.commit()

    run(connection, *HOSTILE)
    run(connection, "SET search_path = public, pg_catalog")
    table = table_of(catalog, "things")
    assert _different(POSTGRESQL_AUDIT.select_rows(connection, table, [], []), usual) == []
    run(connection, "SAVEPOINT here", "DELETE FROM things")
    assert _different(images(connection), usual) == []
    run(connection, "ROLLBACK TO here", "TRUNCATE things")
    assert _different(images(connection), usual) == []


def _different(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Return the cells that are not the same, for a row has a hundred."""
    assert len(found) == len(wanted)
    return [
        (one.get(name), cell)
        for one, two in zip(found, wanted, strict=True)
        for name, cell in two.items()
        if one.get(name) != cell
    ]


def test_keys_are_written_as_cells_writes_them(connection: sa.Connection) -> None:
    """Equality of a key's text is equality of the key, whoever wrote it."""
    catalog = install(
        connection,
        "CREATE TABLE t (a text, b int, c timestamptz, d uuid, e inet, f char(4), g float8,"
        " h bytea, i date, j numeric(10,2), k boolean,"
        " PRIMARY KEY (b, a, c, d, e, f, g, h, i, j, k))",
        "SET TimeZone = 'America/St_Johns'",
    )
    control = "E'\\u0001\\u001f\\b\\f\\n\\r\\t\"\\\\/ é\\u007f\\u2028'"
    run(
        connection,
        f"INSERT INTO t VALUES ({control}, 7, '2024-02-03 04:05:06.700+02',"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', 'ab', 1e15, '\\x00ff',"
        " '2024-02-03', 1.5, true)",
    )
    ((_, key, _, image),) = entries(connection)
    row = connection.execute(sa.text("SELECT b, a, c, d, e, f, g, h, i, j, k FROM t")).one()

    table = table_of(catalog, "t")
    written = [
        POSTGRESQL_AUDIT.cell(value, table.column(name).type)
        for name, value in zip(table.primary_key, row, strict=True)
    ]
    assert key == json.dumps(written, ensure_ascii=False, separators=(",", ":"))
    assert written == [image[name] for name in table.primary_key]


@pytest.mark.slow
def test_an_update_is_seen_where_equality_is_blind(connection: sa.Connection) -> None:
    """What is equal to the type, and is other text, is a change; what is the same text is none."""
    cases = {
        "numeric": ("1.0", "1.00"),
        "float8": ("'0'", "'-0'"),
        "jsonb": ("'[1.0]'", "'[1.00]'"),
        "json": ("'{}'", "'{ }'"),
        "interval": ("'1 day'", "'24:00:00'"),
        "bpchar": ("'a'", "'a '"),
        "numeric[]": ("'{1.0}'", "'{1.00}'"),
        "numrange": ("'[1.0,2]'", "'[1.00,2]'"),
        "box": ("'(0,0),(1,4)'", "'(0,0),(2,2)'"),
        'text COLLATE "blind"': ("'é'", "'É'"),
        "xml": ("'<a/>'", "'<a></a>'"),
        "point": ("'(0,0)'", "'(0,-0)'"),
        "text": ("NULL", "''"),
        "pair": ("NULL", "ROW(NULL,NULL)"),
    }
    columns = ", ".join(f"v{number} {kind}" for number, kind in enumerate(cases))
    install(
        connection,
        "CREATE COLLATION blind"
        " (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
        "CREATE TYPE pair AS (a numeric, b text)",
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
        f"INSERT INTO t VALUES (1, {', '.join(before for before, _ in cases.values())})",
    )
    for number, (before, _) in enumerate(cases.values()):
        run(connection, f"UPDATE t SET v{number} = {before}")
    assert entries(connection) == []

    for number, (_, after) in enumerate(cases.values()):
        run(connection, f"UPDATE t SET v{number} = {after}")
    found = entries(connection)
    assert [list(old) for _, _, old, _ in found] == [[f"v{it}"] for it in range(len(cases))]
    assert all(old != new for _, _, old, new in found)
    assert {(op, key) for op, key, _, _ in found} == {("U", '["1"]')}
