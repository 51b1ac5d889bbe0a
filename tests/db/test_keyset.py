"""Pages of a list: every row once, whatever others write, and tokens of no other use."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as some
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from shipworthy.clock import ManualClock
from shipworthy.db.keyset import Keyset, KeysetPage, PageTokenRefused
from shipworthy.db.page_settings import PageSettings
from shipworthy.db.page_token import PageKeys, PageTokenInvalid
from shipworthy.db.query import QueryInvalid
from shipworthy.errors import Misuse, SettingsInvalid
from shipworthy.events import listen
from shipworthy.settings import Secret

KEYS = PageKeys("a key of the tests")
ROWS = Keyset("rows", KEYS, size=3, most=1000)

metadata = sa.MetaData()
rows = sa.Table(
    "rows",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("a", sa.Integer, nullable=False),
    sa.Column("b", sa.Integer, nullable=True),
    sa.Column("c", sa.String(20, collation=None), nullable=True),
)
sa.Index("ix_rows_a_id", rows.c.a, rows.c.id)
sa.Index("ix_rows_b_id", rows.c.b, rows.c.id)


class Mood(Enum):
    ZEALOUS = "z"
    ANGRY = "a"
    MILD = "m"


class Model(DeclarativeBase):
    pass


class Boat(Model):
    __tablename__ = "boats"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    built: Mapped[int | None]
    oars: Mapped[list["Oar"]] = relationship(back_populates="boat")


class Oar(Model):
    __tablename__ = "oars"
    id: Mapped[int] = mapped_column(primary_key=True)
    length: Mapped[int]
    boat_id: Mapped[int | None] = mapped_column(sa.ForeignKey("boats.id"))
    boat: Mapped[Boat | None] = relationship(back_populates="oars")


Order = Sequence[Any]
Read = Callable[[str | None], KeysetPage]


def _forward(read: Read, between: Callable[[], None] = lambda: None) -> list[Any]:
    seen: list[Any] = []
    page = read(None)
    for _ in range(1000):
        seen += page.items
        if page.next is None:
            return seen
        between()
        page = read(page.next)
    raise AssertionError("the pages have no end")


def _backward(read: Read, between: Callable[[], None] = lambda: None) -> list[Any]:
    seen: list[Any] = []
    page = read(read(None).last)
    for _ in range(1000):
        seen = [*page.items, *seen]
        if page.previous is None:
            return seen
        between()
        page = read(page.previous)
    raise AssertionError("the pages have no end")


def _reader(connection: sa.Connection, order: Order, size: int = 3) -> Read:
    statement = sa.select(rows.c.id)
    return lambda token: ROWS.read(connection, statement, order=order, size=size, token=token)


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture
def sqlite() -> Iterator[sa.Connection]:
    """An empty SQLite with the tables of these tests."""
    with _connected("sqlite://") as connection:
        metadata.create_all(connection)
        Model.metadata.create_all(connection)
        yield connection


ORDERS: list[Order] = [
    [rows.c.a],
    [rows.c.a.desc()],
    [rows.c.a.desc(), rows.c.id],
    [rows.c.b],
    [rows.c.b.desc()],
    [rows.c.b.nulls_last()],
    [rows.c.b.desc().nulls_last()],
    [rows.c.b.nulls_first(), rows.c.a.desc()],
    [rows.c.b.desc().nulls_first(), rows.c.c.nulls_last(), rows.c.a],
    [rows.c.c, rows.c.b.desc(), rows.c.id.desc()],
    [sa.func.lower(rows.c.c).desc(), rows.c.a],
    [sa.func.coalesce(rows.c.b, 2), rows.c.a.desc()],
    [],
]
few = some.integers(0, 3)
line = some.fixed_dictionaries(
    {"a": few, "b": some.none() | few, "c": some.none() | some.sampled_from(["", "a", "A", "b %"])}
)
# Between two pages: rows that are added, and by their place in the list rows that are deleted.
writes = some.lists(some.tuples(some.lists(line, max_size=3), some.lists(few, max_size=3)))


def _every_row_once(
    connection: sa.Connection,
    *,
    order: Order,
    before: list[dict[str, Any]],
    script: list[tuple[list[dict[str, Any]], list[int]]],
    size: int,
    walk: Callable[[Read, Callable[[], None]], list[Any]],
) -> None:
    """Walk the pages while the script writes; what was there throughout is seen once, in order."""
    connection.execute(rows.delete())
    if before:
        connection.execute(rows.insert(), [row | {"id": n} for n, row in enumerate(before)])
    stays = set(range(len(before)))
    numbers = iter(range(1000, 2000))
    # Some come with a low number, so that they stand before a page that has been read.
    low = iter(range(-1, -1000, -1))
    pending = iter(script)
    read = _reader(connection, order, size)

    def write() -> None:
        added, gone = next(pending, ([], []))
        for n, row in enumerate(added):
            number = next(low) if n % 2 else next(numbers)
            connection.execute(rows.insert().values(row | {"id": number}))
        for place in gone:
            there = sorted(stays)
            if there:
                victim = there[place * len(there) // 4]
                stays.discard(victim)
                connection.execute(rows.delete().where(rows.c.id == victim))

    seen = walk(read, write)

    assert len(seen) == len(set(seen)), "a row came twice"
    assert stays <= set(seen), "a row was lost"
    left = read_all(connection, order)
    assert [one for one in left if one in stays] == [one for one in seen if one in stays]


def read_all(connection: sa.Connection, order: Order) -> list[Any]:
    return list(_reader(connection, order, 1000)(None).items)


example = {
    "order": some.sampled_from(ORDERS),
    "before": some.lists(line, max_size=14),
    "script": writes,
    "size": some.integers(1, 4),
    "walk": some.sampled_from([_forward, _backward]),
}


@pytest.mark.slow
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**example)
def test_every_row_is_seen_once_while_others_write_in_sqlite(
    sqlite: sa.Connection, **drawn: Any
) -> None:
    """Rows with ties and NULLs come exactly once and in order, in both directions."""
    _every_row_once(sqlite, **drawn)


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**example)
def test_every_row_is_seen_once_while_others_write_in_postgresql(
    postgres_url: str, postgres: sa.Connection, **drawn: Any
) -> None:
    """Rows with ties and NULLs come exactly once and in order, in both directions."""
    _every_row_once(postgres, **drawn)


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**example)
def test_every_row_is_seen_once_while_others_write_in_mariadb(
    mariadb_url: str, mariadb: sa.Connection, **drawn: Any
) -> None:
    """Rows with ties and NULLs come exactly once and in order, in both directions."""
    _every_row_once(mariadb, **drawn)


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[sa.Connection]:
    """An empty PostgreSQL with the tables of these tests."""
    with _connected(postgres_url) as connection:
        metadata.create_all(connection)
        Model.metadata.create_all(connection)
        yield connection


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[sa.Connection]:
    """An empty MariaDB with the tables of these tests."""
    with _connected(mariadb_url) as connection:
        metadata.create_all(connection)
        Model.metadata.create_all(connection)
        yield connection


def _instant(n: int) -> dt.datetime:
    return dt.datetime(2026, 1, 1, n, tzinfo=dt.UTC)


KINDS: dict[str, tuple[Any, list[Any]]] = {
    "whole": (sa.BigInteger(), [1, 2, -(2**62)]),
    "text": (sa.String(20), ["a", "A", "b ", "b", "", "%_\\"]),
    "fixed": (sa.CHAR(10), ["a", "ab", "b", "A"]),
    "float": (sa.Float(), [0.1, 1 / 3, -2.5, 1e30]),
    "single": (sa.REAL(), [0.1, 1 / 3, -2.5, 1e30]),
    "double": (sa.Double(), [0.1, 1 / 3, -0.0, 0.0]),
    "decimal": (sa.Numeric(12, 4), [Decimal("1.1"), Decimal("-3.3333"), Decimal("9999999.0001")]),
    "switch": (sa.Boolean(), [True, False]),
    "day": (sa.Date(), [dt.date(2026, 1, day) for day in (1, 2, 3)]),
    "local": (
        sa.DateTime(),
        [_instant(1).replace(tzinfo=None, microsecond=us) for us in (0, 1, 500000)],
    ),
    "instant": (sa.DateTime(timezone=True), [_instant(hour) for hour in (1, 2, 3)]),
    "time": (sa.Time(), [dt.time(1), dt.time(2, 30)]),
    "choice": (sa.Enum(Mood), list(Mood)),
    "word": (sa.Enum(Mood, native_enum=False), list(Mood)),
    "uuid": (sa.Uuid(), [uuid.UUID(int=1 << bits) for bits in (0, 64, 100, 127)]),
    "bytes": (sa.LargeBinary(20), [b"", b"a", b"\xff\x00"]),
    "length": (sa.Interval(), [dt.timedelta(hours=1), dt.timedelta(days=-2, microseconds=5)]),
}
KINDS["local"] = (
    sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
    KINDS["local"][1],
)
typed = sa.Table(
    "typed",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, kind, nullable=True) for name, (kind, _) in KINDS.items()),
)


@pytest.mark.filterwarnings("ignore:Dialect sqlite.* does \\*not\\* support Decimal")
@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres_url", "mariadb_url"])
def test_any_plain_type_is_an_order(database: str, request: pytest.FixtureRequest) -> None:
    """A value of every type comes back from its token equal to what is stored, to the last bit."""
    url = "sqlite://" if database == "sqlite" else request.getfixturevalue(database)
    with _connected(url) as connection:
        typed.create(connection)
        connection.execute(
            typed.insert(),
            [
                {"id": n}
                | {
                    name: [*values, None][n % (len(values) + 1)]
                    for name, (_, values) in KINDS.items()
                }
                for n in range(15)
            ],
        )
        for name in KINDS:
            column = typed.c[name]
            for by in (column, column.desc().nulls_last()):

                def read(token: str | None, size: int = 4, by: Any = by) -> KeysetPage:
                    statement = sa.select(typed.c.id)
                    return ROWS.read(connection, statement, order=[by], size=size, token=token)

                whole = list(read(None, 100).items)
                native = connection.scalars(sa.select(typed.c.id).where(column.is_not(None)))
                assert sorted(whole) == list(range(15))
                assert len(native.all()) < 15
                assert _forward(read) == whole, name
                assert _backward(read) == whole, name


def test_a_native_enum_keeps_its_own_order_in_mariadb(mariadb: sa.Connection) -> None:
    """MariaDB sorts an ENUM by position and compares it by text; its pages go by position."""
    typed.create(mariadb)
    mariadb.execute(typed.insert(), [{"id": n, "choice": mood} for n, mood in enumerate(Mood)])

    seen = _forward(
        lambda token: ROWS.read(
            mariadb, sa.select(typed.c.choice), order=[typed.c.choice], size=1, token=token
        )
    )

    assert seen == list(Mood)


def test_times_written_by_others_are_not_lost_in_sqlite(sqlite: sa.Connection) -> None:
    """SQLite has no times but texts: two spellings of one instant are two places in the order."""
    sqlite.exec_driver_sql("CREATE TABLE log (id INTEGER PRIMARY KEY, at DATETIME)")
    sqlite.exec_driver_sql(
        "INSERT INTO log VALUES (1, '2026-01-01 00:00:00'), (2, '2026-01-01 00:00:00'),"
        " (3, '2026-01-01 00:00:00.000000'), (4, '2026-01-01 00:00:00')"
    )
    log = sa.Table("log", sa.MetaData(), autoload_with=sqlite)

    seen = _forward(
        lambda token: ROWS.read(sqlite, sa.select(log.c.id), order=[log.c.at], size=1, token=token)
    )

    assert seen == [1, 2, 4, 3]


# Plans


def _fill(connection: sa.Connection, count: int = 3000) -> None:
    connection.execute(
        rows.insert(),
        [
            {"id": n, "a": n % 50, "b": None if n % 7 == 0 else n % 40, "c": str(n)}
            for n in range(count)
        ],
    )


def _page_query(connection: sa.Connection, order: Order) -> sa.Select[Any]:
    """Return the statement of a page in the middle."""
    read = _reader(connection, order, 20)
    page = read(None)
    for _ in range(5):
        page = read(page.next)
    return ROWS.query(
        sa.select(rows.c.id), order=order, dialect=connection.dialect, token=page.next
    ).statement


def _explained(connection: sa.Connection, order: Order, how: str) -> list[Any]:
    """Return the plan of a page in the middle, with its values bound as they always are."""
    statement = _page_query(connection, order)

    def explain(*sent: Any) -> tuple[str, Any]:
        return f"{how} {sent[2]}", sent[3]

    sa.event.listen(connection, "before_cursor_execute", explain, retval=True)
    found = list(connection.execute(statement).cursor.fetchall())  # type: ignore[union-attr]
    sa.event.remove(connection, "before_cursor_execute", explain)
    return found


def _sqlite_plan(connection: sa.Connection, order: Order) -> list[str]:
    return [row[3] for row in _explained(connection, order, "EXPLAIN QUERY PLAN")]


def _postgres_nodes(connection: sa.Connection, order: Order) -> list[dict[str, Any]]:
    connection.exec_driver_sql("ANALYZE rows")
    ((found,),) = _explained(connection, order, "EXPLAIN (FORMAT JSON)")
    nodes, ahead = [], [found[0]["Plan"]]
    while ahead:
        node = ahead.pop()
        nodes.append(node)
        ahead += node.get("Plans", [])
    return nodes


PLANNED: list[Order] = [[rows.c.a], [rows.c.a.desc()], [rows.c.id]]


@pytest.mark.parametrize("order", PLANNED, ids=["a", "a-desc", "id"])
def test_a_page_is_the_start_of_an_index_scan_in_sqlite(
    sqlite: sa.Connection, order: Order
) -> None:
    """SQLite searches an index from the page's first row on, and sorts nothing."""
    _fill(sqlite)

    plan = _sqlite_plan(sqlite, order)

    assert len(plan) == 1, plan
    assert plan[0].startswith("SEARCH rows USING")
    assert ">" in plan[0] or "<" in plan[0]


