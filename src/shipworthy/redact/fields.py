"""Plain data with secrets in it: the fields of a line, before anybody makes one text of them."""

from collections.abc import Mapping
from typing import Any

from shipworthy.redact.hidden import HIDDEN, hidden
from shipworthy.redact.names import is_secret
from shipworthy.redact.text import redact


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `fields` without secrets: by their names and in every text, at any depth.

    For what becomes JSON: in the finished text, a header would take the rest of the line with it.
    """
    return {redact(str(name)): _value(str(name), value, depth=8) for name, value in fields.items()}


def _value(name: str, value: Any, *, depth: int) -> Any:
    if is_secret(name, value):
        return hidden("name")
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str) and not depth:
        return HIDDEN  # deeper than anybody reads, and nobody has looked at it
    if isinstance(value, Mapping):
        within = ((str(key), inner) for key, inner in value.items())
        return {redact(key): _value(key, inner, depth=depth - 1) for key, inner in within}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value("", inner, depth=depth - 1) for inner in value]
    return redact(str(value))
