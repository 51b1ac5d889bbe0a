"""What is final becomes a batch, once, whole, and under the lease."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import OperationalError

from audit.ledger.trail import KEY, ORDERS, PEOPLE, Trail
from shipworthy.audit.ledger.keys import SigningKeyMissing
from shipworthy.audit.ledger.note import Checkpoint, Note, PrivateKey
from shipworthy.audit.ledger.seal import LEASE, LedgerBroken, Sealer
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, ENTRIES, META, PERSONAL
from shipworthy.store import LeaseLost

pytestmark = pytest.mark.slow


def verified(trail: Trail):
    with trail.engine.connect() as connection:
        return verify(connection, trusted=[KEY.public])


def rows(trail: Trail, table: sa.Table) -> list[sa.Row]:
    with trail.engine.connect() as connection:
        return list(connection.execute(sa.select(table)).all())


def test_all_that_is_final_is_sealed_and_verifies(trail):
    """In batches of at most so many entries, and again there is nothing to do."""
    trail.write(5)
    batches = trail.seal(entries=4)
    sizes = [one.header.entries for one in batches]
    assert (sum(sizes), max(sizes)) == (15, 4)
    assert [one.header.number for one in batches] == list(range(1, len(batches) + 1))
    if trail.engine.dialect.name != "postgresql":  # where others on the server may hold it up
        assert sizes == [4, 4, 4, 3]
        assert [one.full for one in batches] == [True, True, True, False]
    assert trail.seal() == []

    report = verified(trail)
    assert report.findings == []
    assert (report.rows, report.batches, report.unsealed) == (15, 4, 0)


def test_what_is_not_committed_is_not_sealed_and_nothing_is_passed_over(trail):
    """A transaction that is older than what is sealed meanwhile gets its entries sealed later."""
    slow = trail.engine.connect()
    slow.execute(sa.insert(PEOPLE).values(id=100, name="slow"))
    if trail.engine.dialect.name == "sqlite":  # where one writes, the others do not
        with pytest.raises(OperationalError, match="locked"):
            trail.seal()
    else:
        trail.write(2)
        trail.seal(wait=False)
    slow.commit()
    slow.close()
    trail.write(2, first=10)
    trail.seal()

    report = verified(trail)
    assert report.findings == []
    assert report.unsealed == 0
    assert report.rows == len(rows(trail, ENTRIES))


def test_what_was_rolled_back_leaves_no_false_alarm(trail):
    trail.write(1)
    with trail.engine.connect() as connection:
        connection.execute(sa.insert(ORDERS).values(id=50, person_id=1))
        connection.rollback()
    trail.write(1, first=2)
    trail.seal()
    trail.write(1, first=3)
    trail.seal()
    assert verified(trail).findings == []


def test_a_batch_is_sealed_without_entries_when_it_has_its_turn(trail):
    """So that an end that was cut off shows by its time."""
    trail.write(1)
    before = len(trail.seal())
    trail.clock.advance(60)
    sealer = trail.sealer()
    with trail.lease() as lease:
        assert sealer.seal(lease) is None
        beat = sealer.seal(lease, beat=True)
    assert beat is not None
    assert beat.header.entries == 0
    assert beat.header.number == before + 1
    assert verified(trail).findings == []


def test_a_clock_that_went_back_does_not_take_the_batches_with_it(sqlite_trail):
    trail = sqlite_trail
    trail.write(1)
    (first,) = trail.seal()
    trail.clock = type(trail.clock)(wall=first.header.at_microseconds / 1_000_000 - 3600)
    trail.write(1, first=2)
    (second,) = trail.seal()
    assert second.header.at_microseconds == first.header.at_microseconds
    assert verified(trail).findings == []


def test_personal_values_get_a_commitment_which_outlives_them(trail):
    """Erasure empties salt and value, and all that was sealed still verifies."""
    trail.write(2)
    trail.seal()
    cells = rows(trail, PERSONAL)
    assert len(cells) == 6
    assert all(len(cell.commitment) == 64 for cell in cells)
    with trail.engine.begin() as connection:
        connection.execute(sa.update(PERSONAL).values(salt=None, value=None))

    report = verified(trail)
    assert report.findings == []
    assert report.erased == 6


def test_a_batch_is_bounded_by_what_it_reads_too(sqlite_trail):
    """One entry at least, however large."""
    sqlite_trail.write(3)
    batches = sqlite_trail.seal(bytes=1)
    assert [one.header.entries for one in batches] == [1] * 9
    assert verified(sqlite_trail).findings == []


def test_two_who_seal_make_one_log(trail):
    """Who lost the lease meanwhile writes nothing, and goes on where the other ended."""
    trail.write(2)
    slept = trail.sealer()
    with trail.lease() as lost:
        assert slept.seal(lost, beat=True) is not None
    trail.write(2, first=10)
    trail.seal()
    trail.write(2, first=20)
    with pytest.raises(LeaseLost):
        slept.seal(lost, beat=True)
    before = len(rows(trail, BATCHES))

    with trail.lease() as lease:
        assert slept.seal(lease, beat=True).header.number == before + 1
    assert verified(trail).findings == []


@pytest.mark.parametrize(
    "at", ["shipworthy_leases", "audit_batches", "audit_personal", "audit_checkpoints"]
)
def test_a_sealer_that_dies_at_any_step_leaves_all_of_a_batch_or_nothing(sqlite_trail, at):
    """And the next one goes on from there."""
    trail = sqlite_trail
    trail.write(2)
    sealer = trail.sealer()

    def die(connection, cursor, statement, *rest):
        if at in statement and not statement.startswith("SELECT"):
            raise KeyboardInterrupt

    with trail.lease() as lease:
        sa_event.listen(trail.engine, "before_cursor_execute", die)
        with pytest.raises(KeyboardInterrupt):
            sealer.seal(lease)
        sa_event.remove(trail.engine, "before_cursor_execute", die)
    assert rows(trail, BATCHES) == rows(trail, CHECKPOINTS) == []

    assert len(trail.seal()) == 1
    assert verified(trail).findings == []


def test_the_checkpoint_is_a_note_that_others_can_read(sqlite_trail):
    sqlite_trail.write(1)
    (sealed,) = sqlite_trail.seal()
    (row,) = rows(sqlite_trail, CHECKPOINTS)
    note = Note.parse(row.note)
    assert KEY.public.signed(note)
    assert Checkpoint.of(note).size == sealed.header.number == 1
    assert Checkpoint.of(note).root.hex() == row.root


def test_nothing_is_sealed_without_the_key_and_the_sentence_says_the_way_on(sqlite_trail):
    sqlite_trail.write(1)
    for key, what in (
        (None, "there is no signing key"),
        (PrivateKey.generate("a"), "the key here is"),
    ):
        with pytest.raises(
            SigningKeyMissing, match=rf"{what}.*is signed with .*`shipworthy audit key new --lost`"
        ):
            sqlite_trail.seal(key)
    assert rows(sqlite_trail, BATCHES) == []


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (
            sa.update(BATCHES)
            .where(BATCHES.c.number == 2)
            .values(header=sa.func.replace(BATCHES.c.header, '"late":0', '"late":1')),
            "are not those",
        ),
        (sa.update(BATCHES).where(BATCHES.c.number == 2).values(header="{}"), "cannot be read"),
        (sa.delete(BATCHES).where(BATCHES.c.number == 2), "there are 1 batches and 2 are signed"),
        (sa.delete(CHECKPOINTS), "there are 2 batches and none is signed"),
        (sa.update(CHECKPOINTS).values(note="nothing"), "checkpoint of 2 batches cannot be read"),
    ],
)  # fmt: skip
def test_nothing_is_sealed_on_top_of_what_was_changed(sqlite_trail, change, because):
    """What was sealed must be what was signed, or the change would be signed with it."""
    sqlite_trail.write(2)
    sqlite_trail.seal(entries=3)
    sqlite_trail.write(1, first=5)
    sqlite_trail.execute(change)
    with pytest.raises(LedgerBroken, match=because):
        sqlite_trail.seal()


def test_a_change_of_an_older_batch_is_not_signed_by_what_is_sealed_after_it(sqlite_trail):
    """The sealer goes on from the tree that was signed: put back, the log is whole."""
    sqlite_trail.write(2)
    sqlite_trail.seal(entries=2)
    first = rows(sqlite_trail, BATCHES)[0]
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.update(BATCHES).where(BATCHES.c.number == 1).values(header="{}"))
    sqlite_trail.write(1, first=5)
    sqlite_trail.seal()
    assert verified(sqlite_trail).findings[0].batch == 1
    whole = sa.update(BATCHES).where(BATCHES.c.number == 1).values(header=first.header)
    sqlite_trail.execute(whole)
    assert verified(sqlite_trail).findings == []


def test_a_sealer_begins_with_the_last_batch_and_not_with_all(sqlite_trail):
    """What is kept for it need not be right: the signed root says whether it is."""
    sqlite_trail.write(3)
    sqlite_trail.seal(entries=1)
    read = []

    def note(_connection, _cursor, statement, parameters, *_):
        if "batches.header" in statement and "LIMIT" in statement:
            read.append(parameters[0])

    sa.event.listen(sqlite_trail.engine, "before_cursor_execute", note)
    sqlite_trail.write(1, first=10)
    sqlite_trail.seal()
    assert read[0] == 8  # of nine
    for number, wrong in enumerate(("no", "[3,[]]", '[2,["00","00"]]', "[0,[]]")):
        sqlite_trail.execute(
            sa.update(META).where(META.c.name == "ledger.tree").values(value=wrong)
        )
        sqlite_trail.write(1, first=20 + number)
        sqlite_trail.seal()
    assert verified(sqlite_trail).findings == []


def test_a_database_that_was_moved_to_a_server_with_lower_numbers_is_said(
    postgres_url, monkeypatch
):
    """What is written there stands before the end of the log, and no sealer would come by."""
    trail = Trail(postgres_url)
    try:
        trail.install()
        trail.write(1)
        trail.seal()
        monkeypatch.setattr(type(trail.dialect), "horizon", lambda self, connection: 3)
        with pytest.raises(LedgerBroken, match="moved to another server"):
            trail.seal(wait=False)
    finally:
        trail.close()


def test_a_log_signed_with_a_strange_key_is_not_gone_on_with(sqlite_trail):
    sqlite_trail.write(1)
    sqlite_trail.seal()
    (row,) = rows(sqlite_trail, CHECKPOINTS)
    forged = Checkpoint.of(Note.parse(row.note)).signed_by([PrivateKey.generate("a")])
    sqlite_trail.execute(sa.update(CHECKPOINTS).values(note=str(forged)))
    with pytest.raises(LedgerBroken, match="signed by no key of this log"):
        sqlite_trail.seal()


def test_what_is_not_sealed_is_counted_and_has_an_age(trail):
    sealer = trail.sealer()
    assert sealer.unsealed().entries == 0
    trail.write(2)
    with trail.engine.connect() as connection:
        oldest = connection.scalar(sa.select(sa.func.min(ENTRIES.c.at_microseconds)))
    trail.clock.advance(oldest / 1_000_000 - trail.clock.wall() + 90)
    assert sealer.unsealed().entries == 6
    assert sealer.unsealed().oldest_seconds == pytest.approx(90, abs=0.001)
    trail.seal()
    sealer.forget()
    assert sealer.unsealed().entries == 0


def test_triggers_that_are_taken_away_are_in_the_next_batch(trail):
    """Though no entry comes of what is done without them."""
    trail.write(1)
    before = trail.seal()[-1]
    trail.uncaptured()
    after = trail.seal()[-1]
    assert after.header.entries == 0
    assert after.header.coverage != before.header.coverage


def test_the_lease_is_the_one_that_all_sealers_know(sqlite_trail):
    assert sqlite_trail.leases.look(LEASE) is None
    sqlite_trail.seal()
    assert sqlite_trail.leases.look(LEASE).token == 1
    assert isinstance(sqlite_trail.sealer(), Sealer)
