"""Making, listing and revoking tokens, as `shipworthy tokens` does."""

from dataclasses import replace
from pathlib import Path

import pytest

from shipworthy.access.keeping import (
    TokenUnknown,
    add_token,
    list_tokens,
    revoke_token,
    role_named,
)
from shipworthy.access.role import AccessRole
from shipworthy.access.token import State, make_token
from shipworthy.access.token_file import (
    TOKENS_MOST,
    read_tokens,
    write_tokens,
)
from shipworthy.errors import Misuse

WALL = 1_700_000_000.75


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_a_name_is_in_force_once(file: Path) -> None:
    """Who did what is told by it; after the old one was revoked or expired it is free again."""
    first, _ = add_token(file, "ci", AccessRole.VIEWER, wall=WALL)
    with pytest.raises(Misuse, match=f"a token 'ci' already, {first.id}; revoke it"):
        add_token(file, "ci", AccessRole.ADMIN, wall=WALL)
    revoke_token(file, first.id, WALL + 1)
    add_token(file, "ci", AccessRole.ADMIN, wall=WALL + 2, expires=WALL + 3)
    add_token(file, "ci", AccessRole.ADMIN, wall=WALL + 4)
    assert [one.state for one in list_tokens(file, WALL + 4)] == [
        State.REVOKED,
        State.EXPIRED,
        State.IN_FORCE,
    ]


def test_revoking_twice_leaves_the_first_time(file: Path) -> None:
    """And an id that is none is said to be none."""
    token, _ = add_token(file, "ci", AccessRole.VIEWER, wall=WALL)
    assert revoke_token(file, token.id, WALL + 5).revoked == 1_700_000_005
    assert revoke_token(file, token.id, WALL + 9).revoked == 1_700_000_005
    with pytest.raises(TokenUnknown, match="no token with the id 'ci'"):
        revoke_token(file, "ci", WALL)


@pytest.mark.parametrize(
    ("name", "expires", "because"),
    [
        ("", None, "cannot be the name"),
        ("a'b", None, "cannot be the name"),
        ("ci", WALL - 1, "would have expired already"),
        ("ci", WALL, "would have expired already"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    file: Path, name: str, expires: float | None, because: str
) -> None:
    """And no file is made for it."""
    with pytest.raises(Misuse, match=because):
        add_token(file, name, AccessRole.VIEWER, wall=WALL, expires=expires)
    assert not file.exists()


def test_the_nearest_role_is_named() -> None:
    """Whoever writes it wrong sees what was meant, and all there are."""
    assert role_named("auditor") is AccessRole.AUDITOR
    with pytest.raises(Misuse, match=r"no role 'veiwer' \(did you mean 'viewer'\?\)"):
        role_named("veiwer")


def test_the_file_is_bounded_and_forgets_what_opens_nothing(file: Path) -> None:
    """The oldest of those goes; where all are in force, none is forgotten."""
    made = [
        make_token(f"t{n}", AccessRole.VIEWER, random=n.to_bytes(38), created=n)[0]
        for n in range(TOKENS_MOST)
    ]
    numbered = [replace(token, id=f"{n:012x}") for n, token in enumerate(made)]
    file.parent.mkdir()
    write_tokens(file, numbered)
    with pytest.raises(Misuse, match="1000 tokens in force, which is the most"):
        add_token(file, "one more", AccessRole.VIEWER, wall=WALL)
    revoke_token(file, numbered[7].id, WALL)
    token, _ = add_token(file, "one more", AccessRole.VIEWER, wall=WALL)
    kept = read_tokens(file)
    assert (len(kept), kept[-1], numbered[7].id in {one.id for one in kept}) == (
        TOKENS_MOST,
        token,
        False,
    )
