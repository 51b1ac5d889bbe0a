"""Decide about many requests at once from the rows a store read, and say which rows to write.

Pure: rows as the store has them, what is wished for, in the order in which it came, and an instant
of the store's clock; out come the answers, and the rows that are to be written. So every store that
can lock rows decides by the one `judge`, and a store in a file or on a server is a few statements.

A row is an instant and, of what needs more, bytes. The instant is the one from which the row may
be forgotten, and of GCRA it is all there is.

Not here: who reads and writes the rows (`bucket_file`, `bucket_sql`), and how is judged (`bucket`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack, unpack_from
from typing import Final, NamedTuple, TypeAlias, final

from shipworthy.store.bucket import (
    Algorithm,
    Ask,
    Quota,
    Spent,
    State,
    Taken,
    judge,
    put_back,
    unspent_at_ns,
)

_EXACT: Final = b"e"
_SLIDING: Final = b"s"
_SPENT: Final = Struct("<3q")


class BucketRow(NamedTuple):
    """A bucket as a table has it."""

    until_ns: int
    rest: bytes | None


class Wish(NamedTuple):
    """What one request wants: to take from all of these buckets, or to put back into them."""

    asks: tuple[Ask, ...]
    back: bool = False


# What a request is told: what its buckets answered, or that it asked for what cannot be had.
Answer: TypeAlias = tuple[Taken, ...] | ValueError


@final
@dataclass(slots=True)
class Settled:
    """What became of each request, in order, and the rows by which it is remembered."""

    answers: list[Answer] = field(default_factory=list)
    rows: dict[str, BucketRow] = field(default_factory=dict)


def keys_of(wishes: Sequence[Wish]) -> list[str]:
    """Return the keys that are asked for, each once, in the one order in which all lock them."""
    return sorted({ask.key for one in wishes for ask in one.asks})


def settle(wishes: Sequence[Wish], rows: Mapping[str, BucketRow], now_ns: int) -> Settled:
    """Decide about each request as if those before it had been there alone.

    A request takes from all of its buckets or from none. What nobody remembers is not put back.
    """
    known: dict[str, State | None] = {}
    settled = Settled()
    for one in wishes:
        for ask in one.asks:
            if ask.key not in known:
                row = rows.get(ask.key)
                known[ask.key] = None if row is None else state_of(row)
        try:
            answer, changed = (
                _give_back(one.asks, known) if one.back else _take(one.asks, known, now_ns)
            )
        except ValueError as error:
            settled.answers.append(error)
            continue
        settled.answers.append(answer)
        for key, (after, quota) in changed.items():
            known[key] = after
            settled.rows[key] = row_of(after, quota)
    return settled


def _take(
    asks: Sequence[Ask], known: Mapping[str, State | None], now_ns: int
) -> tuple[tuple[Taken, ...], dict[str, tuple[State, Quota]]]:
    """Return the answers, and what is known after them: nothing new where one refused."""
    changed: dict[str, tuple[State, Quota]] = {}
    answers = []
    for key, quota, cost in asks:
        state = changed[key][0] if key in changed else known.get(key)
        after, taken = judge(state, quota, cost, now_ns)
        changed[key] = after, quota
        answers.append(taken)
    if all(taken.allowed for taken in answers):
        return tuple(answers), changed
    # Nothing was taken, so of those that would have allowed it everything is left.
    return tuple(
        taken._replace(remaining=taken.remaining + ask.cost) if taken.allowed else taken
        for ask, taken in zip(asks, answers, strict=True)
    ), {}


def answer_of(asks: Sequence[Ask], states: Mapping[str, State | None], now_ns: int) -> Answer:
    """Return what a request is told that found these states at that instant."""
    try:
        return _take(asks, states, now_ns)[0]
    except ValueError as error:
        return error


def _give_back(
    asks: Sequence[Ask], known: Mapping[str, State | None]
) -> tuple[tuple[Taken, ...], dict[str, tuple[State, Quota]]]:
    changed: dict[str, tuple[State, Quota]] = {}
    for key, quota, cost in asks:
        state = changed[key][0] if key in changed else known[key]
        if state is not None:
            changed[key] = put_back(state, quota, cost), quota
    return (), changed


def row_of(state: State, quota: Quota) -> BucketRow:
    """Return the state as a table keeps it."""
    until = unspent_at_ns(state, quota)
    if isinstance(state, int):
        return BucketRow(until, None)
    if isinstance(state, Spent):
        return BucketRow(until, _SLIDING + _SPENT.pack(*state))
    return BucketRow(until, _EXACT + pack(f"<{len(state)}q", *state))


def state_of(row: BucketRow) -> State | None:
    """Return the state again; None where it was written by nobody we know."""
    until, rest = row
    if rest is None:
        return until
    kind, numbers = rest[:1], (len(rest) - 1) // 8
    if kind == _SLIDING and numbers == len(Spent._fields):
        return Spent(*_SPENT.unpack_from(rest, 1))
    if kind == _EXACT:
        return unpack_from(f"<{numbers}q", rest, 1)
    return None


def kind_of(quota: Quota) -> str:
    """Return the letter by which a store names an algorithm that it decides by itself."""
    match quota.algorithm:
        case Algorithm.GCRA:
            return "g"
        case Algorithm.EXACT:
            return "e"
        case _:
            return "s"
