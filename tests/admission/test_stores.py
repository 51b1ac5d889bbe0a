"""The one place that knows every store of buckets."""

import pytest

from shipworthy.admission import is_shared, open_buckets
from shipworthy.errors import Misuse
from shipworthy.store import MemoryBuckets


def test_memory_is_each_process_for_itself():
    """And has as many keys as the settings say."""
    found = open_buckets("memory", keys_most=1234)
    assert isinstance(found, MemoryBuckets)
    assert found.statistics().keys_most == 1234
    assert not is_shared("memory")
    assert is_shared("redis://host")


def test_a_store_that_nobody_has_is_refused_without_its_password():
    """By its kind alone."""
    with pytest.raises(Misuse, match="nothing keeps buckets at 'carrier'") as told:
        open_buckets("carrier://u:secret@h", keys_most=1000)
    assert "secret" not in str(told.value)
