"""Blocks in which flagged rows are seen, or really deleted; of the caller's own context.

A block is kept in a context variable and never on a session or a connection: another request that
gets the same one from its pool is not in the block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_seen: Final[ContextVar[bool]] = ContextVar("shipworthy_deleted_rows_seen", default=False)
_removed: Final[ContextVar[bool]] = ContextVar("shipworthy_rows_removed", default=False)


@contextmanager
def include_deleted() -> Iterator[None]:
    """See flagged rows too, inside the block, in this task or thread alone.

    An object that was loaded here can be refreshed outside; what it refers to is filtered there.
    """
    before = _seen.set(True)
    try:
        yield
    finally:
        _seen.reset(before)


@contextmanager
def really_delete() -> Iterator[None]:
    """Have a DELETE inside the block remove the rows, whether they are flagged or not."""
    before = _removed.set(True)
    try:
        yield
    finally:
        _removed.reset(before)


def sees_deleted() -> bool:
    """Return whether the caller is in a block of `include_deleted`."""
    return _seen.get()


def removes() -> bool:
    """Return whether the caller is in a block of `really_delete`."""
    return _removed.get()
