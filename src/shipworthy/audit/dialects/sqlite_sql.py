"""SQLite: what its pragmas do not tell and only the text of CREATE does; pure.

Whether a foreign key may wait for COMMIT, what it is called, and which rows a partial index has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

_TOKEN: Final = re.compile(
    r"""
      \s+ | --[^\n]* | /\*.*?(?:\*/|\Z)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
    | (?P<word>[^\W\d][\w$]*)
    | (?P<other>[\d.]+(?:[eE][+-]?\d+)?|.)
    """,
    re.VERBOSE | re.DOTALL,
)

# A name before one of these is not that of a foreign key.
_OTHER_CONSTRAINTS: Final = frozenset(
    {"AS", "CHECK", "COLLATE", "DEFAULT", "GENERATED", "NOT", "NULL", "PRIMARY", "UNIQUE"}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str
    end: int

    @property
    def keyword(self) -> str:
        """The word in upper case, '' for what cannot be a keyword."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def identifier(self) -> str:
        """The name that it stands for."""
        if self.kind != "quoted":
            return self.text
        quote = "]" if self.text[0] == "[" else self.text[0]
        return self.text[1:-1].replace(quote * 2, quote)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceClause:
    """A REFERENCES as it was written; `name` is that of its constraint, '' where it has none."""

    name: str
    deferrable: bool
    initially_deferred: bool


def reference_clauses(create_table: str) -> list[ReferenceClause]:
    """Return the REFERENCES clauses of a CREATE TABLE in the order they were written in."""
    found: list[ReferenceClause] = []
    constraint, previous = "", ""
    tokens = list(_tokens(create_table))
    for place, token in enumerate(tokens):
        word = token.keyword
        if word == "CONSTRAINT" and place + 1 < len(tokens):
            constraint = tokens[place + 1].identifier
        elif word in _OTHER_CONSTRAINTS:
            constraint = ""
        elif word == "REFERENCES":
            found.append(
                ReferenceClause(name=constraint, deferrable=False, initially_deferred=False)
            )
            constraint = ""
        elif word == "DEFERRABLE" and found:
            found[-1] = replace(found[-1], deferrable=previous != "NOT")
        elif word == "DEFERRED" and found and previous == "INITIALLY":
            found[-1] = replace(found[-1], initially_deferred=found[-1].deferrable)
        previous = word
    return found


def index_predicate(create_index: str) -> str:
    """Return the WHERE of a CREATE INDEX as it was written, '' for an index of all rows."""
    depth = 0
    for token in _tokens(create_index):
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "other" else 0
        if depth == 0 and token.keyword == "WHERE":
            return create_index[token.end :].strip()
    return ""


def _tokens(sql: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is not None:
            yield _Token(kind=match.lastgroup, text=match.group(), end=match.end())
