"""Work under a lease: wait for it within bounds, keep it, and give it back."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import final

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.context import deadline_scope
from shipworthy.errors import ShipworthyError
from shipworthy.store.lease import HOLDER_CHARACTERS, Lease, LeaseRow
from shipworthy.store.port import Leases

# How often one who waits asks again; the wait is bounded by whoever waits.
ASK_SECONDS = 0.1
# How long it is tried to give one back.
GIVE_BACK_SECONDS = 0.5


@final
class LeaseBusy(ShipworthyError):
    """Another one holds the lease, and went on holding it for as long as was waited."""

    def __init__(self, name: str, row: LeaseRow | None, *, waited_seconds: float) -> None:
        self.name = name
        self.holder = "" if row is None else row.holder
        super().__init__(
            f"the lease '{name}' is held by {self.holder or 'another'}; waited "
            f"{waited_seconds:g} s for it: let that one end, or wait longer"
        )


@final
class LeaseLost(ShipworthyError):
    """The lease is another's by now, so what was to be written under it is not."""

    def __init__(self, lease: Lease, row: LeaseRow | None) -> None:
        self.lease = lease
        whose = "is gone from its table" if row is None else f"is with {row.holder} now"
        given = "" if row is None else f", the last one given is {row.token}"
        super().__init__(
            f"the lease '{lease.name}' was taken with token {lease.token} and {whose}{given}; "
            f"nothing is written under the old one: take it again"
        )


@final
class HeldLease:
    """A lease while its block runs; one thread uses it.

    What is left of it is counted on this process's own clock from before it was asked for: so it
    ends here before it ends in the store, whatever the two clocks say.
    """

    def __init__(
        self, leases: Leases, lease: Lease, *, seconds: float, asked_at: float, clock: Clock
    ) -> None:
        self._leases = leases
        self._seconds = seconds
        self._until = asked_at + seconds
        self._clock = clock
        self.lease = lease

    @property
    def token(self) -> int:
        """The number to write under; greater than that of every holder before."""
        return self.lease.token

    def left_seconds(self) -> float:
        """Return how long it is surely still held; 0 when that is not sure any more."""
        return max(0.0, self._until - self._clock.now())

    def renew(self) -> None:
        """Hold it for its whole length from now on; raises `LeaseLost` where it is another's."""
        asked_at = self._clock.now()
        if not self._leases.renew(self.lease, seconds=self._seconds):
            self._until = asked_at
            raise LeaseLost(self.lease, self._leases.look(self.lease.name))
        self._until = asked_at + self._seconds

    def keep(self) -> None:
        """Renew it once half of it is over; cheap before."""
        if self.left_seconds() < self._seconds / 2:
            self.renew()


@contextmanager
def hold_lease(
    leases: Leases,
    name: str,
    *,
    seconds: float,
    wait_seconds: float = 0.0,
    holder: str = "",
    clock: Clock = SYSTEM_CLOCK,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[HeldLease]:
    """Hold the lease for the block, and give it back after it.

    Waits at most `wait_seconds` for another to end, then raises `LeaseBusy`. It does not renew
    itself: a block that hangs is to lose it. Who works longer than `seconds` calls `keep` between
    its steps.
    """
    holder = holder or holder_here()
    give_up = clock.now() + wait_seconds
    while True:
        asked_at = clock.now()
        lease = leases.take(name, holder=holder, seconds=seconds)
        if lease is not None:
            break
        left = give_up - clock.now()
        if left <= 0:
            raise LeaseBusy(name, leases.look(name), waited_seconds=wait_seconds)
        wait(min(ASK_SECONDS, left))
    held = HeldLease(leases, lease, seconds=seconds, asked_at=asked_at, clock=clock)
    try:
        yield held
    finally:
        # It ends by itself as well: whoever leaves does not wait for long to say so.
        with deadline_scope(SYSTEM_CLOCK.now() + GIVE_BACK_SECONDS):
            leases.give_back(lease)


def holder_here() -> str:
    """Return a name for whoever asks now: the machine, the process, and a number of its own."""
    place = f"{socket.gethostname()}:{os.getpid()}"
    return f"{place[: HOLDER_CHARACTERS - 9]}:{token_hex(4)}"