@pytest.mark.parametrize("order", PLANNED, ids=["a", "a-desc", "id"])
def test_a_page_is_the_start_of_an_index_scan_in_postgresql(
    postgres: sa.Connection, order: Order
) -> None:
    """PostgreSQL begins an index scan at the page's first row, filters and sorts nothing."""
    _fill(postgres)

    nodes = _postgres_nodes(postgres, order)

    kinds = [node["Node Type"] for node in nodes]
    assert kinds[0] == "Limit"
    assert kinds[1] in {"Index Scan", "Index Only Scan"}, kinds
    assert nodes[1]["Index Cond"]
    assert "Filter" not in nodes[1]


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ([rows.c.b], "ix_rows_b_id"),
        ([rows.c.b.desc()], "ix_rows_b_id"),
    ],
    ids=["nulls-last", "nulls-first"],
)
def test_nulls_where_the_index_has_them_are_not_sorted_in_postgresql(
    postgres: sa.Connection, order: Order, index: str
) -> None:
    """A nullable order with NULL on PostgreSQL's own side follows the index without a sort."""
    _fill(postgres)

    nodes = _postgres_nodes(postgres, order)

    assert [node["Node Type"] for node in nodes][1:] in (["Index Scan"], ["Index Only Scan"])
    assert nodes[1]["Index Name"] == index


