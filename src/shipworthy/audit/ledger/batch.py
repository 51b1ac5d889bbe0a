"""A batch of entries as the ledger has it: its header, whose bytes are a leaf of the log.

Pure. A batch has the entries after the one before it, in the order of position and number, up to
the horizon; and at its end those that came late, with a number that was passed already.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self, final

from shipworthy.audit.ledger.merkle import Frontier, leaf_hash

VERSION: Final = 1
# Bytes of a leaf's hash that are kept to name the entry that was changed. That nothing was changed
# is what the root says; these are no proof of anything.
_PRINT_BYTES: Final = 8

Place = tuple[int, int]
"""Where an entry stands in the order of sealing: its position and its number (seq)."""
BEGINNING: Final[Place] = (0, 0)


@final
class LeavesInvalid(ValueError):
    """A text that is not what `Leaves` or `BatchHeader` write; it was changed, or is not ours."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """What is said of a batch under its root; the same facts always give the same text.

    `previous` is the root of the log before it, `at_microseconds` never before that of the batch
    before it, `coverage` a digest of the triggers as they were, `token` that of the sealer's lease.
    `says` is what else was to be put on record: a new key, what retention took away.
    """

    number: int
    after: Place
    to: Place
    entries: int
    late: int
    root: str
    leaves: str
    previous: str
    at_microseconds: int
    coverage: str
    token: int
    says: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return it as it is kept; its UTF-8 bytes are the leaf of the log."""
        facts = {
            "version": VERSION,
            "number": self.number,
            "after": self.after,
            "to": self.to,
            "entries": self.entries,
            "late": self.late,
            "root": self.root,
            "leaves": self.leaves,
            "previous": self.previous,
            "at_microseconds": self.at_microseconds,
            "coverage": self.coverage,
            "token": self.token,
            "says": self.says,
        }
        return json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @property
    def leaf(self) -> bytes:
        """Return the hash of its leaf in the log."""
        return leaf_hash(self.text.encode())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gives; raises `LeavesInvalid`, also for what is only nearly that."""
        try:
            facts = json.loads(text)
            version = facts.pop("version")
            after, to = facts.pop("after"), facts.pop("to")
            found = cls(after=(after[0], after[1]), to=(to[0], to[1]), **facts)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise LeavesInvalid(f"no header of a batch: {type(error).__name__}") from None
        if version != VERSION:
            raise LeavesInvalid(f"a header of version {version}; {VERSION} is known here")
        if found.text != text:
            raise LeavesInvalid("a header that is not written the way headers are")
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Which entries a batch has, in its order, with a print of each."""

    seqs: tuple[int, ...]
    prints: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """Return it as it is kept: ranges of numbers, and the prints."""
        facts = {
            "seqs": ranges(self.seqs),
            "prints": base64.b64encode(b"".join(self.prints)).decode(),
        }
        return json.dumps(facts, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Return what the header says of it."""
        return sha256(self.text.encode()).hexdigest()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gives; raises `LeavesInvalid`."""
        try:
            facts = json.loads(text)
            seqs = tuple(seq for first, last in facts["seqs"] for seq in range(first, last + 1))
            raw = base64.b64decode(facts["prints"], validate=True)
        except (ValueError, TypeError, KeyError) as error:
            raise LeavesInvalid(f"no leaves of a batch: {type(error).__name__}") from None
        if len(raw) != _PRINT_BYTES * len(seqs):
            raise LeavesInvalid(f"{len(seqs)} entries of a batch and {len(raw)} bytes of prints")
        steps = range(0, len(raw), _PRINT_BYTES)
        return cls(seqs=seqs, prints=tuple(raw[at : at + _PRINT_BYTES] for at in steps))


@final
class BatchTree:
    """The entries of a batch while they are gathered: no more of them is kept than their hashes."""

    __slots__ = ("_prints", "_seqs", "_tree")

    def __init__(self) -> None:
        self._tree = Frontier()
        self._seqs: list[int] = []
        self._prints: list[bytes] = []

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, seq: int, leaf: bytes) -> None:
        """Add an entry by its number and the hash of its leaf."""
        self._tree.append(leaf)
        self._seqs.append(seq)
        self._prints.append(leaf[:_PRINT_BYTES])

    def root(self) -> str:
        """Return the root over the entries so far, in hexadecimal."""
        return self._tree.root().hex()

    def leaves(self) -> Leaves:
        """Return which they are."""
        return Leaves(seqs=tuple(self._seqs), prints=tuple(self._prints))


def print_of(leaf: bytes) -> bytes:
    """Return the print of an entry by the hash of its leaf."""
    return leaf[:_PRINT_BYTES]


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as runs, each with its first and its last, in the order they came."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def gaps(after: int, numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs that are missing between `after` and the last of rising `numbers`."""
    found = []
    for number in numbers:
        if number > after + 1:
            found.append((after + 1, number - 1))
        after = number
    return found


def without(runs: Sequence[tuple[int, int]], numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return `runs` with `numbers` taken out of them."""
    left = list(runs)
    for number in sorted(numbers):
        split: list[tuple[int, int]] = []
        for first, last in left:
            if not first <= number <= last:
                split.append((first, last))
                continue
            split += [
                part for part in ((first, number - 1), (number + 1, last)) if part[0] <= part[1]
            ]
        left = split
    return left


def next_header(
    *,
    before: BatchHeader | None,
    log_root: bytes,
    to: Place | None,
    tree: BatchTree,
    late: int,
    now_microseconds: int,
    coverage: str,
    token: int,
    says: Mapping[str, Any],
) -> BatchHeader:
    """Return the header of the batch after `before`, the first of a log where there is none.

    Its time is never before that of `before`: a clock that went back shows nothing but itself.
    `to` is the place of its last entry, None for a batch without one that has its turn.
    """
    after = BEGINNING if before is None else before.to
    at = now_microseconds if before is None else max(now_microseconds, before.at_microseconds)
    return BatchHeader(
        number=1 if before is None else before.number + 1,
        after=after,
        to=after if to is None else to,
        entries=len(tree),
        late=late,
        root=tree.root(),
        leaves=tree.leaves().digest,
        previous=log_root.hex(),
        at_microseconds=at,
        coverage=coverage,
        token=token,
        says=dict(says),
    )
