"""Quantities with their units."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.errors import UnitInvalid
from shipworthy.units import (
    Frequency,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

durations = st.floats(min_value=0, max_value=1e15, exclude_max=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        (" 5 s ", 5.0),
        ("0.1s", 0.1),
        ("100ms", 0.1),
        ("0", 0.0),
        ("0.0", 0.0),
        ("0h", 0.0),
    ],
)
def test_a_length_of_time_is_read_with_its_unit(text, seconds):
    """A number and a unit are seconds; only zero needs no unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (0.0005, "0.5ms"),
        (1.5, "1.5s"),
        (90.0, "90s"),
        (120.0, "2m"),
        (5400.0, "90m"),
        (7200.0, "2h"),
        (172800.0, "2d"),
    ],
)
def test_a_length_of_time_is_written_in_the_largest_unit_that_keeps_it_whole(seconds, text):
    """People read 2h faster than 7200s, and 90s faster than 1.5m."""
    assert format_duration(seconds) == text


@given(durations)
def test_a_written_length_of_time_is_read_back_exactly(seconds):
    """Not one bit is lost between writing and reading."""
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("seconds", [-1.0, 1e15, float("inf"), float("nan")])
def test_what_is_no_length_of_time_is_not_written(seconds):
    """Negative, endless and undefined times are mistakes of the caller."""
    with pytest.raises(ValueError, match="no length of time"):
        format_duration(seconds)


def test_a_number_without_its_unit_is_refused_with_what_to_write():
    """30 may mean half a minute or 30 ms, so both are offered, with the number that was given."""
    with pytest.raises(UnitInvalid) as refused:
        parse_duration("30")

    assert str(refused.value) == "'30' has no unit: write 30ms, 30s, 30m, 30h or 30d"


def test_an_unknown_unit_is_refused_with_the_known_ones():
    """The message shows the number with every unit that would have been right."""
    with pytest.raises(UnitInvalid) as refused:
        parse_duration("1.5 parsecs")

    assert str(refused.value) == (
        "'1.5 parsecs' has an unknown unit 'parsecs': write 1.5ms, 1.5s, 1.5m, 1.5h or 1.5d"
    )


@pytest.mark.parametrize("text", ["", "s", "-5s", "5s5", "1e3s", "٣s", "5,5s", "nan", "1" * 16])
def test_what_is_no_quantity_is_refused_with_an_example(text):
    """Signs, exponents, other digits and rests are not guessed at."""
    with pytest.raises(UnitInvalid, match=r"is no length of time: write .* as in 30s"):
        parse_duration(text)


def test_a_long_text_is_cut_in_the_message():
    """A megabyte in a variable does not become a megabyte in the log."""
    with pytest.raises(UnitInvalid) as refused:
        parse_duration("x" * 10_000)

    assert len(str(refused.value)) < 150


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("64KiB", 65536),
        ("2MiB", 2 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1TiB", 2**40),
        ("10KB", 10_000),
        ("10MB", 10**7),
        ("0.5GB", 5 * 10**8),
        ("1TB", 10**12),
        ("0", 0),
    ],
)
def test_a_size_is_read_with_its_unit(text, size):
    """KiB counts in 1024, KB in 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1024, "1KiB"), (1000, "1KB"), (1536, "1536B"), (8 * 2**20, "8MiB")],
)
def test_a_size_is_written_in_the_largest_unit_that_keeps_it_whole(size, text):
    """8 MiB is written as such and not as 8192KiB."""
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_a_written_size_is_read_back_exactly(size):
    """Every size that is written means the same number of bytes."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("8", "has no unit: write 8B, 8KiB, 8MiB"),
        ("8mb", "has an unknown unit 'mb': write 8B"),
        ("much", "is no size: write a number and its unit, as in 8MiB"),
        ("1.5B", "is no whole number of bytes"),
    ],
)
def test_what_is_no_size_is_refused_with_what_to_write(text, because):
    """No unit, a unit in the wrong letters, a half byte: each says what would be right."""
    with pytest.raises(UnitInvalid, match=because):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/second", Frequency(10, 1.0)),
        ("10/minute", Frequency(10, 60.0)),
        ("1000 / hour", Frequency(1000, 3600.0)),
        ("5/day", Frequency(5, 86400.0)),
        ("100/30s", Frequency(100, 30.0)),
        ("3/60s", Frequency(3, 60.0)),
    ],
)
def test_a_rate_is_so_many_in_so_long(text, rate):
    """The period is a word, or a length of time with its unit."""
    assert parse_rate(text) == rate


@given(st.integers(1, 10**15 - 1), durations.filter(lambda seconds: seconds > 0))
def test_a_written_rate_is_read_back_exactly(count, per_seconds):
    """Every rate that is written means the same rate."""
    rate = Frequency(count, per_seconds)

    assert parse_rate(format_rate(rate)) == rate


def test_a_rate_is_written_with_a_word_where_one_fits():
    """10/minute says more than 10/60s."""
    assert format_rate(Frequency(10, 60.0)) == "10/minute"
    assert format_rate(Frequency(10, 30.0)) == "10/30s"


@pytest.mark.parametrize("text", ["10", "0/minute", "-1/minute", "many/minute", "/minute", ""])
def test_what_names_no_count_is_no_rate(text):
    """A rate of none lets nothing through, so it is no limit but an outage."""
    with pytest.raises(UnitInvalid, match="is no rate: write how many"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["10/fortnight", "10/", "10/0s", "10/30"])
def test_what_names_no_period_is_no_rate(text):
    """The periods that would be right are listed with the count that was given."""
    with pytest.raises(UnitInvalid, match="has no known period: write 10/second, 10/minute"):
        parse_rate(text)
