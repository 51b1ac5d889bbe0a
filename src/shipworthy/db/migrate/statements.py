"""SQL read just far enough to judge it: statements, their clauses, and the tables they touch.

A tolerant reader, not a parser. What it does not understand it passes on as words, so that no
text makes it fail; a rule that does not know a statement says nothing about it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | (?<![^\n])\#[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<text> [eE]'(?:[^'\\]|''|\\.)*(?:'|\Z) | [bBnNxX]?'(?:[^']|'')*(?:'|\Z)
            | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z) )
  | (?P<quoted> "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) )
  | (?P<word> [^\W\d][\w$]* | [:@]{1,2}[^\W\d]\w* )
  | (?P<number> \d[\w.]* )
  | (?P<sign> :: | [^\s] )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = r"(?:\"[^\"]+\"|[^\s(),]+)"
_ALTER = re.compile(
    rf"ALTER (?:ONLINE |IGNORE )*TABLE (?:IF EXISTS )?(?:ONLY )?({_NAME})(?: \*)? ?"
)
# Patterns of statements, none of which is sent anywhere.
_TABLES = (
    rf"CREATE (?:OR REPLACE )?(?:\w+ )?INDEX .*?\bON (?:ONLY )?({_NAME})",
    rf"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?{_NAME} ON ({_NAME})",
    rf"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?({_NAME})",
    (
        rf"CREATE (?:GLOBAL |LOCAL |TEMP |TEMPORARY |UNLOGGED |OR REPLACE )*TABLE "
        rf"(?:IF NOT EXISTS )?({_NAME})"
    ),
    rf"DROP TABLE (?:IF EXISTS )?({_NAME})",
    rf"RENAME TABLE ({_NAME})",
    rf"TRUNCATE (?:TABLE )?(?:ONLY )?({_NAME})",
    rf"UPDATE (?:ONLY |LOW_PRIORITY |IGNORE |OR \w+ )*({_NAME})",
    rf"DELETE FROM (?:ONLY )?({_NAME})",  # noqa: S608
    rf"INSERT (?:OR \w+ |IGNORE )*INTO {_NAME} .*?\bSELECT .*?\bFROM ({_NAME})",
    rf"INSERT (?:OR \w+ |IGNORE )*INTO ({_NAME})",
    rf"LOCK TABLES? (?:ONLY )?({_NAME})",
    rf"(?:VACUUM|ANALYZE) (?:\( [^)]*\) |FULL |FREEZE |VERBOSE |ANALYZE )*({_NAME})",
    rf"CLUSTER (?:VERBOSE )?({_NAME})",
    rf"REINDEX (?:\( [^)]*\) )?(?:TABLE |INDEX )?(?:CONCURRENTLY )?({_NAME})",
    rf"REFRESH MATERIALIZED VIEW (?:CONCURRENTLY )?({_NAME})",
    rf"OPTIMIZE (?:\w+ )?TABLE ({_NAME})",
    rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER .*?\bON ({_NAME})",
)
_TOUCHED = tuple(re.compile(pattern) for pattern in _TABLES)
_REFERENCED = re.compile(rf"\bREFERENCES ({_NAME})")
_BEGIN = re.compile(r"(BEGIN|START TRANSACTION)\b")
_END = re.compile(r"(COMMIT|END|ROLLBACK)\b(?! TO)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One thing a statement does: each action of an ALTER TABLE is one.

    `text` is in capitals, one space between its words, literals emptied; of an ALTER TABLE it lacks
    the table: `ALTER TABLE ADD COLUMN A INTEGER`. `tables` are touched, the first one changed.
    """

    text: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlStatement:
    """One statement as it was written, and where: `line` counts from 1 in the revision's SQL.

    `transaction` is a number that statements of one transaction share, 0 outside of any.
    """

    text: str
    normal: str
    revision: str
    line: int
    transaction: int

    @property
    def in_transaction(self) -> bool:
        """Say whether others come before or after it in one transaction."""
        return self.transaction > 0

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Return what it does, one by one."""
        altered = _ALTER.match(self.normal)
        if altered is None:
            return (Clause(text=self.normal, tables=_touched(self.normal)),)
        table = name_of(altered[1])
        return tuple(
            Clause(
                text=f"ALTER TABLE {action}",
                tables=(table, *(name_of(found) for found in _REFERENCED.findall(action))),
            )
            for action in _actions(self.normal[altered.end() :])
        )

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the names of all tables it touches."""
        return tuple(dict.fromkeys(name for clause in self.clauses for name in clause.tables))


def read_statements(
    sql: str, *, revision: str = "", in_transaction: bool = False
) -> tuple[SqlStatement, ...]:
    """Return the statements of a text, without BEGIN and COMMIT, which say what is between them.

    `in_transaction` says whether one is open where the text begins. Never raises.
    """
    found = []
    begun = transaction = int(in_transaction)
    for start, end, words in _split(sql):
        normal = _joined(words)
        if _BEGIN.match(normal):
            begun += 1
            transaction = begun
        elif _END.match(normal):
            transaction = 0
        else:
            found.append(
                SqlStatement(
                    text=sql[start:end].strip(),
                    normal=normal,
                    revision=revision,
                    line=sql.count("\n", 0, start) + 1,
                    transaction=transaction,
                )
            )
    return tuple(found)


def name_of(word: str) -> str:
    """Return the name a word of a clause stands for: small letters, no quotes."""
    return word.replace('"', "").lower()


def _split(sql: str) -> Iterator[tuple[int, int, list[tuple[str, str]]]]:
    words: list[tuple[str, str]] = []
    start = end = 0
    for token in _TOKEN.finditer(sql):
        kind, word = token.lastgroup or "", token[0]
        if kind == "comment":
            continue
        if kind == "sign" and word == ";":
            if words:
                yield start, end, words
            words = []
            continue
        if not words:
            start = token.start()
        words.append((kind, word))
        end = token.end()
    if words:
        yield start, end, words


def _joined(words: list[tuple[str, str]]) -> str:
    out = ""
    for kind, word in words:
        shown = _shown(kind, word)
        tight = not out or out.endswith(".") or word == "."
        out += shown if tight else f" {shown}"
    return out


def _shown(kind: str, word: str) -> str:
    if kind == "text":
        return "''"
    if kind == "quoted":
        return '"' + re.sub(r"\s", "_", word[1:-1]).replace('"', "").upper() + '"'
    return word.upper()


def _actions(text: str) -> list[str]:
    actions, depth, current = [], 0, ""
    for word in text.split(" "):
        depth += (word == "(") - (word == ")")
        if word == "," and depth == 0:
            actions.append(current)
            current = ""
        else:
            current = f"{current} {word}".lstrip()
    return [*actions, current]


def _touched(normal: str) -> tuple[str, ...]:
    for pattern in _TOUCHED:
        found = pattern.match(normal)
        if found:
            rest = _REFERENCED.findall(normal)
            return tuple(dict.fromkeys(name_of(name) for name in (found[1], *rest)))
    return ()
