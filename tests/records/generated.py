"""Schemas, rows and deletes made by chance: what a restore has to bring back to the byte.

Everything is drawn from one `Random`, so Hypothesis can shrink it and evidence can count seeds.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from shipworthy.audit import AuditDialect, Image, add_tables, audit_dialect, bind, install
from shipworthy.records import TABLES, deletions, purge

Draw = Callable[[random.Random], Any]


def _text(draw: random.Random) -> str:
    return "".join(draw.choices("aB0 '\"\\ü☃\n%:?", k=draw.randrange(8)))


def _bytes(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(8))


def _float(draw: random.Random) -> float:
    return draw.choice([0.1 + 0.2, 1e300, -1e-300, 5.0, draw.gauss(0, 1e6)])


def _date(draw: random.Random) -> str:
    return f"{draw.randrange(1971, 2037)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"


def _instant(draw: random.Random) -> str:
    clock = f"{draw.randrange(24):02}:{draw.randrange(60):02}:07.{draw.randrange(10**6):06}"
    return f"{_date(draw)} {clock}"


def _whole(bits: int) -> Draw:
    return lambda draw: draw.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1))


def _decimal(draw: random.Random) -> str:
    return f"{draw.randrange(-(10**12), 10**12)}.{draw.randrange(10**6):06}"


def _json(draw: random.Random) -> str:
    return draw.choice(['{"a": [1, 2.50, "x"]}', "[]", '"ü"', "1e10", "null"])


TYPES: Mapping[str, Sequence[tuple[str, Draw]]] = {
    "sqlite": [
        ("INTEGER", _whole(64)),
        ("REAL", _float),
        ("TEXT", _text),
        ("BLOB", _bytes),
        ("NUMERIC", _decimal),
        ("", lambda draw: draw.choice([1, 1.5, "x\0y", b"\0\xff", None])),
        ("DATETIME", _instant),
    ],
    "postgresql": [
        ("integer", _whole(32)),
        ("bigint", _whole(64)),
        ("numeric(30,6)", _decimal),
        ("numeric", _decimal),
        ("double precision", _float),
        ("real", lambda draw: draw.choice([0.1, 1.5, -3e10])),
        ("text", _text),
        ("varchar(30)", _text),
        ("char(9)", _text),
        ("bytea", lambda draw: "\\x" + _bytes(draw).hex()),
        ("boolean", lambda draw: draw.choice(["true", "false"])),
        ("jsonb", _json),
        ("json", _json),
        ("timestamptz", _instant),
        ("timestamp", _instant),
        ("date", _date),
        ("interval", lambda draw: f"{draw.randrange(90)} days {draw.randrange(90)} seconds"),
        ("uuid", lambda draw: f"{draw.getrandbits(128):032x}"),
        ("integer[]", lambda draw: draw.choice(["{1,NULL,3}", "{}", "{{1},{2}}"])),
        ("text[]", lambda draw: draw.choice(['{"a,b",NULL,"\\"q"}', "{}"])),
        ("inet", lambda draw: f"10.0.0.{draw.randrange(256)}"),
        ("int4range", lambda draw: draw.choice(["[1,5)", "empty", "(,3)"])),
    ],
    "mariadb": [
        ("int", _whole(32)),
        ("bigint unsigned", lambda draw: draw.randrange(2**64)),
        ("decimal(30,6)", _decimal),
        ("double", _float),
        ("float", lambda draw: draw.choice([0.1, 1.5, -3e10])),
        ("varchar(30)", _text),
        ("text", _text),
        ("varbinary(20)", _bytes),
        ("blob", _bytes),
        ("date", _date),
        ("datetime(6)", _instant),
        ("timestamp(6) NULL", _instant),
        ("time(6)", lambda draw: f"-{draw.randrange(800)}:10:11.{draw.randrange(10**6):06}"),
        ("json", _json),
        ("enum('a','ü','c''d')", lambda draw: draw.choice(["a", "ü", "c'd"])),
        ("bit(9)", lambda draw: draw.randrange(512)),
        ("year", lambda draw: draw.randrange(1970, 2100)),
    ],
}


@dataclass(slots=True)
class Link:
    """A foreign key: its columns stand for the primary key of `target`."""

    name: str
    columns: list[str]
    target: "Made"
    on_delete: str
    optional: bool


@dataclass(slots=True)
class Made:
    """A table made by chance; `key` are its primary key columns with their types."""

    name: str
    key: list[tuple[str, str]]
    columns: list[tuple[str, str, Draw]]
    links: list[Link] = field(default_factory=list)
    # Rows as they were inserted, by their keys.
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    # Their values of the unique column `u`, where it has one.
    uniques: list[str] = field(default_factory=list)
    is_unique: bool = False


@dataclass(slots=True)
class World:
    """A generated schema with its rows, in a database that has a trail."""

    engine: sa.Engine
    tables: list[Made]
    # Every row as it was before anything was deleted, by its table.
    filled: dict[str, list[Image]] = field(default_factory=dict)

    @property
    def dialect(self) -> str:
        return "mariadb" if self.engine.dialect.name == "mysql" else self.engine.dialect.name

    @property
    def trail(self) -> AuditDialect:
        found = audit_dialect(self.engine.dialect.name)
        assert found is not None
        return found

    def images(self, connection: sa.Connection) -> dict[str, list[Image]]:
        """Return every row, as the engine's own text, in an order of their own."""
        return {
            str(name): sorted(self.trail.select_rows(connection, table, (), ()), key=repr)
            for name, table in self.trail.read_catalog(connection).tables.items()
        }

    def dump(self) -> dict[str, list[Image]]:
        """Return `images` of now."""
        with self.engine.connect() as connection:
            return self.images(connection)


