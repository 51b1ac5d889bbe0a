"""Pages of a list by the key of their first and last rows: every row once while others write.

An offset counts rows, so a row that comes or goes before it shifts all that follow. A keyset page
begins behind a row: behind its values in the order, the last of which are unique. Rows that stay
where they are in the order are seen exactly once, whatever happens to others; and page one thousand
costs what page one does, where an index has the order.

    TASKS = Keyset("tasks", settings)
    page = TASKS.read(session, select(Task), order=(Task.priority.desc(),), token=wanted.token)

Decisions are taken on statements and rows (`Keyset.query`, `KeysetQuery.page`); `read` and
`read_async` execute between them. Safe to share between threads and tasks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, final
from urllib.parse import quote, urlencode

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Enum as EnumType,
    Float,
    FromClause,
    Integer,
    Join,
    Result,
    Select,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    cast,
    false,
    inspect,
    literal_column,
    or_,
    tuple_,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType
from typing_extensions import override

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.db.dialects.ordering import Ordering, ordering_of
from shipworthy.db.page_settings import PageSettings
from shipworthy.db.page_token import PageKeys, PageTokenInvalid, Position, bind
from shipworthy.db.query import QueryInvalid, Sort
from shipworthy.errors import Misuse
from shipworthy.events import Event, Label, Severity, emit, event

_DAY_SECONDS = 86_400.0
_NAMED = "shipworthy_key_"


@event(severity=Severity.INFO)
class PageTokenRefused(Event):
    """A client came with a page token that is none; the client is not told why, we are."""

    listing: Annotated[str, Label]
    because: Annotated[str, Label]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KeysetPage:
    """Rows in their order, and the tokens of the pages around them.

    `items` holds what was selected: the things themselves where one thing was, else rows. `next`
    and `previous` are None where there is no page; a page they name may turn out empty when its
    rows are deleted meanwhile, and then leads back. `last` begins at the end, backward.
    """

    items: Sequence[Any]
    next: str | None
    previous: str | None
    last: str

    def links(
        self, parameters: Mapping[str, str] | Iterable[tuple[str, str]] = (), *, url: str = ""
    ) -> str:
        """Return the value of a `Link` header (RFC 8288): first, prev, next and last.

        `parameters` are the request's own, and are kept except `page`. Without `url` the links are
        relative to the address that was asked for: no Host header and no path of a client gets in.
        Whatever the parameters hold is percent-encoded.
        """
        given = parameters.items() if isinstance(parameters, Mapping) else parameters
        kept = [(name, value) for name, value in given if name != "page"]
        tokens = {"first": "", "prev": self.previous, "next": self.next, "last": self.last}
        return ", ".join(
            f'<{_safe(url)}?{_query(kept, token)}>; rel="{relation}"'
            for relation, token in tokens.items()
            if token is not None
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """One key of the order: what is selected of it, and what is compared."""

    sort: Sort
    shown: ColumnElement[Any]
    compared: ColumnElement[Any]
    kind: TypeEngine[Any]
    members: type[Enum] | None
    nullable: bool
    native: bool
    text: str

    @property
    def nulls_first(self) -> bool:
        return self.nullable and bool(self.sort.nulls_first)

    @property
    def nulls_last(self) -> bool:
        return self.nullable and not self.sort.nulls_first

    def turned(self) -> "_Key":
        """Return the key that reads the same order from its end."""
        sort = Sort(self.sort.column, not self.sort.descending, not self.sort.nulls_first)
        return _Key(
            sort=sort,
            shown=self.shown,
            compared=self.compared,
            kind=self.kind,
            members=self.members,
            nullable=self.nullable,
            native=self.native,
            text=self.text,
        )

    def ordered(self, ordering: Ordering) -> Iterator[ColumnElement[Any]]:
        """Yield what to order by, as plainly as this database allows, so that an index fits."""
        by = self.compared.desc() if self.sort.descending else self.compared.asc()
        if not self.nullable or self.native:
            yield by
        elif ordering.nulls_syntax:
            yield by.nulls_first() if self.sort.nulls_first else by.nulls_last()
        else:
            is_null = self.compared.is_(None)
            yield is_null.desc() if self.sort.nulls_first else is_null.asc()
            yield by

    def bound(self, value: Any) -> ColumnElement[Any]:
        return bindparam(None, value, type_=self.kind, unique=True)

    def same(self, value: Any) -> ColumnElement[bool]:
        if value is None:
            return self.compared.is_(None)
        same: ColumnElement[bool] = self.compared == self.bound(value)
        return same

    def after(self, value: Any) -> ColumnElement[bool] | None:
        """Return "stands strictly behind `value`", or None where nothing does."""
        if value is None:
            return self.compared.is_not(None) if self.nulls_first else None
        bound = self.bound(value)
        after: ColumnElement[bool] = (
            self.compared < bound if self.sort.descending else self.compared > bound
        )
        return or_(after, self.compared.is_(None)) if self.nulls_last else after

    def from_here(self, value: Any) -> ColumnElement[bool] | None:
        """Return a condition that holds from `value` on, where it can begin an index scan."""
        if value is None or self.nulls_last:
            return None
        bound = self.bound(value)
        return self.compared <= bound if self.sort.descending else self.compared >= bound

    def packed(self, value: Any) -> Any:
        return value.name if isinstance(value, Enum) else value

    def unpacked(self, value: Any) -> Any:
        return self.members[value] if self.members and value is not None else value


@final
class Keyset:
    """How one list is cut into pages: its name, its keys and its sizes.

    `version` is signed into every token; change it when old tokens must not be taken any more, as
    when the meaning of a column changes. (A column that is renamed or gets another type does that
    by itself.) Immutable; make it once.
    """

    def __init__(
        self,
        name: str,
        keys: PageKeys | PageSettings,
        *,
        size: int = 20,
        most: int = 100,
        life_seconds: float | None = None,
        version: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not 1 <= size <= most:
            raise Misuse(f"pages of '{name}' of {size} rows, where 1 to {most} are allowed")
        settings = keys if isinstance(keys, PageSettings) else None
        self.name = name
        self.size = size
        self.most = most
        self.version = version
        self.keys: PageKeys = keys if isinstance(keys, PageKeys) else PageKeys.of(keys)
        self.life_seconds = life_seconds or (settings.life_seconds if settings else _DAY_SECONDS)
        self.clock = clock

    def query(
        self,
        statement: Select[Any],
        *,
        order: Sequence[Any],
        dialect: Dialect,
        size: int | None = None,
        token: str | None = None,
        bound_to: Iterable[str] | None = None,
    ) -> "KeysetQuery":
        """Return the statement of one page, and what makes the page of its rows.

        `order` is as for `order_by`; the primary key of what is selected first is added where the
        order is not unique without it. A token is bound to the list, the order, and what the
        statement selects from and by which conditions, with their values; where those change with
        every request (`created_at < now`), say in `bound_to` what to bind to instead.

        Raises `PageTokenInvalid`, `QueryInvalid` for a size that is not allowed, and `Misuse` for
        what cannot be paged.
        """
        size = self.size if size is None else size
        if not 1 <= size <= self.most:
            raise QueryInvalid("size", f"expected a whole number from 1 to {self.most}")
        _refuse_shapes(statement)
        froms = statement.get_final_froms()
        ordering = ordering_of(dialect)
        keys = tuple(_keys(statement, froms, order, dialect, ordering))
        if bound_to is None:
            bound_to = [_text(one, dialect) for one in froms]
            if statement.whereclause is not None:
                bound_to.append(_text(statement.whereclause, dialect))
        binding = bind([self.name, self.version, *(key.text for key in keys), "", *bound_to])
        position = self._position(token, binding, keys)
        reading = tuple(key.turned() for key in keys) if position.backward else keys
        selected = statement.add_columns(
            *(key.shown.label(f"{_NAMED}{number}") for number, key in enumerate(keys))
        )
        if position.values is not None:
            selected = selected.where(_behind(reading, position.values, ordering))
        by = [part for key in reading for part in key.ordered(ordering)]
        return KeysetQuery(
            statement=selected.order_by(None).order_by(*by).limit(size + 1),
            size=size,
            position=position,
            _keyset=self,
            _keys=keys,
            _binding=binding,
        )

    def read(
        self,
        database: Session | Connection,
        statement: Select[Any],
        *,
        order: Sequence[Any],
        size: int | None = None,
        token: str | None = None,
        bound_to: Iterable[str] | None = None,
    ) -> KeysetPage:
        """Execute one page; see `query`."""
        query = self.query(
            statement,
            order=order,
            dialect=_dialect(database, statement),
            size=size,
            token=token,
            bound_to=bound_to,
        )
        return query.page(database.execute(query.statement))

    async def read_async(
        self,
        database: AsyncSession | AsyncConnection,
        statement: Select[Any],
        *,
        order: Sequence[Any],
        size: int | None = None,
        token: str | None = None,
        bound_to: Iterable[str] | None = None,
    ) -> KeysetPage:
        """Execute one page; see `query`."""
        query = self.query(
            statement,
            order=order,
            dialect=_dialect(database, statement),
            size=size,
            token=token,
            bound_to=bound_to,
        )
        return query.page(await database.execute(query.statement))

    def _position(self, token: str | None, binding: bytes, keys: Sequence[_Key]) -> Position:
        if not token:
            return Position(None)
        try:
            position = self.keys.read(token, binding=binding, now=self.clock.wall())
        except PageTokenInvalid as error:
            emit(PageTokenRefused, listing=self.name, because=error.why)
            raise
        if position.values is None:
            return position
        values = zip(keys, position.values, strict=True)
        return Position(tuple(key.unpacked(value) for key, value in values), position.backward)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KeysetQuery:
    """One page that is about to be read: execute `statement`, and give the result to `page`."""

    statement: Select[Any]
    size: int
    position: Position
    _keyset: Keyset
    _keys: tuple[_Key, ...]
    _binding: bytes

    def page(self, result: Result[Any]) -> KeysetPage:
        """Return the page of the rows that `statement` gave.

        Raises `Misuse` when two rows stand at one place of the order, because one of them would be
        lost between two pages: a join repeats the row whose primary key was added.
        """
        backward, began = self.position.backward, self.position.values is not None
        frozen = result.freeze()
        rows = frozen().all()
        width = len(self._keys)
        things = len(frozen().keys()) - width
        whole = frozen() if things == 0 else frozen().columns(*range(things))
        items: list[Any] = list(whole.scalars().all() if things == 1 else whole.all())
        places = [tuple(row[-width:]) for row in rows]
        self._check(places)
        more = len(items) > self.size
        items, places = items[: self.size], places[: self.size]
        if backward:
            items.reverse()
            places.reverse()
        if not places:
            # What was here is gone: lead back to where the client came from.
            before, behind = began and not backward, began and backward
            return self._made(items, Position(None, backward=True) if before else None,
                              Position(None) if behind else None)  # fmt: skip
        has_previous = more if backward else began
        has_next = began if backward else more
        return self._made(
            items,
            Position(places[0], backward=True) if has_previous else None,
            Position(places[-1]) if has_next else None,
        )

    def _check(self, places: Sequence[tuple[Any, ...]]) -> None:
        """Refuse rows that stand at one place, or at the place this page begins behind."""
        if any(one == other for one, other in pairwise([self.position.values, *places])):
            raise Misuse(
                f"the order of '{self._keyset.name}' does not tell two rows apart by "
                f"{', '.join(str(key.sort.column) for key in self._keys)}, so one of them would "
                "be lost or come again; add to `order` what is unique, of a type that is read as "
                "it is stored"
            )

    def _made(
        self, items: Sequence[Any], previous: Position | None, following: Position | None
    ) -> KeysetPage:
        return KeysetPage(
            items=items,
            next=following and self._token(following),
            previous=previous and self._token(previous),
            last=self._token(Position(None, backward=True)),
        )

    def _token(self, position: Position) -> str:
        values = position.values
        if values is not None:
            for key, value in zip(self._keys, values, strict=True):
                if value is None and not key.nullable:
                    raise Misuse(
                        f"{key.sort.column} is NULL, though its column says that it never is; the "
                        "order would lose such rows"
                    )
            values = tuple(key.packed(v) for key, v in zip(self._keys, values, strict=True))
        return self._keyset.keys.sign(
            Position(values, position.backward),
            binding=self._binding,
            expires=self._keyset.clock.wall() + self._keyset.life_seconds,
        )


class _Raw(UserDefinedType[Any]):
    """A value as the driver has it."""

    cache_ok = True

    @override
    def get_col_spec(self, **_: Any) -> str:
        return "BLOB"


_RAW = _Raw()


def _behind(keys: Sequence[_Key], values: Sequence[Any], ordering: Ordering) -> ColumnElement[bool]:
    """Return "stands strictly behind the row with `values`"."""
    alike = len({key.sort.descending for key in keys}) == 1
    if ordering.row_values and alike and len(keys) > 1 and not any(key.nullable for key in keys):
        ours = tuple_(*(key.compared for key in keys))
        theirs = tuple_(*(key.bound(value) for key, value in zip(keys, values, strict=True)))
        behind: ColumnElement[bool] = ours < theirs if keys[0].sort.descending else ours > theirs
        return behind
    behind = false()
    for key, value in reversed(list(zip(keys, values, strict=True))):
        after = key.after(value)
        same = and_(key.same(value), behind)
        behind = same if after is None else or_(after, same)
    # Says nothing new, and lets the scan of an index begin where the page does.
    bound = keys[0].from_here(values[0])
    return behind if bound is None else and_(bound, behind)


def _keys(
    statement: Select[Any],
    froms: Sequence[FromClause],
    order: Sequence[Any],
    dialect: Dialect,
    ordering: Ordering,
) -> Iterator[_Key]:
    optional = frozenset(_optional(froms))
    sorts = [Sort.of(expression) for expression in order]
    entity = _entity(statement)
    first = _first(entity, froms)
    unique = [(column, _nullable(column, optional)) for column in (s.column for s in sorts)]
    if not _is_unique(first, {hash(column) for column, nullable in unique if not nullable}):
        descending = bool(sorts) and sorts[-1].descending
        there = {hash(sort.column) for sort in sorts}
        primary = _primary_key(entity, first)
        if not primary:
            raise Misuse(
                "what is selected first has no primary key to make the order unique; select from a "
                "table with one, or order by columns of a unique constraint"
            )
        sorts += [Sort(column, descending) for column in primary if hash(column) not in there]
    for sort in sorts:
        yield _key(sort, _nullable(sort.column, optional), dialect, ordering)


def _key(sort: Sort, nullable: bool, dialect: Dialect, ordering: Ordering) -> _Key:  # noqa: FBT001
    column = sort.column
    native_first = ordering.nulls_low is not sort.descending
    nulls_first = native_first if sort.nulls_first is None else sort.nulls_first
    kinds = _stored(column.type, dialect)
    enum = next((kind for kind in kinds if isinstance(kind, EnumType)), None)
    members: type[Enum] | None = None
    shown = compared = column
    bound: TypeEngine[Any] = column.type
    if ordering.raw_values:
        bound = _RAW
        shown = compared = type_coerce(column, bound)
    elif enum is not None and enum.native_enum and ordering.enums_as_text:
        # Its position, which is what it is sorted by; a comparison would take its text.
        bound = Integer()
        shown = compared = type_coerce(column, bound) + literal_column("0", bound)
    elif any(isinstance(kind, Float) for kind in kinds):
        # A number of single precision, written as the shortest text, is not equal to itself.
        bound = Double()
        shown = cast(column, bound)
    elif enum is not None:
        members = enum.enum_class
    described = f"{_text(column, dialect)} {column.type!r} {sort.descending} {nulls_first}"
    return _Key(
        sort=Sort(column, sort.descending, nulls_first),
        shown=shown,
        compared=compared,
        kind=bound,
        members=members,
        nullable=nullable,
        native=nulls_first is native_first,
        text=described,
    )


def _stored(kind: TypeEngine[Any], dialect: Dialect) -> tuple[TypeEngine[Any], TypeEngine[Any]]:
    """Return the type as declared, without decorators, and as this database has it.

    Both are looked at: a dialect may put in the place of a FLOAT a type that is none to Python.
    """
    while isinstance(kind, TypeDecorator):
        kind = kind.load_dialect_impl(dialect)
    return kind, kind.dialect_impl(dialect)


def _nullable(column: ColumnElement[Any], optional: frozenset[Any]) -> bool:
    """Whether NULL may stand there; only a table's own word is taken that it does not."""
    table = getattr(column, "table", None)
    inner = getattr(table, "element", table)
    if table is None or not isinstance(inner, Table) or table in optional:
        return True
    return bool(getattr(column, "nullable", True))


