"""The file of tokens: whole, ours alone, and refused where it is not."""

import stat
from pathlib import Path

import orjson
import pytest

from shipworthy.access.keeping import (
    add_token,
    list_tokens,
)
from shipworthy.access.role import AccessRole
from shipworthy.access.token_file import (
    TOKENS_MOST,
    TokensUnusable,
    read_tokens,
    read_used,
    write_tokens,
    write_used,
)

WALL = 1_700_000_000.75


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_what_is_written_is_read(file: Path) -> None:
    """By its owner alone; the folder is made, and the secret is not in it."""
    token, shown = add_token(file, "ci", AccessRole.VIEWER, wall=WALL, expires=WALL + 60)
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
        ({"version": 1, "tokens": [GOOD | {"role": "root"}]}, "'root' is not a valid AccessRole"),
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
        add_token(file, "ci", AccessRole.ADMIN, wall=WALL)
    assert file.read_bytes() == before


def test_a_file_that_others_may_write_is_not_believed(file: Path) -> None:
    """Whoever may write it could make tokens; it says what to do."""
    add_token(file, "ci", AccessRole.ADMIN, wall=WALL)
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
        add_token(tmp_path / "plain" / "tokens.json", "ci", AccessRole.VIEWER, wall=WALL)
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