@pytest.mark.parametrize(
    "order",
    [[rows.c.b], [rows.c.b.desc()], [rows.c.b.nulls_last()], [rows.c.a, rows.c.id.asc()]],
    ids=["nulls-first", "nulls-last", "nulls-turned", "plain"],
)
def test_nulls_are_not_sorted_in_sqlite(sqlite: sa.Connection, order: Order) -> None:
    """A nullable order follows the index without a sort, on either side."""
    _fill(sqlite)

    plan = " ".join(_sqlite_plan(sqlite, order))

    assert "INDEX ix_rows" in plan
    assert "TEMP B-TREE" not in plan


def test_a_page_is_a_range_of_an_index_in_mariadb(mariadb: sa.Connection) -> None:
    """MariaDB, which does not see through row values, gets a range it understands."""
    _fill(mariadb)
    mariadb.exec_driver_sql("ANALYZE TABLE `rows`").all()

    ((_, _, _, kind, _, index, _, _, _, extra),) = _explained(mariadb, [rows.c.a.desc()], "EXPLAIN")

    assert (kind, index) == ("range", "ix_rows_a_id")
    assert "filesort" not in extra


def test_mixed_directions_still_begin_where_the_page_does(postgres: sa.Connection) -> None:
    """Keys of both directions are compared one by one, and the first bounds the scan."""
    sa.Index("ix_mixed", rows.c.a, rows.c.id.desc()).create(postgres)
    _fill(postgres)

    nodes = _postgres_nodes(postgres, [rows.c.a, rows.c.id.desc()])

    assert [node["Node Type"] for node in nodes][1:] in (["Index Scan"], ["Index Only Scan"])
    assert "a >=" in nodes[1]["Index Cond"]
    rows.indexes.discard(next(one for one in rows.indexes if one.name == "ix_mixed"))