def _optional(froms: Iterable[FromClause]) -> Iterator[Any]:
    """Yield what an outer join may leave without a row."""
    for start in froms:
        for join in visitors.iterate(start):
            if isinstance(join, Join) and (join.isouter or join.full):
                yield from visitors.iterate(join.right)
                if join.full:
                    yield from visitors.iterate(join.left)


def _entity(statement: Select[Any]) -> Any:
    """Return the mapped class or alias that is selected first, as SQLAlchemy inspects it."""
    described = statement.column_descriptions
    entity = described[0].get("entity") if described else None
    return None if entity is None else inspect(entity)


def _first(entity: Any, froms: Sequence[FromClause]) -> Any:
    """Return the table, or what else there is, that is selected from first."""
    if entity is not None:
        return entity.selectable
    start: FromClause | None = froms[0] if froms else None
    while isinstance(start, Join):
        start = start.left
    return start


def _primary_key(entity: Any, first: Any) -> list[ColumnElement[Any]]:
    if entity is None:
        return list(getattr(first, "primary_key", ()))
    if entity.is_aliased_class:
        return [first.corresponding_column(one) for one in entity.mapper.primary_key]
    return list(entity.mapper.primary_key)


def _is_unique(first: Any, ordered: set[int]) -> bool:
    """Whether columns without NULL hold all of a unique constraint of the table."""
    table = getattr(first, "element", first)
    if not isinstance(table, Table):
        return False
    constraints: list[Iterable[Any]] = [
        one.columns
        for one in table.constraints
        if isinstance(one, UniqueConstraint) or one is table.primary_key
    ]
    constraints += [
        index.expressions for index in table.indexes if index.unique and not index.dialect_kwargs
    ]
    return any(
        columns and all(hash(_of(first, column)) in ordered for column in columns)
        for columns in map(list, constraints)
    )


