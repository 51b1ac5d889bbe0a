"""`shipworthy audit`: the trail of an application's database."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shipworthy.cli.parts import (
    Alembic,
    ConfigFile,
    Database,
    Json,
    load_settings,
    print_json,
    print_lines,
    print_sentences,
    refusals_said,
    say_on_stderr,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from shipworthy.audit import AuditSettings, InstallPlan, InstallStep, LoggedEntry
    from shipworthy.db import AlembicProject

audit_commands = typer.Typer(
    help="Install the trail of changes, look at it, and check it.",
    epilog="Example: shipworthy audit plan",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LockWait = Annotated[
    str, typer.Option("--lock-wait", metavar="TIME", help="How long to wait for another migrator.")
]
LockTimeout = Annotated[
    str,
    typer.Option(
        "--lock-timeout", metavar="TIME", help="How long a table's lock is waited for, each time."
    ),
]
Tries = Annotated[int, typer.Option(min=1, help="How often a locked table is tried.")]


@audit_commands.command(epilog="Example: shipworthy audit plan --sql > trail.sql")
def plan(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print all of the SQL, for somebody else to run.")
    ] = False,
    revision: Annotated[
        bool, typer.Option("--revision", help="Write an Alembic revision that does it.")
    ] = False,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="With --revision: its title.")
    ] = "audit trail",
    as_json: Json = False,
) -> None:
    """Say what `audit install` would do, and with which SQL; changes nothing.

    Exit codes: 0 here it is, also where nothing is to be done, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, project, settings):
        found = audit.plan(engine, settings)
        if found.problems:
            raise _misuse("\n".join(found.problems))
        if revision:
            _write_revision(project, found, message, as_json=as_json)
        elif sql:
            print_sentences(_as_script(found, engine))
        elif as_json:
            print_json(
                {
                    "steps": [dataclasses.asdict(step) for step in found.steps],
                    "notes": found.notes,
                }
            )
        else:
            print_sentences(_step_line(step) for step in found.steps)
            print_sentences(f"note: {note}" for note in found.notes)
            if not found.steps:
                print("nothing is to be done: everything is captured that is to be")


@audit_commands.command(epilog="Example: shipworthy audit install --lock-timeout 500ms")
def install(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    lock_wait: LockWait = "60s",
    lock_timeout: LockTimeout = "1s",
    tries: Tries = 10,
    as_json: Json = False,
) -> None:
    """Capture every table that is to be, on a database that is being used; again is nothing.

    One table after the other, the smallest first, each in a transaction that waits only briefly
    for its lock. Exit codes: 0 done, 1 a table stayed locked or a right is missing, 2 misuse.
    """
    from shipworthy import audit
    from shipworthy.units import parse_duration

    with opened_trail(config, database, project_file) as (engine, _, settings):
        options = audit.InstallOptions(
            lock_wait_seconds=parse_duration(lock_wait),
            lock_timeout_seconds=parse_duration(lock_timeout),
            tries=tries,
        )
        done = audit.install(
            engine, settings, options=options, progress=_say_step, say=say_on_stderr
        )
        begun = audit.begin_ledger(engine, load_settings(config).of(audit.LedgerSettings))
    notes = [*done.notes, *begun]
    if as_json:
        print_json({"done": [_step_facts(step) for step in done.steps], "notes": notes})
        return
    print_sentences(f"note: {note}" for note in notes)
    print(f"done: {len(done.steps)} steps" if done.steps else "nothing was to be done")


@audit_commands.command(epilog="Example: shipworthy audit uninstall --keep-log")
def uninstall(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    keep_log: Annotated[
        bool, typer.Option("--keep-log", help="Take the triggers away, and leave the log.")
    ] = False,
    with_log: Annotated[
        bool, typer.Option("--with-log", help="Drop the log too, with all that is in it.")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, and change nothing.")] = False,
    lock_wait: LockWait = "60s",
    lock_timeout: LockTimeout = "1s",
    tries: Tries = 10,
    as_json: Json = False,
) -> None:
    """Take the trail away again: with its log, or without.

    Exit codes: 0 done, 1 a table stayed locked or a right is missing, 2 misuse.
    """
    from shipworthy import audit
    from shipworthy.units import parse_duration

    if keep_log == with_log:
        raise typer.BadParameter(
            "say what becomes of the log: --keep-log leaves it, --with-log drops it"
        )
    with opened_trail(config, database, project_file) as (engine, _, _settings):
        if sql:
            print_sentences(_as_script(audit.plan_of_uninstall(engine, keep_log=keep_log), engine))
            return
        options = audit.InstallOptions(
            lock_wait_seconds=parse_duration(lock_wait),
            lock_timeout_seconds=parse_duration(lock_timeout),
            tries=tries,
        )
        done = audit.uninstall(
            engine, keep_log=keep_log, options=options, progress=_say_step, say=say_on_stderr
        )
    if as_json:
        print_json({"done": [_step_facts(step) for step in done.steps]})
    else:
        print(f"done: {len(done.steps)} steps" if done.steps else "there is no trail here")


@audit_commands.command(epilog="Example: shipworthy audit check --json")
def check(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    as_json: Json = False,
) -> None:
    """Say of each table whether it is captured, and why not; changes nothing.

    Exit codes: 0 everything is captured that is to be, 1 something is not, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, settings):
        found = audit.check(engine, settings)
    if as_json:
        print_json(
            {
                "ok": found.is_whole,
                "installed": found.installed,
                "tables": [dataclasses.asdict(table) for table in found.tables],
                "problems": found.problems,
                "gone": found.gone,
            }
        )
    else:
        rows: list[tuple[str, ...]] = [
            (it.table, it.capture, "; ".join(part for part in (it.because, it.note) if part))
            for it in found.tables
        ]
        rows += [(name, "gone", "its entries stay") for name in found.gone]
        if rows:
            print_lines(rows)
        print_sentences(f"problem: {problem}" for problem in found.problems)
    raise typer.Exit(0 if found.is_whole else 1)


@audit_commands.command(epilog="Example: shipworthy audit log --table clients --key 7 --json")
def log(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="Only of this table.")] = "",
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE", help="Only of the row with this key; again for each part."),
    ] = None,
    actor: Annotated[str, typer.Option(metavar="NAME", help="Only what this actor did.")] = "",
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help="Not before: 2h (so long ago), or 2026-11-30T12:00:00Z."),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    personal: Annotated[
        bool, typer.Option("--personal", help="Show personal values too, while they are there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the latest changes, the newest first: who changed what in which row.

    Exit codes: 0 here they are, also where there are none, 1 one of them cannot be read, 2 misuse.
    """
    from shipworthy import audit

    with opened_trail(config, database, project_file) as (engine, _, _settings):
        wanted = audit.LogFilter(
            table=table,
            key=tuple(key or ()),
            actor=actor,
            since_microseconds=instant(since),
            limit=limit,
            personal=personal,
        )
        with engine.connect() as connection:
            found = audit.recent_entries(connection, wanted)
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in found])
    elif found:
        print_lines([_entry_row(entry) for entry in found])
    else:
        print("no entry is like that")
    if any(entry.unreadable for entry in found):
        raise typer.Exit(1)