# Shapes of statements


@pytest.fixture
def boats(sqlite: sa.Connection) -> Iterator[Session]:
    """Four boats, of which the third has no year and the fourth no oars, and six oars."""
    with Session(sqlite) as session:
        for n, built in enumerate([1990, 1990, None, 2001]):
            boat = Boat(id=n, name=f"boat {n}", built=built)
            boat.oars = [Oar(length=length) for length in range(2 if n < 3 else 0)]
            session.add(boat)
        session.add(Oar(length=9))
        session.commit()
        yield session


def _orm(session: Session, statement: sa.Select[Any], *order: Any, size: int = 2) -> Read:
    return lambda token: ROWS.read(session, statement, order=order, size=size, token=token)


def test_mapped_classes_come_as_they_are(boats: Session) -> None:
    """One selected class gives its objects; more things give rows by their names."""
    read = _orm(boats, sa.select(Boat).options(selectinload(Boat.oars)), Boat.built.desc())
    seen = _forward(read)
    named = _orm(boats, sa.select(Boat.name, Boat.built), Boat.name)(None).items

    assert [boat.id for boat in seen] == [3, 1, 0, 2]
    assert [len(boat.oars) for boat in seen] == [0, 2, 2, 2]
    assert named[1].name == "boat 1"
    assert len(named[1]) == 2


