"""What kind of store a URL names."""

from enum import Enum
from typing import Final

from shipworthy.errors import Misuse


class BucketPlace(Enum):
    """Where buckets are kept."""

    MEMORY = "memory"
    FILE = "file"
    SERVER = "server"
    REDIS = "redis"


_PLACES: Final = {
    "memory": BucketPlace.MEMORY,
    "sqlite": BucketPlace.FILE,
    "postgresql": BucketPlace.SERVER,
    "postgres": BucketPlace.SERVER,
    "mysql": BucketPlace.SERVER,
    "mariadb": BucketPlace.SERVER,
    "redis": BucketPlace.REDIS,
    "rediss": BucketPlace.REDIS,
    "valkey": BucketPlace.REDIS,
    "valkeys": BucketPlace.REDIS,
}


def place_of(url: str) -> BucketPlace:
    """Return what kind of store `url` names; raises `Misuse`, without the rest of the URL."""
    scheme = url.partition(":")[0]
    place = _PLACES.get(scheme.partition("+")[0])
    if place is None:
        raise Misuse(
            f"'{scheme}' names no store of buckets; there is memory:, sqlite:, postgresql://, "
            f"mariadb://, redis:// and valkey://"
        )
    return place
