"""Whatever is done to what was sealed shows, and nothing shows where nothing was done."""

import shutil
import threading

import pytest
import sqlalchemy as sa

from audit.ledger.tampering import CONTEXT_WAYS, WAYS
from audit.ledger.trail import KEY, ORDERS, PEOPLE, Trail
from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.note import PrivateKey
from shipworthy.audit.ledger.proof import ProofInvalid, check_proof
from shipworthy.audit.ledger.prove import prove
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, CONTEXTS, ENTRIES, META, PERSONAL
from shipworthy.store import LEASES

pytestmark = pytest.mark.slow


def verified(trail: Trail, **options):
    with trail.engine.connect() as connection:
        return verify(connection, **({"trusted": [KEY.public]} | options))


def test_every_way_to_tamper_is_found_and_named(trail):
    """Each in a transaction that is rolled back, so each is alone."""
    trail.write(5)
    trail.seal(entries=4)
    assert verified(trail).findings == []
    trail.unguarded()
    with trail.engine.connect() as connection:
        contexts = connection.scalar(sa.select(sa.func.count()).select_from(CONTEXTS))
    ways = WAYS | (CONTEXT_WAYS if contexts else {})
    assert len(ways) >= 40

    wrong = {}
    for name, (tamper, expected) in ways.items():
        with trail.engine.connect() as connection:
            tamper(connection)
            report = verify(connection, trusted=[KEY.public])
            connection.rollback()
        if not expected & set(report.found):
            wrong[name] = dict(report.found)
    assert wrong == {}
    assert verified(trail).findings == []


def test_the_entry_that_was_changed_is_the_one_that_is_named(trail):
    """And no other."""
    trail.write(5)
    trail.seal(entries=4)
    trail.unguarded()
    with trail.engine.connect() as connection:
        order = connection.scalars(
            sa.select(ENTRIES.c.seq).order_by(ENTRIES.c.position, ENTRIES.c.seq)
        ).all()
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == order[5]).values(op="T"))
    trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == order[9]))
    findings = verified(trail).findings
    assert [(it.kind, it.seq) for it in findings] == [
        ("entry changed", order[5]),
        ("entry removed", order[9]),
    ]
    assert findings[0].because.startswith(f"entry {order[5]} of batch {findings[0].batch} is not")


def reseal(trail: Trail, key: PrivateKey) -> None:
    """Seal all of it again from the beginning, consistently, as if the log had always been so."""
    with trail.engine.begin() as connection:
        connection.execute(sa.delete(BATCHES))
        connection.execute(sa.delete(CHECKPOINTS))
        connection.execute(sa.update(LEASES).values(token=0, until_microseconds=0))
        if key is not KEY:
            keys.add_key(connection, keys.KnownKey(public=key.public, since=1, vouched=True))
    trail.seal(key, entries=4)


def test_a_log_that_was_sealed_again_without_the_key_is_found_by_the_key(sqlite_trail):
    """The database agrees with itself, but the key in it is another."""
    trail = sqlite_trail
    trail.write(5)
    trail.seal(entries=4)
    trail.unguarded()
    trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 7))
    reseal(trail, PrivateKey.generate(KEY.public.name))
    assert set(verified(trail).found) == {"checkpoint of an unknown key"}

    believing = verified(trail, trusted=())
    assert believing.ok
    assert "the keys are those that the database names" in believing.notes[-1]


def test_a_log_that_was_sealed_again_with_the_key_is_found_by_a_checkpoint_kept_outside(
    sqlite_trail,
):
    """Nothing in the database could show it."""
    trail = sqlite_trail
    trail.write(5)
    kept = [one.note for one in trail.seal(entries=4)]
    trail.unguarded()
    trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 7))
    reseal(trail, KEY)
    assert verified(trail).ok

    report = verified(trail, external=kept[-1:])
    assert set(report.found) == {"log rewritten"}
    assert "kept outside of 4 batches" in report.findings[0].because


def test_an_older_copy_of_the_database_is_found_by_a_checkpoint_kept_outside(
    sqlite_trail, tmp_path
):
    trail = sqlite_trail
    trail.write(2)
    trail.seal()
    trail.engine.dispose()
    shutil.copy(tmp_path / "app.db", tmp_path / "older.db")
    trail.write(2, first=10)
    kept = trail.seal()[-1].note
    trail.engine.dispose()
    shutil.copy(tmp_path / "older.db", tmp_path / "app.db")
    assert verified(trail).ok

    report = verified(trail, external=[kept])
    assert set(report.found) == {"log cut"}
    assert "is of 2 batches and there are 1" in report.findings[0].because


def test_a_checkpoint_of_another_log_or_of_nothing_is_said(sqlite_trail):
    trail = sqlite_trail
    trail.write(1)
    (sealed,) = trail.seal()
    other = PrivateKey("shipworthy.audit/other", bytes(32))
    note = type(sealed.note).signed_by(sealed.note.text.replace("test", "other", 1), [other])
    assert set(verified(trail, external=[note]).found) == {"another log"}
    nothing = type(sealed.note).signed_by("nothing\n", [KEY])
    assert set(verified(trail, external=[nothing]).found) == {"checkpoint changed"}
    forged = type(sealed.note).signed_by(sealed.note.text, [other])
    assert set(verified(trail, external=[forged]).found) == {"checkpoint of an unknown key"}