@contextmanager
def opened_trail(
    config: Path | None, database: str | None, project_file: Path | None
) -> Iterator[tuple["Engine", "AlembicProject | None", "AuditSettings"]]:
    """Yield the database a command is about, and what the settings say of its trail."""
    from shipworthy import db, records
    from shipworthy.audit import AuditSettings, add_tables

    add_tables(records.TABLES)
    loaded = load_settings(config)
    with (
        refusals_said(settings=2),
        db.opened_database(
            database, loaded.of(db.DbSettings), alembic=project_file, must_exist=True
        ) as (engine, project),
    ):
        yield engine, project, loaded.of(AuditSettings)


def _misuse(sentence: str) -> Exception:
    from shipworthy.errors import Misuse

    return Misuse(sentence)


def _as_script(found: "InstallPlan", engine: "Engine") -> Iterator[str]:
    """Yield a text that a database's shell runs and people read; each step is a transaction."""
    from shipworthy.audit import as_lines, shell_delimiter

    delimiter = shell_delimiter(engine.dialect.name)
    for step in found.steps:
        yield f"-- {_step_line(step)}"
        yield "BEGIN;"
        yield from as_lines(step.statements, delimiter=delimiter)
        yield "COMMIT;"
        yield ""
    if not found.steps:
        yield "-- nothing is to be done"
    for note in found.notes:
        yield f"-- note: {note}"


def _write_revision(
    project: "AlembicProject | None", found: "InstallPlan", message: str, *, as_json: bool
) -> None:
    if project is None:
        raise _misuse("there is no Alembic project here; name its alembic.ini with --alembic FILE")
    if not found.steps:
        print_json({"file": None}) if as_json else print("nothing is to be done")
        return
    path = project.write_revision(
        message,
        upgrade=[statement for step in found.steps for statement in step.statements],
        downgrade=[statement for step in reversed(found.steps) for statement in step.undo],
    )
    print_json({"file": str(path)}) if as_json else print(f"wrote {path}")


def _step_line(step: "InstallStep") -> str:
    rows = f" (about {step.estimated_rows:,} rows)" if step.estimated_rows >= 0 else ""
    return f"{step.kind} {step.what}{rows}: {step.because}"


def _step_facts(step: "InstallStep") -> dict[str, Any]:
    return {"kind": step.kind, "what": step.what, "because": step.because}


def _say_step(step: "InstallStep", number: int, of: int) -> None:
    print(f"{number + 1}/{of} {_step_line(step)}", file=sys.stderr)


def instant(text: str) -> int:
    """Return the instant in microseconds: a time, or so long ago."""
    from shipworthy.clock import SYSTEM_CLOCK
    from shipworthy.errors import UnitInvalid
    from shipworthy.units import parse_duration

    if not text:
        return 0
    try:
        # Longer ago than there is a calendar for is the same as ever.
        return max(0, int((SYSTEM_CLOCK.wall() - parse_duration(text)) * 1_000_000))
    except UnitInvalid:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _misuse(
            f"'{text}' is neither a length of time (2h) nor a time (2026-11-30T12:00:00Z)"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _entry_row(entry: "LoggedEntry") -> tuple[str, ...]:
    from shipworthy.redact import printable

    if entry.unreadable:
        return ("?", "?", "?", "?", printable(entry.unreadable))
    key = "?" if entry.key is None else ",".join(map(str, entry.key))
    who = entry.actor or entry.database_user or entry.actor_kind
    return (
        entry.at,
        printable(who),
        entry.op,
        printable(f"{entry.table}[{key}]"),
        printable(", ".join(told_changes(entry.op, entry.old or {}, entry.new or {})))[:200],
    )


def told_changes(op: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return each column that an entry tells of with its value, or with both where it changed."""
    return [
        f"{name}: {old.get(name)} -> {new.get(name)}"
        if op == "update"
        else f"{name}: {new.get(name, old.get(name))}"
        for name in dict.fromkeys([*old, *new])
    ]
