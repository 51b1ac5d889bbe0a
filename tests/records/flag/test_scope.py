"""Blocks end as they should, also in one another."""

import pytest

from shipworthy.records import include_deleted, really_delete
from shipworthy.records.flag.scope import removes, sees_deleted


def test_a_block_ends_with_an_exception_too():
    """What comes after it is filtered again."""
    with pytest.raises(KeyError), include_deleted(), really_delete():
        assert sees_deleted()
        assert removes()
        raise KeyError

    assert not sees_deleted()
    assert not removes()


def test_a_block_in_a_block_leaves_the_outer_one():
    """The inner end is not the outer one's."""
    with include_deleted():
        with include_deleted():
            pass
        assert sees_deleted()