def test_an_alias_is_paged_by_its_own_columns(boats: Session) -> None:
    """An alias brings its own primary key, not the table's."""
    boat = aliased(Boat, name="b2")
    read = _orm(boats, sa.select(boat).where(boat.id < 3), boat.built)

    assert [one.id for one in _forward(read)] == [2, 0, 1]
    assert [one.id for one in _backward(read)] == [2, 0, 1]


def test_a_core_alias_is_paged_too(boats: Session) -> None:
    """A table under another name is a table."""
    boat = Boat.__table__.alias("b3")
    read = _orm(boats, sa.select(boat.c.id), boat.c.name.desc(), size=1)

    assert _forward(read) == [3, 2, 1, 0]


def test_an_outer_join_may_leave_null(boats: Session) -> None:
    """A NOT NULL column is NULL where an outer join finds nothing, and no row is lost for it."""
    joined = sa.select(Oar).outerjoin(Oar.boat)
    full = sa.select(Boat.id, Oar.id).join(Oar, Oar.boat_id == Boat.id, full=True)

    oars = _forward(_orm(boats, joined, Boat.name, size=1))
    pairs = _backward(_orm(boats, full, Boat.name.desc(), Oar.id, size=1))

    assert [oar.boat.name if oar.boat else None for oar in oars] == [
        None,
        *(f"boat {n}" for n in (0, 0, 1, 1, 2, 2)),
    ]
    assert pairs == [(3, None), (2, 5), (2, 6), (1, 3), (1, 4), (0, 1), (0, 2), (None, 7)]


def test_a_collection_loaded_by_a_join_is_read_whole(boats: Session) -> None:
    """`joinedload` repeats rows for SQLAlchemy, not for the page."""
    statement = sa.select(Boat).options(joinedload(Boat.oars))
    query = ROWS.query(statement, order=[Boat.name], dialect=boats.get_bind().dialect)

    page = query.page(boats.execute(query.statement).unique())

    assert [len(boat.oars) for boat in page.items] == [2, 2, 2]
    assert page.next


def test_an_expression_is_paged_where_it_is_computed(boats: Session) -> None:
    """An order by a subquery's or an aggregate's value works from a subquery."""
    counted = (
        sa.select(Oar.boat_id, sa.func.count().label("oars"), sa.func.min(Oar.id).label("first"))
        .group_by(Oar.boat_id)
        .subquery()
    )
    read = _orm(boats, sa.select(counted.c.oars), counted.c.oars.desc(), counted.c.first, size=1)

    with pytest.raises(Misuse, match="has no primary key"):
        read(None)
    many = sa.select(sa.func.count(Oar.id)).where(Oar.boat_id == Boat.id).scalar_subquery()
    read = _orm(boats, sa.select(Boat.id), many.desc().nulls_last(), size=1)
    assert _forward(read) == [2, 1, 0, 3]


def test_what_is_unique_already_gets_no_key_more(boats: Session) -> None:
    """A unique NOT NULL column, or the whole primary key, is an order by itself."""
    dialect = boats.get_bind().dialect

    def columns(order: Order) -> str:
        text = str(ROWS.query(sa.select(Boat.id), order=order, dialect=dialect).statement)
        return text.partition("ORDER BY ")[2].partition("\n")[0]

    assert columns([Boat.name.desc()]) == "boats.name DESC"
    assert columns([Boat.id]) == "boats.id ASC"
    assert columns([Boat.built.desc()]) == "boats.built DESC, boats.id DESC"
    assert columns([]) == "boats.id ASC"


def test_a_unique_index_counts_when_it_covers_every_row() -> None:
    """A plain unique index makes an order unique; one that leaves rows out does not."""
    dialect = sa.create_engine("sqlite://").dialect
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.Integer, nullable=False),
        sa.Column("y", sa.Integer, nullable=False),
        sa.Column("z", sa.Integer, unique=True),
    )
    sa.Index("ux", table.c.x, unique=True)
    sa.Index("uy", table.c.y, unique=True, sqlite_where=table.c.x > 0)

    def text(column: Any) -> str:
        statement = ROWS.query(sa.select(table.c.id), order=[column], dialect=dialect).statement
        return str(statement).partition("ORDER BY ")[2].partition("\n")[0]

    assert text(table.c.x) == "t.x ASC"
    assert text(table.c.y) == "t.y ASC, t.id ASC"
    # NULL is not equal to itself, so a nullable unique column may repeat it.
    assert text(table.c.z) == "t.z ASC, t.id ASC"


