"""Which batches may leave the log, and what is odd about lengths."""

from hypothesis import given, strategies as st

from shipworthy.audit.retention_plan import (
    ArchiveRange,
    BatchAge,
    RetentionLengths,
    lint_lengths,
    plan_retention,
)

DAY = 86_400
NOW = 1_000 * DAY * 1_000_000


def lengths(payload=400, metadata=1826, access=400):
    return RetentionLengths(
        payload_seconds=payload * DAY,
        metadata_seconds=metadata * DAY,
        access_seconds=access * DAY,
    )


def batch(number, *, days, entries=10, signed=True):
    at = NOW - days * DAY * 1_000_000
    return BatchAge(number=number, entries=entries, at_microseconds=at, signed=signed)


def plan(batches, *, archive_entries=1000, **options):
    return plan_retention(
        batches, lengths(**options), now_microseconds=NOW, archive_entries=archive_entries
    )


def test_what_is_older_than_payload_is_kept_goes():
    """The younger ones stay, and so does everything after the first of them."""
    found = plan([batch(1, days=500), batch(2, days=401), batch(3, days=399), batch(4, days=500)])
    assert found.ranges == (ArchiveRange(first_batch=1, last_batch=2, entries=20),)
    assert (found.batches, found.entries) == (2, 20)


def test_payload_that_is_kept_for_ever_stays():
    """A length of 0 is no length."""
    assert plan([batch(1, days=5000)], payload=0).ranges == ()


def test_an_archive_ends_with_a_signature():
    """Batches after the last signed one wait; archives are no larger than needed."""
    ages = [
        batch(5, days=500, signed=False),
        batch(6, days=500, entries=990),
        batch(7, days=500),
        batch(8, days=500, signed=False),
    ]
    assert plan(ages).ranges == (
        ArchiveRange(first_batch=5, last_batch=6, entries=1000),
        ArchiveRange(first_batch=7, last_batch=7, entries=10),
    )
    assert plan(ages[:1]).ranges == ()


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans())), st.integers(1, 100))
def test_ranges_follow_one_another_and_lose_nothing(facts, archive_entries):
    """Whatever the batches: from the first on, without a gap, with all their entries."""
    ages = [
        batch(number, days=500, entries=entries, signed=signed)
        for number, (entries, signed) in enumerate(facts, 1)
    ]
    found = plan(ages, archive_entries=archive_entries)
    reached = 0
    for part in found.ranges:
        assert part.first_batch == reached + 1
        reached = part.last_batch
        assert ages[reached - 1].signed
        own = ages[part.first_batch - 1 : part.last_batch]
        assert part.entries == sum(age.entries for age in own)
    assert not any(age.signed for age in ages[reached:])


def test_odd_lengths_are_told():
    """In sentences; the usual ones are not odd."""
    assert list(lint_lengths(lengths())) == []
    assert list(lint_lengths(lengths(payload=0, metadata=0))) == []
    said = " ".join(lint_lengths(lengths(payload=60, metadata=30)))
    for part in ("shorter than audit.keep_payload", "12 months", "3 months"):
        assert part in said
