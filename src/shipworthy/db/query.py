"""Filter and sort by request parameters, against a list of what is allowed.

A parameter chooses among columns, comparisons and orders that were declared; what it brings itself
is read as a value of the column's type and bound. So no text of a client becomes SQL, and a value
that the database would choke on is refused before it gets there. Pure: nothing here waits.

    tasks = Listing(
        filters={"status": Filter(Task.status, "eq", "in"), "q": Search(Task.title)},
        sorts={"due_on": Task.due_on.nulls_last(), "priority": Task.priority},
        sort="-priority",
    )
    wanted = tasks.read("status=todo&q=50%25&sort=due_on&size=50")
    select(Task).where(*wanted.where)
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, final, get_args
from urllib.parse import parse_qsl
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, SmallInteger, UnaryExpression, not_, or_
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator, TypeEngine

from shipworthy.errors import Misuse, RequestInvalid

Comparison = Literal["eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "starts", "null"]
Parameters = str | bytes | Mapping[str, str] | Iterable[tuple[str, str]]
Read = Callable[[str], Any]

# What one request may bring; each is far above what a person or a page would send.
MOST_PARAMETERS = 64
MOST_VALUES = 100
MOST_CHARACTERS = 200
LONGEST_QUERY_BYTES = 16 * 1024


class QueryInvalid(RequestInvalid):
    """A parameter that is not allowed, or whose value is not one; nothing of it is in the message.

    `parameter` is the name as declared, or empty when it is none of the declared ones.
    """

    def __init__(self, parameter: str, because: str) -> None:
        self.parameter = parameter
        super().__init__(f"parameter '{parameter}': {because}" if parameter else because)


def escape_like(text: str, *, escape: str = "/") -> str:
    """Return `text` so that LIKE with `ESCAPE '/'` finds it as it is written.

    For SQL written by hand. A backslash is no good escape: databases disagree on whether it has
    to be doubled in a literal.
    """
    for special in (escape, "%", "_"):
        text = text.replace(special, escape + special)
    return text


def contains(column: Any, text: str) -> ColumnElement[bool]:
    """Return "`text` is a part of `column`", whatever signs are in it; case does not count.

    How far case is ignored is the database's `lower()`: SQLite's knows ASCII only.
    """
    found: ColumnElement[bool] = column.icontains(text, autoescape=True)
    return found


def starts(column: Any, text: str) -> ColumnElement[bool]:
    """Return "`column` begins with `text`", whatever signs are in it; case does not count."""
    found: ColumnElement[bool] = column.istartswith(text, autoescape=True)
    return found


@final
class Filter:
    """A column that may be compared with what a parameter brings, in the ways that are named.

    `name=x` means `eq`; the others are asked for as `name.gte=x`. `in` takes the parameter several
    times. `null` takes true or false. `ne`, like SQL, never finds a row without a value. `read`
    makes a value from the text, and raises `ValueError` for one that is none; without it the
    column's type decides, and of a `TypeDecorator` without a `python_type` what it decorates.
    """

    __slots__ = ("column", "comparisons", "expected", "read")

    def __init__(self, column: Any, *comparisons: Comparison, read: Read | None = None) -> None:
        self.column: Any = plain(column)
        self.comparisons: tuple[Comparison, ...] = comparisons or ("eq",)
        unknown = set(self.comparisons) - set(get_args(Comparison))
        if unknown:
            raise Misuse(
                f"no comparison {sorted(unknown)}; there are {', '.join(get_args(Comparison))}"
            )
        self.read, self.expected = (
            (read, "a value that is allowed here") if read else _reading(self.column.type)
        )
        if {"contains", "starts"} & set(self.comparisons) and self.read is not _read_text:
            raise Misuse(f"{self.column}: only a text can be asked for a part of it")

    def where(self, comparison: Comparison, texts: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that texts of a client ask for; raises `ValueError`."""
        if comparison == "null":
            is_null: ColumnElement[bool] = self.column.is_(None)
            return is_null if _read_switch(texts[0]) else not_(is_null)
        values = [self.read(text) for text in texts]
        return _COMPARE[comparison](self.column, values)