def test_rows_that_a_join_repeats_are_not_lost_silently(boats: Session) -> None:
    """Two rows at one place of the order are an error of the declaration, with what to do."""
    repeated = sa.select(Boat.id).join(Oar, Oar.boat_id == Boat.id)

    with pytest.raises(Misuse, match=r"does not tell two rows apart by boats\.id"):
        _orm(boats, repeated, Boat.id)(None)

    assert len(_forward(_orm(boats, repeated, Boat.id, Oar.id))) == 6


def test_a_value_that_is_not_read_as_stored_is_found_out(postgres: sa.Connection) -> None:
    """A type that reads another value than it sends would repeat a row for ever; it is an error."""

    class Off(sa.TypeDecorator[int]):
        impl = sa.Integer
        cache_ok = True

        def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
            return None if value is None else value - 1

    _fill(postgres, 9)
    read = _reader(postgres, [sa.type_coerce(rows.c.id, Off())], size=1)

    with pytest.raises(Misuse, match="that is read as it is stored"):
        read(read(None).next)


def test_a_column_that_lies_about_null_is_found_out(sqlite: sa.Connection) -> None:
    """A column declared NOT NULL that holds NULL would lose rows; it is an error instead."""
    sqlite.exec_driver_sql("CREATE TABLE liar (id INTEGER PRIMARY KEY, x INTEGER)")
    sqlite.exec_driver_sql("INSERT INTO liar VALUES (1, NULL), (2, NULL), (3, 1)")
    liar = sa.Table(
        "liar",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.Integer, nullable=False),
    )

    with pytest.raises(Misuse, match=r"liar\.x is NULL, though"):
        ROWS.read(sqlite, sa.select(liar), order=[liar.c.x], size=1)


@pytest.mark.parametrize(
    ("statement", "because"),
    [
        (sa.select(rows.c.a).distinct(), "a SELECT with DISTINCT cannot be paged"),
        (sa.select(rows.c.a).group_by(rows.c.a), "a SELECT with GROUP BY cannot"),
        (sa.select(rows).limit(5).offset(2), "a SELECT with LIMIT and OFFSET cannot"),
        (sa.select(rows).order_by(rows.c.a), "give it as `order=` instead"),
        (sa.union(sa.select(rows), sa.select(rows)), "only a SELECT can be paged"),
    ],
    ids=["distinct", "group", "limit", "order", "union"],
)
def test_what_cannot_be_paged_is_refused(
    sqlite: sa.Connection, statement: Any, because: str
) -> None:
    """A statement whose meaning a page would change is refused, with how to wrap it."""
    with pytest.raises(Misuse, match=because):
        ROWS.read(sqlite, statement, order=[rows.c.a])


# Tokens


def _token(connection: sa.Connection, keyset: Keyset = ROWS, **changed: Any) -> str:
    asked: dict[str, Any] = {"statement": sa.select(rows).where(rows.c.a < 10), "order": [rows.c.a]}
    token = keyset.read(connection, size=2, **(asked | changed)).next
    assert token is not None
    return token


class _Opaque:
    pass


def test_a_token_belongs_to_its_list_order_and_filter(sqlite: sa.Connection) -> None:
    """A token of another list, version, order or filter is refused, and why is an event."""
    _fill(sqlite, 20)
    filtered = sa.select(rows).where(rows.c.a < 11)
    others = {
        "list": _token(sqlite, Keyset("others", KEYS)),
        "version": _token(sqlite, Keyset("rows", KEYS, version="2")),
        "key": _token(sqlite, Keyset("rows", PageKeys("theirs"))),
        "order": _token(sqlite, order=[rows.c.b]),
        "direction": _token(sqlite, order=[rows.c.a.desc()]),
        "nulls": _token(sqlite, order=[rows.c.b.nulls_last()]),
        "value": _token(sqlite, statement=filtered),
        "condition": _token(sqlite, statement=sa.select(rows).where(rows.c.a <= 10)),
        "no condition": _token(sqlite, statement=sa.select(rows)),
        "bound": _token(sqlite, bound_to=["user 7"]),
    }
    ours = _token(sqlite)
    heard: list[PageTokenRefused] = []
    stop = listen(heard.append, PageTokenRefused)

    for what, token in others.items():
        with pytest.raises(PageTokenInvalid, match="does not belong to this request"):
            _token(sqlite, token=token)
        assert (heard[-1].listing, heard.pop().because) == ("rows", "not ours"), what
    stop()

    assert heard == []
    assert _token(sqlite, token=ours)
    with pytest.raises(PageTokenInvalid):
        _token(sqlite, statement=filtered, token=ours)


