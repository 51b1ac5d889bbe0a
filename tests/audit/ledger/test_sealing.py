"""The service seals by itself: one worker of all, whatever fails, and says how it goes."""

import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY, ORDERS, PEOPLE, Trail
from shipworthy.audit.ledger.anchors import CheckpointSigned, file_anchor, tell
from shipworthy.audit.ledger.figures import FIGURES, SEALED, SealFigures, ledger_metrics
from shipworthy.audit.ledger.keys import SigningKeyMissing, make_key
from shipworthy.audit.ledger.note import read_notes
from shipworthy.audit.ledger.seal import LEASE, Sealer
from shipworthy.audit.ledger.sealing import (
    ABSENT_SECONDS,
    LOOK_SECONDS,
    AnchorFailed,
    CoverageMoved,
    HorizonHeld,
    NothingToSeal,
    RecheckFailed,
    SealFailed,
    Sealing,
    SealingResumed,
    SealRhythm,
    TamperingFound,
)
from shipworthy.audit.ledger.service import SealKeyOpen, sealing_of
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.shown import AUDIT_SHOWN
from shipworthy.audit.tables import BATCHES, ENTRIES
from shipworthy.events import Alert, listen
from shipworthy.settings import Secret
from shipworthy.telemetry import History, Registry, holds

pytestmark = pytest.mark.slow

QUICK = SealRhythm(interval_seconds=0.02, heartbeat_seconds=3600, anchor_seconds=0.0)


def until(fact, what):
    """Wait for a fact, for at most so long."""
    give_up = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < give_up, f"{what} did not come"
        time.sleep(0.01)


@pytest.fixture
def heard():
    kinds = (SealFailed, SealingResumed, HorizonHeld, CoverageMoved, AnchorFailed, SealKeyOpen)
    facts = []
    stop = listen(facts.append, CheckpointSigned, *kinds)
    yield facts
    stop()


def sealing(trail: Trail, *, key=KEY, **options) -> Sealing:
    return Sealing(
        lambda: sa.create_engine(trail.url),
        lambda engine: Sealer(engine, key, clock=trail.clock),
        **({"rhythm": QUICK} | options),
    )


def batches(trail: Trail) -> int:
    with trail.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(BATCHES))


def verified(trail: Trail):
    with trail.engine.connect() as connection:
        return verify(connection, trusted=[KEY.public])


def test_what_is_new_is_sealed_by_itself_and_the_last_of_it_at_the_stop(trail):
    run = sealing(trail)
    run.start()
    trail.write(2)
    until(lambda: run.figures.entries.total() == 6, "the seal")
    assert run.figures.sealing
    trail.write(2, first=10)
    assert run.stop(seconds=10)
    until(lambda: run.figures.entries.total() == 12 or trail.seal(), "the rest")
    assert not run.figures.sealing
    assert run.figures.unsealed.entries == 0 or trail.engine.dialect.name == "postgresql"
    assert verified(trail).findings == []


def test_what_is_deleted_is_counted_though_nobody_looks_into_the_trash(trail):
    """With one statement by anybody: who seals reads each row that went, and counts it."""
    trail.write(3)
    trail.execute(sa.delete(PEOPLE).where(PEOPLE.c.id < 3))
    run = sealing(trail)
    run.start()
    until(lambda: run.figures.entries.total() == 11, "the seal")
    assert run.stop(seconds=10)
    assert run.figures.entries == {"insert": 6, "update": 3, "delete": 2}


def test_of_two_workers_one_seals_and_the_other_goes_on_when_it_ends(trail):
    first, second = sealing(trail), sealing(trail)
    first.start()
    until(lambda: first.figures.sealing, "the first")
    assert second._turn() == LOOK_SECONDS
    assert first.stop(seconds=10)
    second.start()
    trail.write(1)
    until(lambda: second.figures.entries.total() == 3, "the seal of the second")
    assert second.stop(seconds=10)
    assert verified(trail).findings == []


