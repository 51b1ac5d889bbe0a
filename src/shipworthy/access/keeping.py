"""Make, list and revoke tokens in their file: what `shipworthy tokens` does."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shipworthy.access.role import AccessRole
from shipworthy.access.token import RANDOM_BYTES, State, Token, is_name, make_token
from shipworthy.access.token_file import (
    TOKENS_MOST,
    changing,
    read_tokens,
    read_used,
    write_tokens,
)
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.settings import nearest


class TokenUnknown(ShipworthyError):
    """There is no such token in the file."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A token with how it stands, and the minute it was last used in."""

    token: Token
    state: State
    used: int | None


def role_named(text: str) -> AccessRole:
    """Return the role of that name; raises `Misuse` with the nearest that there is."""
    names = [role.value for role in AccessRole]
    try:
        return AccessRole(text)
    except ValueError:
        raise Misuse(
            f"there is no role '{text[:40]}'{nearest(text, names)}; the roles are "
            f"{', '.join(names)}"
        ) from None


def add_token(
    path: Path, name: str, role: AccessRole, *, wall: float, expires: float | None = None
) -> tuple[Token, str]:
    """Keep a new token, and return it with the text that is to be shown once.

    Raises `Misuse` for a name that none may have or one in force has, and for an end in the past.
    """
    if not is_name(name):
        raise Misuse(
            f"'{name[:80]}' cannot be the name of a token: write up to 64 letters, digits, spaces "
            "and . _ @ / -, beginning with a letter or digit"
        )
    if expires is not None and expires <= wall:
        raise Misuse("the token would have expired already; give a longer time, as in 90d")
    with changing(path):
        tokens = read_tokens(path)
        for token in tokens:
            if token.name == name and token.state(wall) is State.IN_FORCE:
                raise Misuse(
                    f"there is a token '{name}' already, {token.id}; revoke it, or take another "
                    "name: by it people see who did what"
                )
        made, shown = make_token(
            name,
            role,
            random=secrets.token_bytes(RANDOM_BYTES),
            created=int(wall),
            expires=None if expires is None else int(expires),
        )
        write_tokens(path, (*_with_room(tokens, wall), made))
    return made, shown


def list_tokens(path: Path, wall: float) -> list[Listed]:
    """Return every token of the file, the oldest first."""
    used = read_used(path)
    return [Listed(token, token.state(wall), used.get(token.id)) for token in read_tokens(path)]


def revoke_token(path: Path, number: str, wall: float) -> Token:
    """Have the token of that id open nothing any more; raises `TokenUnknown`.

    One that was revoked before stays as it was.
    """
    with changing(path):
        tokens = read_tokens(path)
        found = next((token for token in tokens if token.id == number), None)
        if found is None:
            raise TokenUnknown(
                f"there is no token with the id '{number[:40]}' in {path}; the ids are in "
                "`shipworthy tokens list`"
            )
        if found.revoked is not None:
            return found
        revoked = replace(found, revoked=int(wall))
        write_tokens(path, [revoked if token is found else token for token in tokens])
    return revoked


def _with_room(tokens: Sequence[Token], wall: float) -> Sequence[Token]:
    """Return the tokens, with room for one more: the oldest that opens nothing goes."""
    if len(tokens) < TOKENS_MOST:
        return tokens
    over = next((token for token in tokens if token.state(wall) is not State.IN_FORCE), None)
    if over is None:
        raise Misuse(f"there are {TOKENS_MOST} tokens in force, which is the most; revoke some")
    return [token for token in tokens if token is not over]
