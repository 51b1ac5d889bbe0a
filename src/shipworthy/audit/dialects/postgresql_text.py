"""How PostgreSQL writes a value of each type as text that depends on no setting of the session.

Pure: it makes SQL expressions, for triggers and for reads alike. Whoever writes a query can choose
its `search_path`, so every function, operator and type stands with its schema.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, final

from shipworthy.audit.dialects.postgresql_names import literal, quoted
from shipworthy.audit.model import CatalogTable

TEXTS: Final = "texts"  # the trait of a table that has these facts, as JSON
_ARGUMENTS_AT_MOST = 90  # concat() takes a hundred


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TextSetting:
    """A setting that changes the text of values: what it must be, and the values that are as good.

    `read` is the SQL of what is compared with `good`.
    """

    name: str
    wanted: str
    good: tuple[str, ...]
    read: str = ""

    def holds(self) -> str:
        """Return the SQL condition under which nothing has to be set."""
        read = self.read or current(self.name)
        return f"{read} OPERATOR(pg_catalog.=) ANY ({text_array(self.good)})"


def text_array(texts: Iterable[str]) -> str:
    """Return a constant array of text."""
    return f"ARRAY[{', '.join(literal(text) for text in texts)}]::pg_catalog.text[]"


def current(name: str) -> str:
    """Return the SQL that reads a setting."""
    return f"pg_catalog.current_setting({literal(name)})"


SETTINGS: Final[Mapping[str, TextSetting]] = {
    setting.name: setting
    for setting in (
        TextSetting(
            name="DateStyle",
            wanted="ISO",
            good=("ISO",),
            read=f"pg_catalog.left({current('DateStyle')}, 3)",
        ),
        TextSetting(name="TimeZone", wanted="UTC", good=("UTC", "Etc/UTC")),
        TextSetting(name="IntervalStyle", wanted="postgres", good=("postgres",)),
        TextSetting(name="extra_float_digits", wanted="1", good=("1", "2", "3")),
        TextSetting(name="bytea_output", wanted="hex", good=("hex",)),
        TextSetting(name="lc_monetary", wanted="C", good=("C", "POSIX")),
        TextSetting(name="search_path", wanted="pg_catalog", good=("pg_catalog",)),
        TextSetting(name="quote_all_identifiers", wanted="off", good=("off",)),
    )
}

# Types by the settings that the text of their output function depends on.
_FLOATS = ("float4", "float8", "point", "line", "lseg", "box", "path", "polygon", "circle")
_REFERENCES = (
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
)
OUTPUT: Final[Mapping[str, tuple[str, ...]]] = {
    "date": ("DateStyle",),
    "timestamp": ("DateStyle",),
    "timestamptz": ("DateStyle", "TimeZone"),
    "interval": ("IntervalStyle",),
    "bytea": ("bytea_output",),
    "money": ("lc_monetary",),
    **dict.fromkeys(_FLOATS, ("extra_float_digits",)),
    **dict.fromkeys(_REFERENCES, ("search_path", "quote_all_identifiers")),
}
# Types of extensions whose text depends on nothing; any other is written under all settings.
STEADY: Final = frozenset(
    {
        "citext",
        "geography",
        "geometry",
        "halfvec",
        "hstore",
        "lquery",
        "ltree",
        "ltxtquery",
        "sparsevec",
        "vector",
    }
)
# Their text needs no escape in JSON.
_PLAIN = frozenset({"bool", "int2", "int4", "int8", "oid", "numeric", "uuid", *_REFERENCES})
# JSON has them in ISO form whatever DateStyle says.
_DATES = frozenset({"date", "timestamp", "timestamptz"})
_NETWORKS = frozenset({"inet", "cidr"})
# Types that anybody can make, or that are made of others.
_MADE = frozenset({"enum", "array", "composite", "range", "other"})
_LETTERS = frozenset({"text", "varchar"})
# Two values of these that are equal have the same text.
_EXACT = frozenset(
    {
        "bool",
        "bytea",
        "date",
        "int2",
        "int4",
        "int8",
        "oid",
        "timestamp",
        "timestamptz",
        "uuid",
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TextFact:
    """What a column's type is under its domains, and the settings that its text depends on.

    `base` is the name of a built-in scalar type, else 'enum', 'array', 'composite', 'range' or
    'other'; `loose` says that a character type has no length or another collation than usual.
    """

    base: str
    settings: tuple[str, ...] = ()
    loose: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The settings under which a cell of it must be written, given how we write it."""
        if self.base in {"date", "timestamp", "bytea", *_REFERENCES}:
            return ()
        if self.base == "timestamptz":
            return ("TimeZone",)
        return self.settings


_UNKNOWN: Final = TextFact(base="other", settings=tuple(SETTINGS))


