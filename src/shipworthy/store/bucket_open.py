"""Open the buckets that a URL names: in memory, in a file of our own, on a server, in Redis."""

from pathlib import Path
from typing import Final

from shipworthy.errors import Misuse
from shipworthy.store.bucket import Buckets
from shipworthy.store.bucket_away import BOUND_SECONDS
from shipworthy.store.dialects.bucket_places import BucketPlace, place_of

# A lock of the file is another process's for as long as the machine lets that one wait, which says
# nothing of the file: some are needed at a stretch.
_FILE_FAILURES: Final = 5


def open_buckets(
    url: str,
    *,
    folder: Path | None = None,
    keys_most: int | None = None,
    bound_seconds: float = BOUND_SECONDS,
) -> Buckets:
    """Return the buckets at `url`; a call of them ends within `bound_seconds`.

    `memory:` is this process alone, which knows at most `keys_most` keys. `sqlite:` is a file in
    `folder`, which is made here, or that of `sqlite:///path`. The others connect when they are
    first asked; what they need is imported here. Raises `Misuse` for a URL that names no store and
    for an extra that is not installed, and `BucketsUnavailable` for a file that cannot be used.
    """
    place = place_of(url)
    if place is BucketPlace.MEMORY:
        from shipworthy.store.bucket_memory import KEYS_MOST, MemoryBuckets

        return MemoryBuckets(keys_most or KEYS_MOST)
    if place is BucketPlace.REDIS:
        from shipworthy.store.redis import RedisBuckets

        return RedisBuckets(url, bound_seconds=bound_seconds)
    from shipworthy.store.bucket_batches import BatchedBuckets

    if place is BucketPlace.FILE:
        from shipworthy.store.bucket_file import FileShelf

        path = _file(url, folder)
        # The first door for whoever finds the lock free, the other for the thread that waits.
        return BatchedBuckets(
            "file",
            FileShelf(path),
            quick=FileShelf(path),
            bound_seconds=bound_seconds,
            failures=_FILE_FAILURES,
        )
    from shipworthy.store.bucket_sql import SqlShelf

    try:
        shelf = SqlShelf(url)
    except ImportError as error:
        raise Misuse(
            f"buckets at '{url.partition(':')[0]}' need a driver that is not installed "
            f"({error.name}): pip install 'shipworthy[postgres]' or 'shipworthy[mariadb]'"
        ) from None
    return BatchedBuckets("sql", shelf, bound_seconds=bound_seconds)


def _file(url: str, folder: Path | None) -> Path:
    from shipworthy.store.bucket_file import FILE_NAME

    path = url.partition(":")[2].removeprefix("//")
    if path.strip("/"):
        # As SQLAlchemy has it: three slashes and a path from here, four and one from the root.
        return Path(path.removeprefix("/"))
    if folder is None:
        raise Misuse(f"'{url}' names no file, and there is no folder for it")
    return folder / FILE_NAME
