"""`shipworthy tokens`: make, list and revoke the tokens of the operations port."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shipworthy.cli.parts import (
    ConfigFile,
    Json,
    load_settings,
    print_json,
    print_rows,
    refusals_said,
)
from shipworthy.errors import Misuse

if TYPE_CHECKING:
    from pathlib import Path

    from shipworthy.access import Token

tokens_commands = typer.Typer(
    help="Make, list and revoke tokens for the operations port.",
    epilog="Example: shipworthy tokens add ci --role viewer --expires 90d",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@tokens_commands.command(epilog="Example: shipworthy tokens add ci --role viewer --expires 90d")
def add(
    *,
    name: Annotated[str, typer.Argument(help="Who uses it; the log says it of each command.")],
    role: Annotated[str, typer.Option(metavar="ROLE", help="viewer, operator, admin or auditor.")],
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it opens anything, as in 90d; else ever.")
    ] = "",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once: only a hash of it is kept.

    A service that runs knows it within 2 s. Exit codes: 0 here it is, 2 it cannot be made so, or
    the file cannot be written.
    """
    from shipworthy.access import add_token, role_named
    from shipworthy.clock import SYSTEM_CLOCK
    from shipworthy.units import parse_duration

    file = _file(config)
    wall = SYSTEM_CLOCK.wall()
    with refusals_said(settings=2):
        ends = wall + parse_duration(expires) if expires else None
        token, shown = add_token(file, name, role_named(role), wall=wall, expires=ends)
    if as_json:
        print_json({"token": shown, **_facts(token, wall)})
    else:
        print(shown)


@tokens_commands.command("list", epilog="Example: shipworthy tokens list --json")
def list_all(*, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the tokens, the oldest first: id, name, role, how it stands, and when it was last used.

    Exit codes: 0 here they are, 2 the settings, or the file, cannot be used.
    """
    from shipworthy.access import list_tokens
    from shipworthy.clock import SYSTEM_CLOCK

    file = _file(config)
    wall = SYSTEM_CLOCK.wall()
    with refusals_said(settings=2):
        found = list_tokens(file, wall)
    if as_json:
        print_json({"tokens": [_facts(one.token, wall, one.used) for one in found]})
    elif found:
        print_rows(
            ("id", "name", "role", "stands", "created", "expires", "last used"),
            [
                (
                    one.token.id,
                    one.token.name,
                    one.token.role.value,
                    one.state.value,
                    _instant(one.token.created) or "-",
                    _instant(one.token.expires) or "never",
                    _instant(one.used) or "-",
                )
                for one in found
            ],
        )
    else:
        print(f"there are no tokens in {file}; make one with `shipworthy tokens add`")


@tokens_commands.command(epilog="Example: shipworthy tokens revoke 5f0c1e9a77b2")
def revoke(
    *,
    number: Annotated[str, typer.Argument(metavar="ID", help="The id, as `tokens list` has it.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Have a token open nothing any more; a service that runs knows it within 2 s.

    Exit codes: 0 it is revoked, also when it was before; 1 there is no such token; 2 the settings,
    or the file, cannot be used.
    """
    from shipworthy.access import revoke_token
    from shipworthy.clock import SYSTEM_CLOCK

    file = _file(config)
    wall = SYSTEM_CLOCK.wall()
    with refusals_said(settings=2):
        token = revoke_token(file, number, wall)
    if as_json:
        print_json(_facts(token, wall))
    else:
        print(f"the token '{token.name}' ({token.id}) is revoked")


def _file(config: "Path | None") -> "Path":
    from pathlib import Path

    from shipworthy.access import AccessSettings

    named = load_settings(config).of(AccessSettings).tokens_file
    with refusals_said(settings=2):
        if not named:
            raise Misuse(
                "access.tokens_file is not set, so there is no place for tokens; name a file "
                "there, or in SHIPWORTHY_ACCESS__TOKENS_FILE"
            )
    return Path(named)


def _facts(token: "Token", wall: float, used: int | None = None) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "state": token.state(wall).value,
        "created": _instant(token.created),
        "expires": _instant(token.expires),
        "revoked": _instant(token.revoked),
        "last_used": _instant(used),
    }


def _instant(wall: int | None) -> str | None:
    return None if wall is None else f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%dT%H:%M:%SZ}"