def make_world(engine: sa.Engine, draw: random.Random) -> World:
    """Make tables, rows and their trail."""
    world = World(engine, [])
    if world.dialect == "sqlite":
        # Else those of a millisecond are one transaction there, and a seed not the same twice.
        bind(engine, service="made")
    _make_tables(world, draw)
    with engine.begin() as connection:
        for statement in _ddl(world):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        add_tables(TABLES)
        install(connection, say=lambda _: None)
        _fill(world, connection, draw)
    world.filled = world.dump()
    return world


def drop_world(world: World) -> None:
    """Take it all away, the trail too, so that the next one finds an empty database."""
    database = world.engine.url.database
    statements = (
        ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        if world.dialect == "postgresql"
        else (f"DROP DATABASE {database}", f"CREATE DATABASE {database}", f"USE {database}")
    )
    with world.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    world.engine.dispose()


def delete_some(world: World, draw: random.Random) -> int:
    """Delete rows in one transaction, as the schema allows; returns how many statements did."""
    done = 0
    with world.engine.begin() as connection:
        if world.dialect == "sqlite":
            # The driver begins none for a savepoint, and each would be a transaction of its own.
            connection.exec_driver_sql("BEGIN")
        for _ in range(draw.randrange(1, 4)):
            table = draw.choice(world.tables)
            if not table.rows:
                continue
            key = draw.choice(table.rows)
            condition, given = _having(table, key)
            done += _tried(connection, f"DELETE FROM {table.name} WHERE {condition}", given)
    return done


def damage(world: World, draw: random.Random) -> None:
    """Do to the present what may stand in the way of a restore."""
    kinds = [*[_take_a_place] * 3, *[_delete_more] * 3, *[_put_back] * 2, *[_link_anew] * 2]
    kinds += [_reject, _purge]
    if world.dialect != "sqlite":
        kinds += [_drop_a_column, _require_a_column, _change_a_type, _drop_a_table]
    for _ in range(draw.randrange(1, 4)):
        with world.engine.begin() as connection:
            draw.choice(kinds)(world, connection, draw)


def _take_a_place(world: World, connection: sa.Connection, draw: random.Random) -> None:
    """A stranger with the key of a row, or with its unique value, where that is free now."""
    table, place = _gone(world, connection, draw)
    values = _values(table, draw)
    if values is None or not table.rows:
        return
    if table.is_unique and draw.random() < 0.5:
        values["u"] = table.uniques[place]
    else:
        values.update(zip([name for name, _ in table.key], table.rows[place], strict=True))
    _tried(connection, *_insertion(world, table, values))


def _delete_more(world: World, connection: sa.Connection, draw: random.Random) -> None:
    table = draw.choice(world.tables)
    sql = f"DELETE FROM {table.name} WHERE {table.key[0][0]} = :k"
    _tried(connection, sql, {"k": _key(table, draw)})


