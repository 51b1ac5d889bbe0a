"""How a room declares its section: a frozen dataclass whose fields say what they accept."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import Enum
from typing import Any, Literal, TypeVar, final, get_args, get_origin, get_type_hints

from typing_extensions import override

from shipworthy.units import parse_duration, parse_size

Environment = Literal["development", "staging", "production"]
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])
R = TypeVar("R")


@final
class Secret:
    """A text that does not show itself; true when it is set, and `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for the one place that must send or compare it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    @override
    def __str__(self) -> str:
        return f"set, {len(self._text)} characters" if self._text else "not set"

    @override
    def __repr__(self) -> str:
        return f"<Secret: {self}>"


class Kind(Enum):
    """What a setting accepts; how each is read and shown is in `convert`."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    CHOICE = "a choice"
    TEXTS = "a list of texts"
    DURATION = "a length of time"
    SIZE = "a size"
    SECRET = "a secret"  # noqa: S105 - the word
    TABLES = "tables"


_KINDS: dict[Any, Kind] = {
    str: Kind.TEXT,
    int: Kind.WHOLE,
    float: Kind.NUMBER,
    bool: Kind.SWITCH,
    tuple[str, ...]: Kind.TEXTS,
    Secret: Kind.SECRET,
}
# As it stands in variables, which know no other case, and in labels of metrics.
_TABLE_NAME = re.compile("[a-z][a-z0-9_]{0,31}")
# The value carries the unit ("30s"), so the key needs none; the field in Python does.
_SUFFIXES = {Kind.DURATION: "_seconds", Kind.SIZE: "_bytes"}


# By identity: among the defaults are mappings, which have no hash.
@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """One setting as declared; `key` is what people write (`serve.grace`), `field` is Python's.

    One that accepts tables has a `row`, the dataclass of each of them, and its `columns`; people
    name the tables.
    """

    key: str
    field: str
    kind: Kind
    help: str
    default: Any
    profiles: Mapping[str, Any]
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    flag: str
    least_characters: int
    row: type[Any] | None = None
    columns: "tuple[Option, ...]" = ()

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"SHIPWORTHY_{self.key.replace('.', '__').upper()}"

    def default_in(self, environment: Environment) -> Any:
        """Return what holds in `environment` when nobody sets it."""
        return self.profiles.get(environment, self.default)

    def of_table(self, name: str) -> "tuple[Option, ...]":
        """Return the settings of the table `name`: those of one that is there by default are its.

        Raises `ValueError` for what is no name of a table.
        """
        if not _TABLE_NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' is no name; write 1 to 32 lower-case letters, digits and underscores, "
                "a letter first"
            )
        given = self.default.get(name)
        return tuple(
            replace(
                column,
                key=f"{self.key}.{name}.{column.key}",
                default=column.default if given is None else getattr(given, column.field),
            )
            for column in self.columns
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    help: str
    kind: Kind | None = None
    profiles: Mapping[str, Any]
    minimum: float | None = None
    maximum: float | None = None
    flag: str = ""
    least_characters: int = 0
    row: type[Any] | None = None


def option(
    default: T,
    help: str,  # noqa: A002 - the word a reader expects
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    production: T | None = None,
    staging: T | None = None,
    development: T | None = None,
    flag: str = "",
) -> T:
    """Declare a setting of type str, int, float, bool, a Literal of texts or `tuple[str, ...]`.

    Bounds are inclusive. `production`, `staging` and `development` are the defaults of those
    environments; `flag` is the command line option that sets it, when it is not `--` and the name.
    """
    profiles = {"production": production, "staging": staging, "development": development}
    declared = _Declared(
        help=help,
        profiles={name: value for name, value in profiles.items() if value is not None},
        minimum=minimum,
        maximum=maximum,
        flag=flag,
    )
    return field(default=default, metadata={"shipworthy": declared})


def duration(
    default: str,
    help: str,  # noqa: A002
    *,
    minimum: str = "0",
    maximum: str | None = None,
    production: str | None = None,
    staging: str | None = None,
    development: str | None = None,
) -> float:
    """Declare a length of time, in the field as seconds, in the settings with its unit ("30s")."""
    given = {"production": production, "staging": staging, "development": development}
    declared = _Declared(
        help=help,
        kind=Kind.DURATION,
        profiles={name: parse_duration(text) for name, text in given.items() if text is not None},
        minimum=parse_duration(minimum),
        maximum=None if maximum is None else parse_duration(maximum),
    )
    return field(default=parse_duration(default), metadata={"shipworthy": declared})


def size(
    default: str,
    help: str,  # noqa: A002
    *,
    minimum: str = "0",
    maximum: str | None = None,
) -> int:
    """Declare a size, in the field as bytes, in the settings with its unit ("8MiB")."""
    declared = _Declared(
        help=help,
        kind=Kind.SIZE,
        profiles={},
        minimum=parse_size(minimum),
        maximum=None if maximum is None else parse_size(maximum),
    )
    return field(default=parse_size(default), metadata={"shipworthy": declared})


def secret(help: str, *, least_characters: int = 0) -> Secret:  # noqa: A002
    """Declare a secret, not set by default; it may also come from the file `..._FILE` names.

    Staging and production refuse one that everybody tries, or shorter than `least_characters`.
    """
    declared = _Declared(help=help, profiles={}, least_characters=least_characters)
    return field(default=Secret(), metadata={"shipworthy": declared})


def tables(
    row: type[R],
    help: str,  # noqa: A002
    *,
    default: Mapping[str, R] | None = None,
) -> Mapping[str, R]:
    """Declare tables that people name (`[limits.policies.login]`), each of the dataclass `row`.

    The fields of `row` are declared as those of a section are. `default` has the tables that are
    there when nobody writes them; what is written of one of those changes only what is written.
    """
    held: dict[str, R] = dict(default or {})
    declared = _Declared(help=help, kind=Kind.TABLES, profiles={}, row=row)
    return field(default_factory=lambda: held, metadata={"shipworthy": declared})


_registered: dict[str, tuple[type[Any], tuple[Option, ...]]] = {}


def section(name: str) -> Callable[[C], C]:
    """Register the frozen dataclass below as the settings under `name`.

    A section may have `refusals(environment) -> list[str]`: what that environment would refuse,
    and `refusals_beside(loaded)`: what the other sections make impossible.
    Raises `TypeError` for a declaration that could not work.
    """

    def register(cls: C) -> C:
        # The same class again is a module executed twice (a reload), not a second section.
        known = _registered.get(name)
        if known is not None and known[0].__qualname__ != cls.__qualname__:
            raise TypeError(f"section [{name}] is declared twice: {known[0]!r} and {cls!r}")
        _registered[name] = (cls, _options(name, cls))
        return cls

    return register


def sections() -> tuple[type[Any], ...]:
    """Return the registered dataclasses, in the order of their names."""
    return tuple(cls for _, (cls, _) in sorted(_registered.items()))


def options_of(section: type[Any]) -> tuple[Option, ...]:
    """Return the settings of a registered dataclass, in the order of their declaration."""
    return next(options for cls, options in _registered.values() if cls is section)


def _options(section_name: str, cls: type[Any]) -> tuple[Option, ...]:
    hints = get_type_hints(cls)
    return tuple(
        _option(
            section_name,
            f.name,
            hints[f.name],
            f.default if f.default_factory is MISSING else f.default_factory(),
            f.metadata,
        )
        for f in fields(cls)
    )


def _option(
    section_name: str, name: str, hint: Any, default: Any, metadata: Mapping[str, Any]
) -> Option:
    place = f"section [{section_name}], field {name}"
    declared: _Declared | None = metadata.get("shipworthy")
    if declared is None:
        raise TypeError(f"{place}: declare it with option(), duration(), size() or secret()")
    kind = declared.kind or _KINDS.get(hint)
    choices: tuple[str, ...] = ()
    if get_origin(hint) is Literal:
        kind, choices = Kind.CHOICE, get_args(hint)
    if kind is None or not all(isinstance(choice, str) for choice in choices):
        raise TypeError(f"{place}: settings of type {hint} cannot be read")
    suffix = _SUFFIXES.get(kind, "")
    if not name.endswith(suffix):
        raise TypeError(f"{place}: call it {name}{suffix}, so that its unit can be read")
    # A trailing underscore is for a field whose key is a word of Python: `from_`.
    short = name.removesuffix(suffix).rstrip("_")
    columns: tuple[Option, ...] = ()
    if declared.row is not None:
        # Their place in a file is known when they have a name.
        columns = tuple(
            replace(column, key=column.key.rpartition(".")[2])
            for column in _options(f"{section_name}.{short}.NAME", declared.row)
        )
    return Option(
        key=f"{section_name}.{short}",
        field=name,
        kind=kind,
        help=declared.help,
        default=default,
        profiles=declared.profiles,
        choices=choices,
        minimum=declared.minimum,
        maximum=declared.maximum,
        flag=declared.flag or f"--{short.replace('_', '-')}",
        least_characters=declared.least_characters,
        row=declared.row,
        columns=columns,
    )
