"""Statements that mean the same in each dialect, and are written differently."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

Statement = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisoryLock:
    """A lock that protects no row: whoever takes it has it until release or end of the session.

    Both statements return one row with one value, which is true when it was done; neither waits.
    """

    take: Statement
    release: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStatus:
    """How to find out what became of a transaction whose COMMIT was lost.

    `assigned` returns the id of the running transaction as text, NULL where none can be written;
    `place` names the server and its history, in which alone the id means anything; `status`, with
    the parameter `xid`, returns 'committed', 'aborted', 'in progress', or NULL when it is too old.
    """

    assigned: str
    place: str
    status: str


def number_of(name: str) -> int:
    """Return the signed 64-bit number that stands for `name`; the same in every process."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