def _put_back(world: World, connection: sa.Connection, draw: random.Random) -> None:
    """Somebody helps himself: a row that is gone stands there again, just as it was."""
    there = world.images(connection)
    gone = [
        (name, image)
        for name, images in world.filled.items()
        for image in images
        if name in there and image not in there[name]
    ]
    if not gone:
        return
    name, image = draw.choice(gone)
    tables = world.trail.read_catalog(connection).tables.values()
    table = next(table for table in tables if str(table.name) == name)
    columns = [column.name for column in table.columns if column.name in image]
    savepoint = connection.begin_nested()
    try:
        world.trail.insert_rows(connection, table, columns, [image])
    except sa.exc.DBAPIError:
        savepoint.rollback()
    else:
        savepoint.commit()


def _link_anew(world: World, connection: sa.Connection, draw: random.Random) -> None:
    """A row is given another parent, also one that was emptied by a delete."""
    links = [(table, link) for table in world.tables for link in table.links if link.optional]
    if not links:
        return
    table, link = draw.choice(links)
    if table.rows and link.target.rows:
        values = dict(zip(link.columns, draw.choice(link.target.rows), strict=True))
        _tried(connection, *_setting(table, draw.choice(table.rows), values))


def _purge(_: World, connection: sa.Connection, draw: random.Random) -> None:
    """What a deletion has never comes back: who needs it has lost its parent."""
    if open_now := deletions(connection, limit=1000):
        purge(connection, draw.choice(open_now).id)


def _reject(world: World, connection: sa.Connection, draw: random.Random) -> None:
    """The application refuses a row now: by a check, or where there is none by a trigger."""
    table, place = _gone(world, connection, draw)
    column, value = table.key[0][0], table.rows[place][0] if table.rows else 0
    literal = f"'{value}'" if isinstance(value, str) else str(value)
    name = f"refuse{draw.randrange(10**9)}"
    check = f"ALTER TABLE {table.name} ADD CONSTRAINT {name} CHECK ({column} <> {literal})"
    match world.dialect:
        case "sqlite":
            sql = (
                f"CREATE TRIGGER {name} BEFORE INSERT ON {table.name} "
                f"WHEN NEW.{column} = {literal} BEGIN SELECT RAISE(ABORT, 'not here'); END"
            )
        case "postgresql":
            sql = f"{check} NOT VALID"
        case _:
            sql = check
    _tried(connection, sql, {})


def _drop_a_column(world: World, connection: sa.Connection, draw: random.Random) -> None:
    table = draw.choice(world.tables)
    if table.columns:
        name, _, _ = table.columns.pop(draw.randrange(len(table.columns)))
        _tried(connection, f"ALTER TABLE {table.name} DROP COLUMN {name}", {})
        # The triggers name it.
        install(connection, say=lambda _: None)


def _require_a_column(world: World, connection: sa.Connection, draw: random.Random) -> None:
    table = draw.choice(world.tables)
    name = f"n{draw.randrange(10**9)}"
    required = (
        f"ALTER COLUMN {name} SET NOT NULL"
        if world.dialect == "postgresql"
        else f"MODIFY {name} integer NOT NULL"
    )
    _tried(connection, f"ALTER TABLE {table.name} ADD COLUMN {name} integer", {})
    _tried(connection, f"UPDATE {table.name} SET {name} = 1", {})
    _tried(connection, f"ALTER TABLE {table.name} {required}", {})
    table.columns.append((name, "integer", lambda draw: draw.randrange(9)))
    install(connection, say=lambda _: None)


def _change_a_type(world: World, connection: sa.Connection, draw: random.Random) -> None:
    table = draw.choice(world.tables)
    texts = [name for name, kind, _ in table.columns if kind in {"text", "varchar(30)"}]
    if texts:
        change = (
            f"ALTER COLUMN {texts[0]} TYPE varchar(3)"
            if world.dialect == "postgresql"
            else f"MODIFY {texts[0]} varchar(3)"
        )
        if _tried(connection, f"ALTER TABLE {table.name} {change}", {}):
            install(connection, say=lambda _: None)