def _of(first: Any, column: Any) -> Any:
    return column if first is getattr(column, "table", None) else first.corresponding_column(column)


def _refuse_shapes(statement: Any) -> None:
    if not isinstance(statement, Select):
        raise Misuse("only a SELECT can be paged; wrap a UNION: `select(union.subquery())`")
    told = {
        "DISTINCT": statement._distinct,  # noqa: SLF001 - SQLAlchemy has no public way to ask
        "GROUP BY": statement._group_by_clauses,  # noqa: SLF001
        "LIMIT": statement._limit_clause is not None,  # noqa: SLF001
        "OFFSET": statement._offset_clause is not None,  # noqa: SLF001
        "ORDER BY": statement._order_by_clauses,  # noqa: SLF001
    }
    found = [clause for clause, there in told.items() if there]
    if found == ["ORDER BY"]:
        raise Misuse("the statement has an ORDER BY of its own; give it as `order=` instead")
    if found:
        raise Misuse(
            f"a SELECT with {' and '.join(found)} cannot be paged as it is; wrap it: "
            "`select(statement.subquery())`, and order by the subquery's columns"
        )


def _text(clause: Any, dialect: Dialect) -> str:
    """Return a text that is the same in every process for the same clause with the same values."""
    compiled = clause.compile(dialect=dialect)
    return f"{compiled} {[_value(value) for _, value in sorted(compiled.params.items())]}"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple, set, frozenset)):
        return repr(sorted(_value(one) for one in value))
    text = f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)
    if " at 0x" in text:
        raise Misuse(
            f"a page token cannot be bound to a value of type {type(value).__qualname__}, whose "
            "repr differs in every process; say in `bound_to` what to bind to"
        )
    return text


def _dialect(database: Any, statement: Select[Any]) -> Dialect:
    if isinstance(database, (Connection, AsyncConnection)):
        return database.dialect
    dialect: Dialect = database.get_bind(clause=statement).dialect
    return dialect


def _query(kept: Sequence[tuple[str, str]], token: str) -> str:
    return urlencode([*kept, ("page", token)] if token else kept)


def _safe(url: str) -> str:
    return quote(url, safe="/:@!$&'()*+,;=%[]~")
