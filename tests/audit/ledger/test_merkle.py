"""The tree is that of RFC 6962: its known vectors, and its definition read literally."""

from hashlib import sha256

import pytest
from hypothesis import given, strategies as st

from shipworthy.audit.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    inclusion_proof,
    leaf_hash,
    root_from_inclusion,
    root_of,
)

# The leaves and roots that the certificate transparency projects test with.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
sizes = st.integers(1, 130)


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def split_of(count: int) -> int:
    split = 1
    while split * 2 < count:
        split *= 2
    return split


def mth(leaves: list[bytes]) -> bytes:
    """Section 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = split_of(len(leaves))
    return sha256(b"\1" + mth(leaves[:split]) + mth(leaves[split:])).digest()


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Section 2.1.1, word by word."""
    if len(leaves) == 1:
        return []
    split = split_of(len(leaves))
    if index < split:
        return [*path(index, leaves[:split]), mth(leaves[split:])]
    return [*path(index - split, leaves[split:]), mth(leaves[:split])]


def test_the_roots_are_those_of_the_known_vectors():
    assert root_of([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size, root in enumerate(ROOTS, start=1):
        assert root_of([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == root


@given(size=st.integers(0, 130))
def test_the_root_is_the_one_that_the_definition_gives(size):
    assert root_of(hashes(size)) == mth(hashes(size))


def test_growing_gives_the_root_of_every_size_and_keeps_few_hashes():
    """One for each bit of the size, so a million leaves take twenty."""
    tree = Frontier()
    for size, leaf in enumerate(hashes(300), start=1):
        tree.append(leaf)
        assert tree.size == size
        assert tree.root() == mth(hashes(size))
        assert len(tree._roots) == size.bit_count()


def test_a_copy_grows_by_itself():
    tree = Frontier(hashes(5))
    copied = tree.copy()
    copied.append(leaf_hash(b"more"))
    assert (tree.size, copied.size) == (5, 6)
    assert tree.root() == mth(hashes(5))


@given(size=sizes, data=st.data())
def test_a_proof_leads_every_leaf_to_the_root(size, data):
    index = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    proof = inclusion_proof(leaves, index)
    assert proof == path(index, leaves)
    assert root_from_inclusion(leaves[index], index, size, proof) == mth(leaves)


@given(size=sizes, data=st.data())
def test_a_proof_with_anything_changed_leads_elsewhere(size, data):
    """The leaf, its place, any hash on the way, one more, one less."""
    index = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    root, proof = mth(leaves), inclusion_proof(leaves, index)
    other = leaf_hash(b"another")
    assert root_from_inclusion(other, index, size, proof) != root
    assert root_from_inclusion(leaves[index], index, size, [*proof, other]) != root
    assert root_from_inclusion(leaves[index], size, size, proof) is None
    assert root_from_inclusion(leaves[index], -1, size, proof) is None
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert root_from_inclusion(leaves[index], index, size, proof[:-1]) is None
        assert root_from_inclusion(leaves[index], index, size, _with(proof, at, other)) != root
        elsewhere = data.draw(st.integers(0, size - 1).filter(lambda it: it != index))
        assert root_from_inclusion(leaves[index], elsewhere, size, proof) != root


def test_what_is_no_place_in_a_tree_is_refused():
    with pytest.raises(ValueError, match="no leaf 3 in a tree of 3"):
        inclusion_proof(hashes(3), 3)


def _with(items: list[bytes], at: int, other: bytes) -> list[bytes]:
    return [*items[:at], other, *items[at + 1 :]]


@given(st.integers(min_value=0, max_value=70))
def test_a_tree_goes_on_from_its_parts(size):
    """No more of it needs to be kept than its size and the roots of its whole subtrees."""
    tree = Frontier(hashes(size))
    again = Frontier.resumed(tree.size, tree.parts)
    tree.append(hashes(1)[0])
    again.append(hashes(1)[0])
    assert again.root() == tree.root()


def test_parts_that_are_not_of_that_size_are_refused():
    with pytest.raises(ValueError, match="a tree of 5 leaves has 2 parts, not 1"):
        Frontier.resumed(5, hashes(1))
