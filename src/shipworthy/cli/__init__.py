"""The command line: parse, call, print. What is called is imported when its verb is used.

Not here: what a verb does, which is a call of a room's public names.
"""

import atexit
import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import shipworthy
from shipworthy.cli.flag_mode import trash_commands
from shipworthy.cli.generate import generate_commands
from shipworthy.cli.ledger import audit_commands
from shipworthy.cli.limits import limits_commands
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
from shipworthy.cli.tokens import tokens_commands
from shipworthy.errors import ShipworthyError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from shipworthy.db import MigrationFinding, MigrationSurvey
    from shipworthy.operations import OperationsClient
    from shipworthy.settings import Loaded

__all__ = ["app", "main"]

app = typer.Typer(
    name="shipworthy",
    help="Run a Python web service fit for production.",
    epilog="Example: shipworthy run package.module:app",
    no_args_is_help=True,
    add_completion=False,
    # Plain text: it can be copied and piped, holds square brackets, and is there in half the time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config = typer.Typer(
    help="Show or check the settings.",
    epilog="Example: shipworthy config show",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(config, name="config")
breakers = typer.Typer(
    help="Show the breakers of a running service, or set one by hand.",
    epilog="Example: shipworthy breakers list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(breakers, name="breakers")
database = typer.Typer(
    help="Check or migrate the database.",
    epilog="Example: shipworthy db check",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(database, name="db")
app.add_typer(audit_commands, name="audit")
app.add_typer(trash_commands, name="trash")
app.add_typer(limits_commands, name="limits")
app.add_typer(tokens_commands, name="tokens")
app.add_typer(generate_commands, name="generate")

Accept = Annotated[
    list[str] | None,
    typer.Option("--accept", metavar="RULE", help="Do not refuse this; may be given again."),
]
LargeRows = Annotated[
    int, typer.Option("--large-rows", min=1, help="Rows from which on a table counts as large.")
]
Host = Annotated[str | None, typer.Option(help="Address the app listens on.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port the app listens on; 0 for any free one.")
]
OpsPort = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Operations port; 0 for any free one.")
]

OpsUrl = Annotated[
    str | None,
    typer.Option(
        "--ops",
        metavar="URL",
        help="Operations port of the service; else operations.host and operations.port.",
    ),
]
OpsToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Its token, which others may read in the list of processes; else operations.token.",
    ),
]
BreakerName = Annotated[str, typer.Argument(help="The breaker, as `breakers list` names it.")]


def main() -> None:
    """Run the command line of this process and exit."""
    app(prog_name="shipworthy")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"shipworthy {shipworthy.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Run a Python web service fit for production."""


