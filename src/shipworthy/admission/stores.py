"""Where buckets are kept, by the setting `limits.store`: the one place that knows every store."""

from shipworthy.errors import Misuse
from shipworthy.store import Buckets, MemoryBuckets

MEMORY = "memory"


def store_problem(url: str) -> str:
    """Return why nothing keeps buckets there, '' where something does; of a URL only its kind."""
    if url == MEMORY:
        return ""
    return f"limits.store: nothing keeps buckets at '{url.partition(':')[0]}'; write memory"


def open_buckets(url: str, *, keys_most: int) -> Buckets:
    """Return the buckets that `limits.store` names; connects to nothing yet.

    Raises `Misuse` for a store that nobody has.
    """
    if url == MEMORY:
        return MemoryBuckets(keys_most)
    raise Misuse(store_problem(url))


def is_shared(url: str) -> bool:
    """Say whether all processes count together there."""
    return url != MEMORY
