"""What the verbs share: options, settings, refusals and the ways to print."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipworthy.errors import Misuse, SettingsInvalid, ShipworthyError, StartFailed

if TYPE_CHECKING:
    from shipworthy.settings import Environment, Loaded

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file; else shipworthy.toml, else [tool.shipworthy] of pyproject.toml.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="URL", help="Database; else db.url, else that of the Alembic project."
    ),
]
Alembic = Annotated[
    Path | None,
    typer.Option(
        "--alembic", metavar="FILE", help="alembic.ini or pyproject.toml; else the one right here."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_settings(file: Path | None, *, environment: "Environment | None" = None) -> "Loaded":
    """Return the settings; what cannot be read is said, and ends the command with code 2."""
    # The topmost rooms with a section: to load them is to register every section there is.
    import shipworthy.deploy
    import shipworthy.serve  # noqa: F401
    from shipworthy.settings import load

    with refusals_said(settings=2):
        return load(file=file, environment=environment)


@contextmanager
def refusals_said(*, settings: int) -> Iterator[None]:
    """Write what we refuse to standard error, one sentence a line, and exit with its code."""
    try:
        yield
    except (Misuse, StartFailed) as error:
        _complain(error)
        if isinstance(error, SettingsInvalid):
            raise typer.Exit(settings) from None
        raise typer.Exit(3 if isinstance(error, StartFailed) else 2) from None
    except ShipworthyError as error:
        # It was understood and tried: the answer is no.
        _complain(error)
        raise typer.Exit(1) from None


def _complain(error: ShipworthyError) -> None:
    from shipworthy.redact import printable, redact

    # It may repeat what others said: an exception of the app that was imported, say.
    for line in redact(str(error)).split("\n"):
        print(f"shipworthy: {printable(line)}", file=sys.stderr)


def say_on_stderr(sentence: str) -> None:
    """Say how it goes where the answer itself is JSON on standard output."""
    print(sentence, file=sys.stderr)


def print_sentences(sentences: Iterable[str]) -> None:
    """Print each on a line of its own."""
    for sentence in sentences:
        print(sentence)


def print_rows(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on a terminal, and lines without heads elsewhere."""
    if sys.stdout.isatty():
        _print_table(heads, rows)
    else:
        print_lines(rows)


def print_lines(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows with their columns under one another; there must be at least one row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _print_table(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        # Text, because what is shown may hold square brackets.
        table.add_row(*map(Text, row))
    Console().print(table)


def print_json(facts: object) -> None:
    """Print facts as a program reads them."""
    print(json.dumps(facts, indent=2))