@app.command(epilog="Example: shipworthy run package.module:app --port 8080")
def run(
    *,
    target: Annotated[
        str | None,
        typer.Argument(
            help="module:app, module:create_app() or path/to/file.py:app; "
            "without one, [tool.fastapi] entrypoint of pyproject.toml.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    ops_port: OpsPort = None,
    uds: Annotated[
        str | None, typer.Option(metavar="PATH", help="Unix socket to listen on instead.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that serve; 0 for one for each CPU.")
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Private key (PEM).")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when code changes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done to the app, and exit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
) -> None:
    """Serve an app that nobody has to change, ASGI or WSGI.

    Exit codes: 0 left cleanly, 2 misuse, 3 start failed, 70 had to be forced, 75 wants a restart,
    78 unusable settings or a crash loop.
    """
    from shipworthy import serve

    if as_json and not dry_run:
        raise typer.BadParameter("--json prints what --dry-run finds; add --dry-run")
    given = {
        "serve.host": host,
        "serve.port": port,
        "operations.port": ops_port,
        "serve.uds": uds,
        "serve.workers": workers,
        "serve.tls_cert": tls_cert,
        "serve.tls_key": tls_key,
    }
    options = serve.RunOptions(
        target=target,
        config=config,
        overrides={key: str(value) for key, value in given.items() if value is not None},
        reload=reload,
    )
    if not dry_run:
        _end_at_once()
        raise typer.Exit(serve.run(options))
    with refusals_said(settings=78):
        report = serve.survey_target(options)
    print_json(report) if as_json else print_lines(_survey_rows(report))


@app.command(epilog="Example: shipworthy demo --port 0 --no-browser")
def demo(
    *,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    ops_port: OpsPort = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the service's page.")
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database; else DATABASE_URL, else a SQLite file."),
    ] = None,
) -> None:
    """Start a small hardened service with traffic, and say where everything is."""
    from shipworthy import demo as room

    _end_at_once()
    raise typer.Exit(
        room.run(
            host=host,
            port=port,
            ops_port=ops_port,
            browser=not no_browser,
            config=config,
            database=database,
        )
    )


@config.command(epilog="Example: shipworthy config show --json")
def show(*, config: ConfigFile = None, as_json: Json = False) -> None:
    """Print every setting and where it came from.

    Of a secret, only whether it is set and how long it is.
    """
    loaded = load_settings(config)
    if as_json:
        print_json(
            {
                "environment": loaded.environment,
                "file": loaded.file,
                "values": [
                    {"key": value.key, "value": value.shown, "origin": value.origin}
                    for value in loaded.values
                ],
            }
        )
        return
    named = "SHIPWORTHY_ENV" if os.environ.get("SHIPWORTHY_ENV") else "default"
    rows = [
        ("environment", loaded.environment, named),
        *((value.key, value.shown or '""', value.origin) for value in loaded.values),
    ]
    print_rows(("setting", "value", "from"), rows)


@config.command(epilog="Example: shipworthy config check --config deploy/shipworthy.toml")
def check(*, config: ConfigFile = None, as_json: Json = False) -> None:
    """Say what production would refuse.

    The settings are read as production would read them, whatever SHIPWORTHY_ENV says here. Exit
    codes: 0 nothing is refused, 1 something is, 2 the settings cannot be used at all.
    """
    loaded = load_settings(config, environment="production")
    refusals = loaded.refusals()
    if as_json:
        print_json({"refusals": refusals, "notes": loaded.notes})
    else:
        for refusal in refusals:
            print(f"refused: {refusal}")
        for note in loaded.notes:
            print(f"note: {note}")
        if not refusals:
            print(f"production would accept these {len(loaded.values)} settings")
    raise typer.Exit(1 if refusals else 0)


@database.command(name="check", epilog="Example: shipworthy db check --workers 4")
def check_database(
    *,
    config: ConfigFile = None,
    database: Database = None,
    alembic: Alembic = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
    pool: Annotated[
        int, typer.Option(min=1, help="Connections a process may open: pool_size + max_overflow.")
    ] = 15,
    accept: Accept = None,
    large_rows: LargeRows = 100_000,
    as_json: Json = False,
) -> None:
    """Say whether the database can serve, and what a migration would do.

    Changes nothing. Exit codes: 0 all is well, 1 something must not stay as it is, 2 the URL, the
    settings or the Alembic project cannot be used.
    """
    from shipworthy import db

    loaded = load_settings(config)
    options = db.MigrateOptions(accept=frozenset(accept or ()), large_rows=large_rows)
    with (
        refusals_said(settings=2),
        db.opened_database(
            database, loaded.of(db.DbSettings), alembic=alembic, must_exist=True
        ) as (engine, project),
    ):
        found = db.check_database(
            engine, project, options=options, workers=workers, pool_capacity=pool
        )
    problems = [*loaded.refusals(), *found.problems]
    survey = found.survey
    if as_json:
        print_json(
            {
                "url": found.url,
                "server": found.server,
                "version": found.version,
                "tables": survey.ours,
                "connections": {"most": found.capacity, "server": found.slots},
                "pending": [plan.revision for plan in survey.pending],
                "findings": [_finding_facts(finding) for finding in survey.findings],
                "problems": problems,
            }
        )
    else:
        slots = "" if found.slots is None else f" of {found.slots}"
        rows = [
            ("database", found.url),
            ("server", f"{found.server} {found.version}"),
            ("our tables", "none" if survey.ours is None else f"version {survey.ours}"),
            ("connections", f"({workers} + 1) x {pool} = {found.capacity}{slots}"),
            ("revisions", "no Alembic project here" if project is None else _waiting(survey)),
            *(("finding", str(finding)) for finding in survey.findings),
            *(("problem", problem) for problem in problems),
        ]
        print_lines(rows)
    raise typer.Exit(1 if problems else 0)


@database.command(epilog="Example: shipworthy db migrate --dry-run")
def migrate(
    *,
    config: ConfigFile = None,
    database: Database = None,
    alembic: Alembic = None,
    to: Annotated[str, typer.Option(metavar="REV", help="Revision to stop at.")] = "heads",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--sql", help="Print the SQL and what is wrong with it.")
    ] = False,
    without_ours: Annotated[
        bool, typer.Option("--without-ours", help="Leave our own tables alone.")
    ] = False,
    remove_ours: Annotated[
        bool, typer.Option("--remove-ours", help="Drop our own tables, and do nothing else.")
    ] = False,
    accept: Accept = None,
    lock_wait: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait for another migrator.")
    ] = "60s",
    lock_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long a statement waits for a lock, each time.")
    ] = "2s",
    large_rows: LargeRows = 100_000,
    as_json: Json = False,
) -> None:
    """Make our own tables and run the revisions that wait, so that nobody else has to.

    What would lock a large table is refused. Killed between two revisions it goes on there the next
    time. Where there is a trail, it follows the tables that changed. Exit codes: 0 done, 1 refused
    or failed, 2 misuse.
    """
    from shipworthy import db
    from shipworthy.audit import AuditSettings, bind_engines
    from shipworthy.store import BUCKETS
    from shipworthy.units import parse_duration

    if remove_ours and (dry_run or without_ours):
        raise typer.BadParameter("--remove-ours does nothing else; give it alone")
    loaded = load_settings(config)
    say = say_on_stderr if as_json else print
    with refusals_said(settings=2):
        options = db.MigrateOptions(
            to=to,
            ours=not without_ours,
            beside=(BUCKETS,),
            accept=frozenset(accept or ()),
            lock_wait_seconds=parse_duration(lock_wait),
            lock_timeout_seconds=parse_duration(lock_timeout),
            large_rows=large_rows,
        )
        with db.opened_database(
            database, loaded.of(db.DbSettings), alembic=alembic, must_exist=dry_run or remove_ours
        ) as (engine, project):
            if remove_ours:
                removed = db.remove_ours(
                    engine,
                    beside=options.beside,
                    lock_wait_seconds=options.lock_wait_seconds,
                    say=say,
                )
                print_json({"removed": removed}) if as_json else print_sentences(
                    removed or ["there are no tables of ours"]
                )
            elif dry_run:
                survey = db.survey_migrations(engine, project, options)
                print_json(_survey_facts(survey)) if as_json else print_sentences(_as_sql(survey))
                raise typer.Exit(1 if survey.refused else 0)
            else:
                # What a revision changes of the data is recorded as its work.
                bind_engines(loaded.of(AuditSettings), service="db migrate")
                done = db.run_migrations(engine, project, options, say=say)
                if done.applied:
                    _follow(engine, loaded, say)
                if as_json:
                    print_json(
                        {
                            "ours": done.ours,
                            "applied": done.applied,
                            "findings": [_finding_facts(finding) for finding in done.findings],
                            "invalid_indexes": [str(index) for index in done.broken],
                        }
                    )
                    return
                for index in done.broken:
                    print(f"the index {index} is invalid; drop it, or build it again")
                if project is None:
                    print("there is no Alembic project here, so only our own tables were looked at")
                print(f"done: {len(done.applied)} revisions applied")


