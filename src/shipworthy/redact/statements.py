"""What errors of databases repeat: the statement, the values bound to it, the row that was refused.

SQLAlchemy adds statement and parameters to every error of a database, and databases say which value
they did not take. The structure stays readable, the values go. Where the error names the column,
only those of secret names do: that key 7 exists already is what somebody looks for.
"""

import re
from collections.abc import Callable

from shipworthy.redact.hidden import hidden
from shipworthy.redact.names import is_secret_name

_HINTS = (
    "[SQL: ", "[parameters: ", "LINE ", "argument $", "parameter $", "Failing row",
    "invalid input", "Incorrect ", "SQL syntax", "Key (", "Duplicate entry ",
)  # fmt: skip
_PARAMETERS = "[parameters: "
_PARAMETERS_END = re.compile(r"\]\n\(Background on")
_STATEMENT = "[SQL: "
_STATEMENT_END = re.compile(r"\]\n(?:\[|\(Background on)")
# Between the two; of what is longer, SQLAlchemy itself shows less.
_SPAN_CHARACTERS = 16384
_LINE = re.compile(r"\bLINE \d+: [^\n]*")
_LITERAL = re.compile(r"'((?:[^']|'')*)(?:'|\Z)")
_REPEATED = re.compile(
    r"""(query[ ]argument[ ]\$\d+:[ ]|parameter[ ]\$\d+[ ]=[ ]|Failing[ ]row[ ]contains[ ]
        |invalid[ ]input[ ]syntax[ ]for[ ]type[ ][\w ]{1,40}:[ ]|Incorrect[ ][\w ]{1,40}[ ]value:[ ]
        |SQL[ ]syntax[^\n']{0,200}[ ]near[ ])(?!\*\*\*)
        (\([^\n]*\)|"[^"\n]*"|'(?:[^'\n]|'')*'|[^\n]+)""",
    re.VERBOSE,
)
# To the end of the line: what is refused may hold any sign.
_DOUBLE = re.compile(r"(Key \(([^)\n]{1,200})\)=\()([^\n]*)")
_ENTRY = re.compile(r"(Duplicate entry ')([^\n]*)")
_OF_KEY = re.compile(r"' for key '([^'\n]{1,200})'[^\n]*\Z")
# What may hold a value in a statement itself: texts, comments, and numbers that are no part of a
# name or of a placeholder. Between double quotes is a name, or for some databases a text: it stays
# only where a name must be. A backslash ends a text for some databases and not for others: with one
# in a text, nothing of what follows stays.
_VALUES = re.compile(
    r"""(?P<name>(?:(?<=\.)|(?<=FROM[ ])|(?<=JOIN[ ])|(?<=INTO[ ])|(?<=UPDATE[ ]))"[^"]*"
                |"[^"]*"(?=\.))
        |(?P<comment>/\*.*?(?:\*/|\Z)|--[^\n]*)
        |'(?:[^'\\]|'')*(?:'|\\.*\Z|\Z)
        |"[^"]*(?:"|\Z)
        |\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z)
        |(?<![\w$:%.])\d[\w.]*""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def without_values(statement: str) -> str:
    """Return an SQL statement with ? in the place of every value it holds, and without comments."""
    return _VALUES.sub(_shape, statement)


def _shape(found: re.Match[str]) -> str:
    if found["comment"] is not None:
        return " "
    return found["name"] or "?"


def without_sql_values(text: str) -> str:
    """Return `text` without the values that errors of databases repeat."""
    if not any(hint in text for hint in _HINTS):
        return text
    text = _between(text, _PARAMETERS, _PARAMETERS_END, lambda values: hidden("sql", values))
    text = _between(text, _STATEMENT, _STATEMENT_END, _without_literals)
    text = _LINE.sub(lambda found: _without_literals(found[0]), text)
    text = _REPEATED.sub(_after, text)
    text = _DOUBLE.sub(_key, text)
    return _ENTRY.sub(_entry, text)


def _between(text: str, opening: str, closing: re.Pattern[str], shown: Callable[[str], str]) -> str:
    """Return `text` with `shown` of whatever stands between `opening` and `closing`.

    Where nothing closes it soon, it ends with its line.
    """
    if (start := text.find(opening)) < 0:
        return text
    kept: list[str] = []
    done = 0
    close = closing.search(text, start)
    while start >= 0:
        start += len(opening)
        if close is not None and close.start() < start:
            close = closing.search(text, start)
        if close is not None and close.start() - start <= _SPAN_CHARACTERS:
            end = close.start()
        else:
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
            end -= text.endswith("]", start, end)
        kept += (text[done:start], shown(text[start:end]))
        done = end
        start = text.find(opening, end)
    return "".join((*kept, text[done:]))


def _without_literals(statement: str) -> str:
    return _LITERAL.sub(_literal, statement)


def _literal(found: re.Match[str]) -> str:
    return f"'{hidden('sql', found[1])}'" if found[1] else found[0]


def _after(found: re.Match[str]) -> str:
    return found[1] + hidden("sql", found[2])


def _key(found: re.Match[str]) -> str:
    if not any(map(is_secret_name, found[2].split(","))):
        return found[0]
    value, _, reason = found[3].rpartition(") ")
    return f"{found[1]}{hidden('sql', value)}) {reason}" if value else found[1] + hidden("sql")


def _entry(found: re.Match[str]) -> str:
    key = _OF_KEY.search(found[2])
    if key is None or not is_secret_name(key[1]):
        return found[0]
    return f"{found[1]}{hidden('sql', found[2][: key.start()])}{key[0]}"
