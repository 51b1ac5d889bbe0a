"""`shipworthy trash`: what was deleted, and how to put it back."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shipworthy.cli.parts import (
    Alembic,
    ConfigFile,
    Database,
    Json,
    load_settings,
    print_json,
    print_lines,
    print_rows,
    print_sentences,
    refusals_said,
    say_on_stderr,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from shipworthy.records import Deletion, TrashSettings

trash_commands = typer.Typer(
    help="Show what was deleted, and put it back.",
    epilog="Example: shipworthy trash list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Number = Annotated[int, typer.Argument(metavar="ID", help="The deletion, as `trash list` has it.")]
State = Literal["open", "restored", "purged", "all"]
Mode = Annotated[
    Literal["all", "without-conflicts", "with-needs"],
    typer.Option(
        help="all: everything or nothing; without-conflicts: what can come back; with-needs: the "
        "deletions first that have what it refers to."
    ),
]
Actor = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who does this; else SHIPWORTHY_ACTOR, else your login."),
]


@trash_commands.command("list", epilog="Example: shipworthy trash list --state all --json")
def list_deletions(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    state: Annotated[State, typer.Option(help="Which deletions to list.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="ID", help="Only older ones than this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List deletions, the newest first.

    Exit codes: 0 here they are, also where there are none, 2 misuse.
    """
    from shipworthy import records

    with opened_trash(config, database, project_file) as (engine, settings):
        found = records.deletions(
            engine, settings=settings, states=_states(state), limit=limit, before=before
        )
    if as_json:
        print_json([one.facts() for one in found])
    elif found:
        print_rows(
            ("id", "when", "who", "what", "state"),
            [
                (str(one.id), records.moment(one.at_microseconds), _who(one), one.title, one.state)
                for one in found
            ],
        )
    else:
        print("there is nothing in the trash")


@trash_commands.command(epilog="Example: shipworthy trash show 41")
def show(
    number: Number,
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    as_json: Json = False,
) -> None:
    """Show what a deletion took, and what was done with it since.

    Exit codes: 0 here it is, 1 there is no such deletion, 2 misuse.
    """
    from shipworthy import records
    from shipworthy.records import moment

    with opened_trash(config, database, project_file) as (engine, settings):
        one, changes = records.deletion(engine, number, settings=settings)
    if as_json:
        print_json({**one.facts(), "changes": [change.facts() for change in changes]})
        return
    rows: list[tuple[str, ...]] = [
        ("deletion", str(one.id)),
        ("what", one.title),
        ("when", moment(one.at_microseconds)),
        ("who", _who(one)),
        ("state", one.state + (f", on hold: {one.hold}" if one.hold else "")),
        *((f"rows of {table}", f"{count:,}") for table, count in one.tables.items()),
        *((("links emptied", f"{one.relinks:,}"),) if one.relinks else ()),
        *(
            (
                it.note or it.state,
                f"{records.moment(it.at_microseconds)} by {it.actor or 'unknown'}",
            )
            for it in changes
        ),
    ]
    print_lines(rows)


