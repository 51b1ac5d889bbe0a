"""The file of tokens: whole, ours alone, and refused where it is not."""

import stat
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from shipworthy.access.keeping import (
    TokenUnknown,
    add_token,
    list_tokens,
    revoke_token,
    role_named,
)
from shipworthy.access.role import Role
from shipworthy.access.token import State, make_token
from shipworthy.access.token_file import (
    TOKENS_MOST,
    TokensUnusable,
    read_tokens,
    read_used,
    write_tokens,
    write_used,
)
from shipworthy.errors import Misuse

WALL = 1_700_000_000.75


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_what_is_written_is_read(file: Path) -> None:
    """By its owner alone; the folder is made, and the secret is not in it."""
    token, shown = add_token(file, "ci", Role.VIEWER, wall=WALL, expires=WALL + 60)
    assert read_tokens(file) == (token,)
    assert (token.created, token.expires) == (1_700_000_000, 1_700_000_060)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert shown.rpartition("_")[2].encode() not in file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "tokens.json",
        "tokens.json.lock",
    ]


def test_without_a_file_there_are_no_tokens(file: Path) -> None:
    """A service may be started before the first token is made."""
    assert (read_tokens(file), read_used(file), list_tokens(file, WALL)) == ((), {}, [])


def test_a_name_is_in_force_once(file: Path) -> None:
    """Who did what is told by it; after the old one was revoked or expired it is free again."""
    first, _ = add_token(file, "ci", Role.VIEWER, wall=WALL)
    with pytest.raises(Misuse, match=f"a token 'ci' already, {first.id}; revoke it"):
        add_token(file, "ci", Role.ADMIN, wall=WALL)
    revoke_token(file, first.id, WALL + 1)
    add_token(file, "ci", Role.ADMIN, wall=WALL + 2, expires=WALL + 3)
    add_token(file, "ci", Role.ADMIN, wall=WALL + 4)
    assert [one.state for one in list_tokens(file, WALL + 4)] == [
        State.REVOKED,
        State.EXPIRED,
        State.IN_FORCE,
    ]


def test_revoking_twice_leaves_the_first_time(file: Path) -> None:
    """And an id that is none is said to be none."""
    token, _ = add_token(file, "ci", Role.VIEWER, wall=WALL)
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
        add_token(file, name, Role.VIEWER, wall=WALL, expires=expires)
    assert not file.exists()


def test_the_nearest_role_is_named() -> None:
    """Whoever writes it wrong sees what was meant, and all there are."""
    assert role_named("auditor") is Role.AUDITOR
    with pytest.raises(Misuse, match=r"no role 'veiwer' \(did you mean 'viewer'\?\)"):
        role_named("veiwer")


def test_the_file_is_bounded_and_forgets_what_opens_nothing(file: Path) -> None:
    """The oldest of those goes; where all are in force, none is forgotten."""
    made = [
        make_token(f"t{n}", Role.VIEWER, random=n.to_bytes(38), created=n)[0]
        for n in range(TOKENS_MOST)
    ]
    numbered = [replace(token, id=f"{n:012x}") for n, token in enumerate(made)]
    file.parent.mkdir()
    write_tokens(file, numbered)
    with pytest.raises(Misuse, match="1000 tokens in force, which is the most"):
        add_token(file, "one more", Role.VIEWER, wall=WALL)
    revoke_token(file, numbered[7].id, WALL)
    token, _ = add_token(file, "one more", Role.VIEWER, wall=WALL)
    kept = read_tokens(file)
    assert (len(kept), kept[-1], numbered[7].id in {one.id for one in kept}) == (
        TOKENS_MOST,
        token,
        False,
    )


GOOD = {
    "id": "0" * 12,
    "name": "ci",
    "role": "viewer",
    "secret_sha256": "0" * 64,
    "created": 1,
    "expires": None,
    "revoked": None,
}