def test_a_worker_that_waits_looks_by_one_engine_and_at_the_lease_alone(trail):
    """It looks every few seconds for as long as the service runs; the key is read when it seals."""
    engines, sealers, said = [], [], []

    def connect():
        engines.append(engine := sa.create_engine(trail.url))
        sa.event.listen(engine, "connect", lambda *_: said.append("connected"))
        sa.event.listen(engine, "before_cursor_execute", lambda *it: said.append(it[2]))
        return engine

    def sealer_of(engine):
        sealers.append(sealer := Sealer(engine, KEY, clock=trail.clock))
        return sealer

    run = Sealing(connect, sealer_of, rhythm=QUICK)
    with trail.lease():
        assert run._turn() == LOOK_SECONDS
        said.clear()
        assert [run._turn() for _ in range(3)] == [LOOK_SECONDS] * 3
    assert (len(engines), len(sealers), "connected" in said) == (1, 0, False)
    assert len(said) <= 9  # the lease, the time, whose it is

    trail.write(1)
    run.stop(seconds=0)
    until(lambda: run._turn() == 0.0 and run.figures.entries.total() == 3, "the seal")
    assert verified(trail).findings == []


def test_a_trail_that_was_taken_away_while_a_worker_waited_is_not_said(sqlite_trail, heard):
    """It looks again whether there is one, and is quiet where there is none."""
    run = sealing_of(LedgerSettings(), sqlite_trail.url)
    with sqlite_trail.lease():
        assert run._turn() == LOOK_SECONDS
    sqlite_trail.execute(sa.text("DROP TABLE shipworthy_leases"))
    assert run._turn() == 0.0
    assert run._turn() == ABSENT_SECONDS
    assert heard == []


def test_a_sealer_that_was_killed_is_followed_when_its_lease_has_run_out(trail):
    """It left its lease behind, and perhaps a batch; the next one takes a greater token."""
    lease = trail.leases.take(LEASE, holder="killed", seconds=0.3)
    run = sealing(trail)
    assert run._turn() == LOOK_SECONDS
    trail.write(1)
    until(lambda: trail.leases.look(LEASE).until_microseconds / 1e6 < time.time(), "the end")
    run.start()
    until(lambda: run.figures.entries.total() == 3, "the seal")
    assert run.stop(seconds=10)
    assert trail.leases.look(LEASE).token > lease.token
    assert verified(trail).findings == []


def test_where_the_disk_is_full_it_is_said_and_all_is_sealed_later(sqlite_trail, heard):
    """SQLite is told that its file may not grow; then it may again."""
    trail = sqlite_trail
    with trail.engine.begin() as connection:
        connection.execute(sa.insert(ORDERS), [{"id": it, "person_id": 1} for it in range(1, 2000)])
    full = [True]

    def connect():
        engine = sa.create_engine(trail.url)

        @sa.event.listens_for(engine, "connect")
        def small(connection, record):
            if full[0]:
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count={pages}")

        return engine

    run = Sealing(connect, lambda engine: Sealer(engine, KEY, clock=trail.clock), rhythm=QUICK)
    assert run._turn() == 1.0
    assert run._turn() == 2.0
    assert batches(trail) == 0
    assert [(it.reason, it.again_seconds) for it in heard] == [("storage", 1.0), ("storage", 2.0)]
    assert "full" in heard[0].because
    assert run.figures.failures == {"storage": 2}

    full[0] = False
    run.stop(seconds=0)
    assert run._turn() == 0.0
    assert type(heard[-1]) is SealingResumed
    assert (batches(trail), run.figures.entries.total()) == (1, 1999)
    assert verified(trail).findings == []


