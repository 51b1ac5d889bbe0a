"""Leases between the threads of one process."""

import threading
from typing import final

from typing_extensions import override

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.store import lease as decide
from shipworthy.store.lease import Lease, LeaseRow
from shipworthy.store.port import Leases


@final
class MemoryLeases(Leases):
    """Leases that live as long as this object; for any number of threads."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._rows: dict[str, LeaseRow] = {}
        self._lock = threading.Lock()

    @override
    def take(self, name: str, *, holder: str, seconds: float) -> Lease | None:
        with self._lock:
            row = decide.take(
                self._rows.get(name),
                name=name,
                holder=holder,
                now_microseconds=self._now(),
                seconds=seconds,
            )
            if row is None:
                return None
            self._rows[name] = row
            return Lease(name=name, holder=holder, token=row.token)

    @override
    def renew(self, lease: Lease, *, seconds: float) -> bool:
        with self._lock:
            return self._put(
                decide.renew(
                    self._rows.get(lease.name),
                    lease,
                    now_microseconds=self._now(),
                    seconds=seconds,
                )
            )

    @override
    def give_back(self, lease: Lease) -> bool:
        with self._lock:
            return self._put(decide.give_back(self._rows.get(lease.name), lease))

    @override
    def look(self, name: str) -> LeaseRow | None:
        with self._lock:
            return self._rows.get(name)

    def _put(self, row: LeaseRow | None) -> bool:
        if row is not None:
            self._rows[row.name] = row
        return row is not None

    def _now(self) -> int:
        return int(self._clock.now() * 1_000_000)
