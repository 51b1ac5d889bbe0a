"""Headers and lists of batches are text, there and back, the same for the same facts."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.audit.ledger.batch import (
    BatchHeader,
    BatchTree,
    Leaves,
    LeavesInvalid,
    gaps,
    next_header,
    print_of,
    ranges,
    without,
)
from shipworthy.audit.ledger.merkle import EMPTY_ROOT, leaf_hash, root_of

numbers = st.lists(st.integers(1, 400), unique=True, max_size=60)


def tree_of(seqs) -> BatchTree:
    tree = BatchTree()
    for seq in seqs:
        tree.add(seq, leaf_hash(str(seq).encode()))
    return tree


def header_after(before, seqs=(1, 2), **changed):
    facts = {
        "log_root": EMPTY_ROOT, "to": (7, 7), "tree": tree_of(seqs), "late": 0,
        "now_microseconds": 1000, "coverage": "c", "token": 3, "says": {},
    }  # fmt: skip
    return next_header(before=before, **(facts | changed))


@given(seqs=numbers)
def test_a_list_of_entries_is_text_there_and_back(seqs):
    leaves = tree_of(seqs).leaves()
    assert Leaves.parse(leaves.text) == leaves
    assert leaves.seqs == tuple(seqs)
    assert leaves.prints == tuple(print_of(leaf_hash(str(seq).encode())) for seq in seqs)


@given(seqs=numbers)
def test_runs_and_gaps_make_all_numbers_again(seqs):
    """Gaps of rising numbers are what the runs leave out."""
    rising = sorted(seqs)
    runs = ranges(rising)
    there = [number for first, last in runs for number in range(first, last + 1)]
    assert there == rising
    missing = {number for first, last in gaps(0, rising) for number in range(first, last + 1)}
    assert missing == set(range(1, max(rising, default=0) + 1)) - set(rising)


@given(runs=numbers, taken=numbers)
def test_taking_numbers_out_of_runs_leaves_the_others(runs, taken):
    left = without([(first, last) for first, last in ranges(sorted(runs))], taken)
    found = {number for first, last in left for number in range(first, last + 1)}
    assert found == set(runs) - set(taken)


def test_a_batch_follows_the_one_before():
    first = header_after(None)
    assert (first.number, first.after, first.to, first.entries) == (1, (0, 0), (7, 7), 2)
    assert first.root == root_of([leaf_hash(b"1"), leaf_hash(b"2")]).hex()
    second = header_after(first, seqs=(), to=None, now_microseconds=500, says={"key": "k"})
    assert (second.number, second.after, second.to) == (2, (7, 7), (7, 7))
    assert second.at_microseconds == first.at_microseconds
    assert BatchHeader.parse(second.text) == second
    assert second.leaf == leaf_hash(second.text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"version":1}',
        header_after(None).text.replace('"version":1', '"version":2'),
        header_after(None).text.replace(",", ", "),
        header_after(None).text.replace('"token":3,', ""),
        header_after(None).text.replace('"after":[0,0]', '"after":[]'),
    ],
)  # fmt: skip
def test_what_is_no_header_is_refused(text):
    """Also one that says the same in another way: its bytes are the leaf."""
    with pytest.raises(LeavesInvalid):
        BatchHeader.parse(text)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"seqs":[[1,2]],"prints":"AAAA"}', '{"seqs":[1],"prints":""}']
)
def test_what_is_no_list_is_refused(text):
    with pytest.raises(LeavesInvalid):
        Leaves.parse(text)
