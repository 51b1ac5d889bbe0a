"""The first key of a log, another one in its place, and what to do when it is lost.

At a rotation both keys sign the same checkpoint, so whoever trusts one may trust the other. A step
that was interrupted is taken up by the next call: nothing is signed twice by different keys.
"""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.note import PublicKey
from shipworthy.audit.ledger.seal import LEASE, Sealer
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.errors import Misuse
from shipworthy.store import SqlLeases, hold_lease

LEASE_SECONDS: Final = 30.0
WAIT_SECONDS: Final = 30.0


def begin_ledger(engine: sa.Engine, settings: LedgerSettings) -> list[str]:
    """Give the log its name and its first key, where it has none; say what was done.

    The key is that of the settings, else a new one in the file `ledger.key_path`. Raises
    `SigningKeyMissing` where that file cannot be written.
    """
    with engine.connect() as connection:
        if keys.origin_of(connection) is not None:
            return []
    path, said = Path(settings.key_path), []
    key = keys.find_key(settings.key.reveal(), path)
    # Two databases may be given the same key, and must not pass for one another's log.
    origin = keys.new_origin()
    if key is None:
        key = keys.make_key(path, origin)
        said.append(
            f"made the signing key {path}: keep it where the service reads it and no role of the "
            f"database does, and a copy elsewhere"
        )
    with engine.begin() as connection:
        keys.begin_log(connection, key.public, origin)
    said.append(f"the log is {origin}, its public key {key.public}")
    return said


def rotate_key(engine: sa.Engine, settings: LedgerSettings) -> PublicKey:
    """Put a new key in the place of the present one, in the file `ledger.key_path`.

    The old one is needed, and is left beside it, ending in `.old`. Raises `SigningKeyMissing`
    without it, `LeaseBusy` where a sealer goes on for longer than 30 s, `Misuse` where the key is
    in no file.
    """
    path = Path(settings.key_path)
    if settings.key:
        raise Misuse(
            "the signing key is in the settings (ledger.key), where it cannot be replaced from "
            "here: put it into the file ledger.key_path first"
        )
    ahead = _ahead(path)
    made = keys.find_key("", ahead)
    with engine.connect() as connection:
        if made is not None and made.public.key_id.hex() == keys.current_id(connection):
            # Interrupted when the log had it: only the files are left to be renamed.
            return _in_place(path, made.public)
        old = keys.check_signs(connection, keys.find_key("", path), path=path)
        name = keys.origin_of(connection) or ""
    new = made or keys.make_key(ahead, name)
    with hold_lease(
        SqlLeases(engine), LEASE, seconds=LEASE_SECONDS, wait_seconds=WAIT_SECONDS
    ) as held:
        sealed = Sealer(engine, old, key_path=path).seal(
            held.lease, beat=True, says={"key": str(new.public)}, also=[new]
        )
        assert sealed is not None  # a beat always gives one
        with engine.begin() as connection:
            known = keys.KnownKey(public=new.public, since=sealed.header.number, vouched=True)
            keys.add_key(connection, known)
    return _in_place(path, new.public)


def replace_lost_key(engine: sa.Engine, settings: LedgerSettings) -> PublicKey:
    """Go on with a new key though the old one is lost, and have the log say so.

    What was signed can still be verified: the database has the old public key. But nobody vouches
    for the new one, so whoever verifies is told. Raises `Misuse` where the key is there after all.
    """
    path = Path(settings.key_path)
    with engine.connect() as connection:
        name = keys.origin_of(connection)
        if name is None:
            raise Misuse("there is no log here; run `shipworthy audit install` first")
        key = keys.find_key(settings.key.reveal(), path)
        known = keys.known_keys(connection)
        current = keys.current_id(connection)
    made = keys.find_key("", _ahead(path))
    if made is not None and made.public.key_id.hex() == current:
        raise Misuse(
            f"the key of this log is not lost: it is in {_ahead(path)}, where a rotation was "
            f"interrupted; `shipworthy audit key rotate` puts it in its place"
        )
    if key is not None and key.public.key_id.hex() == current:
        raise Misuse(
            f"the key of this log is not lost: it is {_place(settings)}; to replace it use "
            f"`shipworthy audit key rotate`"
        )
    new = key or keys.make_key(path, name)
    with hold_lease(
        SqlLeases(engine), LEASE, seconds=LEASE_SECONDS, wait_seconds=WAIT_SECONDS
    ) as held:
        with engine.begin() as connection:
            since = 1 + keys.last_batch(connection)
            keys.add_key(
                connection,
                keys.KnownKey(public=new.public, since=since, vouched=new.public in _of(known)),
            )
        says = {"key": str(new.public), "lost": current}
        Sealer(engine, new, key_path=path).seal(held.lease, beat=True, says=says)
    return new.public


def _ahead(path: Path) -> Path:
    """Return where a new key lies until it signs."""
    return path.with_name(f"{path.name}.next")


def _in_place(path: Path, public: PublicKey) -> PublicKey:
    """Put the file of the key that signs now in the place of the one before, and return it."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}.old"))
    _ahead(path).rename(path)
    return public


def _of(known: dict[str, keys.KnownKey]) -> list[PublicKey]:
    return [one.public for one in known.values() if one.vouched]


def _place(settings: LedgerSettings) -> str:
    return "in the settings (ledger.key)" if settings.key else f"in {settings.key_path}"
