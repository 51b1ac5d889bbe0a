"""`shipworthy trash adopt | flagged | unflag`: rows that are flagged in place of deleted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipworthy.cli.parts import (
    Alembic,
    ConfigFile,
    Database,
    Json,
    print_json,
    print_rows,
    print_sentences,
    say_on_stderr,
)
from shipworthy.cli.trash import Actor, opened_trash, trash_commands

__all__ = ["trash_commands"]

if TYPE_CHECKING:
    from shipworthy.records import AdoptPlan


@trash_commands.command(epilog="Example: shipworthy trash adopt orders --sql")
def adopt(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table; trash.flag has it.")],
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print what it would run; change nothing.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Take it out of flag mode again.")
    ] = False,
    free_unique: Annotated[
        bool, typer.Option("--free-unique", help="A deleted row frees its unique values.")
    ] = False,
    views: Annotated[
        bool, typer.Option("--views", help="PostgreSQL: raw SQL reads a view without flagged rows.")
    ] = False,
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="With --views: the role that reads the views first.")
    ] = "",
    code: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="With --free-unique: where upserts are looked for; else the folder you are in.",
        ),
    ] = None,
) -> None:
    """Bring a table under flag mode while it is in use. Whatever interrupts it, run it again.

    Exit codes: 0 done, or printed, 1 it was not done, 2 misuse, or a reason not to do it.
    """
    from shipworthy import records

    if role and not views:
        raise typer.BadParameter("--role is for --views: give both")
    if release and (free_unique or views):
        raise typer.BadParameter("--release takes everything away; give it alone, or with --sql")
    with opened_trash(config, database, project_file) as (engine, settings):
        options = records.AdoptOptions(
            free_unique=free_unique,
            shadow=views,
            role=role,
            code=(code or Path.cwd()) if free_unique else None,
        )
        if sql:
            plan = (
                records.plan_of_release(engine, table, settings.flag)
                if release
                else records.plan_of_adoption(engine, table, settings.flag, options)
            )
            _print_sql(plan)
            return
        if release:
            plan = records.release_flags(engine, table, settings.flag, options, say=say_on_stderr)
        else:
            plan = records.adopt(engine, table, settings.flag, options, say=say_on_stderr)
    print(f"{table} is {'released' if release else 'under flag mode'}, {len(plan.steps)} steps")
    print_sentences(f"note: {note}" for note in plan.notes)


@trash_commands.command(epilog="Example: shipworthy trash flagged --json")
def flagged(
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List deletions of tables under flag mode, the newest first; `trash list` has the others.

    Exit codes: 0 here they are, also where there are none, 2 misuse.
    """
    from shipworthy import records

    with opened_trash(config, database, project_file) as (engine, settings):
        found = records.flagged_deletions(engine, settings.flag, limit=limit)
    if as_json:
        print_json([one.facts() for one in found])
    elif found:
        print_rows(
            ("id", "when", "what"),
            [
                (
                    one.id,
                    one.at.isoformat(sep=" ", timespec="seconds"),
                    ", ".join(f"{rows:,} of {table}" for table, rows in one.tables.items()),
                )
                for one in found
            ],
        )
    else:
        print("no row is flagged")


@trash_commands.command(epilog="Example: shipworthy trash unflag 019ab3c4d5e6f708192a3b4c5d6e7f80")
def unflag(
    number: Annotated[str, typer.Argument(metavar="ID", help="As `trash flagged` has it.")],
    *,
    config: ConfigFile = None,
    database: Database = None,
    project_file: Alembic = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Have flagged rows live again, all of a deletion or none.

    Exit codes: 0 done, 1 something stands in the way and nothing was changed, 2 misuse.
    """
    from shipworthy import records

    with opened_trash(config, database, project_file, actor=actor) as (engine, settings):
        rows = records.restore_flagged(engine, settings.flag, number)
    print_json({"deletion": number, "rows": rows}) if as_json else print(f"{rows:,} rows are back")


def _print_sql(plan: "AdoptPlan") -> None:
    print_sentences(f"-- refused: {problem}" for problem in plan.problems)
    for step in plan.steps:
        print(f"-- {step.what}")
        if step.backfill:
            print("-- (in batches, by shipworthy itself)")
        print_sentences(f"{statement.sql};" for statement in step.statements)
    print_sentences(f"-- note: {note}" for note in plan.notes)