def test_a_batch_that_is_older_than_the_one_before_is_found(sqlite_trail):
    """Sealed so with the key: the sealer itself never does that."""
    trail = sqlite_trail
    trail.write(1)
    trail.seal()
    trail.write(1, first=2)
    sealer = trail.sealer()
    with trail.lease() as lease:
        assert sealer.seal(lease) is not None
    log = sealer._log
    log.header = type(log.header)(
        **{
            name: getattr(log.header, name)
            for name in log.header.__slots__
            if name != "at_microseconds"
        },
        at_microseconds=1,
    )
    trail.clock = type(trail.clock)(wall=1000)
    sealer._clock = trail.clock
    trail.write(1, first=3)
    with trail.lease() as lease:
        sealer.seal(lease)
    assert set(verified(trail).found) == {"time went back"}


def test_a_log_without_a_name_is_no_empty_one_where_a_checkpoint_was_kept(sqlite_trail):
    """Not even where everything else of the ledger went with it."""
    sqlite_trail.write(1)
    [sealed] = sqlite_trail.seal()
    sqlite_trail.unguarded()
    for table in (META, BATCHES, CHECKPOINTS, ENTRIES):
        sqlite_trail.execute(sa.delete(table))
    assert verified(sqlite_trail, external=[sealed.note]).found == {"log cut": 1}


def test_a_value_whose_beginning_was_moved_into_its_salt_is_found(sqlite_trail):
    """A commitment is of salt, colon and value: the value must not be cut at its own colon."""
    with sqlite_trail.engine.begin() as connection:
        connection.execute(sa.insert(PEOPLE).values(id=1, name="a", email="do not pay:tpay"))
    sqlite_trail.seal()
    sqlite_trail.unguarded()
    cut = {"salt": PERSONAL.c.salt + ":tdo not pay", "value": "tpay"}
    sqlite_trail.execute(sa.update(PERSONAL).values(**cut))
    report = verified(sqlite_trail)
    assert report.found == {"personal value changed": 1}
    with sqlite_trail.engine.connect() as connection:
        proof = prove(connection, 1, openings=True)
    with pytest.raises(ProofInvalid, match="not the one that was sealed"):
        check_proof(proof, [KEY.public])


def test_an_empty_database_has_nothing_to_verify(sqlite_trail):
    sqlite_trail.execute(sa.delete(META).where(META.c.name == keys.ORIGIN))
    report = verified(sqlite_trail)
    assert report.ok
    assert report.notes == ["nothing was ever sealed here: the log has no name and no key"]


def test_what_is_not_sealed_yet_is_counted_and_no_finding(trail):
    trail.write(1)
    trail.seal()
    trail.write(2, first=5)
    report = verified(trail)
    assert report.findings == []
    assert report.unsealed == 6


@pytest.mark.timeout(180)
def test_nothing_is_found_while_many_write_roll_back_and_seal(trail):
    """In 50,000 entries by eight writers: some roll back, some are slow, one seals."""
    alone = trail.engine.dialect.name == "sqlite"
    if alone:  # one writer at a time there, and here the others do wait
        trail = Trail(trail.url, connect_args={"timeout": 30})
    writers, turns = (1, 15) if alone else (8, 15)
    rows = 50_000 // (writers * turns * 2 // 3) - 1
    done, sealed = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(turns):
                with trail.engine.connect() as connection:
                    key = number * 1000 + turn
                    connection.execute(sa.insert(PEOPLE).values(id=key, name="p", email="e"))
                    connection.execute(_many_orders(key, rows))
                    if turn % 5 == number % 5 and not alone:
                        # Open while others' entries, later than these, are sealed.
                        sealed.clear()
                        sealed.wait(1)
                    if turn % 3 == number % 3:
                        connection.rollback()
                    else:
                        connection.commit()
        except BaseException as error:
            failed.append(error)

    def seal() -> None:
        try:
            while not done.is_set():
                trail.seal(wait=False, entries=1000)
                sealed.set()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, writers + 1)]
    threads.append(threading.Thread(target=seal))
    for thread in threads:
        thread.start()
    found = []
    while any(thread.is_alive() for thread in threads[:writers]):
        found += verified(trail).findings
    done.set()
    for thread in threads:
        thread.join()
    trail.seal(entries=1000)
    report = verified(trail)
    assert (failed, found, report.findings) == ([], [], [])
    assert report.unsealed == 0
    assert report.rows == writers * (turns * 2 // 3) * (1 + rows) >= 49_900
    if alone:
        trail.close()


def _many_orders(person: int, rows: int) -> sa.Insert:
    """Return one statement that inserts so many orders of a person."""
    numbers = sa.select(sa.literal(0).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number < rows - 1))
    many = sa.select(numbers.c.number + person * 10_000, sa.literal(person), numbers.c.number)
    return sa.insert(ORDERS).from_select(["id", "person_id", "total"], many)