def test_a_column_of_another_type_is_another_order(sqlite: sa.Connection) -> None:
    """After a migration an old position may mean nothing, so its token is refused."""
    _fill(sqlite, 20)
    token = _token(sqlite)
    after = sa.Table(
        "rows",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.String, nullable=False),
    )

    with pytest.raises(PageTokenInvalid):
        ROWS.read(sqlite, sa.select(after).where(after.c.a < 10), order=[after.c.a], token=token)


def test_a_token_holds_in_another_process(sqlite: sa.Connection) -> None:
    """What a token is bound to is the same text everywhere, in whatever order a set has it."""
    _fill(sqlite, 20)
    token = _token(sqlite, statement=sa.select(rows).where(rows.c.c.in_({"1", "2", "3", "4"})))

    again = sa.select(rows).where(rows.c.c.in_(["4", "3", "2", "1"]))

    assert ROWS.read(sqlite, again, order=[rows.c.a], token=token).items


def test_a_value_without_a_text_of_its_own_is_refused(sqlite: sa.Connection) -> None:
    """What has another repr in each process cannot be bound to; `bound_to` says what instead."""

    class Opaque(sa.TypeDecorator[Any]):
        impl = sa.Integer
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> int:
            return 5

    _fill(sqlite, 20)
    where = rows.c.a < sa.bindparam("x", _Opaque(), type_=Opaque())
    with pytest.raises(Misuse, match="say in `bound_to`"):
        _token(sqlite, statement=sa.select(rows).where(where))

    token = _token(sqlite, statement=sa.select(rows).where(where), bound_to=["mine"])
    assert _token(sqlite, statement=sa.select(rows).where(where), bound_to=["mine"], token=token)
    with pytest.raises(PageTokenInvalid):
        _token(sqlite, statement=sa.select(rows).where(where), bound_to=["x"], token=token)


def test_a_token_ends_with_its_life(sqlite: sa.Connection) -> None:
    """A token is good for `life_seconds`, by default a day."""
    _fill(sqlite, 20)
    clock = ManualClock()
    short = Keyset("rows", KEYS, life_seconds=60.0, clock=clock)
    day = Keyset("rows", KEYS, clock=clock)
    tokens = _token(sqlite, short), _token(sqlite, day)

    clock.advance(61)

    with pytest.raises(PageTokenInvalid, match="expired"):
        _token(sqlite, short, token=tokens[0])
    assert _token(sqlite, day, token=tokens[1])
    clock.advance(86_400)
    with pytest.raises(PageTokenInvalid, match="expired"):
        _token(sqlite, day, token=tokens[1])


def test_keys_and_life_come_from_the_settings(sqlite: sa.Connection) -> None:
    """The section [pages] makes a keyset; without a key it does not come to be."""
    _fill(sqlite, 20)
    keyset = Keyset("rows", PageSettings(keys=Secret("new old"), life_seconds=5.0))

    assert keyset.life_seconds == 5.0
    assert _token(sqlite, keyset, token=_token(sqlite, Keyset("rows", PageKeys("old"))))
    with pytest.raises(SettingsInvalid):
        Keyset("rows", PageSettings())


def test_an_enum_is_bound_by_its_name(sqlite: sa.Connection) -> None:
    """A filter by a member of an enum is the same filter in every process."""
    typed.create(sqlite)
    sqlite.execute(typed.insert(), [{"id": n, "choice": Mood.MILD} for n in range(5)])
    asked = {"statement": sa.select(typed).where(typed.c.choice == Mood.MILD), "order": []}

    assert _token(sqlite, token=_token(sqlite, **asked), **asked)


# Pages


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_page_has_its_size(sqlite: sa.Connection, size: int) -> None:
    """A size that is not allowed is the client's mistake, as it mostly comes from one."""
    keyset = Keyset("rows", KEYS, size=5, most=10)

    with pytest.raises(QueryInvalid, match="from 1 to 10"):
        keyset.read(sqlite, sa.select(rows), order=[], size=size)
    with pytest.raises(Misuse):
        Keyset("rows", KEYS, size=11, most=10)


