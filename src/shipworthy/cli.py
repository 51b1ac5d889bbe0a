"""The command line: parse, call, print. What is called is imported when its verb is used."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import shipworthy
from shipworthy.errors import Misuse, SettingsInvalid, StartFailed

if TYPE_CHECKING:
    from shipworthy.settings import Environment, Loaded

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

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file; else shipworthy.toml, else [tool.shipworthy] of pyproject.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Host = Annotated[str | None, typer.Option(help="Address the app listens on.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port the app listens on; 0 for any free one.")
]
OpsPort = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Operations port; 0 for any free one.")
]


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
        raise typer.Exit(serve.run(options))
    with _refusals_said(settings=78):
        report = serve.survey_target(options)
    _print_json(report) if as_json else _print_lines(_survey_rows(report))


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
    loaded = _loaded(config)
    if as_json:
        _print_json(
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
    if sys.stdout.isatty():
        _print_table(("setting", "value", "from"), rows)
    else:
        _print_lines(rows)


@config.command(epilog="Example: shipworthy config check --config deploy/shipworthy.toml")
def check(*, config: ConfigFile = None, as_json: Json = False) -> None:
    """Say what production would refuse.

    The settings are read as production would read them, whatever SHIPWORTHY_ENV says here. Exit
    codes: 0 nothing is refused, 1 something is, 2 the settings cannot be used at all.
    """
    loaded = _loaded(config, environment="production")
    refusals = loaded.refusals()
    if as_json:
        _print_json({"refusals": refusals, "notes": loaded.notes})
    else:
        for refusal in refusals:
            print(f"refused: {refusal}")
        for note in loaded.notes:
            print(f"note: {note}")
        if not refusals:
            print(f"production would accept these {len(loaded.values)} settings")
    raise typer.Exit(1 if refusals else 0)


def _loaded(file: Path | None, *, environment: "Environment | None" = None) -> "Loaded":
    # The topmost room with a section: to load it is to register every section there is.
    import shipworthy.serve  # noqa: F401
    from shipworthy.settings import load

    with _refusals_said(settings=2):
        return load(file=file, environment=environment)


@contextmanager
def _refusals_said(*, settings: int) -> Iterator[None]:
    """Write what we refuse to standard error, one sentence a line, and exit with its code."""
    try:
        yield
    except (Misuse, StartFailed) as error:
        for line in str(error).splitlines():
            print(f"shipworthy: {line}", file=sys.stderr)
        if isinstance(error, SettingsInvalid):
            raise typer.Exit(settings) from None
        raise typer.Exit(3 if isinstance(error, StartFailed) else 2) from None


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
    rows += [("not done", sentence) for sentence in report["not_done"]]
    return rows


def _print_lines(rows: Sequence[tuple[str, ...]]) -> None:
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


def _print_json(facts: object) -> None:
    print(json.dumps(facts, indent=2))
