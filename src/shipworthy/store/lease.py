"""Decide who has a lease: taken, renewed, given back, or run out and taken by another.

Pure: a row as the store has it, an instant of the store's own clock, and out comes the row to write
or None where the answer is no. Instants are microseconds, and never of the holder's clock: so the
clocks of two holders need not agree.
"""

from dataclasses import dataclass, replace
from typing import final

# Longer than any text that names a process; what is longer is no name.
NAME_CHARACTERS = 100
HOLDER_CHARACTERS = 200


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """A lease as the store has it; `until_microseconds` 0 is one that was given back.

    The token never goes back, also when nobody holds it: it is what a row is kept for.
    """

    name: str
    holder: str
    token: int
    until_microseconds: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease that was taken: `token` is greater than that of every holder before."""

    name: str
    holder: str
    token: int


def take(
    row: LeaseRow | None, *, name: str, holder: str, now_microseconds: int, seconds: float
) -> LeaseRow | None:
    """Return the row that makes `holder` the one; None while another one holds it.

    Who holds it already is not given it a second time under the same token: two threads of one
    name would both go on. It waits, or renews what it has.
    """
    if not name or len(name) > NAME_CHARACTERS:
        raise ValueError(f"a lease has a name of 1 to {NAME_CHARACTERS} characters: {name!r}")
    if not holder or len(holder) > HOLDER_CHARACTERS:
        raise ValueError(f"a holder has a name of 1 to {HOLDER_CHARACTERS} characters: {holder!r}")
    until = now_microseconds + _microseconds(seconds)
    if row is None:
        return LeaseRow(name=name, holder=holder, token=1, until_microseconds=until)
    if held(row, now_microseconds=now_microseconds):
        return None
    return LeaseRow(name=name, holder=holder, token=row.token + 1, until_microseconds=until)


def renew(
    row: LeaseRow | None, lease: Lease, *, now_microseconds: int, seconds: float
) -> LeaseRow | None:
    """Return the row with a later end; None where the lease is not this holder's any more.

    One that ran out and that nobody took is renewed: its token is still the last one given.
    """
    if row is None or not belongs(row, lease):
        return None
    until = now_microseconds + _microseconds(seconds)
    # A store whose clock went back takes nothing of the time that was given.
    return replace(row, until_microseconds=max(until, row.until_microseconds))


def give_back(row: LeaseRow | None, lease: Lease) -> LeaseRow | None:
    """Return the row of a free lease; None where it was not this holder's any more."""
    if row is None or not belongs(row, lease):
        return None
    return replace(row, until_microseconds=0)


def held(row: LeaseRow, *, now_microseconds: int) -> bool:
    """Say whether somebody holds it at that instant."""
    return row.until_microseconds > now_microseconds


def belongs(row: LeaseRow, lease: Lease) -> bool:
    """Say whether `lease` is the last that was given, and was not given back."""
    return row.token == lease.token and row.holder == lease.holder and row.until_microseconds > 0


def _microseconds(seconds: float) -> int:
    if not seconds > 0:
        raise ValueError(f"a lease is for longer than 0 s, not for {seconds:g} s")
    return round(seconds * 1_000_000)