def test_pages_around_a_page(sqlite: sa.Connection) -> None:
    """The first page has no page before it, the last none behind it, and all lead to each other."""
    _fill(sqlite, 7)
    read = _reader(sqlite, [rows.c.id])
    first = read(None)
    second = read(first.next)
    third = read(second.next)
    back = read(third.previous)
    start = read(back.previous)
    last = read(first.last)

    assert [list(page.items) for page in (first, second, third)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert (first.previous, third.next) == (None, None)
    assert (back.items, start.items, start.previous) == ([3, 4, 5], [0, 1, 2], None)
    assert read(start.next).items == [3, 4, 5]
    assert (last.items, last.next) == ([4, 5, 6], None)
    assert read(last.previous).items == [1, 2, 3]


def test_a_page_whose_rows_are_gone_leads_back(sqlite: sa.Connection) -> None:
    """An empty page is no dead end, whichever way it was entered."""
    _fill(sqlite, 6)
    read = _reader(sqlite, [rows.c.id])
    second = read(read(None).next)
    forward = read(None).next
    sqlite.execute(rows.delete().where(rows.c.id > 2))
    gone = read(forward)

    assert (gone.items, gone.next) == ([], None)
    assert gone.previous
    assert read(gone.previous).items == [0, 1, 2]

    sqlite.execute(rows.delete().where(rows.c.id < 2))
    sqlite.execute(rows.insert().values(id=9, a=1))
    behind = read(second.previous)
    assert behind.items == [2]
    sqlite.execute(rows.delete().where(rows.c.id == 2))
    gone = read(second.previous)
    assert (gone.items, gone.previous) == ([], None)
    assert gone.next
    assert read(gone.next).items == [9]


def test_an_empty_list_has_no_pages_around(sqlite: sa.Connection) -> None:
    """Nothing is before or behind nothing."""
    read = _reader(sqlite, [rows.c.id])

    for page in (read(None), read(read(None).last)):
        assert (page.items, page.next, page.previous) == ([], None, None)


def test_links_lead_to_the_pages_around(sqlite: sa.Connection) -> None:
    """A Link header (RFC 8288) names the pages that are there, relative to what was asked for."""
    _fill(sqlite, 7)
    read = _reader(sqlite, [rows.c.id])
    page = read(read(None).next)
    header = page.links([("status", "a b"), ("page", "old"), ("status", "é&")])
    links = dict(reversed(one.split("; rel=")) for one in header.split(", "))  # type: ignore[misc]

    assert list(links) == ['"first"', '"prev"', '"next"', '"last"']
    for relation, token in (
        ('"prev"', page.previous),
        ('"next"', page.next),
        ('"last"', page.last),
    ):
        address = urljoin("https://example.org/api/rows?page=x", links[relation][1:-1])
        assert urlsplit(address)[:3] == ("https", "example.org", "/api/rows")
        asked = parse_qsl(urlsplit(address).query)
        assert asked == [("status", "a b"), ("status", "é&"), ("page", token)]
    assert "page=" not in links['"first"']
    assert 'rel="prev"' not in read(None).links()
    assert page.links({"page": "x"}, url="https://example.org/rows").startswith(
        '<https://example.org/rows?>; rel="first", <https://example.org/rows?page='
    )


@given(some.lists(some.tuples(some.text(), some.text())), some.text())
def test_nothing_breaks_out_of_a_link(parameters: list[tuple[str, str]], url: str) -> None:
    """Whatever a client puts into parameters, the header is ASCII, one line, and four links."""
    clean = [(n, v) for n, v in parameters if n.isprintable() and v.isprintable()]
    page = KeysetPage(items=[], next="n", previous="p", last="l")

    header = page.links(clean, url=url.encode(errors="replace").decode())

    assert header.isascii()
    assert header.isprintable()
    assert header.count("<") == header.count(">") == 4
    assert header.count('"') == 8


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg", "asyncmy"])
async def test_async_sessions_read_pages(driver: str, request: pytest.FixtureRequest) -> None:
    """A page is read through an async session or connection of each driver."""
    if driver == "aiosqlite":
        url = "sqlite+aiosqlite://"
    elif driver == "asyncmy":
        url = request.getfixturevalue("mariadb_url").replace("pymysql", "asyncmy")
    else:
        url = request.getfixturevalue("postgres_url").replace("psycopg", driver)
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.run_sync(_fill, 8)
            seen, token = [], None
            for _ in range(3):
                page = await ROWS.read_async(
                    connection, sa.select(rows.c.id), order=[rows.c.b.desc(), rows.c.a], token=token
                )
                seen += page.items
                token = page.next
            assert sorted(seen) == list(range(8))
            assert token is None
            async with AsyncSession(connection) as session:
                page = await ROWS.read_async(
                    session, sa.select(rows), order=[rows.c.a.desc()], token=None
                )
            assert [row.id for row in page.items] == [7, 6, 5]
    finally:
        await engine.dispose()


def test_a_core_join_is_paged_by_its_left_table(boats: Session) -> None:
    """A SELECT from a join without mapped classes gets the primary key of the table on the left."""
    left = Oar.__table__
    joined = sa.join(left, Boat.__table__, left.c.boat_id == Boat.__table__.c.id)
    read = _orm(boats, sa.select(left.c.length).select_from(joined), left.c.length.desc(), size=4)

    assert _forward(read) == [1, 1, 1, 0, 0, 0]
