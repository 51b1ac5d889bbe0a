"""The one place that knows every store of buckets."""

import pytest

from shipworthy.admission import LimitsSettings, is_shared, open_buckets, store_of
from shipworthy.settings import Secret
from shipworthy.store import Algorithm, Ask, MemoryBuckets, Quota

pytestmark = pytest.mark.anyio

TWO = Quota(algorithm=Algorithm.EXACT, count=2, period_ns=60 * 10**9, burst=2)


def test_memory_is_each_process_for_itself():
    """And has as many keys as the settings say."""
    found = open_buckets("memory", keys_most=1234)
    assert isinstance(found, MemoryBuckets)
    assert found.statistics().keys_most == 1234
    assert [is_shared(place) for place in ("memory", "auto", "file", "redis", "database")] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("place", "workers", "found"),
    [
        ("auto", 1, "memory"),
        ("auto", 2, "file"),
        ("auto", 0, "file"),
        ("memory", 4, "memory"),
        ("redis", 1, "redis"),
    ],
)
def test_several_workers_count_together_unless_somebody_says_otherwise(place, workers, found):
    """0 workers are as many as there are CPUs."""
    assert store_of(place, workers=workers) == found


async def test_who_opens_the_same_folder_counts_together(tmp_path):
    """As two workers do."""
    one, other = (open_buckets("file", folder=str(tmp_path), keys_most=1000) for _ in range(2))
    try:
        taken = [(await buckets.take((Ask("k", TWO),)))[0].allowed for buckets in (one, other) * 2]
    finally:
        await one.close()
        await other.close()
    assert taken == [True, True, False, False]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"store": "redis"}, "limits.store_url: not set; write redis://"),
        (
            {"store": "redis", "store_url": Secret("postgresql://u:hunter2@h/d")},
            "limits.store_url: postgresql: is no Redis",
        ),
        (
            {"store": "database", "store_url": Secret("redis://u:hunter2@h")},
            "limits.store_url: redis: is no database",
        ),
    ],
)
def test_a_store_that_cannot_be_is_refused_without_its_password(said, sentence):
    """By its kind alone."""
    problems = LimitsSettings(**said).refusals("production")
    assert [problem.startswith(sentence) for problem in problems] == [True]
    assert "hunter2" not in problems[0]
