"""Find the upserts of an application in its source: they need a unique index as it is."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

_UPSERT: Final = re.compile(
    r"on_conflict_do_(?:nothing|update)|\bON\s+CONFLICT\s*\(", re.IGNORECASE
)
# As far behind the words as the columns may stand.
_REACH_CHARACTERS: Final = 400
_FOLDERS_LEFT_OUT: Final = frozenset({"node_modules", "site-packages", "__pycache__", "venv"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """A place in the source, and what follows it."""

    file: Path
    line: int
    text: str

    def names(self, columns: Iterable[str]) -> bool:
        """Return whether it may be about a unique index over these columns: all are named."""
        return all(re.search(rf"\b{re.escape(column)}\b", self.text) for column in columns)


def find_upserts(folder: Path) -> Iterator[Upsert]:
    """Yield what looks like an upsert in the Python and SQL files of a folder, by file."""
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder).parts
        if file.suffix not in (".py", ".sql") or any(
            part in _FOLDERS_LEFT_OUT or part.startswith(".") for part in inside
        ):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        for found in _UPSERT.finditer(text):
            yield Upsert(
                file=file,
                line=text.count("\n", 0, found.start()) + 1,
                text=text[found.start() : found.end() + _REACH_CHARACTERS],
            )