@breakers.command("list", epilog="Example: shipworthy breakers list --ops http://127.0.0.1:9000")
def list_breakers(
    *, ops: OpsUrl = None, token: OpsToken = None, config: ConfigFile = None, as_json: Json = False
) -> None:
    """List the breakers of a running service: state, since when, what was counted, and why.

    Exit codes: 0 here they are, 1 nobody answers, or a worker did not, 2 misuse, also a wrong
    token.
    """
    _show_breakers(_operations(ops, token, config), "/api/breakers", as_json=as_json)


@breakers.command(epilog="Example: shipworthy breakers isolate db:main --because maintenance")
def isolate(
    *,
    name: BreakerName,
    because: Annotated[
        str, typer.Option(metavar="TEXT", help="The reason; refusals and the log say it.")
    ] = "by hand",
    ops: OpsUrl = None,
    token: OpsToken = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Hold a breaker open in all workers, also in later ones, until it is closed.

    Exit codes: 0 it is isolated, 1 nobody answers, or a worker did not, 2 misuse, also a wrong
    token or a breaker that is not there.
    """
    path = f"/api/breakers/{name}/isolate"
    client = _operations(ops, token, config)
    _show_breakers(client, path, "POST", body={"because": because}, as_json=as_json)


@breakers.command(epilog="Example: shipworthy breakers close db:main")
def close(
    *,
    name: BreakerName,
    ops: OpsUrl = None,
    token: OpsToken = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Close a breaker at once, whoever opened it, and forget what it counted.

    Exit codes: 0 it is closed, 1 nobody answers, or a worker did not, 2 misuse, also a wrong
    token or a breaker that is not there.
    """
    path = f"/api/breakers/{name}/close"
    _show_breakers(_operations(ops, token, config), path, "POST", as_json=as_json)


def _operations(url: str | None, token: str | None, file: Path | None) -> "OperationsClient":
    from shipworthy.operations import OperationsClient, OperationsSettings

    settings = load_settings(file).of(OperationsSettings)
    with refusals_said(settings=2):
        return OperationsClient(url or settings.url, token or settings.token.reveal())


def _show_breakers(
    client: "OperationsClient",
    path: str,
    method: str = "GET",
    *,
    body: object = None,
    as_json: bool,
) -> None:
    with refusals_said(settings=2):
        facts = client.ask(path, method=method, body=body)
        if not (isinstance(facts, dict) and {"breakers", "silent"} <= facts.keys()):
            raise ShipworthyError(f"{client.url} does not answer as an operations port; see --ops")
    if as_json:
        print_json(facts)
    elif facts["breakers"]:
        print_rows(("breaker", "worker", "state", "for", "calls", "why"), _breaker_rows(facts))
    elif method == "POST":
        print("it will not be held open any more; no worker has one of that name yet")
    elif not facts["silent"]:
        print("there are no breakers: the service has made no engine and no call yet")
    for pid in facts["silent"]:
        print(f"shipworthy: worker {pid} did not answer in time; ask again", file=sys.stderr)
    raise typer.Exit(1 if facts["silent"] else 0)


def _breaker_rows(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    from shipworthy.redact import printable

    return [
        (
            printable(breaker["name"]),
            str(breaker["worker"]),
            breaker["state"],
            f"{breaker['for_seconds']:.0f} s",
            f"{breaker['window_failures']} of {breaker['window_calls']} failed",
            printable(breaker["because"]) or "-",
        )
        for breaker in facts["breakers"]
    ]


def _end_at_once() -> None:
    """Have the interpreter end without its last collection, which would walk all there is."""
    atexit.register(gc.freeze)


def _follow(engine: "Engine", loaded: "Loaded", say: Callable[[str], None]) -> None:
    """Have the trail's triggers know the tables as they are now, where there is a trail."""
    from shipworthy import audit

    with engine.connect() as connection:
        if not audit.is_installed(connection):
            return
    for step in audit.install(engine, loaded.of(audit.AuditSettings), say=say).steps:
        say(f"captured anew: {step.what}: {step.because}")


def _waiting(survey: "MigrationSurvey") -> str:
    return (
        f"{', '.join(plan.revision for plan in survey.pending)} to apply"
        if survey.pending
        else ("all applied")
    )


def _as_sql(survey: "MigrationSurvey") -> Iterator[str]:
    """Yield a text that a database reads as SQL and people as a plan."""
    if not survey.pending:
        yield "-- nothing to apply"
    for plan in survey.pending:
        yield f"-- revision {plan.revision}: {plan.title}"
        for finding in survey.findings:
            if finding.revision == plan.revision:
                yield f"-- {finding.severity}: {finding}"
        yield (
            plan.sql
            if not plan.unread_because
            else (f"-- cannot be read without being run: {plan.unread_because}")
        )
        yield ""
    for sentence in survey.refused:
        yield f"-- refused: {sentence}"


def _survey_facts(survey: "MigrationSurvey") -> dict[str, Any]:
    return {
        "pending": [{"revision": plan.revision, "sql": plan.sql} for plan in survey.pending],
        "findings": [_finding_facts(finding) for finding in survey.findings],
        "refused": survey.refused,
    }


def _finding_facts(finding: "MigrationFinding") -> dict[str, Any]:
    return dataclasses.asdict(finding)


def _survey_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    framework = f"{report['framework']} {report['framework_version']}".strip()
    rows: list[tuple[str, ...]] = [
        ("target", str(report["target"])),
        ("framework", f"{framework} ({report['interface']})"),
    ]
    rows += [
        ("engine", f"{engine['url']} ({engine['driver']}, {engine['pool']})")
        for engine in report["engines"]
    ]
    rows += [("guard", f"{guard['guard']}: {guard['mode']}") for guard in report["guards"]]
    rows += [("limit", sentence) for sentence in report["limits"]]
    rows += [("counted twice", sentence) for sentence in report["counted_twice"]]
    rows += [("undecided", sentence) for sentence in report["undecided"]]
    rows += [("not done", sentence) for sentence in report["not_done"]]
    return rows