def _drop_a_table(world: World, connection: sa.Connection, draw: random.Random) -> None:
    targets = {link.target.name for table in world.tables for link in table.links}
    leaves = [table for table in world.tables if table.name not in targets]
    if leaves and len(world.tables) > 1:
        table = draw.choice(leaves)
        connection.exec_driver_sql(f"DROP TABLE {table.name}")
        world.tables.remove(table)


def _gone(world: World, connection: sa.Connection, draw: random.Random) -> tuple[Made, int]:
    """Return a row that is gone, if any is: its table, and its place in that."""
    rows = [(table, place) for table in world.tables for place in range(len(table.rows))]
    gone = []
    for table, place in rows:
        condition, given = _having(table, table.rows[place])
        wanted = sa.text(f"SELECT 1 FROM {table.name} WHERE {condition}")
        if connection.execute(wanted, given).first() is None:
            gone.append((table, place))
    return draw.choice(gone or rows or [(world.tables[0], 0)])


def _key(table: Made, draw: random.Random) -> Any:
    return draw.choice(table.rows)[0] if table.rows else 0


def _tried(connection: sa.Connection, sql: str, values: Mapping[str, Any]) -> bool:
    """Run it, in a savepoint where that is of use; say whether the database took it."""
    if sql.startswith(("ALTER", "CREATE")) and connection.dialect.name != "postgresql":
        # MariaDB commits with each change of a table, and its savepoints with it.
        try:
            connection.execute(sa.text(sql), values)
        except sa.exc.DBAPIError:
            return False
        return True
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.text(sql), values)
    except sa.exc.DBAPIError:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _make_tables(world: World, draw: random.Random) -> None:
    kinds = TYPES[world.dialect]
    for number in range(draw.randrange(2, 6)):
        parent = draw.choice(world.tables) if world.tables and draw.random() < 0.2 else None
        table = Made(f"t{number}", [], [])
        if parent is not None:
            # Joined inheritance: the key is a link, too.
            table.key = [(f"k{place}", kind) for place, (_, kind) in enumerate(parent.key)]
            names = [name for name, _ in table.key]
            table.links.append(Link(f"fk{number}_base", names, parent, "CASCADE", optional=False))
        else:
            word = "TEXT" if world.dialect == "sqlite" else "varchar(20)"
            table.key = draw.choice(
                [
                    [("k0", "INTEGER")],
                    [("k0", "INTEGER"), ("k1", word)],
                    [("k0", word)],
                ]
            )
        for place in range(draw.randrange(4)):
            kind, value = draw.choice(kinds)
            table.columns.append((f"c{place}", kind, value))
        world.tables.append(table)
        table.is_unique = draw.random() < 0.4
    _link_tables(world, draw)
    if draw.random() < 0.6 and len(world.tables) > 1:
        # Many-to-many: both links are the key.
        ends = [draw.choice(world.tables), draw.choice(world.tables)]
        key = [
            (f"{side}{place}", kind)
            for side, end in zip("ab", ends, strict=True)
            for place, (_, kind) in enumerate(end.key)
        ]
        both = Made("t9", key, [])
        for side, end in zip("ab", ends, strict=True):
            names = [name for name, _ in key if name.startswith(side)]
            both.links.append(Link(f"fk9_{side}", names, end, "CASCADE", optional=False))
        world.tables.append(both)


def _link_tables(world: World, draw: random.Random) -> None:
    for place, table in enumerate(world.tables):
        # On MariaDB a cascade must not come back to where it began by another table.
        reach = world.tables[: place + 1] if world.dialect == "mariadb" else world.tables
        for number in range(draw.randrange(3)):
            target = draw.choice(reach)
            backward = world.tables.index(target) >= place
            optional = backward or draw.random() < 0.5
            action = draw.choice(["CASCADE", "CASCADE", "NO ACTION", *["SET NULL"] * optional])
            names = [f"l{number}_{part}" for part in range(len(target.key))]
            table.links.append(
                Link(f"fk{place}_{number}", names, target, action, optional=optional)
            )


