"""Trust in a key goes on to those that it vouches for, and no further than it signed itself."""

import sys

import pytest
import sqlalchemy as sa

from shipworthy.audit.ledger.batch import BatchHeader
from shipworthy.audit.ledger.believed import believed_keys, counts
from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.keys import KnownKey, add_key
from shipworthy.audit.ledger.note import Checkpoint, PrivateKey
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, META

ORIGIN = "shipworthy.audit/test"
FIRST, SECOND, THIRD, STRANGER = (PrivateKey(ORIGIN, bytes([seed] * 32)) for seed in range(4))
FOREVER = sys.maxsize


@pytest.fixture
def connection():
    """A log whose first key was replaced at batch 3, and the second at batch 5."""
    engine = sa.create_engine("sqlite://")
    for table in (META, BATCHES, CHECKPOINTS):
        table.create(engine)
    with engine.begin() as connection:
        add_key(connection, KnownKey(public=FIRST.public, since=1, vouched=True))
        turn(connection, 3, FIRST, SECOND)
        turn(connection, 5, SECOND, THIRD)
        yield connection
    engine.dispose()


def signed(size, *keys):
    """Return a checkpoint of that size with a signature of each key."""
    return Checkpoint(origin=ORIGIN, size=size, root=bytes(32)).signed_by(keys)


def turn(connection, number, old, new):
    """Have `new` follow `old` in that batch, as the sealer writes it."""
    add_key(connection, KnownKey(public=new.public, since=number, vouched=True))
    header = BatchHeader(
        number=number,
        after=(0, 0),
        to=(0, 0),
        entries=0,
        late=0,
        root="0" * 64,
        leaves="0" * 64,
        previous="0" * 64,
        at_microseconds=number,
        coverage="",
        token=1,
        says={"key": str(new.public)},
    )
    connection.execute(
        sa.insert(BATCHES).values(
            number=number,
            after_position=0,
            to_position=0,
            entries=0,
            root=header.root,
            header=header.text,
            at_microseconds=number,
        )
    )
    keep(connection, number, signed(number, old, new))


def keep(connection, size, note):
    """Add a checkpoint to those of the database."""
    connection.execute(
        sa.insert(CHECKPOINTS).values(
            size=size, root="0" * 64, note=str(note), at_microseconds=size
        )
    )


def believed(connection, *trusted, external=()):
    """Return what comes of trusting those keys, and the notes for whoever verifies."""
    report = VerifyReport()
    keys = [one.public for one in trusted]
    return believed_keys(connection, report, keys, external), report.notes


def test_a_checkpoint_counts_up_to_the_last_batch_of_a_key_that_signed_it():
    """Another key's end does not matter, and a signature of nobody known counts for nothing."""
    until_three = {FIRST.public: 3, SECOND.public: FOREVER}

    assert counts(signed(3, FIRST), 3, until_three)
    assert not counts(signed(4, FIRST), 4, until_three)
    assert counts(signed(4, FIRST, SECOND), 4, until_three)
    assert not counts(signed(1, STRANGER), 1, until_three)
    assert not counts(signed(1, FIRST), 1, {})


def test_who_names_no_key_believes_the_database_and_is_told_so(connection):
    """Whoever owns it could have written other keys there."""
    found, [note] = believed(connection)

    assert found == dict.fromkeys([FIRST.public, SECOND.public, THIRD.public], FOREVER)
    assert note.startswith("the keys are those that the database names")


def test_who_trusts_the_first_key_believes_each_that_followed(connection):
    """Over two turns."""
    found, notes = believed(connection, FIRST)

    assert found == dict.fromkeys([FIRST.public, SECOND.public, THIRD.public], FOREVER)
    assert notes == []


def test_who_trusts_the_last_key_believes_those_before_it_until_they_were_replaced(connection):
    """What they sign later is signed by who has got hold of them."""
    found, notes = believed(connection, THIRD)

    assert found == {THIRD.public: FOREVER, SECOND.public: 5, FIRST.public: 3}
    assert notes == []


def test_a_key_that_only_the_database_names_is_not_believed(connection):
    """It signed a checkpoint, and nobody who is trusted signed that with it."""
    add_key(connection, KnownKey(public=STRANGER.public, since=7, vouched=True))
    keep(connection, 7, signed(7, STRANGER))

    found, _ = believed(connection, FIRST)

    assert STRANGER.public not in found


def test_a_key_that_was_replaced_vouches_for_nobody_after_its_end(connection):
    """Whoever stole the first key cannot have it call the next."""
    turn(connection, 7, FIRST, STRANGER)

    found, _ = believed(connection, THIRD)

    assert found[FIRST.public] == 3
    assert STRANGER.public not in found


def test_a_turn_that_the_database_lost_is_found_in_what_was_kept_elsewhere(connection):
    """The note of an anchor does as well."""
    connection.execute(sa.delete(CHECKPOINTS).where(CHECKPOINTS.c.size == 3))
    assert believed(connection, FIRST)[0] == {FIRST.public: FOREVER}

    found, _ = believed(connection, FIRST, external=[signed(3, FIRST, SECOND)])

    assert set(found) == {FIRST.public, SECOND.public, THIRD.public}


def test_what_cannot_be_read_vouches_for_nobody_and_stops_nobody(connection):
    """Those who look at the checkpoints name it."""
    connection.execute(sa.update(CHECKPOINTS).where(CHECKPOINTS.c.size == 5).values(note="torn"))

    found, _ = believed(connection, FIRST)

    assert set(found) == {FIRST.public, SECOND.public}


def test_a_key_that_came_because_the_other_was_lost_is_told(connection):
    """Nobody vouched for it; whoever verifies has to know from elsewhere that it is good."""
    add_key(connection, KnownKey(public=STRANGER.public, since=9, vouched=False))

    found, [note] = believed(connection, THIRD)

    assert STRANGER.public not in found
    assert note.startswith(f"the key {STRANGER.public.key_id.hex()} signs since batch 9")
