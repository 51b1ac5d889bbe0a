"""`shipworthy audit history | export | retain | hold | erase`: what is old, and what must go."""

import dataclasses
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from shipworthy.cli.audit import audit_commands, instant, opened_trail, told_changes
from shipworthy.cli.parts import (
    Alembic,
    ConfigFile,
    Database,
    Json,
    load_settings,
    print_json,
    print_lines,
    print_sentences,
    say_on_stderr,
)
from shipworthy.errors import Misuse

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Engine

    from shipworthy.audit import AuditSettings, LegalHold, RetentionLengths

__all__ = ["audit_commands"]

hold_commands = typer.Typer(
    help="Keep what must neither be erased nor leave the log.",
    epilog="Example: shipworthy audit hold list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
audit_commands.add_typer(hold_commands, name="hold")

By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who does this; else SHIPWORTHY_ACTOR, else you."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")]
Personal = Annotated[
    bool, typer.Option("--personal", help="Show personal values too, while they are there.")
]
Archive = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where the archives are; else audit.archive_path."),
]


@audit_commands.command(epilog="Example: shipworthy audit history clients 7")
def history(
    table: Annotated[str, typer.Argument(metavar="TABLE")],
    key: Annotated[list[str], typer.Argument(metavar="KEY", help="Each part of the primary key.")],
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    personal: Personal = False,
    as_json: Json = False,
) -> None:
    """Print what happened to one row, the newest first, also under keys it had before.

    Exit codes: 0 here it is, 1 nothing is known of such a row, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        with engine.connect() as connection:
            found = audit.history(connection, table, tuple(key), limit=limit)
        facts = [audit.version_facts(one, personal=personal) for one in found]
    if as_json:
        print_json(facts)
    elif found:
        print_lines([_version_row(one) for one in facts])
    else:
        print("nothing is known of such a row")
    raise typer.Exit(0 if found else 1)


@audit_commands.command(epilog="Example: shipworthy audit export --table clients > clients.ndjson")
def export(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="Only of this table.")] = "",
    since: Annotated[str, typer.Option(metavar="WHEN", help="Not before: 2h, or a time.")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Before: 2h, or a time.")] = "",
    form: Annotated[Literal["ndjson", "csv"], typer.Option("--format", help="As what.")] = "ndjson",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new file; else standard output.")
    ] = None,
    personal: Personal = False,
    by: By = None,
) -> None:
    """Hand out entries, oldest first, a line each; that it was done is recorded in the log.

    Exit codes: 0 done, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        wanted = audit.ExportFilter(
            table=table,
            since_microseconds=instant(since),
            until_microseconds=instant(until),
            personal=personal,
        )
        if output is None:
            count = audit.export(engine, wanted, sys.stdout, form=form, by=_who(by))
        else:
            with _new_file(output) as file:
                count = audit.export(engine, wanted, file, form=form, by=_who(by))
    say_on_stderr(f"{count} entries; that they were handed out is recorded")


@audit_commands.command(epilog="Example: shipworthy audit retain --dry-run")
def retain(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only hash the archives again, against the ledger.")
    ] = False,
    archive: Archive = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Archive entries that are old enough, and take them out of the log.

    Can be interrupted and run again. Exit codes: 0 done, 1 it was stopped, or an archive is not as
    it was, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, settings):
        folder = archive or Path(settings.archive_path)
        lengths = _lengths(settings)
        if check:
            with engine.connect() as connection:
                problems = audit.check_archives(connection, folder)
            if as_json:
                print_json({"ok": not problems, "problems": problems})
            else:
                print_sentences(problems or ["all archives are as they were sealed"])
            raise typer.Exit(1 if problems else 0)
        if dry_run:
            _print_plan(engine, lengths, as_json=as_json)
            return
        work = audit.RetentionWork(
            folder=folder,
            sealer=audit.sealer_of(engine, load_settings(config).of(audit.LedgerSettings)),
            by=_who(by),
            kept=_needed_by_trash(config, engine),
            progress=say_on_stderr if as_json else print,
        )
        done = audit.retain(engine, lengths, work)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    print_sentences(f"note: {note}" for note in done.notes)
    print(
        f"{done.archived_entries} entries were archived, {done.dropped_entries} left the log, "
        f"{done.kept_entries} stay for holds, for the trash or as records of access"
    )


@audit_commands.command(epilog="Example: shipworthy audit erase 42 --reason 'request of 3 May'")
def erase(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="As its column has it.")],
    *,
    reason: Reason,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    archive: Archive = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Erase the personal values of one person from the log and its archives, for good.

    What the application's own tables have is the application's to erase, and first. Exit codes: 0
    done, 1 a hold forbids it, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, settings):
        folder = archive or Path(settings.archive_path)
        with engine.begin() as connection:
            done = audit.erase(connection, subject, reason=reason, by=_who(by), archives=folder)
        audit.erase_archived(folder, subject)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    print(
        f"{done.values} values of {done.entries} entries are erased, and {done.archived_values} in "
        "archives"
    )
    print_sentences(f"note: {sentence}" for sentence in done.remains)


