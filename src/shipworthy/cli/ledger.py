"""`shipworthy audit verify | prove | reconcile | key`: whether the trail can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipworthy.cli.audit import opened_trail
from shipworthy.cli.parts import (
    Alembic,
    ConfigFile,
    Database,
    Json,
    load_settings,
    print_json,
    print_sentences,
    refusals_said,
)
from shipworthy.cli.past import audit_commands
from shipworthy.errors import Misuse

if TYPE_CHECKING:
    from shipworthy.audit import LedgerSettings, Note, PublicKey

__all__ = ["audit_commands"]

key_commands = typer.Typer(
    help="The keys that sign the log.", no_args_is_help=True, rich_markup_mode=None
)
audit_commands.add_typer(key_commands, name="key")

TrustedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="KEY|FILE", help="A public key to trust; else that of the signing key."
    ),
]


@audit_commands.command(epilog="Example: shipworthy audit verify --from checkpoints.txt --json")
def verify(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="Checkpoints that were kept outside."),
    ] = None,
    key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Compare the log with what was sealed and signed, and name what is not as it was.

    Exit codes: 0 all is as it was sealed, 1 something is not, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        trusted = _trusted(config, key)
        external = [note for path in checkpoints or () for note in _notes(path)]
        with engine.connect() as connection:
            report = audit.verify(connection, trusted=trusted, external=external)
    if as_json:
        print_json(report.facts())
    else:
        print_sentences(f"{it.kind}: {it.because}" for it in report.findings)
        more = report.found.total() - len(report.findings)
        if more:
            print(f"and {more} more")
        print_sentences(f"note: {note}" for note in report.notes)
        print(
            f"{report.rows} entries in {report.batches} batches and {report.checkpoints} "
            f"checkpoints: {'as they were sealed' if report.ok else 'NOT as they were sealed'}; "
            f"{report.unsealed} are not sealed yet"
        )
    raise typer.Exit(0 if report.ok else 1)


@audit_commands.command(epilog="Example: shipworthy audit prove 4711 --out entry-4711.json")
def prove(
    *,
    entry: Annotated[
        int | None, typer.Argument(metavar="[ENTRY]", help="The number of an entry of the log.")
    ] = None,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the proof there, else print it.")
    ] = None,
    personal: Annotated[
        bool, typer.Option("--personal", help="Let the proof show personal values too.")
    ] = False,
    checked: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check a proof; asks no database."),
    ] = None,
    key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Make a file that proves that an entry is in the log, or check one without the database.

    Exit codes: 0 it is proven, 1 it is not, 2 misuse.
    """
    from shipworthy import audit

    if (entry is None) == (checked is None):
        raise typer.BadParameter("name an entry to prove, or a proof with --check FILE")
    if checked is not None:
        with refusals_said(settings=2):
            proven = audit.check_proof(audit.read_proof(_text(checked)), _trusted(config, key))
        if as_json:
            print_json({"ok": True, "batch": proven.header.number, "entry": proven.facts})
        else:
            print(
                f"proven: entry {proven.facts['seq']} is in batch {proven.header.number} of "
                f"{proven.checkpoint.origin}, signed by {proven.key}"
            )
        return
    with opened_trail(config, database, project_file) as (engine, _, _settings):
        with engine.connect() as connection:
            text = audit.prove(connection, entry or 0, openings=personal).text()
        if out is None:
            print(text, end="")
            return
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Misuse(f"{out} cannot be written: {error.strerror}") from None
        print(f"wrote {out}")


@audit_commands.command(epilog="Example: shipworthy audit reconcile orders --json")
def reconcile(
    *,
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="These; else all captured.")
    ] = None,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    as_json: Json = False,
) -> None:
    """Compare the tables with the log: find writes that were made past the triggers.

    Exit codes: 0 they agree, 1 they do not, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        report = audit.reconcile(engine, tables or ())
    if as_json:
        print_json(report.facts())
    else:
        print_sentences(f"{it.kind}: {it.table} {it.key}: {it.because}" for it in report.findings)
        if report.found > len(report.findings):
            print(f"and {report.found - len(report.findings)} more")
        print_sentences(f"note: {note}" for note in report.notes)
        print(
            f"{report.rows} rows of {report.tables} tables compared, {report.unknown} are older "
            f"than the log: {'they agree' if report.ok else f'{report.found} do NOT agree'}"
        )
    raise typer.Exit(0 if report.ok else 1)


@key_commands.command("show", epilog="Example: shipworthy audit key show > audit.pub")
def show_key(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    as_json: Json = False,
) -> None:
    """Print the public keys of the log, the present one last; keep them elsewhere.

    Exit codes: 0 here they are, 1 there is no log, 2 misuse.
    """
    from shipworthy import audit

    with (
        opened_trail(config, database, project_file) as (engine, _, _settings),
        engine.connect() as connection,
    ):
        found = audit.known_keys(connection).values()
    known = sorted(found, key=lambda it: it.since)
    if as_json:
        print_json(
            [{"key": str(it.public), "since": it.since, "vouched": it.vouched} for it in known]
        )
    else:
        print_sentences(str(it.public) for it in known)
    raise typer.Exit(0 if known else 1)


@key_commands.command("rotate", epilog="Example: shipworthy audit key rotate")
def rotate(
    *, config: ConfigFile = None, database: Database = None, project_file: Alembic = None
) -> None:
    """Put a new signing key in the place of the present one; both sign the next checkpoint.

    Exit codes: 0 done, 1 it could not be, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        public = audit.rotate_key(engine, _ledger(config))
    print(f"the log is signed with {public} from now on; give the new file to every worker")


@key_commands.command("new", epilog="Example: shipworthy audit key new --lost")
def new(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="The present one is lost: go on without its word.")
    ] = False,
) -> None:
    """Go on with a new signing key though the present one is lost; the log says so for good.

    Exit codes: 0 done, 1 it could not be, 2 misuse.
    """
    from shipworthy import audit

    if not lost:
        raise typer.BadParameter("only with --lost; to replace a key use `audit key rotate`")
    with opened_trail(config, database, project_file) as (engine, _, _settings):
        public = audit.replace_lost_key(engine, _ledger(config))
    print(f"the log is signed with {public} from now on, and says that the key before was lost")


def _ledger(config: Path | None) -> "LedgerSettings":
    from shipworthy.audit import LedgerSettings

    return load_settings(config).of(LedgerSettings)


def _trusted(config: Path | None, named: list[str] | None) -> list["PublicKey"]:
    """Return the public keys that are named, each by itself or by its file, else our own."""
    from shipworthy import audit

    if named:
        texts = [it if "+" in it else _text(Path(it)) for it in named]
        return [audit.PublicKey.parse(line) for text in texts for line in text.splitlines() if line]
    settings = _ledger(config)
    key = audit.find_key(settings.key.reveal(), Path(settings.key_path))
    return [] if key is None else [key.public]


def _notes(path: Path) -> Sequence["Note"]:
    from shipworthy import audit

    return audit.read_notes(_text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"{path} is not UTF-8 text") from None
