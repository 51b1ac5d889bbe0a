"""Sealing as a part of the service: one worker of all seals, in a thread of its own.

Whoever has the lease seals once a second what is new, and something once a minute though nothing
is; the others look whether it is free. Nothing that fails here stops the service, and nothing is
lost by it: what could not be sealed stays in the log and is sealed later. Beside that it looks over
what is sealed, a little at a time.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from shipworthy.audit.ledger.anchors import Anchor
from shipworthy.audit.ledger.figures import BROKEN, NO_KEY, OTHERWISE, SealFigures
from shipworthy.audit.ledger.keys import SigningKeyMissing
from shipworthy.audit.ledger.note import Checkpoint
from shipworthy.audit.ledger.seal import LEASE, LedgerBroken, SealedBatch, Sealer
from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.context import actor
from shipworthy.db import DbPhase, classify
from shipworthy.events import Event, Label, Measure, Seldom, Severity, emit, event
from shipworthy.redact import redact
from shipworthy.resilience import Backoff
from shipworthy.store import HeldLease, LeaseBusy, LeaseLost, SqlLeases, hold_lease

THREAD: Final = "shipworthy-audit-sealer"
LEASE_SECONDS: Final = 15.0
# How often a worker that does not seal looks whether it may.
LOOK_SECONDS: Final = 3.0
# How often it is looked whether the trail was installed meanwhile.
ABSENT_SECONDS: Final = 30.0
# Batches in a row before the lease, the numbers and a stop are looked at again.
_IN_A_ROW: Final = 20
_RECHECK_AGAIN_SECONDS: Final = 60.0
_SAID_AGAIN_SECONDS: Final = 3600.0
BACKOFF: Final = Backoff(base_seconds=1.0, factor=2.0, cap_seconds=60.0)


@event(severity=Severity.ERROR)
class SealFailed(Event):
    """What is new in the log could not be sealed; it stays there and is tried again."""

    reason: Annotated[str, Label]
    because: str
    again_seconds: Annotated[float, Measure]


@event(severity=Severity.INFO)
class SealingResumed(Event):
    """The log is sealed again after failures."""

    failures: Annotated[int, Measure]


@event(severity=Severity.WARNING)
class HorizonHeld(Event):
    """A transaction that stays open keeps entries from being sealed."""

    oldest_seconds: Annotated[float, Measure]
    entries: Annotated[int, Measure]


@event(severity=Severity.WARNING)
class CoverageMoved(Event):
    """The triggers are others than in the batch before; a migration, or somebody took some away."""

    batch: int
    before: str
    after: str


@event(severity=Severity.WARNING)
class AnchorFailed(Event):
    """A checkpoint could not be given to an anchor; the next one is tried again."""

    because: str


@event(severity=Severity.ERROR)
class TamperingFound(Event):
    """Something that was sealed is not as it was; `shipworthy audit verify` looks at the whole."""

    finding: Annotated[str, Label]
    because: str
    batch: int
    seq: int


@event(severity=Severity.WARNING)
class RecheckFailed(Event):
    """What is sealed could not be looked over; it is tried again.

    `held_back` is how often that failed since this was last said.
    """

    because: str
    held_back: Annotated[int, Measure]


@final
class NothingToSeal(Exception):
    """The trail is not installed in the database, so there is nothing to seal; no failure."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SealRhythm:
    """How often what is done, in seconds."""

    interval_seconds: float = 1.0
    heartbeat_seconds: float = 60.0
    held_after_seconds: float = 60.0
    anchor_seconds: float = 60.0
    # Sealed entries a second that are looked at again; 0 for none.
    recheck_entries: int = 100