@trash_commands.command(epilog="Example: shipworthy trash plan 41")
def plan(
    number: Number,
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    no_proof: Annotated[
        bool, typer.Option("--no-proof", help="Only look; do not let the database try.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a restore would do and what stands in its way; the database tries it and takes it
    back.

    Exit codes: 0 all of it would come back, 1 not all, or there is no such deletion, 2 misuse.
    """
    from shipworthy import records

    with (
        opened_trash(config, database, project_file) as (engine, settings),
        _patience(f"trying deletion {number}"),
    ):
        found = records.plan_restore(engine, number, prove=not no_proof, settings=settings)
    if as_json:
        print_json(found.facts())
    else:
        print(f"{found.returning:,} of {found.rows:,} rows would come back")
        print_sentences(found.sentences())
        print_sentences(f"also changed then, and left as it is: {it}" for it in found.also_changed)
        offers = " or ".join(f"--mode {offer}" for offer in found.offers)
        print(f"restore it with {offers}" if offers else "nothing of it can come back now")
    raise typer.Exit(0 if found.offers[:1] == ("all",) and not found.losses else 1)


@trash_commands.command(epilog="Example: shipworthy trash restore 41 --mode with-needs")
def restore(
    number: Number,
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    mode: Mode = "all",
    accept_losses: Annotated[
        bool,
        typer.Option("--accept-losses", help="Rows may come back other than they were; says how."),
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take a restore back: remove what it brought.")
    ] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Put a deletion back, in one transaction.

    Exit codes: 0 done, 1 something stands in the way and nothing was changed, 2 misuse.
    """
    from shipworthy import records

    if undo and (mode != "all" or accept_losses):
        raise typer.BadParameter("--undo removes what came back; give it alone")
    removed: int | None = None
    done: records.Restored | None = None
    with (
        opened_trash(config, database, project_file, actor=actor) as (engine, settings),
        _patience(f"{'taking back' if undo else 'restoring'} deletion {number}"),
    ):
        if undo:
            removed = records.undo_restore(engine, number, settings=settings)
        else:
            done = records.restore(
                engine, number, mode=mode, accept_losses=accept_losses, settings=settings
            )
    if done is None:
        print_json({"deletion": number, "removed": removed}) if as_json else print(
            f"{removed:,} rows were removed again; that is a deletion of its own"
        )
        return
    if as_json:
        print_json(done.facts())
        return
    for one in (*done.before, done):
        print(f"deletion {one.deletion}: {one.rows:,} rows are back, {one.left:,} are not")
    print_sentences(records.told(done.obstacles))


@trash_commands.command(epilog="Example: shipworthy trash purge --expired")
def purge(
    number: Annotated[
        int | None, typer.Argument(metavar="ID", help="The deletion; or give --expired.")
    ] = None,
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="All that are older than trash.keep.")
    ] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Have a deletion never come back. Its line stays; its images go when retention takes them.

    Exit codes: 0 done, 1 it is on hold or there is no such deletion, 2 misuse.
    """
    from shipworthy import records

    if (number is None) != expired:
        raise typer.BadParameter("give the number of a deletion, or --expired")
    with opened_trash(config, database, project_file, actor=actor) as (engine, settings):
        purged: list[int] = []
        if number is not None:
            records.purge(engine, number, settings=settings)
            purged = [number]
        else:
            # A transaction for some hundred of them.
            while some := records.purge_expired(engine, settings=settings):
                purged += some
    print_json({"purged": purged}) if as_json else print(f"{len(purged):,} deletions were purged")


@trash_commands.command(epilog='Example: shipworthy trash hold 41 --reason "case 12"')
def hold(
    number: Number,
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it must stay.")] = "",
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    actor: Actor = None,
) -> None:
    """Keep a deletion from being purged, or release it.

    Exit codes: 0 done, 1 there is no such deletion, 2 misuse.
    """
    from shipworthy import records

    if bool(reason.strip()) == release:
        raise typer.BadParameter("give a --reason for the hold, or --release to end it")
    with opened_trash(config, database, project_file, actor=actor) as (engine, settings):
        records.hold(engine, number, reason, settings=settings)
    print(f"deletion {number} is {'released' if release else 'on hold'}")


@contextmanager
def opened_trash(
    config: Path | None,
    database: str | None,
    project_file: Path | None,
    *,
    actor: str | None = None,
) -> Iterator[tuple["Engine", "TrashSettings"]]:
    """Yield the database a command is about; what is written there is written by its user."""
    from shipworthy import audit, context, db
    from shipworthy.records import TrashSettings

    loaded = load_settings(config)
    with (
        refusals_said(settings=2),
        _unreadable_said(),
        db.opened_database(
            database, loaded.of(db.DbSettings), alembic=project_file, must_exist=True
        ) as (engine, _),
    ):
        end = audit.bind(engine, service="shipworthy")
        try:
            if actor is None and context.whose_work() is not None:
                yield engine, loaded.of(TrashSettings)
            else:
                with context.actor(actor or _login()):
                    yield engine, loaded.of(TrashSettings)
        finally:
            end()


@contextmanager
def _unreadable_said() -> Iterator[None]:
    """Say which deletions are not in the trash because an entry of theirs cannot be read."""
    from shipworthy.events import listen
    from shipworthy.records import DeletionUnreadable

    stop = listen(lambda told: say_on_stderr(f"note: {told.because}"), DeletionUnreadable)
    try:
        yield
    finally:
        stop()


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have a number and no name.
        return ""


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Show on a terminal that it goes on, where it takes more than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    timer = Timer(2.0, say_on_stderr, [f"{what}; it is one transaction, so it comes as a whole"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _states(state: State) -> "tuple[Any, ...]":
    from shipworthy.records import OPEN_STATES, DeletionState

    match state:
        case "open":
            return OPEN_STATES
        case "restored":
            return (DeletionState.RESTORED,)
        case "purged":
            return (DeletionState.PURGED,)
        case "all":
            return tuple(DeletionState)


def _who(one: "Deletion") -> str:
    return one.actor or f"unknown ({one.actor_kind})"
