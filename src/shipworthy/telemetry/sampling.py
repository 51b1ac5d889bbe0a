"""Which traces are kept: decided at the head of a request, and once more when its answer is over.

Pure: ids, numbers and a time in, a decision out.

At the head, what the caller has decided holds; where there is no caller, the trace id decides, by
the rule of OpenTelemetry's `TraceIdRatioBased`, so that services with the same ratio keep the same
traces. At the end, what failed or was slow is kept whatever the head said.
"""

from typing import Final, final

# Answers from here on are failures of ours.
_FAILED: Final = 500
# One burst is as long as this.
_BURST_SECONDS: Final = 1.0


@final
class Allowance:
    """So many a second, and as many at once as a second brings. For one thread at a time."""

    __slots__ = ("_at", "_left", "_per_second")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second * _BURST_SECONDS
        self._at = 0.0

    def spend(self, now: float) -> bool:
        """Take one, at monotonic `now`; say whether there was one."""
        most = self._per_second * _BURST_SECONDS
        grown = max(0.0, now - self._at) * self._per_second
        self._left = min(most, self._left + grown)
        self._at = max(now, self._at)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@final
class HeadRule:
    """Decide at the head of a request whether its trace is kept.

    Without a caller's trace, `ratio` of all trace ids are: the last 16 digits of the id are below
    that share of what they can be. With one, the caller's flag holds, where `trusts` says so. That
    flag may come from a stranger, so no more than `asked_per_second` are kept because of it. Where
    it does not hold, the id of our own span decides: that of the trace was chosen by the caller,
    who could choose one that is kept. For one thread at a time.
    """

    __slots__ = ("_asked", "_bound", "_trusts")

    def __init__(self, *, ratio: float, trusts: bool, asked_per_second: float) -> None:
        self._bound = bound_of(ratio)
        self._trusts = trusts
        self._asked = Allowance(asked_per_second)

    def keeps(self, trace_id: str) -> bool:
        """Decide about a trace that begins here."""
        # Text of one length and case is in the order of its numbers.
        return trace_id[16:] < self._bound

    def goes_on(self, span_id: str, *, sampled: bool, now: float) -> bool:
        """Decide about our span in a trace that a caller began, and `sampled` or did not."""
        if not self._trusts:
            return span_id < self._bound
        return sampled and (self._asked.spend(now) or span_id < self._bound)


def bound_of(ratio: float) -> str:
    """Return the text below which the last 16 digits of an id are in `ratio` of all ids."""
    number = round(ratio * 2**64)
    # Above every digit, because 2**64 has one digit more than the others.
    return f"{number:016x}" if number < 2**64 else "g"


# Not keyword-only: it is asked for each request.
def kept_because(status: int, seconds: float, slow_seconds: float) -> str:
    """Return why a trace is kept when its answer is over: 'failed', 'slow', or '' for no reason.

    `slow_seconds` of 0 is for nothing being slow.
    """
    if status >= _FAILED:
        return "failed"
    return "slow" if 0 < slow_seconds <= seconds else ""
