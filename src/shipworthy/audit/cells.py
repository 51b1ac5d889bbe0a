"""Images and keys as text, the same for the same facts everywhere; and values for people to read.

Pure. How a cell is written is the engine's matter (`dialects`); here it is only text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from shipworthy.audit.model import Cell, Context, Entry

_HEXADECIMAL: Final = re.compile(r"[0-9a-f]*")


def read_image(text: str | None) -> dict[str, Cell]:
    """Return the image that an entry has as text; empty where there is none."""
    if not text:
        return {}
    found: dict[str, Cell] = _read(text)
    return found


def write_image(image: Mapping[str, Cell]) -> str:
    """Return an image as the log has it."""
    return json.dumps(dict(image), ensure_ascii=False, separators=(",", ":"))


def read_key(text: str | None) -> tuple[Cell, ...] | None:
    """Return the cells of a key; None for a row without one."""
    return None if text is None else tuple(_read(text))


def write_key(cells: Sequence[Cell]) -> str:
    """Return a key as the log has it: what `key` is searched by."""
    return json.dumps(list(cells), ensure_ascii=False, separators=(",", ":"))


def write_context(context: Context) -> str:
    """Return a context as the triggers get it: JSON whose names are those of the columns."""
    facts = {
        "tx": context.tx,
        "at_microseconds": context.at_microseconds,
        "actor": context.actor,
        "actor_kind": context.actor_kind,
        "on_behalf_of": context.on_behalf_of,
        "correlation_id": context.correlation_id,
        "trace_id": context.trace_id,
        "route": context.route,
        "address": context.address,
        "application": context.application,
        "note": context.note,
        "continues": context.continues,
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def commitment(salt: str, value: str) -> str:
    """Return what stands in a leaf for a personal value: it says nothing once the salt is gone."""
    return sha256(f"{salt}:{value}".encode("utf-8", "surrogatepass")).hexdigest()


def hexadecimal(salt: str) -> bool:
    """Say whether a text may be a salt: of anything else a commitment says less than it seems."""
    return _HEXADECIMAL.fullmatch(salt) is not None


def canonical(entry: Entry, context: Context | None, openings: Mapping[str, str]) -> bytes:
    """Return the bytes that a leaf of the ledger is made of; equal facts give equal bytes.

    `openings` maps `o:column` and `n:column` of personal values to their commitments. Images are
    taken as they stand in the log, so neither a dump nor another version of the engine changes
    them.
    """
    return canonical_of(
        [getattr(entry, name) for name in ENTRY_FIELDS],
        None if context is None else [getattr(context, name) for name in CONTEXT_FIELDS],
        openings,
    )


# In the order in which a leaf has them; never in another one.
ENTRY_FIELDS: Final = (
    "seq",
    "position",
    "at_microseconds",
    "tx",
    "table_id",
    "shape_id",
    "op",
    "key",
    "old",
    "new",
)
CONTEXT_FIELDS: Final = (
    "at_microseconds",
    "actor",
    "actor_kind",
    "on_behalf_of",
    "correlation_id",
    "trace_id",
    "route",
    "address",
    "db_user",
    "application",
    "note",
    "continues",
)


def canonical_of(
    entry: Sequence[Any], context: Sequence[Any] | None, openings: Mapping[str, str]
) -> bytes:
    """Do as `canonical`, for values in the order of `ENTRY_FIELDS` and `CONTEXT_FIELDS`."""
    facts: list[Any] = [*entry, sorted(openings.items()) if openings else []]
    if context is not None:
        facts.append(list(context))
    try:
        # The same bytes as below in a fifth of the time; a test compares the two.
        return orjson.dumps(facts)
    except TypeError:  # a lone surrogate, or a number of more than 64 bit
        text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # A text that is not UTF-8, of which SQLite has some; or no JSON, which is said here.
        return json.loads(text)
