"""What a request may ask of a list, and what it may not."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as some
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shipworthy.db.query import (
    LONGEST_QUERY_BYTES,
    MOST_CHARACTERS,
    MOST_PARAMETERS,
    MOST_VALUES,
    Comparison,
    Filter,
    Listing,
    QueryInvalid,
    Search,
    Sort,
    Wanted,
    contains,
    escape_like,
    starts,
)
from shipworthy.errors import Misuse


class Model(DeclarativeBase):
    pass


class Status(StrEnum):
    TODO = "to-do"
    DONE = "done"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Instant(sa.TypeDecorator[datetime]):
    impl = sa.DateTime(timezone=True)
    cache_ok = True


class Small(sa.TypeDecorator[int]):
    impl = sa.SmallInteger
    cache_ok = True


class Task(Model):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(200))
    body: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[Status] = mapped_column(
        sa.Enum(Status, values_callable=lambda kind: [one.value for one in kind])
    )
    size: Mapped[Size] = mapped_column(sa.Enum(Size))
    due_on: Mapped[date | None]


TASKS = Listing(
    filters={
        "status": Filter(Task.status, "eq", "ne", "in"),
        "due_on": Filter(Task.due_on, "lt", "lte", "gt", "gte", "null"),
        "title": Filter(Task.title, "eq", "contains", "starts"),
        "q": Search(Task.title, Task.body),
    },
    sorts={"due_on": Task.due_on.nulls_last(), "title": Task.title, "newest": Task.id.desc()},
    sort="-due_on,title",
    size=10,
    most=50,
    others=("lang",),
)


def _sql(wanted: Wanted) -> str:
    statement = sa.select(Task.id).where(*wanted.where).order_by(*wanted.order)
    compiled = statement.compile(compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).removeprefix("SELECT tasks.id \nFROM tasks").split())


def _refused(parameters: Any, listing: Listing = TASKS) -> str:
    with pytest.raises(QueryInvalid) as refused:
        listing.read(parameters)
    assert refused.value.status == 400
    return str(refused.value)


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("status=done", "tasks.status = 'done'"),
        ("status.ne=to-do", "tasks.status != 'to-do'"),
        ("status.in=done&status.in=to-do", "tasks.status IN ('done', 'to-do')"),
        ("due_on.lt=2026-01-31", "tasks.due_on < '2026-01-31'"),
        ("due_on.lte=2026-01-31", "tasks.due_on <= '2026-01-31'"),
        ("due_on.gt=2026-01-31", "tasks.due_on > '2026-01-31'"),
        ("due_on.gte=2026-01-31", "tasks.due_on >= '2026-01-31'"),
        ("due_on.null=true", "tasks.due_on IS NULL"),
        ("due_on.null=false", "tasks.due_on IS NOT NULL"),
        ("title=it%27s", "tasks.title = 'it''s'"),
        ("lang=de&title=", "tasks.title = ''"),
        (b"title=a&lang=x&lang=y", "tasks.title = 'a'"),
    ],
)
def test_a_filter_becomes_a_condition(query: str, condition: str) -> None:
    """Each comparison is the SQL it says, with the value bound; what is the app's own passes."""
    sql = _sql(TASKS.read(query))

    assert sql.partition(" ORDER BY")[0] == f"WHERE {condition}"


def test_parameters_come_in_any_shape() -> None:
    """A query string, its pairs and a mapping ask for the same."""
    asked = [
        TASKS.read("status=done&size=5"),
        TASKS.read([("status", "done"), ("size", "5")]),
        TASKS.read({"status": "done", "size": "5"}),
    ]

    assert len({_sql(wanted) for wanted in asked}) == 1
    assert [wanted.size for wanted in asked] == [5, 5, 5]


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", "tasks.due_on DESC NULLS LAST, tasks.title ASC"),
        ("sort=due_on", "tasks.due_on ASC NULLS LAST"),
        ("sort=-title,due_on", "tasks.title DESC, tasks.due_on ASC NULLS LAST"),
        ("sort=newest", "tasks.id DESC"),
        ("sort=-newest", "tasks.id ASC"),
        ("sort=", ""),
    ],
)
def test_an_order_is_chosen_by_name(query: str, order: str) -> None:
    """A minus turns an order round, and where NULL was declared to stand, it stays."""
    sql = _sql(TASKS.read(query))

    assert sql.removeprefix("ORDER BY ") == order


