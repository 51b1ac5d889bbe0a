"""What is decided about a call to another service: pure, by what is known of it.

The judges go by the names of exceptions, not by their classes, so that deciding imports neither
httpx nor requests; the libraries (and httpcore and urllib3 below them) agree on these names.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import final

from shipworthy.context import RequestRecord
from shipworthy.resilience import Effect, Failure

# RFC 9110, 9.2.2: sending it twice has the same effect on the target as sending it once.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

# Answers that say "not now". 429 speaks of the caller: it does not count against the target.
_PASSING = {408: "timed out", 429: "asks for fewer calls", 502: "is behind a gateway that cannot "
            "reach it", 503: "is not available", 504: "did not answer its gateway"}  # fmt: skip

# The longest date there is has 33; reading a number of many digits takes quadratic time.
_DATE_CHARACTERS = 40

# A chain of causes is short; a loop in one must not hold us.
_CHAIN = 16


class Repeat(Enum):
    """When a call may be sent again."""

    ANY = "after any failure that may pass"
    UNSENT = "only when nothing of it reached the target"
    NEVER = "not by us: what is below us repeats already"


def repeat_of(method: str, *, keyed: bool, replayable: bool, repeated_below: bool) -> Repeat:
    """Decide when a call may be sent again.

    `keyed`: the app gave it an Idempotency-Key. `replayable`: its body is held in memory, or it
    has none. `repeated_below`: the app told its transport to retry.
    """
    if repeated_below:
        return Repeat.NEVER
    if replayable and (method in IDEMPOTENT or keyed):
        return Repeat.ANY
    return Repeat.UNSENT


def leaves_traces(method: str) -> bool:
    """Tell whether a call does something that another one of the same would do again.

    Also with an Idempotency-Key: whoever makes the call anew may make a new key.
    """
    return method not in IDEMPOTENT


def fails(status: int) -> bool:
    """Tell whether an answer counts against the target."""
    return status >= 500 or status in _PASSING


def judge_answer(
    status: int, repeat: Repeat, *, retry_after_seconds: float | None, patience_seconds: float
) -> Failure:
    """Judge an answer that `fails`.

    One that says nothing about passing (500, 501, 505) is not asked for again: what broke there
    breaks again. Nor is one whose Retry-After is longer than `patience_seconds`.
    """
    passing = status in _PASSING
    because = f"the target answered {status}"
    if passing:
        because += f": it {_PASSING[status]}"
    if retry_after_seconds is not None and retry_after_seconds > patience_seconds:
        passing = False
        because += f", and wants to be left alone for {retry_after_seconds:.0f} s"
    return Failure(
        transient=passing and repeat is Repeat.ANY,
        effect=Effect.NONE if repeat is Repeat.ANY else Effect.UNKNOWN,
        counts=status != 429,
        retry_after_seconds=retry_after_seconds,
        because=because,
    )


def judge_error(error: BaseException, repeat: Repeat) -> Failure:
    """Judge what a client library raised.

    What the table does not know (the app's own body may raise anything) is not repeated, and says
    nothing about the target.
    """
    names = frozenset(_names(error))
    trouble = next((row for row in _TROUBLES if not row.names.isdisjoint(names)), _STRANGE)
    may = repeat is Repeat.ANY or (repeat is Repeat.UNSENT and not trouble.sent)
    return Failure(
        transient=trouble.transient and may,
        effect=Effect.UNKNOWN if trouble.sent and repeat is not Repeat.ANY else Effect.NONE,
        refused=trouble.refused,
        counts=trouble.counts,
        because=trouble.because,
    )


def retry_after(value: str | None, *, wall: float) -> float | None:
    """Return the seconds a Retry-After header asks for, from `wall` (Unix seconds) on.

    None where there is no header, or none that can be read; a date that has passed is 0.
    """
    text = (value or "").strip()
    if len(text) > _DATE_CHARACTERS:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a zone of more days than there can be
        return None
    # HTTP dates are in GMT (RFC 9110, 5.6.7), also where "-0000" makes Python doubt it.
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall)


def host_in(host: str, patterns: Iterable[str]) -> bool:
    """Tell whether `host` is one of `patterns`: a name, or `.name` for it and all below it."""
    host = host.lower().rstrip(".")
    for pattern in map(str.lower, patterns):
        if host == pattern.lstrip(".") or (pattern.startswith(".") and host.endswith(pattern)):
            return True
    return False


def trace_headers(record: RequestRecord, present: Container[str]) -> list[tuple[str, str]]:
    """Return the headers that carry the request we work for on, without what the app set itself.

    `present` is asked for lower case names. A trace the app began is not mixed with ours, so
    `tracestate` goes with `traceparent` or not at all.
    """
    added = []
    if "traceparent" not in present and "tracestate" not in present:
        added.append(("traceparent", record.traceparent))
        if record.tracestate:
            added.append(("tracestate", record.tracestate))
    if "x-request-id" not in present:
        added.append(("X-Request-ID", record.request_id))
    return added


@final
@dataclass(frozen=True, slots=True)
class _Trouble:
    """A row of the table: any of these names in the chain of causes means this."""

    names: frozenset[str]
    because: str
    _: KW_ONLY
    transient: bool = False
    sent: bool = False
    refused: bool = False
    counts: bool = True


_STRANGE = _Trouble(frozenset(), "the call could not be made", sent=True, counts=False)

# The first row that fits holds: special names stand above the general ones they come with.
_TROUBLES = (
    # What only the caller can mend: a wrong call, or more calls at once than its pool has.
    _Trouble(
        frozenset(
            {"LocalProtocolError", "PoolTimeout", "EmptyPoolError", "ClosedPoolError",
             "InvalidURL", "InvalidHeader"}
        ),
        "the call could not be made",
        counts=False,
    ),
    _Trouble(
        frozenset({"SSLCertVerificationError", "CertificateError"}),
        "the target's certificate is not trusted",
        counts=False,
    ),
    _Trouble(frozenset({"ProxyError"}), "the proxy did not let the call through"),
    _Trouble(frozenset({"RetryError"}), "the app's own retries are used up", sent=True),
    _Trouble(
        frozenset({"ConnectTimeout", "ConnectTimeoutError"}),
        "no connection in time",
        transient=True,
        refused=True,
    ),
    _Trouble(
        frozenset({"ConnectError", "NewConnectionError"}),
        "no connection",
        transient=True,
        refused=True,
    ),
    _Trouble(
        frozenset({"ReadTimeout", "ReadTimeoutError", "WriteTimeout"}),
        "no answer in time",
        transient=True,
        sent=True,
    ),
    _Trouble(
        frozenset(
            {"ReadError", "WriteError", "CloseError", "RemoteProtocolError", "ConnectionError",
             "SSLError"}
        ),
        "the connection was lost",
        transient=True,
        sent=True,
    ),
)  # fmt: skip


def _names(error: BaseException) -> Iterator[str]:
    """Give the class names of an error and of what caused it.

    Not of its context: that may be an error of the app, which called us to get over it.
    """
    ahead: list[object] = [error]
    for _ in range(_CHAIN):
        if not ahead:
            return
        one = ahead.pop()
        if not isinstance(one, BaseException):
            continue
        yield from (cls.__name__ for cls in type(one).__mro__)
        # urllib3 keeps the cause in `reason`, requests in its arguments, anyio in a group.
        group = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        ahead += [one.__cause__, getattr(one, "reason", None), *one.args[:4], *group[:4]]
