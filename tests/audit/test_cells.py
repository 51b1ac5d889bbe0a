"""Keys, images and leaves are the same bytes for the same facts."""

import json

import pytest
from hypothesis import given, strategies as st

from shipworthy.audit.cells import (
    CONTEXT_FIELDS,
    ENTRY_FIELDS,
    canonical,
    canonical_of,
    commitment,
    read_image,
    read_key,
    write_image,
    write_key,
)
from shipworthy.audit.model import Context, Entry

texts = st.text(st.characters(), max_size=30)
numbers = st.integers(-(2**63), 2**63 - 1)
values = st.one_of(texts, numbers, st.none())


@given(
    entry=st.lists(values, min_size=10, max_size=10),
    context=st.none() | st.lists(values, min_size=12, max_size=12),
    openings=st.dictionaries(texts, texts, max_size=3),
)
def test_the_bytes_of_a_leaf_are_those_of_the_standard_library(entry, context, openings):
    """Written by a faster one; also with control characters, lone surrogates, anything."""
    facts = [*entry, sorted(openings.items()), *([context] if context is not None else [])]
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    assert canonical_of(entry, context, openings) == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_what_the_faster_one_does_not_take_is_written_all_the_same(value):
    """A lone surrogate, as a damaged text has it, and a number that no database has."""
    text = json.dumps([value, []], ensure_ascii=False, separators=(",", ":"))
    assert canonical_of([value], None, {}) == text.encode("utf-8", "surrogatepass")


def test_every_field_of_an_entry_and_its_context_is_in_the_leaf():
    """But for what names the context, which the entry has."""
    assert set(ENTRY_FIELDS) == set(Entry.__slots__)
    assert set(CONTEXT_FIELDS) == set(Context.__slots__) - {"tx"}
    entry = Entry(
        seq=1, position=2, at_microseconds=3, tx="t", table_id=4, shape_id=5, op="I",
        key='["1"]', old=None, new="{}",
    )  # fmt: skip
    context = Context(tx="t", at_microseconds=6, actor="ana")
    found = json.loads(canonical(entry, context, {"n:email": "c"}))
    assert found[:10] == [1, 2, 3, "t", 4, 5, "I", '["1"]', None, "{}"]
    assert found[10] == [["n:email", "c"]]
    assert found[11][:2] == [6, "ana"]
    assert len(json.loads(canonical(entry, None, {}))) == 11


@given(image=st.dictionaries(texts, texts | st.none() | st.just(value=True), max_size=5))
def test_images_are_text_there_and_back(image):
    assert read_image(write_image(image)) == image
    assert read_image(None) == {}


@given(key=st.lists(texts, min_size=1, max_size=3))
def test_keys_are_text_there_and_back(key):
    assert read_key(write_key(key)) == tuple(key)
    assert read_key(None) is None


def test_a_commitment_depends_on_salt_and_value():
    assert len({commitment("a", "b"), commitment("a", "c"), commitment("b", "b")}) == 3
    assert commitment("a", "\udcff") != commitment("a", "\udcfe")