def test_a_page_is_asked_for() -> None:
    """Size and token come with the filters; an empty token is the first page."""
    assert (TASKS.read("").size, TASKS.read("").token) == (10, None)
    assert (TASKS.read("size=50&page=abc").size, TASKS.read("page=abc").token) == (50, "abc")
    assert TASKS.read("page=").token is None


@pytest.mark.parametrize(
    ("query", "because"),
    [
        ("staus=done", "a parameter is not known here; known are status, status.ne, status.in, "),
        ("due_on=2026-01-31", "a parameter is not known here"),
        ("title.lt=x", "a parameter is not known here"),
        ("status=DONE", "parameter 'status': expected one of to-do, done"),
        ("status.in=done&status.in=x", "parameter 'status.in': expected one of to-do, done"),
        ("due_on.lt=2026-02-30", "parameter 'due_on.lt': expected a date such as 2026-01-31"),
        ("due_on.null=maybe", "parameter 'due_on.null': expected true or false"),
        ("status=done&status=done", "parameter 'status': is given more than once"),
        ("sort=title&sort=title", "parameter 'sort': is given more than once"),
        ("sort=body", "parameter 'sort': no such order; there are due_on, title, newest"),
        ("sort=title,", "parameter 'sort': no such order"),
        ("sort=title desc", "parameter 'sort': no such order"),
        ("sort=title,-title", "parameter 'sort': 'title' is given twice"),
        ("sort=title,due_on,newest,title", "parameter 'sort': 4 orders, at most 3 allowed"),
        ("size=0", "parameter 'size': expected a whole number from 1 to 50"),
        ("size=51", "parameter 'size': expected a whole number from 1 to 50"),
        ("size=-1", "parameter 'size': expected"),
        ("size=1e1", "parameter 'size': expected"),
        ("size=%D9%A3", "parameter 'size': expected"),
        ("size=" + "9" * 5000, "parameter 'size': expected"),
        ("title=a%00b", "parameter 'title': expected a text of at most 200 characters"),
        ("title=" + "x" * (MOST_CHARACTERS + 1), "parameter 'title': expected a text"),
        ("q=%FF", "the query is not UTF-8"),
        ("&".join(["status.in=done"] * (MOST_PARAMETERS + 1)), "more than 64 parameters"),
        ("q=" + "x" * LONGEST_QUERY_BYTES, f"longer than {LONGEST_QUERY_BYTES} bytes"),
    ],
)
def test_what_is_not_allowed_is_refused(query: str, because: str) -> None:
    """Everything else is an error for the client that says what is expected instead."""
    assert because in _refused(query)


def test_pairs_are_bounded_too() -> None:
    """A framework may have parsed the query already; its limits are not relied on."""
    assert "more than 64" in _refused([("lang", "x")] * (MOST_PARAMETERS + 1))
    assert "expected a text" in _refused([("title", "\udc80")])


def test_a_long_list_of_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """IN takes a bounded number of values, whatever the number of parameters may be."""
    monkeypatch.setattr("shipworthy.db.query.MOST_PARAMETERS", MOST_VALUES * 2)

    said = _refused("&".join(["status.in=done"] * (MOST_VALUES + 1)))

    assert said == "parameter 'status.in': 101 values, at most 100 are allowed"


