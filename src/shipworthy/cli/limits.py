"""`shipworthy limits`: what a request would be held to, read from the settings."""

from typing import TYPE_CHECKING, Annotated

import typer

from shipworthy.cli.parts import (
    ConfigFile,
    Json,
    load_settings,
    print_json,
    print_rows,
    print_sentences,
    refusals_said,
)
from shipworthy.errors import Misuse, SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from shipworthy.admission import LimitsSettings, Policy

limits_commands = typer.Typer(
    help="Show the rate limits, and what a request is held to.",
    epilog="Example: shipworthy limits explain GET /items/1",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@limits_commands.callback()
def _group() -> None:
    """Show the rate limits, and what a request is held to."""


@limits_commands.command("list", epilog="Example: shipworthy limits list --json")
def list_policies(*, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the policies in their order: what each matches and allows, to whom, and its mode.

    Exit codes: 0 here they are, 2 the settings cannot be used.
    """
    from shipworthy.admission import described

    limits, policies, store = _policies(config)
    found = [described(policy, store=store) for policy in policies]
    if as_json:
        print_json({"mode": limits.mode, "policies": [one.facts() for one in found]})
    elif found:
        print_rows(
            ("policy", "mode", "matches", "allows", "for each", "at most"),
            [
                (
                    one.policy,
                    one.mode,
                    ", ".join(one.match),
                    one.allows,
                    one.charged_to,
                    f"{one.worst} in any {one.period}",
                )
                for one in found
            ],
        )
    else:
        print("there are no policies: nobody is limited")


@limits_commands.command(epilog="Example: shipworthy limits explain POST /login --as ana")
def explain(
    *,
    method: Annotated[
        str, typer.Argument(help="GET, POST, ...; WS for the handshake of a websocket.")
    ],
    path: Annotated[str, typer.Argument(help="The path, as in /items/1.")],
    user: Annotated[
        str, typer.Option("--as", metavar="USER", help="Who asks; else somebody nobody knows.")
    ] = "",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Print what a request is held to, in order, and the most that can pass in any such time.

    And where it is counted, and what happens when that is down. The settings are read, and no
    service is asked: patterns are compared with the path alone. Exit codes: 0 here it is, 2 the
    settings, or the request, cannot be used.
    """
    from shipworthy.admission import METHODS, decisions_on

    method = method.upper()
    with refusals_said(settings=2):
        if method not in METHODS:
            raise Misuse(f"'{method}' is no method; write one of {', '.join(METHODS)}")
        if not path.startswith("/"):
            raise Misuse(f"'{path}' is no path; begin it with a slash")
    limits, policies, store = _policies(config)
    found = decisions_on(policies, method, path.partition("?")[0], user=user, store=store)
    if as_json:
        print_json(
            {
                "method": method,
                "path": path,
                "user": user,
                "mode": limits.mode,
                "decisions": [one.facts() for one in found],
            }
        )
        return
    lines = [f"{number}. {one.sentence}" for number, one in enumerate(found, 1)]
    print_sentences(lines or [f"nothing limits {method} {path}"])
    if found:
        print(f"counted in: {found[0].store}")
        for one in found:
            print(f"when that is down, {one.policy}: {one.store_down}")


def _policies(config: "Path | None") -> "tuple[LimitsSettings, tuple[Policy, ...], str]":
    from shipworthy.admission import LimitsSettings, store_of
    from shipworthy.serve import ServeSettings

    settings = load_settings(config)
    limits = settings.of(LimitsSettings)
    store = store_of(limits.store, workers=settings.of(ServeSettings).workers)
    with refusals_said(settings=2):
        policies, problems = limits.read()
        if problems:
            raise SettingsInvalid(problems)
    return limits, policies, store