def dump_texts(facts: Mapping[str, TextFact]) -> str:
    """Return the facts of a table's columns as the trait that carries them."""
    return json.dumps(
        {
            name: [fact.base, list(fact.settings), fact.loose]
            for name, fact in sorted(facts.items())
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def texts_of(table: CatalogTable) -> dict[str, TextFact]:
    """Return the facts of each column; one of which nothing is known is written most carefully."""
    known = json.loads(table.traits.get(TEXTS, "{}"))
    facts = {}
    for column in table.columns:
        said = known.get(column.name)
        facts[column.name] = (
            TextFact(base=said[0], settings=tuple(said[1]), loose=said[2]) if said else _UNKNOWN
        )
    return facts


def settings_needed(facts: Iterable[TextFact]) -> list[TextSetting]:
    """Return what must hold so that cells of these are the same in every session."""
    needed = {name for fact in facts for name in fact.needs}
    return [setting for name, setting in SETTINGS.items() if name in needed]


def as_text(fact: TextFact, value: str) -> str:
    """Return the SQL of the cell of `value`, as text; NULL for NULL."""
    text = f"({value})::pg_catalog.text"
    if fact.base in _DATES:
        text = f"(pg_catalog.to_json({value}) OPERATOR(pg_catalog.#>>) '{{}}'::pg_catalog.text[])"
    elif fact.base == "bytea":
        text = rf"(E'\\x' OPERATOR(pg_catalog.||) pg_catalog.encode({value}, 'hex'))"
    elif fact.base == "bpchar" and fact.loose:
        # A cast would cut the blanks at the end, which nothing would put back.
        text = f"pg_catalog.textin(pg_catalog.bpcharout({value}))"
    elif fact.base in _NETWORKS:
        # A cast would write the mask even where it is that of a single address.
        text = f"pg_catalog.textin(pg_catalog.{fact.base}_out({value}))"
    elif fact.base in _REFERENCES:
        text = f"({value})::pg_catalog.oid::pg_catalog.text"
    elif fact.base in _MADE:
        # By its output function: who owns a type can make a cast of it, which would then run with
        # our rights. And a row of nothing but NULL is not NULL.
        known = f"pg_catalog.num_nulls({value}) OPERATOR(pg_catalog.=) 0"
        text = f"CASE WHEN {known} THEN pg_catalog.concat({value}) END"
    return text


def as_json(fact: TextFact, value: str) -> str:
    """Return the SQL of the cell of `value` as JSON, as text; never NULL."""
    if fact.base in _PLAIN:
        text = as_text(fact, value)
        cell = f"""('"' OPERATOR(pg_catalog.||) {text} OPERATOR(pg_catalog.||) '"')"""
    elif fact.base in _DATES or fact.base in _LETTERS:
        cell = f"pg_catalog.to_json({value})::pg_catalog.text"
    else:
        cell = f"pg_catalog.to_json({as_text(fact, value)})::pg_catalog.text"
    return f"COALESCE({cell}, 'null')"


def differs(fact: TextFact, one: str, two: str) -> str:
    """Return the SQL condition that two values have different cells.

    Equality of a type is often coarser than its text (1.0 and 1.00, -0 and 0, a case-insensitive
    text), so only types whose equality is exact are asked themselves.
    """
    if fact.base in _EXACT or fact.base in _LETTERS:
        c = ' COLLATE pg_catalog."C"' if fact.base in _LETTERS else ""
        same = f"{one} OPERATOR(pg_catalog.=) {two}{c}"
    else:
        one, two = as_text(fact, one), as_text(fact, two)
        one, two = f"({one})", f"({two})"
        same = f'{one} OPERATOR(pg_catalog.=) {two} COLLATE pg_catalog."C"'
    return f"({same}) IS NOT TRUE AND NOT ({one} IS NULL AND {two} IS NULL)"


def as_key(facts: Mapping[str, TextFact], key: Iterable[str], row: str) -> str:
    """Return the SQL of a row's key, the same text that `cells.write_key` gives."""
    parts = [as_json(facts[name], f"{row}.{quoted(name)}") for name in key]
    return joined([literal("["), *_between(parts), literal("]")])


def as_image(cells: Mapping[str, str]) -> str:
    """Return the SQL of an image from the SQL of its cells, the text of `cells.write_image`."""
    parts: list[str] = []
    for place, (name, cell) in enumerate(cells.items()):
        opening = "{" if place == 0 else ","
        parts += [literal(opening + json.dumps(name, ensure_ascii=False) + ":"), cell]
    return joined([*parts, literal("}")]) if parts else literal("{}")


def joined(parts: list[str]) -> str:
    """Return the SQL of texts one after the other, however many."""
    while len(parts) > _ARGUMENTS_AT_MOST:
        parts = [
            joined(parts[at : at + _ARGUMENTS_AT_MOST])
            for at in range(0, len(parts), _ARGUMENTS_AT_MOST)
        ]
    return f"pg_catalog.concat({', '.join(parts)})"


def _between(parts: list[str]) -> list[str]:
    comma = literal(",")
    return [piece for part in parts for piece in (comma, part)][1:]
