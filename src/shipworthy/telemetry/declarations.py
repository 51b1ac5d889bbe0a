"""Metrics, panels and alerts as plain data for JSON and pipes, and back.

The supervisor imports no application, and what an application declares is evaluated there: its
workers say it. Only what is listed here can be made from what they say, and each declaration judges
itself when it is made. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final

from shipworthy.events import (
    Absent,
    Age,
    Alert,
    Board,
    Both,
    Catalogue,
    Combined,
    Compared,
    Declared,
    Increase,
    Mean,
    Metric,
    Number,
    OneOf,
    Panel,
    Quantile,
    Rate,
    Routes,
    Selection,
    Unless,
    Urgency,
    Value,
    Within,
)

# Far more than people look at; what one worker may make another process hold.
DECLARATIONS_MAX: Final = 1000
_DEPTH_MAX: Final = 40
_IS: Final = "is"

_KINDS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Absent,
        Age,
        Alert,
        Both,
        Combined,
        Compared,
        Declared,
        Increase,
        Mean,
        Metric,
        Number,
        OneOf,
        Panel,
        Quantile,
        Rate,
        Routes,
        Selection,
        Unless,
        Value,
        Within,
    )
}
_WORDS: Final[Mapping[str, type[StrEnum]]] = {"urgency": Urgency, "board": Board}


def plain_declarations(catalogue: Catalogue) -> list[Any]:
    """Return the metrics, panels and alerts of a catalogue as plain data."""
    things = [
        *catalogue.alerts.values(),
        *catalogue.panels.values(),
        *catalogue.metrics.values(),
    ]
    return [_plain(thing) for thing in things[:DECLARATIONS_MAX]]


def read_declarations(plain: Iterable[Any]) -> Catalogue:
    """Return a catalogue of what was said.

    Raises `ValueError` for what is no declaration, or not one that this version knows.
    """
    catalogue = Catalogue()
    for number, one in enumerate(plain):
        if number >= DECLARATIONS_MAX:
            raise ValueError(f"more than {DECLARATIONS_MAX} things are declared")
        thing = _read(one, _DEPTH_MAX)
        if not isinstance(thing, Metric | Panel | Alert):
            raise ValueError(f"{type(thing).__name__} is no metric, panel or alert")  # noqa: TRY004
        catalogue.add(thing)
    return catalogue


def _plain(thing: Any) -> Any:
    kind = type(thing)
    if kind.__name__ in _KINDS:
        return {
            _IS: kind.__name__,
            **{
                field.name: _plain(getattr(thing, field.name))
                for field in fields(thing)
                if field.init
            },
        }
    if isinstance(thing, tuple):
        return [_plain(one) for one in thing]
    if isinstance(thing, Mapping):
        return {name: _plain(one) for name, one in thing.items()}
    return str(thing) if isinstance(thing, StrEnum) else thing


def _read(plain: Any, depth: int) -> Any:
    if not depth:
        raise ValueError(f"a declaration is nested more than {_DEPTH_MAX} deep")
    if isinstance(plain, list):
        return tuple(_read(one, depth - 1) for one in plain)
    if not isinstance(plain, dict):
        return plain
    facts = {name: _read(one, depth - 1) for name, one in plain.items() if name != _IS}
    if _IS not in plain:
        return facts
    kind = _KINDS.get(str(plain[_IS]))
    if kind is None:
        raise ValueError(f"nothing that is declared is a {str(plain[_IS])[:50]!r}")
    for name, word in _WORDS.items():
        if name in facts:
            facts[name] = word(facts[name])
    try:
        return OneOf(*facts["values"]) if kind is OneOf else kind(**facts)
    except (TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"this is no {kind.__name__}: {error}") from error