@final
class Sealing:
    """The thread that seals, from `start` to `stop`; both may be called from anywhere, once.

    `connect` makes the engine that the thread works on, `sealer_of` what seals there, once it may;
    both are called in the thread. The engine is its own and is disposed of by it. A worker that
    waits for its turn keeps it: to look whether the lease is free is all that it does.
    """

    def __init__(
        self,
        connect: Callable[[], sa.Engine],
        sealer_of: Callable[[sa.Engine], Sealer],
        *,
        rhythm: SealRhythm | None = None,
        anchors: Sequence[Anchor] = (),
        figures: SealFigures | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._connect = connect
        self._sealer_of = sealer_of
        self._standby: sa.Engine | None = None
        self._rhythm = rhythm or SealRhythm()
        self._anchors = anchors
        self._clock = clock
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._beaten_at = self._anchored_at = float("-inf")
        self._recheck_at = float("-inf")
        self._told_held = False
        self._seldom = Seldom(_SAID_AGAIN_SECONDS)
        self.figures = figures or SealFigures()

    def start(self) -> None:
        """Begin to seal, now or when another worker ends."""
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def stop(self, *, seconds: float) -> bool:
        """Seal what is there and end; False where it has not within `seconds`."""
        self._leave.set()
        if self._thread is not None:
            self._thread.join(seconds)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        # Leases and batches are nobody's but ours, and not to be counted as nobody's.
        with actor("shipworthy", kind="service"):
            while not self._leave.is_set():
                self._leave.wait(self._turn())
        if self._standby is not None:
            self._standby.dispose()

    def _turn(self) -> float:
        """Seal as long as it goes well; returns how long to wait before the next try."""
        engine, self._standby = self._standby, None
        waited, ours = engine is not None, False
        try:
            engine = engine or self._connect()
            with hold_lease(
                SqlLeases(engine), LEASE, seconds=LEASE_SECONDS, clock=self._clock
            ) as held:
                self.figures.sealing = ours = True
                self._keep_sealing(self._sealer_of(engine), held)
        except LeaseBusy:
            engine, self._standby = None, engine
            return LOOK_SECONDS
        except LeaseLost:
            return LOOK_SECONDS
        except NothingToSeal:
            return ABSENT_SECONDS
        except Exception as error:  # noqa: BLE001 - stated; what is not foreseen ends no worker
            # The trail may have been taken away meanwhile: it is looked for before this is said.
            return 0.0 if waited and not ours else self._failed(error)
        finally:
            self.figures.sealing = False
            if engine is not None:
                engine.dispose()
        return 0.0

    def _keep_sealing(self, sealer: Sealer, held: HeldLease) -> None:
        while True:
            leaving = self._leave.is_set()
            held.keep()
            if not self._seal_some(sealer, held, leaving=leaving):
                continue
            self._look(sealer)
            if leaving:
                return
            self._recheck(sealer)
            self._leave.wait(self._rhythm.interval_seconds)

    def _seal_some(self, sealer: Sealer, held: HeldLease, *, leaving: bool) -> bool:
        """Seal at most some batches; says whether nothing is left to be sealed now."""
        for _ in range(_IN_A_ROW):
            beat = self._clock.now() - self._beaten_at >= self._rhythm.heartbeat_seconds
            sealed = sealer.seal(held.lease, beat=beat and not leaving)
            self._went_well()
            if sealed is None:
                return True
            self._beaten_at = self._clock.now()
            self._count(sealed)
            self._anchor(sealed)
            # What came meanwhile waits for its turn: or many who write would have it never end.
            if not sealed.full:
                return True
        return False

    def _count(self, sealed: SealedBatch) -> None:
        before, header = sealed.before, sealed.header
        self.figures.batches_total += 1
        self.figures.entries.update(sealed.operations)
        if before is not None and before.coverage != header.coverage:
            emit(CoverageMoved, batch=header.number, before=before.coverage, after=header.coverage)

    def _anchor(self, sealed: SealedBatch) -> None:
        now = self._clock.now()
        if now - self._anchored_at < self._rhythm.anchor_seconds:
            return
        self._anchored_at = now
        checkpoint = Checkpoint.of(sealed.note)
        for anchor in self._anchors:
            try:
                anchor(checkpoint, sealed.note)
            except OSError as error:
                emit(AnchorFailed, because=redact(str(error)))

    def _look(self, sealer: Sealer) -> None:
        """Note what is not sealed, and say it once where it has waited for too long."""
        self.figures.unsealed = unsealed = sealer.unsealed()
        held = unsealed.oldest_seconds > self._rhythm.held_after_seconds
        if held and not self._told_held:
            emit(HorizonHeld, oldest_seconds=unsealed.oldest_seconds, entries=unsealed.entries)
        self._told_held = held

    def _recheck(self, sealer: Sealer) -> None:
        """Look over some of what is sealed, no more of it in the mean than it may be a second."""
        rate, now = self._rhythm.recheck_entries, self._clock.now()
        if not rate or now < self._recheck_at:
            return
        try:
            look = sealer.recheck(most=rate)
        except Exception as error:  # noqa: BLE001 - stated; what is new is to be sealed all the same
            self._recheck_at = now + _RECHECK_AGAIN_SECONDS
            held_back = self._seldom.held_back("recheck", now)
            if held_back is not None:
                emit(RecheckFailed, because=_told(error)[1], held_back=held_back)
            return
        self._recheck_at = now + look.read / rate
        self.figures.rechecked_total += look.entries
        # Who has sealed before us may have found what we have not come to yet.
        before = 0 if look.whole else self.figures.tampered
        self.figures.tampered = max(before, look.found)
        for one in look.findings:
            emit(
                TamperingFound,
                finding=one.kind,
                because=one.because,
                batch=one.batch,
                seq=one.seq,
            )

    def _went_well(self) -> None:
        if self._failures:
            emit(SealingResumed, failures=self._failures)
            self._failures = 0

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        reason, because = _told(error)
        again = BACKOFF.ceiling(self._failures)
        self.figures.failures[reason] += 1
        emit(SealFailed, reason=reason, because=because, again_seconds=again)
        return again


def _told(error: Exception) -> tuple[str, str]:
    """Return why sealing failed: in a few words for counting, and in a sentence."""
    if isinstance(error, SigningKeyMissing):
        return NO_KEY, str(error)
    if isinstance(error, LedgerBroken):
        return BROKEN, str(error)
    if isinstance(error, SQLAlchemyError):
        found = classify(error, phase=DbPhase.STATEMENT)
        said = redact(str(getattr(error, "orig", None) or error)).strip().splitlines()
        return str(found.outcome), f"{found.because}: {said[0] if said else 'nothing more is said'}"
    return OTHERWISE, redact(f"{type(error).__name__}: {error}")