@hold_commands.command("add", epilog="Example: shipworthy audit hold add subject 42 --reason X")
def add_hold(
    kind: Annotated[Literal["subject", "table", "transaction"], typer.Argument(metavar="KIND")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    reason: Reason,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Hold a person, a table or a transaction. Exit codes: 0 held, 2 misuse."""
    from shipworthy import audit

    with (
        opened_trail(config, database, project_file) as (engine, _, _settings),
        engine.begin() as connection,
    ):
        found = audit.add_hold(connection, kind, name, reason=reason, by=_who(by))
    print_json(_hold_facts(found)) if as_json else print(f"hold {found.id} is in force")


@hold_commands.command("list", epilog="Example: shipworthy audit hold list --json")
def list_holds(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    as_json: Json = False,
) -> None:
    """List the holds in force. Exit codes: 0 here they are, also where there are none, 2 misuse."""
    from shipworthy import audit

    with (
        opened_trail(config, database, project_file) as (engine, _, _settings),
        engine.connect() as connection,
    ):
        facts = [_hold_facts(one) for one in audit.list_holds(connection)]
    if as_json:
        print_json(facts)
    elif facts:
        print_lines([tuple(map(str, one.values())) for one in facts])
    else:
        print("there are no holds")


@hold_commands.command("remove", epilog="Example: shipworthy audit hold remove 5a1b --reason X")
def lift_hold(
    id: Annotated[str, typer.Argument(metavar="ID")],  # noqa: A002 - as it is listed
    *,
    reason: Reason,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    by: By = None,
) -> None:
    """Lift a hold. Exit codes: 0 lifted, 2 misuse."""
    from shipworthy import audit

    with (
        opened_trail(config, database, project_file) as (engine, _, _settings),
        engine.begin() as connection,
    ):
        found = audit.lift_hold(connection, id, reason=reason, by=_who(by))
    print(f"hold {found.id} is lifted")


def _new_file(path: Path) -> TextIO:
    """Open a file that is not there yet; raises `Misuse` where it is, or cannot be made."""
    try:
        return path.open("x", encoding="utf-8", newline="")
    except FileExistsError:
        raise Misuse(f"{path} is there already and is not overwritten; name another file") from None
    except OSError as error:
        raise Misuse(f"{path} cannot be written: {error.strerror}") from None


def _who(by: str | None) -> str:
    from shipworthy.context import current_actor

    if by:
        return by
    try:
        return current_actor() or getpass.getuser()
    except (KeyError, OSError):
        return ""


def _needed_by_trash(config: Path | None, engine: "Engine") -> "ColumnElement[bool] | None":
    """Return which entries the trash needs; None where there is no trash."""
    from shipworthy import records

    try:
        return records.needed(engine, settings=load_settings(config).of(records.TrashSettings))
    except records.TrashNotInstalled:
        return None


def _lengths(settings: "AuditSettings") -> "RetentionLengths":
    from shipworthy import audit

    return audit.RetentionLengths(
        payload_seconds=settings.keep_payload_seconds,
        metadata_seconds=settings.keep_metadata_seconds,
        access_seconds=settings.keep_access_seconds,
    )


def _print_plan(engine: "Engine", lengths: "RetentionLengths", *, as_json: bool) -> None:
    from shipworthy import audit

    found = audit.plan_of(engine, lengths)
    with engine.connect() as connection:
        holds = [_hold_facts(one) for one in audit.list_holds(connection)]
    if as_json:
        facts = dataclasses.asdict(found)
        print_json({**facts, "entries": found.entries, "batches": found.batches, "holds": holds})
        return
    print(f"{found.entries} entries of {found.batches} batches, {len(found.ranges)} archives")
    print_sentences(f"held: {one['kind']} {one['name']} ({one['reason']})" for one in holds)
    print_sentences(f"note: {note}" for note in found.notes)


def _hold_facts(hold: "LegalHold") -> dict[str, Any]:
    return {**dataclasses.asdict(hold), "at": hold.at.isoformat()}


def _version_row(facts: dict[str, Any]) -> tuple[str, ...]:
    from shipworthy.redact import printable

    changed = told_changes(facts["op"], facts["old"], facts["new"])
    return (
        str(facts["seq"]),
        facts["at"],
        printable(facts["actor"] or facts["actor_kind"]),
        facts["op"],
        printable(", ".join([*changed, *(f"({note})" for note in facts["notes"])]))[:200],
    )
