"""Merkle trees as RFC 6962 has them: roots, and proofs that a leaf is in.

Pure. A hash is 32 bytes of SHA-256; leaves and inner nodes are hashed apart (0 and 1 before what
they cover), so that neither can be taken for the other.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, final

# The root of no leaves at all.
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over two."""
    return sha256(b"\x01" + left + right).digest()


@final
class Frontier:
    """A tree that only grows, of which no more is kept than is needed to go on: log2(size) hashes.

    It holds the roots of the whole subtrees its leaves make, the largest first: one for each bit
    that is set in `size`.
    """

    __slots__ = ("_roots", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._roots: list[bytes] = []
        self.size = 0
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add the hash of one more leaf."""
        size, node, roots = self.size, leaf, self._roots
        # As many subtrees as there are ones at the end of the size become one.
        while size & 1:
            node = node_hash(roots.pop(), node)
            size >>= 1
        roots.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self._roots:
            return EMPTY_ROOT
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Return what has to be kept, beside the size, to go on with `resumed`."""
        return tuple(self._roots)

    @classmethod
    def resumed(cls, size: int, parts: Sequence[bytes]) -> "Frontier":
        """Return the tree of that size again; `ValueError` where it has another number of parts."""
        if size < 0:
            raise ValueError(f"a tree has no {size} leaves")
        if len(parts) != size.bit_count():
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} parts, not {len(parts)}"
            )
        other = cls()
        other._roots, other.size = list(parts), size
        return other

    def copy(self) -> "Frontier":
        """Return another one that grows by itself from here."""
        other = Frontier()
        other._roots, other.size = list(self._roots), self.size
        return other


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves."""
    return Frontier(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from the leaf at `index` to the root, the lowest first."""
    size = len(leaves)
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    level, proof = list(leaves), []
    while len(level) > 1:
        beside = index ^ 1
        # The last one of an odd row has nobody beside it and goes up as it is.
        if beside < len(level):
            proof.append(level[beside])
        level = _row_above(level)
        index >>= 1
    return proof


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that `proof` leads to; None for one that cannot be of such a tree."""
    if not 0 <= index < size:
        return None
    node, last, ahead = leaf, size - 1, iter(proof)
    while last:
        if index & 1 or index < last:
            beside = next(ahead, None)
            if beside is None:
                return None
            node = node_hash(beside, node) if index & 1 else node_hash(node, beside)
        index >>= 1
        last >>= 1
    return node if next(ahead, None) is None else None


def _row_above(level: list[bytes]) -> list[bytes]:
    above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above