@given(some.text(), some.text())
def test_nothing_of_a_client_is_in_a_refusal(name: str, value: str) -> None:
    """A refusal holds declared words only, so an answer or a log line can repeat it."""
    marked = f"\N{SNOWMAN}{value}"
    for pair in (
        (f"\N{SNOWMAN}{name}", value),
        ("sort", marked),
        ("size", marked),
        ("status", marked),
        ("due_on.lt", marked),
        ("due_on.null", marked),
        ("title", f"{marked}\0"),
    ):
        with pytest.raises(QueryInvalid) as refused:
            TASKS.read([pair])
        assert "\N{SNOWMAN}" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_no_text_of_a_client_becomes_sql() -> None:
    """The statement is the same whatever the values are: they are bound, all of them."""
    evil = "x' OR 1=1; DROP TABLE tasks; -- %s :title"
    plain, injected = (
        TASKS.read([("title", text), ("q", text), ("title.contains", text)])
        for text in ("harmless", evil)
    )

    texts = {str(sa.select(Task.id).where(*one.where)) for one in (plain, injected)}

    assert len(texts) == 1


KINDS: list[tuple[Any, dict[str, Any], list[str]]] = [
    (sa.Integer(), {"1": 1, "-2147483648": -(2**31)}, ["2147483648", "1.0", "", "1_0", "٣"]),
    (sa.SmallInteger(), {"+32767": 32767}, ["32768"]),
    (Small(), {"-32768": -32768}, ["32768"]),
    (sa.BigInteger(), {"9223372036854775807": 2**63 - 1}, ["9223372036854775808", "9" * 5000]),
    (sa.Float(), {"1.5": 1.5, "1e-3": 0.001}, ["nan", "inf", "1e999", "0x1"]),
    (sa.Numeric(10, 2), {"12.50": Decimal("12.50")}, ["NaN", "1e5", "1,5", "sNaN"]),
    (sa.Boolean(), {"true": True, "0": False}, ["True", "yes", ""]),
    (sa.Date(), {"2026-01-31": date(2026, 1, 31)}, ["2026-13-01", "31.1.2026"]),
    (sa.Time(), {"12:30": time(12, 30)}, ["25:00", "12:00+01:00"]),
    (sa.DateTime(), {"2026-01-31T12:00": datetime(2026, 1, 31, 12)}, ["2026-01-31T12:00Z"]),  # noqa: DTZ001
    (
        sa.DateTime(timezone=True),
        {"2026-01-31T12:00+02:00": datetime(2026, 1, 31, 10, tzinfo=UTC)},
        ["2026-01-31T12:00", "0001-01-01T00:00+23:00", "9999-12-31T23:59-23:00"],
    ),
    (Instant(), {"2026-01-31T12:00Z": datetime(2026, 1, 31, 12, tzinfo=UTC)}, ["now"]),
    (sa.Uuid(), {str(UUID(int=7)): UUID(int=7)}, ["7", "x" * 40]),
    (sa.Enum(Size), {"SMALL": Size.SMALL}, ["1", "small"]),
    (sa.Enum("a", "b"), {"a": "a"}, ["c"]),
    (sa.String(), {"a b": "a b"}, ["\0"]),
]


@pytest.mark.parametrize(("kind", "good", "bad"), KINDS, ids=map(str, range(len(KINDS))))
def test_a_value_is_read_as_its_column_has_it(
    kind: Any, good: dict[str, Any], bad: list[str]
) -> None:
    """A text is read as the column's type, within what the database takes, or refused."""
    listing = Listing(filters={"x": Filter(sa.column("x", kind))})

    for text, value in good.items():
        (condition,) = listing.read([("x", text)]).where
        bound = condition.compile().params
        assert not bound or list(bound.values()) == [value]
    for text in bad:
        assert "parameter 'x': expected" in _refused([("x", text)], listing)


