"""On which line each key of a TOML document stands, which `tomllib` does not tell."""

import re
import tomllib
from collections.abc import Callable

Keys = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''', re.DOTALL
)
# Numbers, dates and words; a date may have a space before its time, so blanks belong to it.
_SCALAR = re.compile(r"[^,\]}#\n]+")


def lines_of(document: str) -> dict[Keys, int]:
    """Return the line, from 1, on which each key and each table of a valid document first stands.

    Valid means that `tomllib` has read it: what follows checks nothing. Keys inside inline tables
    and in arrays of tables have the path they are reached by, without positions in arrays.
    """
    return _Scan(document.replace("\r\n", "\n")).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Keys, int] = {}
        # Counted on the way, so that a long document takes linear time.
        self.line = 1
        self.counted = 0

    def document(self) -> dict[Keys, int]:
        table: Keys = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                while self.text[self.at] == "[":
                    self.at += 1
                table = self.key(())
                while self.text[self.at : self.at + 1] == "]":
                    self.at += 1
            else:
                self.pair(table)
            self.skip(_BLANK)
        return self.lines

    def pair(self, table: Keys) -> None:
        path = self.key(table)
        self.at += 1  # the equals sign
        self.value(path)

    def key(self, table: Keys) -> Keys:
        """Read a dotted key, note the line of each of its parts, and stop after blanks."""
        path = table
        while True:
            self.skip(_SPACE)
            path = (*path, self.part())
            self.line += self.text.count("\n", self.counted, self.at)
            self.counted = self.at
            self.lines.setdefault(path, self.line)
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return path
            self.at += 1

    def part(self) -> str:
        written = self.skip(_KEY)
        if written[0] in "\"'":
            return str(tomllib.loads(f"key = {written}")["key"])
        return written

    def value(self, path: Keys) -> None:
        self.skip(_SPACE)
        match self.text[self.at]:
            case "[":
                self.items("]", lambda: self.value(path))
            case "{":
                self.items("}", lambda: self.pair(path))
            case '"' | "'":
                self.skip(_STRING)
            case _:
                self.skip(_SCALAR)

    def items(self, closing: str, item: Callable[[], None]) -> None:
        self.at += 1
        while True:
            self.skip(_BLANK)
            if self.text[self.at] == closing:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
            else:
                item()

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Move past what `pattern` matches here, and return it."""
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"no valid TOML at character {self.at}")
        self.at = match.end()
        return match[0]