def test_an_entry_that_is_changed_while_the_service_runs_is_found_and_somebody_is_woken(trail):
    """Nobody verifies by hand: who seals looks over what is sealed, and the alert on it holds."""
    (broken,) = (one for one in AUDIT_SHOWN if isinstance(one, Alert) and one.name == "TrailBroken")
    facts: list[TamperingFound] = []
    stop = listen(facts.append, TamperingFound)
    trail.write(3)
    run = sealing(trail, rhythm=replace(QUICK, recheck_entries=1000), figures=FIGURES)

    def wakes() -> bool:
        registry, history = Registry(), History()
        for metric, read in ledger_metrics():
            add = registry.gauge if metric.kind == "gauge" else registry.running_total
            add(metric, read=read)
        history.add(registry.snapshot(), at=0.0, wall=0.0)
        return bool(holds(broken.when, history, 0.0))

    run.start()
    before = FIGURES.rechecked_total
    until(lambda: FIGURES.rechecked_total >= before + 9, "a look over all of it")
    assert not wakes()
    trail.unguarded()
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 5).values(op="D"))
    until(wakes, "the alert")
    assert run.stop(seconds=10)
    stop()
    FIGURES.tampered = 0
    assert [(it.finding, it.seq) for it in facts] == [("entry changed", 5)]


def test_what_a_sealer_found_stands_until_the_next_has_come_to_it(sqlite_trail):
    """A lease that is lost for a moment ends no alert; a whole round that finds nothing does."""
    trail = sqlite_trail
    trail.write(4)
    trail.seal(entries=4)
    trail.unguarded()
    was = trail.engine.connect().scalar(sa.select(ENTRIES.c.op).where(ENTRIES.c.seq == 10))
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 10).values(op="D"))
    run = sealing(trail, rhythm=replace(QUICK, recheck_entries=4))
    first, second = (Sealer(trail.engine, KEY, clock=trail.clock) for _ in range(2))

    def found(sealer: Sealer) -> int:
        run._recheck_at = float("-inf")
        run._recheck(sealer)
        return run.figures.tampered

    assert [found(first) for _ in range(3)] == [0, 0, 1]
    assert found(second) == 1
    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 10).values(op=was))
    assert [found(second) for _ in range(3)] == [1, 0, 0]


def test_what_cannot_be_looked_over_is_said_and_holds_up_no_seal(sqlite_trail):
    """The look reads more than the seal, so it may fail alone."""
    facts: list[RecheckFailed] = []
    stop = listen(facts.append, RecheckFailed)
    sqlite_trail.write(1)
    sqlite_trail.execute(sa.text("DROP TABLE shipworthy_audit_archives"))
    run = sealing(sqlite_trail)
    run.start()
    until(lambda: facts, "the failure")
    sqlite_trail.write(1, first=10)
    until(lambda: run.figures.entries.total() == 6, "the seal")
    assert run.stop(seconds=10)
    stop()
    assert [(it.held_back, "archives" in it.because) for it in facts] == [(0, True)]


def test_without_a_key_it_is_said_what_to_do_and_tried_again(sqlite_trail, heard):
    sqlite_trail.write(1)
    run = sealing(sqlite_trail, key=None)
    assert run._turn() == 1.0
    assert heard[0].reason == "no key"
    assert "`shipworthy audit key new --lost`" in heard[0].because


def test_what_was_changed_is_said_and_not_sealed_on(sqlite_trail, heard):
    sqlite_trail.write(1)
    sqlite_trail.seal()
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.update(BATCHES).values(header="{}"))
    run = sealing(sqlite_trail)
    assert run._turn() == 1.0
    assert heard[0].reason == "broken"


def test_an_error_that_nobody_foresaw_ends_no_thread(heard):
    def connect():
        raise ZeroDivisionError("of the test")

    run = Sealing(connect, lambda engine: Sealer(engine, KEY))
    assert run._turn() == 1.0
    assert (heard[0].reason, heard[0].because) == ("other", "ZeroDivisionError: of the test")


