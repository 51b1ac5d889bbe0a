"""How long to wait before the next attempt, at most."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """An exponential ceiling; the wait itself is drawn evenly between 0 and it (full jitter).

    Full, because callers that failed together and wait alike come back together. 50 ms is the time
    of a failover inside a rack, 2 s what a person waits; AWS and SRE practice double in between.
    Raises `ValueError` for numbers that could not be waited for.
    """

    base_seconds: float = 0.05
    factor: float = 2.0
    cap_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.base_seconds <= self.cap_seconds < float("inf"):
            raise ValueError(
                f"a backoff begins above 0 s and ends finite: base {self.base_seconds} s, "
                f"cap {self.cap_seconds} s"
            )
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"a backoff does not shrink: factor {self.factor}")

    def ceiling(self, attempt: int) -> float:
        """Return the longest wait, in seconds, after the failed attempt number `attempt`."""
        try:
            return min(self.cap_seconds, self.base_seconds * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap_seconds