@pytest.mark.parametrize(
    ("document", "because"),
    [
        (b"{", "unexpected end"),
        (b"[]", "not of version 1"),
        ({"version": 2, "tokens": []}, "not of version 1"),
        ({"version": 1}, "tokens"),
        ({"version": 1, "tokens": 5}, "not iterable"),
        ({"version": 1, "tokens": ["x"]}, "a token has the fields"),
        ({"version": 1, "tokens": [GOOD, GOOD]}, "an id twice"),
        ({"version": 1, "tokens": [GOOD | {"more": 1}]}, "a token has the fields"),
        ({"version": 1, "tokens": [GOOD | {"id": "0" * 11}]}, "12 and a hash of 64"),
        ({"version": 1, "tokens": [GOOD | {"secret_sha256": "Z" * 64}]}, "12 and a hash of 64"),
        ({"version": 1, "tokens": [GOOD | {"role": "root"}]}, "'root' is not a valid Role"),
        ({"version": 1, "tokens": [GOOD | {"name": "a\nb"}]}, "no name that a token may have"),
        ({"version": 1, "tokens": [GOOD | {"created": None}]}, "no number of seconds"),
        ({"version": 1, "tokens": [GOOD | {"expires": "soon"}]}, "no number of seconds"),
        ({"version": 1, "tokens": [GOOD | {"revoked": True}]}, "no number of seconds"),
        (
            {"version": 1, "tokens": [GOOD | {"id": f"{n:012x}"} for n in range(TOKENS_MOST + 1)]},
            "more than 1000 tokens",
        ),
    ],
)
def test_a_file_that_is_not_ours_is_refused_whole(
    tmp_path: Path, document: object, because: str
) -> None:
    """Half of the tokens of a spoilt file would be worse than the message that says so."""
    file = tmp_path / "tokens.json"
    file.write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
    file.chmod(0o600)
    with pytest.raises(TokensUnusable, match=f"is no file of tokens: .*{because}"):
        read_tokens(file)
    before = file.read_bytes()
    with pytest.raises(TokensUnusable):
        add_token(file, "ci", Role.ADMIN, wall=WALL)
    assert file.read_bytes() == before


def test_a_file_that_others_may_write_is_not_believed(file: Path) -> None:
    """Whoever may write it could make tokens; it says what to do."""
    add_token(file, "ci", Role.ADMIN, wall=WALL)
    file.chmod(0o620)
    with pytest.raises(TokensUnusable, match=f"chmod 600 {file}"):
        read_tokens(file)


def test_a_file_of_megabytes_is_not_read(tmp_path: Path) -> None:
    """It is no file of ours."""
    file = tmp_path / "tokens.json"
    file.write_bytes(b" " * (1024 * 1024 + 1))
    file.chmod(0o600)
    with pytest.raises(TokensUnusable, match="longer than 1048576 bytes"):
        read_tokens(file)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """One sentence with what to do; nothing of a new file is left."""
    (tmp_path / "plain").write_text("")
    with pytest.raises(TokensUnusable, match=r"cannot be written: .*access\.tokens_file"):
        add_token(tmp_path / "plain" / "tokens.json", "ci", Role.VIEWER, wall=WALL)
    (tmp_path / "taken").mkdir()
    with pytest.raises(TokensUnusable, match="cannot be written: Is a directory"):
        write_tokens(tmp_path / "taken", [])
    with pytest.raises(TokensUnusable, match="cannot be read: Is a directory"):
        read_tokens(tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "taken"]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a": "x", "b": true}', b"\xff"])
def test_when_tokens_were_used_is_no_reason_to_fail(file: Path, text: bytes) -> None:
    """What is spoilt there is not known any more, and that is all."""
    file.parent.mkdir()
    file.with_name("tokens.json.used").write_bytes(text)
    assert "a" not in read_used(file)
    write_used(file, {"a": 60})
    assert read_used(file) == {"a": 60}
