"""What processes share: leases, which give one of them a piece of work, and buckets of requests.

A lease is held until an instant by the clock of the store, and its token grows with every new
holder: what is written names the token, so a holder that slept through its end cannot write as if
it still held it.

Not here: who needs a lease (the sealer in `audit`), our other tables (`db`), and locks that live as
long as a database session does (`db.migrate`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipworthy.store.bucket import (
        EXACT_MOST,
        Algorithm,
        Ask,
        Buckets,
        BucketsUnavailable,
        Quota,
        Taken,
    )
    from shipworthy.store.bucket_memory import BucketStatistics, MemoryBuckets
    from shipworthy.store.bucket_open import open_buckets
    from shipworthy.store.hold import HeldLease, LeaseBusy, LeaseLost, hold_lease
    from shipworthy.store.lease import Lease, LeaseRow
    from shipworthy.store.memory import MemoryLeases
    from shipworthy.store.port import Leases
    from shipworthy.store.sql import SqlLeases
    from shipworthy.store.tables import BUCKETS, LEASES, STORE_TABLES

__all__ = [
    "BUCKETS",
    "EXACT_MOST",
    "LEASES",
    "STORE_TABLES",
    "Algorithm",
    "Ask",
    "BucketStatistics",
    "Buckets",
    "BucketsUnavailable",
    "HeldLease",
    "Lease",
    "LeaseBusy",
    "LeaseLost",
    "LeaseRow",
    "Leases",
    "MemoryBuckets",
    "MemoryLeases",
    "Quota",
    "SqlLeases",
    "Taken",
    "hold_lease",
    "open_buckets",
]

_OFFERED = {
    "bucket": ("EXACT_MOST", "Algorithm", "Ask", "Buckets", "BucketsUnavailable", "Quota", "Taken"),
    "bucket_memory": ("BucketStatistics", "MemoryBuckets"),
    "bucket_open": ("open_buckets",),
    "hold": ("HeldLease", "LeaseBusy", "LeaseLost", "hold_lease"),
    "lease": ("Lease", "LeaseRow"),
    "memory": ("MemoryLeases",),
    "port": ("Leases",),
    "sql": ("SqlLeases",),
    "tables": ("BUCKETS", "LEASES", "STORE_TABLES"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _OFFERED.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
