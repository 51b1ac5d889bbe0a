"""Which traces are kept, by ids, flags, times and statuses."""

from hypothesis import given, strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from shipworthy.telemetry import Allowance, HeadRule, kept_because

trace_ids = st.integers(1, 2**128 - 1)
span_ids = st.integers(1, 2**64 - 1).map("{:016x}".format)
ratios = st.floats(0, 1)


def head(ratio: float = 0.05, *, trusts: bool = True, asked: float = 10.0) -> HeadRule:
    return HeadRule(ratio=ratio, trusts=trusts, asked_per_second=asked)


@given(trace_ids, ratios)
def test_the_id_decides_as_it_does_for_opentelemetry(trace_id: int, ratio: float) -> None:
    """Services with the same ratio keep the same traces, whoever samples there."""
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "")

    ours = head(ratio).keeps(f"{trace_id:032x}")

    assert ours == (theirs.decision is Decision.RECORD_AND_SAMPLE)


def test_no_and_every_trace_are_ratios_too() -> None:
    """0 keeps the lowest id not, 1 keeps the highest."""
    assert not head(0.0).keeps("0" * 32)
    assert head(1.0).keeps("f" * 32)


@given(trace_ids, ratios)
def test_what_is_kept_at_a_ratio_is_kept_at_a_higher_one(trace_id: int, ratio: float) -> None:
    """A service that keeps more has all traces of one that keeps less."""
    text = f"{trace_id:032x}"

    if head(ratio / 2).keeps(text):
        assert head(ratio).keeps(text)


@given(span_ids, st.booleans())
def test_the_decision_of_a_caller_holds(span_id: str, sampled: bool) -> None:
    """Kept there is kept here, and not there is not here, whatever the ids say."""
    assert head().goes_on(span_id, sampled=sampled, now=1.0) == sampled


@given(span_ids, st.booleans(), ratios)
def test_without_trust_our_own_span_decides(span_id: str, sampled: bool, ratio: float) -> None:
    """The flag of a stranger changes nothing, either way; nor can the id of the trace, which the
    stranger has chosen."""
    kept = head(ratio, trusts=False).goes_on(span_id, sampled=sampled, now=1.0)

    assert kept == (int(span_id, 16) < round(ratio * 2**64))


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200), st.integers(0, 20))
def test_callers_cannot_have_all_of_their_traces_kept(gaps: list[float], asked: int) -> None:
    """However many ask, no more are kept than one second's worth and what time has brought."""
    rule, now, kept = head(0.0, asked=float(asked)), 100.0, 0
    for gap in gaps:
        now += gap
        kept += rule.goes_on("0" * 16, sampled=True, now=now)

    assert kept <= asked * (1 + sum(gaps)) + 1e-6


def test_beyond_the_allowance_a_share_is_kept_all_the_same() -> None:
    """By the id of our own span."""
    rule = head(0.5, asked=1.0)

    assert rule.goes_on("f" * 16, sampled=True, now=1.0)
    assert not rule.goes_on("f" * 16, sampled=True, now=1.0)
    assert rule.goes_on("0" * 15 + "1", sampled=True, now=1.0)


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(0, 1e4))
def test_an_allowance_never_has_more_than_a_second_brings(
    times: list[float], per_second: float
) -> None:
    """At one instant, also where the clock was said to go back."""
    allowance = Allowance(per_second)
    for at in times:
        allowance.spend(at)
    at = max(times, default=0.0) + 1e6

    assert sum(allowance.spend(at) for _ in range(int(per_second) + 10)) <= per_second


def test_failed_comes_before_slow() -> None:
    """One reason is told; what failed is what somebody looks for."""
    assert kept_because(500, 9.0, 1.0) == "failed"
    assert kept_because(503, 0.0, 1.0) == "failed"
    assert kept_because(499, 1.0, 1.0) == "slow"
    assert kept_because(200, 0.999, 1.0) == ""
    assert kept_because(200, 1e9, 0.0) == ""
