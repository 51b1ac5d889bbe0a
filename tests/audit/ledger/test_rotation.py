"""A log gets its first key, another one, and goes on when one was lost."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import APP, SETTINGS, Trail
from shipworthy.audit import install
from shipworthy.audit.ledger.keys import (
    SigningKeyMissing,
    find_key,
    known_keys,
    make_key,
    open_to_others,
    origin_of,
)
from shipworthy.audit.ledger.note import Checkpoint, Note, PrivateKey
from shipworthy.audit.ledger.rotation import begin_ledger, replace_lost_key, rotate_key
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.tables import CHECKPOINTS
from shipworthy.errors import Misuse
from shipworthy.settings import Secret

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path):
    return LedgerSettings(key_path=str(tmp_path / "audit.key"))


@pytest.fixture
def trail(tmp_path):
    """A trail whose log has no name and no key yet."""
    trail = Trail(f"sqlite:///{tmp_path}/app.db")
    with trail.engine.begin() as connection:
        APP.create_all(connection)
    with trail.engine.begin() as connection:
        install(connection, SETTINGS)
    yield trail
    trail.close()


def key_of(settings):
    from pathlib import Path

    return find_key(settings.key.reveal(), Path(settings.key_path))


def verified(trail, *trusted):
    with trail.engine.connect() as connection:
        return verify(connection, trusted=trusted)


def test_the_first_key_is_made_for_its_owner_alone_and_once(trail, settings, tmp_path):
    said = begin_ledger(trail.engine, settings)
    assert len(said) == 2
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    assert not open_to_others(tmp_path / "audit.key")
    assert begin_ledger(trail.engine, settings) == []
    trail.write(1)
    assert len(trail.seal(key_of(settings))) == 1
    assert verified(trail, key_of(settings).public).ok


def test_a_key_of_the_settings_is_taken_as_it_is(trail, tmp_path):
    """But the log has a name of its own: another database may be given the same key."""
    key = PrivateKey.generate("shipworthy.audit/given")
    settings = LedgerSettings(key=Secret(key.reveal()), key_path=str(tmp_path / "none"))
    [said] = begin_ledger(trail.engine, settings)
    assert said.endswith(f"its public key {key.public}")
    with trail.engine.connect() as connection:
        assert origin_of(connection) not in {None, key.public.name}
    assert not (tmp_path / "none").exists()
    with pytest.raises(Misuse, match="cannot be replaced from here"):
        rotate_key(trail.engine, settings)


def test_at_a_rotation_both_keys_sign_so_who_trusts_either_trusts_the_log(
    trail, settings, tmp_path
):
    begin_ledger(trail.engine, settings)
    old = key_of(settings)
    trail.write(1)
    trail.seal(old)
    rotate_key(trail.engine, settings)
    new = key_of(settings)
    assert new.public != old.public
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    trail.write(1, first=5)
    with pytest.raises(SigningKeyMissing, match="this log is signed with"):
        trail.seal(old)
    trail.seal(new)
    for key in (old, new):
        report = verified(trail, key.public)
        assert (report.findings, report.notes) == ([], [])
    assert not verified(trail, PrivateKey.generate("a").public).ok


def test_a_key_that_was_replaced_signs_nothing_after_its_end(trail, settings):
    """It may have been replaced because somebody got hold of it."""
    begin_ledger(trail.engine, settings)
    old = key_of(settings)
    trail.write(1)
    trail.seal(old)
    rotate_key(trail.engine, settings)
    new = key_of(settings)
    trail.write(1, first=2)
    trail.seal(new)
    with trail.engine.begin() as connection:
        assert verify(connection, trusted=[new.public]).findings == []
        size, text = connection.execute(
            sa.select(CHECKPOINTS.c.size, CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size.desc())
        ).first()
        forged = Checkpoint.of(Note.parse(text)).signed_by([old])
        connection.execute(
            sa.update(CHECKPOINTS).where(CHECKPOINTS.c.size == size).values(note=str(forged))
        )
        assert verify(connection, trusted=[new.public]).found == {"checkpoint of an unknown key": 1}


def test_a_sealer_that_has_the_old_key_in_its_hands_stops_at_a_rotation(trail, settings):
    """It would sign on top of what the new one signs."""
    begin_ledger(trail.engine, settings)
    sealer = trail.sealer(key_of(settings))
    trail.write(1)
    with trail.lease() as lease:
        sealer.seal(lease)
    rotate_key(trail.engine, settings)
    sealer._log = None
    trail.write(1, first=5)
    with trail.lease() as lease, pytest.raises(SigningKeyMissing):
        sealer.seal(lease)


def test_a_rotation_that_was_interrupted_is_ended_by_the_next(trail, settings, tmp_path):
    """With the key that it made."""
    begin_ledger(trail.engine, settings)
    ahead = make_key(tmp_path / "audit.key.next", key_of(settings).public.name)
    assert rotate_key(trail.engine, settings) == ahead.public
    assert key_of(settings).public == ahead.public
    assert not (tmp_path / "audit.key.next").exists()


@pytest.mark.parametrize("renamed", [False, True])
def test_a_rotation_that_was_interrupted_before_its_files_were_renamed_is_ended_by_the_next(
    trail, settings, tmp_path, renamed
):
    """The log has the new key already, which lies beside its place, whose old file may be gone."""
    begin_ledger(trail.engine, settings)
    place, ahead, before = (tmp_path / f"audit.key{end}" for end in ("", ".next", ".old"))
    new = rotate_key(trail.engine, settings)
    place.rename(ahead)
    if not renamed:
        before.rename(place)
    with pytest.raises(Misuse, match=r"not lost: it is in .*audit\.key\.next"):
        replace_lost_key(trail.engine, settings)

    assert rotate_key(trail.engine, settings) == new

    assert key_of(settings).public == new
    assert (ahead.exists(), before.exists()) == (False, True)
    trail.write(1)
    trail.seal(key_of(settings))
    assert verified(trail, new).findings == []


def test_a_lost_key_is_replaced_and_whoever_verifies_is_told(trail, settings, tmp_path):
    """What the old one signed is still what it was."""
    begin_ledger(trail.engine, settings)
    old = key_of(settings)
    trail.write(1)
    trail.seal(old)
    with pytest.raises(Misuse, match=r"is not lost: it is in .*audit\.key"):
        replace_lost_key(trail.engine, settings)
    (tmp_path / "audit.key").unlink()
    with pytest.raises(SigningKeyMissing, match="there is no signing key"):
        rotate_key(trail.engine, settings)

    new = replace_lost_key(trail.engine, settings)
    trail.write(1, first=5)
    trail.seal(key_of(settings))
    report = verified(trail, new)
    assert report.findings == []
    assert "was vouched for by no other: the one before it was lost" in report.notes[0]
    assert "1 checkpoints are signed by a key that only the database names" in report.notes[1]
    assert set(verified(trail, old.public).found) == {"checkpoint of an unknown key"}
    with trail.engine.connect() as connection:
        assert [it.vouched for it in known_keys(connection).values()].count(False) == 1


def test_there_is_nothing_to_replace_without_a_log(trail, settings):
    with pytest.raises(Misuse, match="there is no log here"):
        replace_lost_key(trail.engine, settings)
    with pytest.raises(SigningKeyMissing, match="no log to sign yet"):
        rotate_key(trail.engine, settings)


def test_a_database_that_says_nonsense_of_keys_is_no_reason_to_fail(trail, settings):
    begin_ledger(trail.engine, settings)
    from shipworthy.audit.tables import META

    trail.execute(sa.insert(META).values(name="ledger.key.00000000", value="{}"))
    with trail.engine.connect() as connection:
        assert len(known_keys(connection)) == 1
