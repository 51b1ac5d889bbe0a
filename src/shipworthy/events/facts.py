"""How an event is declared: a class with a sentence, a severity, and fields with their roles."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints


class Severity(StrEnum):
    """How loud an event is, in the words of the log line it becomes."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Role(Enum):
    """What a field may be used for by the rooms that derive things from an event."""

    LABEL = "label"  # few values: may become a metric label
    MEASURE = "measure"  # a number: may become a histogram
    DETAIL = "detail"  # anything else: log line only


Label = Role.LABEL
Measure = Role.MEASURE


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a declared event."""

    name: str
    role: Role


class Event:
    """Base of every declared event; `__slots__` facts, made only when somebody listens."""

    __slots__ = ()
    # Replaced by `emit.listen`; read on every emit, so it is one attribute away.
    listeners: ClassVar[tuple[Callable[[Any], None], ...]] = ()
    name: ClassVar[str]
    room: ClassVar[str]
    severity: ClassVar[Severity]
    sentence: ClassVar[str]
    schema: ClassVar[tuple[Field, ...]]


E = TypeVar("E", bound=type[Event])

_declared: dict[str, type[Event]] = {}
# Who listens to everything, so also to a kind whose module is imported later.
STANDING: list[Callable[[Any], None]] = []


@dataclass_transform(kw_only_default=True)
def event(*, severity: Severity = Severity.INFO) -> Callable[[E], E]:
    """Declare the class below as an event named `room.snake_case_of_the_class`.

    The first docstring line is the sentence people read. A field annotated
    `Annotated[str, Label]` has few values, `Annotated[float, Measure]` is a number to aggregate;
    the rest is detail. Raises `TypeError` for a class without a docstring or a name used twice.
    """

    def declare(cls: E) -> E:
        sentence = (cls.__doc__ or "").strip().split("\n", 1)[0]
        if not sentence:
            raise TypeError(f"event {cls.__qualname__} has no docstring: say what happened")
        # slots=True builds the class anew, hence a decorator and not __init_subclass__: that would
        # list both.
        made: E = dataclass(slots=True, kw_only=True)(cls)  # type: ignore[assignment]
        module = made.__module__.split(".")
        made.room = module[1] if len(module) > 1 and module[0] == "shipworthy" else module[0]
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", made.__name__).lower()
        made.name = f"{made.room}.{snake}"
        if made.name in _declared:
            raise TypeError(f"event {made.name} is declared twice")
        made.severity = severity
        made.sentence = sentence
        hints = get_type_hints(made, include_extras=True)
        made.schema = tuple(Field(f.name, _role(hints[f.name])) for f in fields(made))  # type: ignore[arg-type]
        made.listeners = tuple(STANDING)
        _declared[made.name] = made
        return made

    return declare


def declared() -> dict[str, type[Event]]:
    """Return every declared event by name, as a copy."""
    return dict(_declared)


def _role(hint: object) -> Role:
    if get_origin(hint) is not None:
        for mark in get_args(hint):
            if isinstance(mark, Role):
                return mark
    return Role.DETAIL
