"""Where the signing key comes from, which keys the log knows, and how one follows another.

A key is made at install and lies in a file that only its owner reads, or comes from the settings
(`SHIPWORTHY_LEDGER__KEY`, or the file that `SHIPWORTHY_LEDGER__KEY_FILE` names). The database has
only the public halves: they check what was signed with keys that are gone.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Self, final

import sqlalchemy as sa

from shipworthy.audit.ledger.note import NoteInvalid, PrivateKey, PublicKey
from shipworthy.audit.tables import BATCHES, META
from shipworthy.errors import ShipworthyError

ORIGIN: Final = "ledger.origin"
CURRENT: Final = "ledger.current_key"
_KEY: Final = "ledger.key."
_OWNER_ONLY: Final = 0o600
_KEY_BYTES: Final = 4096


@final
class SigningKeyMissing(ShipworthyError):
    """There is no signing key, or it is not the one that signs this log."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key as the log knows it: `since` is the batch it signs from.

    `vouched`: the key before it signed its coming. One that came because the other was lost is not.
    """

    public: PublicKey
    since: int
    vouched: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what is kept; raises `NoteInvalid`."""
        try:
            facts = json.loads(text)
            public, since, vouched = facts["public"], int(facts["since"]), bool(facts["vouched"])
        except (ValueError, TypeError, KeyError):
            raise NoteInvalid("a key in the database is not written the way keys are") from None
        return cls(public=PublicKey.parse(public), since=since, vouched=vouched)

    @property
    def text(self) -> str:
        """Return it as it is kept."""
        facts = {"public": str(self.public), "since": self.since, "vouched": self.vouched}
        return json.dumps(facts, separators=(",", ":"))


def make_key(path: Path, name: str) -> PrivateKey:
    """Make a key and write it to `path`, which must not be there, for its owner's eyes only.

    Raises `SigningKeyMissing` where it cannot be written.
    """
    key = PrivateKey.generate(name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY)
    except FileExistsError:
        raise SigningKeyMissing(
            f"{path} is there already and is not overwritten: it may be the key of another log; "
            f"name another file"
        ) from None
    except OSError as error:
        raise SigningKeyMissing(
            f"the signing key cannot be written to {path}: {error.strerror}"
        ) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(key.reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise SigningKeyMissing(
            f"the signing key cannot be written to {path}: {error.strerror}"
        ) from None
    return key


def read_key(path: Path) -> PrivateKey:
    """Read the key in `path`; raises `SigningKeyMissing` where there is none, or it is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(_KEY_BYTES)
        return PrivateKey.parse(raw.decode())
    except OSError as error:
        raise SigningKeyMissing(
            f"the signing key {path} cannot be read: {error.strerror}"
        ) from None
    except (NoteInvalid, UnicodeDecodeError) as error:
        raise SigningKeyMissing(f"{path} holds no signing key: {error}") from None


def find_key(text: str, path: Path | None) -> PrivateKey | None:
    """Return the key of the settings, `text` before `path`; None where neither is there."""
    if text:
        try:
            return PrivateKey.parse(text)
        except NoteInvalid as error:
            raise SigningKeyMissing(f"ledger.key (SHIPWORTHY_LEDGER__KEY): {error}") from None
    if path is not None and path.exists():
        return read_key(path)
    return None


def open_to_others(path: Path) -> bool:
    """Say whether others than its owner may read the file."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def new_origin() -> str:
    """Return a name for a new log, which is its keys' name too."""
    return f"shipworthy.audit/{token_hex(8)}"


def origin_of(connection: sa.Connection) -> str | None:
    """Return the name of the log in this database; None before it has one."""
    return _get(connection, ORIGIN)


def begin_log(connection: sa.Connection, public: PublicKey, origin: str = "") -> None:
    """Note the log's name and its first key, where there is none yet; the caller commits.

    The name is that of the key, unless the key may be that of another log too.
    """
    if origin_of(connection) is None:
        _put(connection, ORIGIN, origin or public.name)
        add_key(connection, KnownKey(public=public, since=1, vouched=True))


def current_id(connection: sa.Connection) -> str:
    """Return the id of the key that signs now, '' before there is a log."""
    return _get(connection, CURRENT) or ""


def last_batch(connection: sa.Connection) -> int:
    """Return the number of the last batch that was sealed; 0 before the first."""
    return int(connection.scalar(sa.select(sa.func.max(BATCHES.c.number))) or 0)


def add_key(connection: sa.Connection, known: KnownKey) -> None:
    """Note a key as the one that signs from now on; the caller commits."""
    key_id = known.public.key_id.hex()
    _put(connection, _KEY + key_id, known.text)
    _put(connection, CURRENT, key_id)


def known_keys(connection: sa.Connection) -> dict[str, KnownKey]:
    """Return the keys that the database names, by id; one that cannot be read is left out."""
    rows = connection.execute(
        sa.select(META.c.name, META.c.value).where(META.c.name.like(_KEY + "%"))
    )
    found = {}
    for name, value in rows:
        with suppress(NoteInvalid):  # its signatures then are of no known key, which is said
            found[name.removeprefix(_KEY)] = KnownKey.parse(value)
    return found


def check_signs(
    connection: sa.Connection, key: PrivateKey | None, *, path: Path | None
) -> PrivateKey:
    """Return `key` if it signs this log; else `SigningKeyMissing` says what to do."""
    current = _get(connection, CURRENT)
    if current is None:
        raise SigningKeyMissing(
            "this database has no log to sign yet; run `shipworthy audit install` there"
        )
    if key is not None and key.public.key_id.hex() == current:
        return key
    where = "SHIPWORTHY_LEDGER__KEY" if path is None else f"{path}, or in SHIPWORTHY_LEDGER__KEY"
    what = (
        "there is no signing key" if key is None else f"the key here is {key.public.key_id.hex()}"
    )
    raise SigningKeyMissing(
        f"{what}, and this log is signed with {current}: put that one in {where}; where it is "
        f"lost, `shipworthy audit key new --lost` goes on with a new one, and what was sealed "
        f"before can still be verified"
    )


def _get(connection: sa.Connection, name: str) -> str | None:
    value: Any = connection.execute(sa.select(META.c.value).where(META.c.name == name)).scalar()
    return None if value is None else str(value)


def _put(connection: sa.Connection, name: str, value: str) -> None:
    changed = connection.execute(sa.update(META).where(META.c.name == name).values(value=value))
    if not changed.rowcount:
        connection.execute(sa.insert(META).values(name=name, value=value))
