"""The tokens in a file of our own: written whole or not at all, and read only where it is sound.

It is a file and no table because the operations port must let an operator in when the database is
away. Who may write the file may make tokens, so one that others may write is not believed.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from shipworthy.access.role import AccessRole
from shipworthy.access.token import Token, is_name
from shipworthy.errors import Misuse

VERSION: Final = 1
TOKENS_MOST: Final = 1000
# A token takes some 250 bytes.
_BYTES_MOST: Final = 1024 * 1024
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_FIELDS: Final = frozenset(Token.__dataclass_fields__)
_HEX: Final = frozenset("0123456789abcdef")


class TokensUnusable(Misuse):
    """The file of tokens cannot be read, written or believed; the message says why."""


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file; none where there is no file.

    Raises `TokensUnusable` where the file is not one of ours, whole and written by its owner alone.
    """
    text = _read(path)
    if text is None:
        return ()
    try:
        return _tokens_of(orjson.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise TokensUnusable(
            f"{path} is no file of tokens: {error}; put back the last good one, or take it "
            "away and make the tokens anew"
        ) from error


def read_used(path: Path) -> dict[str, int]:
    """Return the minute each token was last used in; none where that is not known."""
    try:
        found = orjson.loads(_used_file(path).read_bytes()[:_BYTES_MOST])
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: minute for key, minute in found.items() if isinstance(minute, int)}


def write_tokens(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file by one with these tokens; raises `TokensUnusable`, and then it is as was."""
    document = {"version": VERSION, "tokens": list(tokens)}
    try:
        _replace(path, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def write_used(path: Path, used: Mapping[str, int]) -> None:
    """Note beside the file when its tokens were last used; raises `OSError`."""
    _replace(_used_file(path), orjson.dumps(used))


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Let nobody else change the file in the block, on this machine."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def signature_of(path: Path) -> tuple[int, int, int, int] | None:
    """Return what changes whenever the file does; None where there is none. Raises `OSError`."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    # A change of mode leaves the other three as they are, and heals a file that was not believed.
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_BYTES_MOST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TokensUnusable(f"{path} cannot be read: {error.strerror}") from error
    if mode & _OTHERS_MAY_WRITE:
        raise TokensUnusable(
            f"{path} may be written by others than its owner, who could make tokens in it: "
            f"chmod 600 {path}"
        )
    if len(text) > _BYTES_MOST:
        raise TokensUnusable(f"{path} is longer than {_BYTES_MOST} bytes, so it is no file of ours")
    return text


def _tokens_of(document: Any) -> tuple[Token, ...]:
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    tokens = tuple(map(_token_of, document["tokens"]))
    if len({token.id for token in tokens}) < len(tokens):
        raise ValueError("it has an id twice")
    if len(tokens) > TOKENS_MOST:
        raise ValueError(f"it has more than {TOKENS_MOST} tokens")
    return tokens


def _token_of(facts: Any) -> Token:
    if not isinstance(facts, dict) or set(facts) != _FIELDS:
        raise ValueError(f"a token has the fields {', '.join(sorted(_FIELDS))}")
    number, hashed = facts["id"], facts["secret_sha256"]
    if not (_is_hex(number, 12) and _is_hex(hashed, 64)):
        raise ValueError("a token has an id of 12 and a hash of 64 hexadecimal digits")
    if not (isinstance(facts["name"], str) and is_name(facts["name"])):
        raise ValueError(f"the token {number} has no name that a token may have")
    times = (facts["created"], facts["expires"], facts["revoked"])
    if times[0] is None or any(type(time) not in (int, type(None)) for time in times):
        raise ValueError(f"the token {number} has a time that is no number of seconds")
    return Token(**{**facts, "role": AccessRole(facts["role"])})


def _is_hex(text: object, length: int) -> bool:
    return isinstance(text, str) and len(text) == length and set(text) <= _HEX


def _used_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.used")


def _unwritable(path: Path, error: OSError) -> TokensUnusable:
    return TokensUnusable(
        f"{path} cannot be written: {error.strerror}; let the directory be writable for who runs "
        "this, or name another file in access.tokens_file"
    )


def _replace(path: Path, text: bytes) -> None:
    """Write beside the file and take its place, so that a reader sees the old or the new."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    # A file of that name is left from a process that was killed, and has our id by chance.
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
