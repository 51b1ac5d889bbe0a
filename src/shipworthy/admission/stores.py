"""Where buckets are kept, by the settings of the limits: the one place that knows every store."""

from pathlib import Path
from typing import Final, Literal

from shipworthy.store import Buckets, MemoryBuckets

StorePlace = Literal["auto", "memory", "file", "database", "redis"]
REDIS_KINDS: Final = frozenset({"redis", "rediss", "valkey", "valkeys"})
SHARED: Final = frozenset({"file", "database", "redis"})


def store_of(place: StorePlace, *, workers: int = 1) -> StorePlace:
    """Return where the counts are with so many workers: a file as soon as there are several."""
    if place != "auto":
        return place
    return "memory" if workers == 1 else "file"


def open_buckets(place: StorePlace, *, url: str = "", folder: str = "", keys_most: int) -> Buckets:
    """Return the buckets at that place; connects to nothing yet.

    `url` is of a database or of Redis, `folder` where the file is. Raises `Misuse` for what is not
    installed, and `BucketsUnavailable` for a file that cannot be used.
    """
    if place == "file":
        from shipworthy.store import open_buckets as opened

        return opened("sqlite:", folder=Path(folder), keys_most=keys_most)
    if place in SHARED:
        from shipworthy.store import open_buckets as opened

        return opened(url, keys_most=keys_most)
    return MemoryBuckets(keys_most)


def is_shared(place: str) -> bool:
    """Say whether all processes count together there."""
    return place in SHARED