@final
class Search:
    """Columns of which one must contain the text that a parameter brings."""

    __slots__ = ("columns", "comparisons", "expected")

    def __init__(self, *columns: Any) -> None:
        if not columns:
            raise Misuse("a search needs a column to look in")
        self.columns = tuple(plain(column) for column in columns)
        self.comparisons: tuple[Comparison, ...] = ("eq",)
        self.expected = _TEXT_EXPECTED

    def where(self, comparison: Comparison, texts: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that a text of a client asks for; raises `ValueError`."""
        del comparison
        text = _read_text(texts[0])
        return or_(*(contains(column, text) for column in self.columns))


@final
@dataclass(frozen=True, slots=True)
class Sort:
    """One key of an order, taken apart; `nulls_first` is None where the database decides."""

    column: ColumnElement[Any]
    descending: bool = False
    nulls_first: bool | None = None

    @classmethod
    def of(cls, expression: Any) -> "Sort":
        """Take `Task.due_on.desc().nulls_last()` apart; raises `Misuse` for a text."""
        descending: bool | None = None
        nulls_first: bool | None = None
        element = _element(expression)
        while isinstance(element, UnaryExpression) and element.modifier in _MODIFIERS:
            if element.modifier in {operators.asc_op, operators.desc_op}:
                descending = element.modifier is operators.desc_op
            else:
                nulls_first = element.modifier is operators.nulls_first_op
            element = _element(element.element)
        return cls(plain(element), bool(descending), nulls_first)

    def reversed(self) -> "Sort":
        """Return the other direction; where NULL was asked to stand, it stays."""
        return Sort(self.column, not self.descending, self.nulls_first)

    def expression(self) -> ColumnElement[Any]:
        """Return what SQLAlchemy orders by."""
        key: ColumnElement[Any] = self.column.desc() if self.descending else self.column.asc()
        if self.nulls_first is None:
            return key
        return key.nulls_first() if self.nulls_first else key.nulls_last()


_MODIFIERS = frozenset(
    {operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request asked for, as SQLAlchemy takes it."""

    where: tuple[ColumnElement[bool], ...]
    order: tuple[ColumnElement[Any], ...]
    size: int
    token: str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What may be asked of one list: which filters, which orders, how many rows at once.

    `sort` is the order when none is asked for, written as a client would: `-due_on,name`. `others`
    are parameters that mean something else to the application and pass. Any other is refused: a
    filter that is misspelt and ignored shows everything. Immutable; make it once, share it freely.
    """

    filters: Mapping[str, Filter | Search] = field(default_factory=dict)
    sorts: Mapping[str, Any] = field(default_factory=dict)
    sort: str = ""
    size: int = 20
    most: int = 100
    most_sorts: int = 3
    others: Iterable[str] = ()
    _orders: Mapping[str, Sort] = field(init=False, repr=False)
    _asked: Mapping[str, tuple[Filter | Search, Comparison]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.most:
            raise Misuse(f"a page of {self.size} rows, where 1 to {self.most} are allowed")
        asked: dict[str, tuple[Filter | Search, Comparison]] = {}
        for name, one in self.filters.items():
            for comparison in one.comparisons:
                key = name if comparison == "eq" else f"{name}.{comparison}"
                asked[key] = (one, comparison)
        orders = {name: Sort.of(expression) for name, expression in self.sorts.items()}
        taken = (set(asked) & {"sort", "size", "page"}) | (set(asked) & set(self.others))
        if taken:
            raise Misuse(f"the names {sorted(taken)} mean something else already")
        object.__setattr__(self, "others", frozenset(self.others))
        object.__setattr__(self, "_asked", MappingProxyType(asked))
        object.__setattr__(self, "_orders", MappingProxyType(orders))
        try:
            self._order(self.sort)
        except QueryInvalid as error:
            raise Misuse(f"the order when none is asked for, '{self.sort}': {error}") from None

    def read(self, parameters: Parameters) -> Wanted:
        """Return what the parameters of a request ask for; raises `QueryInvalid`.

        Takes the query string as it came, or its pairs: Starlette's `query_params.multi_items()`,
        Werkzeug's `args.items(multi=True)`.
        """
        given: dict[str, list[str]] = {}
        for name, text in _pairs(parameters):
            given.setdefault(name, []).append(text)
        where: list[ColumnElement[bool]] = []
        special: dict[str, str] = {}
        for name, texts in given.items():
            if name in self.others:
                continue
            if name in {"sort", "size", "page"}:
                special[name] = _only(name, texts)
            elif name in self._asked:
                where.append(self._condition(name, texts))
            else:
                known = ", ".join([*self._asked, "sort", "size", "page", *sorted(self.others)])
                raise QueryInvalid("", f"a parameter is not known here; known are {known}")
        return Wanted(
            where=tuple(where),
            order=self._order(special.get("sort", self.sort)),
            size=self._size(special.get("size")),
            token=special.get("page") or None,
        )

    def _condition(self, name: str, texts: Sequence[str]) -> ColumnElement[bool]:
        one, comparison = self._asked[name]
        if comparison != "in":
            _only(name, texts)
        if len(texts) > MOST_VALUES:
            raise QueryInvalid(name, f"{len(texts)} values, at most {MOST_VALUES} are allowed")
        try:
            return one.where(comparison, texts)
        except (ValueError, ArithmeticError):
            expected = _SWITCH_EXPECTED if comparison == "null" else one.expected
            raise QueryInvalid(name, f"expected {expected}") from None

    def _order(self, text: str) -> tuple[ColumnElement[Any], ...]:
        names = text.split(",") if text else []
        if len(names) > self.most_sorts:
            raise QueryInvalid("sort", f"{len(names)} orders, at most {self.most_sorts} allowed")
        order: dict[str, Sort] = {}
        for name in names:
            plain_name = name.removeprefix("-")
            sort = self._orders.get(plain_name)
            if sort is None:
                known = ", ".join(self._orders) or "none"
                raise QueryInvalid("sort", f"no such order; there are {known}")
            if plain_name in order:
                raise QueryInvalid("sort", f"'{plain_name}' is given twice")
            order[plain_name] = sort if plain_name == name else sort.reversed()
        return tuple(sort.expression() for sort in order.values())

    def _size(self, text: str | None) -> int:
        if text is None:
            return self.size
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= self.most:
            raise QueryInvalid("size", f"expected a whole number from 1 to {self.most}")
        return int(text)


def plain(expression: Any) -> ColumnElement[Any]:
    """Return the column of an attribute, label or column; raises `Misuse` for anything else."""
    element = _element(expression)
    if not isinstance(element, ColumnElement):
        raise Misuse(
            f"expected a column or an expression of columns, got {type(element).__qualname__}; a "
            "text is not taken, because it would become SQL as it is"
        )
    return element


def _element(expression: Any) -> Any:
    """Return what an attribute stands for; a label's inside, because WHERE knows no labels."""
    while True:
        if getattr(expression, "__visit_name__", "") in {"label", "label_reference"}:
            inner = expression.element
        elif hasattr(expression, "__clause_element__"):
            inner = expression.__clause_element__()
        else:
            return expression
        if inner is expression:
            return expression
        expression = inner


def _pairs(parameters: Parameters) -> list[tuple[str, str]]:
    if isinstance(parameters, (str, bytes)):
        if len(parameters) > LONGEST_QUERY_BYTES:
            raise QueryInvalid("", f"the query is longer than {LONGEST_QUERY_BYTES} bytes")
        text = parameters.decode("latin-1") if isinstance(parameters, bytes) else parameters
        try:
            parameters = parse_qsl(
                text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
            )
        except UnicodeDecodeError:
            raise QueryInvalid("", "the query is not UTF-8") from None
        except ValueError:
            raise QueryInvalid("", f"more than {MOST_PARAMETERS} parameters") from None
    elif isinstance(parameters, Mapping):
        parameters = parameters.items()
    pairs = list(parameters)
    if len(pairs) > MOST_PARAMETERS:
        raise QueryInvalid("", f"more than {MOST_PARAMETERS} parameters")
    return pairs


def _only(name: str, texts: Sequence[str]) -> str:
    if len(texts) > 1:
        raise QueryInvalid(name, "is given more than once")
    return texts[0]


_COMPARE: Mapping[str, Callable[[Any, list[Any]], ColumnElement[bool]]] = {
    "eq": lambda column, values: column == values[0],
    "ne": lambda column, values: column != values[0],
    "lt": lambda column, values: column < values[0],
    "lte": lambda column, values: column <= values[0],
    "gt": lambda column, values: column > values[0],
    "gte": lambda column, values: column >= values[0],
    "in": lambda column, values: column.in_(values),
    "contains": lambda column, values: contains(column, values[0]),
    "starts": lambda column, values: starts(column, values[0]),
}

_SWITCHES = {"true": True, "false": False, "1": True, "0": False}
_SWITCH_EXPECTED = "true or false"
_TEXT_EXPECTED = f"a text of at most {MOST_CHARACTERS} characters"
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?")
_EXPONENT = re.compile(rf"{_NUMBER.pattern}([eE][+-]?[0-9]{{1,3}})?")


def _reading(kind: TypeEngine[Any]) -> tuple[Read, str]:  # noqa: PLR0911 - a line a type
    """Return what reads a text as a value of the type, and what it expects."""
    python = _python(kind)
    if issubclass(python, Enum):
        return _read_choice(_words(kind, python))
    if issubclass(python, str):
        words = getattr(kind, "enums", None)
        return (
            _read_choice({word: word for word in words}) if words else (_read_text, _TEXT_EXPECTED)
        )
    if issubclass(python, bool):
        return _read_switch, _SWITCH_EXPECTED
    if issubclass(python, int):
        bits = _bits(kind)
        return _read_whole(bits), f"a whole number of at most {bits} bits"
    if issubclass(python, datetime):
        if getattr(kind, "timezone", False):
            expected = "a time such as 2026-01-31T12:00:00Z (an offset's + is written as %2B)"
            return _read_instant, expected
        return _read_local, "a time without an offset, such as 2026-01-31T12:00:00"
    for known, read, expected in _READINGS:
        if issubclass(python, known):
            return read, expected
    raise Misuse(f"values of type {kind!r} cannot be read from a text; give `read=`")


def _read_text(text: str) -> str:
    # PostgreSQL takes no NUL in a text, and no driver a half of a surrogate pair.
    if len(text) > MOST_CHARACTERS or "\0" in text:
        raise ValueError
    text.encode()
    return text


_TEXT: tuple[Read, str] = (_read_text, _TEXT_EXPECTED)


def _read_switch(text: str) -> bool:
    switch = _SWITCHES.get(text)
    if switch is None:
        raise ValueError
    return switch


def _read_whole(bits: int) -> Read:
    limit = 1 << (bits - 1)

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not -limit <= int(text) < limit:
            raise ValueError
        return int(text)

    return read


def _read_choice(words: Mapping[str, Any]) -> tuple[Read, str]:
    def read(text: str) -> Any:
        if text not in words:
            raise ValueError
        return words[text]

    return read, f"one of {', '.join(words)}"


def _read_float(text: str) -> float:
    if not _EXPONENT.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def _read_decimal(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _read_instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError
    # In UTC, because SQLite keeps no offset and would drop this one.
    return value.astimezone(UTC)


def _read_local(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError
    return value


def _read_time(text: str) -> time:
    value = time.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError
    return value


_READINGS: tuple[tuple[type[Any], Read, str], ...] = (
    (float, _read_float, "a number"),
    (Decimal, _read_decimal, "a number such as 12.50"),
    (date, date.fromisoformat, "a date such as 2026-01-31"),
    (time, _read_time, "a time of day such as 12:00"),
    (UUID, UUID, "a UUID"),
)


def _words(kind: Any, python: type[Enum]) -> dict[str, Enum]:
    """Return what is stored for each member, which is what a client writes."""
    choose = getattr(kind, "values_callable", None)
    members = python.__members__
    words = choose(python) if choose else list(members)
    return dict(zip(words, members.values(), strict=True))


def _python(kind: TypeEngine[Any]) -> type[Any]:
    """Return the type of the values in Python; of a decorator that does not say, its inner one."""
    try:
        python: type[Any] = kind.python_type
    except NotImplementedError:
        python = object
    if python is object and isinstance(kind, TypeDecorator):
        return _python(kind.impl_instance)
    return python


def _bits(kind: TypeEngine[Any]) -> int:
    while isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, BigInteger):
        return 64
    return 16 if isinstance(kind, SmallInteger) else 32