def test_where_no_trail_is_installed_nothing_is_said(tmp_path, heard):
    """Neither in a database without it nor where there is no file, which is not made."""
    (tmp_path / "empty.db").touch()
    for name in ("empty.db", "none.db"):
        run = sealing_of(LedgerSettings(), f"sqlite:///{tmp_path}/{name}")
        assert run._turn() == ABSENT_SECONDS
    assert heard == []
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(NothingToSeal):
        run._connect()


def test_a_sealer_by_the_settings_seals_and_anchors(sqlite_trail, tmp_path, heard):
    """In a file and in the events; a key that others may read is told."""
    trail = sqlite_trail
    path = tmp_path / "audit.key"
    path.write_text(KEY.reveal())
    path.chmod(0o644)
    settings = LedgerSettings(
        url=Secret(trail.url), key_path=str(path), anchor_path=str(tmp_path / "anchors.txt")
    )
    trail.write(1)
    run = sealing_of(settings, trail.url.replace("sqlite:", "sqlite+aiosqlite:"))
    run.stop(seconds=0)
    before = FIGURES.entries.total()
    assert run._turn() == 0.0
    assert FIGURES.entries.total() == before + 3
    assert [type(it) for it in heard] == [SealKeyOpen, CheckpointSigned]
    kept = read_notes((tmp_path / "anchors.txt").read_text())
    with trail.engine.connect() as connection:
        report = verify(connection, trusted=[KEY.public], external=kept)
    assert (report.findings, report.checkpoints) == ([], 2)


def test_an_anchor_that_fails_is_said_and_holds_up_nothing(sqlite_trail, tmp_path, heard):
    sqlite_trail.write(1)
    run = sealing(sqlite_trail, anchors=[file_anchor(tmp_path / "none" / "file"), tell])
    run.stop(seconds=0)
    run._turn()
    assert [type(it) for it in heard] == [AnchorFailed, CheckpointSigned]
    assert batches(sqlite_trail) == 1


def test_triggers_that_are_others_than_before_are_told(sqlite_trail, heard):
    trail = sqlite_trail
    trail.seal()
    trail.uncaptured()
    run = sealing(trail)
    run.stop(seconds=0)
    run._turn()
    assert [type(it) for it in heard] == [CoverageMoved]


def test_an_old_transaction_that_holds_up_the_seal_is_told_once(sqlite_trail, heard):
    """Told by the age of what is not sealed, whatever the reason."""
    trail = sqlite_trail
    run = sealing(trail)

    class Held:
        class _Unsealed:
            oldest_seconds, entries = 3600.0, 7

        def unsealed(self):
            return self._Unsealed

    run._look(Held())
    run._look(Held())
    assert [(type(it), it.entries) for it in heard] == [(HorizonHeld, 7)]


def test_the_numbers_are_those_of_the_worker_that_seals(monkeypatch):
    """The others know nothing of the lag, and say nothing."""
    figures = SealFigures()
    for name in ("sealing", "unsealed", "entries", "batches_total", "failures"):
        monkeypatch.setattr(FIGURES, name, getattr(figures, name))
    read = {metric.name: reading for metric, reading in ledger_metrics()}
    assert read["shipworthy_audit_seal_lag_seconds"]() == {}
    FIGURES.sealing = True
    assert read["shipworthy_audit_seal_lag_seconds"]() == {(): 0.0}
    assert read["shipworthy_audit_unsealed_entries"]() == {(): 0}
    FIGURES.failures["storage"] += 1
    assert read["shipworthy_audit_seal_failures_total"]()["storage",] == 1
    assert read["shipworthy_audit_sealed_entries_total"]() == SEALED.zeros()
    assert read["shipworthy_audit_sealed_batches_total"]() == {(): 0}


def test_a_key_of_another_log_does_not_seal(sqlite_trail, tmp_path):
    with pytest.raises(SigningKeyMissing, match="this log is signed with"):
        sqlite_trail.seal(make_key(tmp_path / "key", "another"))