def test_a_type_of_ones_own_needs_a_reader() -> None:
    """A type whose texts we cannot read is refused at the declaration, unless it says how."""
    column = sa.column("at", sa.types.NullType())

    with pytest.raises(Misuse, match="give `read="):
        Filter(column)
    listing = Listing(filters={"at": Filter(column, read=lambda text: int(text, 16))})

    assert listing.read("at=ff").where[0].compile().params == {"at_1": 255}
    assert "expected a value that is allowed here" in _refused("at=x", listing)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Filter("title"),
        lambda: Filter(sa.text("title")),
        lambda: Filter(Task.title, "like"),  # type: ignore[arg-type]
        lambda: Filter(Task.due_on, "contains"),
        lambda: Search(),
        lambda: Sort.of("title desc"),
        lambda: Listing(sorts={"title": Task.title}, sort="body"),
        lambda: Listing(sorts={"title": "title"}),
        lambda: Listing(filters={"page": Filter(Task.title)}),
        lambda: Listing(filters={"lang": Filter(Task.title)}, others=["lang"]),
        lambda: Listing(size=101),
        lambda: Listing(size=0),
    ],
    ids=map(str, range(12)),
)
def test_a_declaration_that_cannot_work_is_refused(wrong: Callable[[], Any]) -> None:
    """What a developer got wrong shows when the module is imported, not at a request."""
    with pytest.raises(Misuse):
        wrong()


def test_an_order_is_taken_apart() -> None:
    """Direction and place of NULL are read off SQLAlchemy's own expressions, in any nesting."""
    sorts = [
        Sort.of(Task.due_on),
        Sort.of(Task.due_on.desc().nulls_first()),
        Sort.of(sa.nulls_last(sa.asc(Task.due_on))),
        Sort.of(sa.func.lower(Task.title).label("low").desc()),
        Sort.of(sa.desc(Task.title.label("t"))),
    ]

    found = [(sort.descending, sort.nulls_first, str(sort.column)) for sort in sorts]

    assert found == [
        (False, None, "tasks.due_on"),
        (True, True, "tasks.due_on"),
        (False, False, "tasks.due_on"),
        (True, None, "lower(tasks.title)"),
        (True, None, "tasks.title"),
    ]


def test_every_comparison_is_one_that_is_tested() -> None:
    """A comparison added to the type is added to these tests."""
    used = {comparison for one in TASKS.filters.values() for comparison in one.comparisons}

    assert used == set(Comparison.__args__)  # type: ignore[attr-defined]


SPECIAL = ["100%", "a_b", "a/b", "a\\b", "%", "_", "\\", "/", "/%", "'", "[a]", "ab", "a%b", "A/_"]


def _finds_texts_as_they_are(url: str) -> None:
    table = sa.Table("texts", sa.MetaData(), sa.Column("text", sa.String(20)))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"text": text} for text in SPECIAL])
        column = table.c.text
        for part in ("%", "_", "/", "\\", "/%", "a", "100%", "'", "[", "b", "\\%"):
            low = part.lower()
            for found, wanted in (
                (contains(column, part), [text for text in SPECIAL if low in text.lower()]),
                (starts(column, part), [text for text in SPECIAL if text.lower().startswith(low)]),
                (
                    column.like(f"%{escape_like(low)}%", escape="/"),
                    [text for text in SPECIAL if low in text.lower()],
                ),
            ):
                rows = set(connection.scalars(sa.select(column).where(found)))
                # LIKE itself knows case in PostgreSQL.
                assert rows == set(wanted) or rows == {t for t in wanted if low in t}, part
    engine.dispose()


def test_a_part_is_found_as_it_is_written_in_sqlite() -> None:
    """Percent, underline, backslash and the escape itself are signs like others."""
    _finds_texts_as_they_are("sqlite://")


def test_a_part_is_found_as_it_is_written_in_postgresql(postgres_url: str) -> None:
    """Percent, underline, backslash and the escape itself are signs like others."""
    _finds_texts_as_they_are(postgres_url)


def test_a_part_is_found_as_it_is_written_in_mariadb(mariadb_url: str) -> None:
    """Percent, underline, backslash and the escape itself are signs like others."""
    _finds_texts_as_they_are(mariadb_url)


def test_another_escape_is_escaped_itself() -> None:
    """The escape sign is a parameter, and stands before itself first."""
    assert escape_like("50%_!/", escape="!") == "50!%!_!!/"
