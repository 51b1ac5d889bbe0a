"""`shipworthy generate`: files for the machines around a service, from what it declares."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from shipworthy.cli.parts import (
    ConfigFile,
    Json,
    load_settings,
    print_json,
    print_sentences,
    refusals_said,
)
from shipworthy.errors import SettingsInvalid, TargetInvalid

generate_commands = typer.Typer(
    help="Write files for the machines around a service.",
    epilog="Example: shipworthy generate monitoring ./monitoring",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@generate_commands.callback()
def _group() -> None:
    """Write files for the machines around a service."""


@generate_commands.command(
    epilog="Example: shipworthy generate monitoring ./monitoring --import shop.metrics"
)
def monitoring(
    *,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder: new, empty, or written before.")
    ],
    config: ConfigFile = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="A module that declares metrics, panels, alerts or objectives of your own.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what was changed by hand.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say whether anything would change.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write Prometheus, Alertmanager and Grafana what they need to watch the service.

    Rules with a test for each alert, routes, dashboards, a runbook for each alert, and a compose
    file. The same declarations and settings give the same bytes. Exit codes: 0 the folder is as it
    should be, 1 files were changed by hand, or with --check something would change, 2 misuse.
    """
    from shipworthy import deploy
    from shipworthy.operations import OperationsSettings
    from shipworthy.serve import service_catalogue
    from shipworthy.telemetry import RetentionSettings

    loaded = load_settings(config)
    settings, operations = loaded.of(deploy.MonitoringSettings), loaded.of(OperationsSettings)
    with refusals_said(settings=2):
        problems = settings.refusals(loaded.environment)
        if problems:
            raise SettingsInvalid(problems)
        for module in imports or ():
            _import(module)
        files = deploy.monitoring_files(
            service_catalogue(loaded),
            settings,
            targets=[operations.url.removeprefix("http://")],
            retention=loaded.of(RetentionSettings),
        )
        written = deploy.write_folder(folder, files, force=force, dry_run=check)
    notes = deploy.silent_urgencies(settings)
    if as_json:
        print_json(
            {
                "folder": written.folder,
                "added": written.added,
                "changed": written.changed,
                "removed": written.removed,
                "unchanged": len(written.unchanged),
                "notes": notes,
            }
        )
    else:
        for word, paths in (
            ("added", written.added),
            ("changed", written.changed),
            ("removed", written.removed),
        ):
            print_sentences(f"{word}: {path}" for path in paths)
        print_sentences(f"note: {note}" for note in notes)
        would = "would be" if check else "are"
        print(
            f"{written.folder}: {len(files)} files {would} written from the declarations, "
            f"{len(written.unchanged)} of them as they were"
        )
    raise typer.Exit(1 if check and written.anything else 0)


def _import(name: str) -> None:
    """Load a module of the service, which declares what it shows when it is loaded."""
    import importlib

    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except Exception as error:
        raise TargetInvalid(f"--import {name}: {type(error).__name__}: {error}") from error