def _ddl(world: World) -> list[str]:
    made: list[str] = []
    later: list[str] = []
    for table in world.tables:
        keys = dict(table.key)
        parts = [f"{name} {kind} NOT NULL" for name, kind in table.key]
        parts += [f"{name} {kind}" for name, kind, _ in table.columns]
        parts += ["u varchar(20) UNIQUE"] * table.is_unique
        for link in table.links:
            parts += [
                f"{name} {kind}{'' if link.optional else ' NOT NULL'}"
                for name, (_, kind) in zip(link.columns, link.target.key, strict=True)
                if name not in keys
            ]
            action = f" ON DELETE {link.on_delete}"
            rule = (
                f"CONSTRAINT {link.name} FOREIGN KEY ({', '.join(link.columns)}) REFERENCES "
                f"{link.target.name} ({', '.join(name for name, _ in link.target.key)}){action}"
            )
            if world.dialect == "sqlite":
                parts.append(f"\0{rule}")
            else:
                later.append(f"ALTER TABLE {table.name} ADD {rule}")
        parts.append(f"\0PRIMARY KEY ({', '.join(name for name, _ in table.key)})")
        # Constraints stand after all columns.
        parts.sort(key=lambda part: part.startswith("\0"))
        text = ", ".join(part.removeprefix("\0") for part in parts)
        end = " ENGINE=InnoDB CHARACTER SET utf8mb4" if world.dialect == "mariadb" else ""
        made.append(f"CREATE TABLE {table.name} ({text}){end}")
    return made + later


def _fill(world: World, connection: sa.Connection, draw: random.Random) -> None:
    for table in world.tables:
        for _ in range(draw.randrange(1, 7)):
            values = _values(table, draw)
            if values is None:
                continue
            key = tuple(values[name] for name, _ in table.key)
            if key in table.rows:
                continue
            sql, given = _insertion(world, table, values)
            connection.execute(sa.text(sql), given)
            table.rows.append(key)
            table.uniques.append(values.get("u", ""))
    # Links forward and to themselves, now that there is something to link to.
    for table in world.tables:
        for link in table.links:
            if not link.optional or not link.target.rows:
                continue
            for key in table.rows:
                if draw.random() < 0.6:
                    other = draw.choice(link.target.rows)
                    _update(connection, table, key, dict(zip(link.columns, other, strict=True)))


def _values(table: Made, draw: random.Random) -> dict[str, Any] | None:
    values: dict[str, Any] = {}
    for name, kind in table.key:
        values[name] = draw.randrange(50) if kind == "INTEGER" else f"k{draw.randrange(50)}"
    if table.is_unique:
        # What is drawn may be drawn twice; the place in the table is its own.
        values["u"] = f"u{len(table.uniques)}_{draw.getrandbits(40)}"
    for name, _, value in table.columns:
        values[name] = None if draw.random() < 0.2 else value(draw)
    for link in table.links:
        if not link.optional:
            if not link.target.rows:
                return None
            values.update(zip(link.columns, draw.choice(link.target.rows), strict=True))
    return values


def _insertion(
    world: World, table: Made, values: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return the statement that inserts a row, and what it is given."""
    kinds = {name: kind for name, kind, _ in table.columns}
    cast = world.dialect == "postgresql"
    forms = [
        f"CAST(:{name} AS {kinds[name]})" if cast and name in kinds else f":{name}"
        for name in values
    ]
    given = {
        name: str(value) if cast and name in kinds and value is not None else value
        for name, value in values.items()
    }
    return f"INSERT INTO {table.name} ({', '.join(values)}) VALUES ({', '.join(forms)})", given


def _update(
    connection: sa.Connection, table: Made, key: tuple[Any, ...], values: Mapping[str, Any]
) -> None:
    sql, given = _setting(table, key, values)
    connection.execute(sa.text(sql), given)


def _setting(
    table: Made, key: tuple[Any, ...], values: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return the statement that changes a row, and what it is given."""
    sets = ", ".join(f"{name} = :{name}" for name in values)
    condition, given = _having(table, key)
    return f"UPDATE {table.name} SET {sets} WHERE {condition}", {**values, **given}


def _having(table: Made, key: tuple[Any, ...]) -> tuple[str, Mapping[str, Any]]:
    """Return the condition that finds a row, and what it is given."""
    condition = " AND ".join(f"{name} = :key{place}" for place, (name, _) in enumerate(table.key))
    return condition, {f"key{place}": one for place, one in enumerate(key)}
