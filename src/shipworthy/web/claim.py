"""What an Idempotency-Key means: whether a request may be run, and what is kept of it. Pure.

By draft-ietf-httpapi-idempotency-key-header: a key stands for one request and its answer. Whoever
sends it again gets that answer (or 409 while there is none), whoever sends it with another request
422.

Not here: where it is written (`db`), and the guard that asks (`idempotency`).
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from hashlib import sha256
from typing import Final, Protocol, final

from shipworthy.errors import Rejected, RequestInvalid

KEY_CHARACTERS: Final = 255
# The draft wants a string in quotes (RFC 8941); most clients send the text alone. Both are the same
# key, so a client may change its mind.
_QUOTED: Final = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_PLAIN: Final = re.compile(rb"[!#-+\--\[\]-~]+")
_ESCAPED: Final = re.compile(rb'\\(["\\])')
# Told again, these would be wrong: they are about one exchange, or one client.
_NOT_KEPT: Final = frozenset(
    {
        b"age", b"connection", b"date", b"keep-alive", b"retry-after", b"server", b"set-cookie",
        b"traceparent", b"tracestate", b"transfer-encoding", b"x-request-id",
    }
)  # fmt: skip
# Answers that say "not now", or "not as who you are now": the same may go well later.
_PASSING: Final = frozenset({401, 403, 407, 408, 425, 429})


@final
class KeyInvalid(RequestInvalid):
    """The request's Idempotency-Key cannot be one."""


@final
class KeyMissing(RequestInvalid):
    """The route takes no request without an Idempotency-Key."""

    def __init__(self) -> None:
        super().__init__(
            "this route needs an Idempotency-Key: send a new one with each new request, and the "
            "same when you send a request again"
        )


@final
class KeyReused(RequestInvalid):
    """The key was used for another request before."""

    status = 422

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used for another request (method, path, query or body "
            "differ); send a new key with a new request"
        )


@final
class KeyAnswerLost(RequestInvalid):
    """The request took effect, or may have, and what was answered is not known any more."""

    status = 409

    def __init__(self) -> None:
        super().__init__(
            "this request has been worked on before and took effect, or may have; its answer was "
            "not kept. It is not run again: look what became of it"
        )


@final
class KeyInFlight(Rejected):
    """The request is being worked on."""

    status = 409

    def __init__(self, *, retry_after_seconds: float) -> None:
        super().__init__(
            "a request with this Idempotency-Key is being worked on; send it again later for its "
            "answer",
            retry_after_seconds=retry_after_seconds,
        )


class Claimed(Protocol):
    """What is known of a key, as far as is decided by it here."""

    @property
    def fingerprint(self) -> str:
        """Of the request."""
        ...

    @property
    def state(self) -> str:
        """One of `begun`, `applied` and `done`."""
        ...

    @property
    def lease_until(self) -> float:
        """When whoever works on it counts as gone, in Unix seconds."""
        ...

    @property
    def expires(self) -> float:
        """When it is forgotten, in Unix seconds."""
        ...


class KeyVerdict(Enum):
    """What follows for a request whose key is known already."""

    SAY_AGAIN = "there is an answer"
    TAKE_OVER = "nobody works on it, and it had no effect"
    IN_FLIGHT = "somebody works on it"
    OTHER_REQUEST = "the key stands for another request"
    ANSWER_LOST = "it had an effect, and there is no answer"


class Ending(Enum):
    """What is kept of a request that has been worked on."""

    ANSWER = "its answer"
    EFFECT = "that it took effect"
    NOTHING = "nothing, so that it may be sent again"


def key_in(values: Sequence[bytes]) -> str:
    """Return the key in the header's values. Raises `KeyInvalid`."""
    if len(values) != 1:
        raise KeyInvalid(f"send one Idempotency-Key, not {len(values)}")
    value = values[0].strip()
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        value = _ESCAPED.sub(rb"\1", quoted[1])
    elif not _PLAIN.fullmatch(value):
        raise KeyInvalid(
            "an Idempotency-Key is a text in double quotes, or letters, digits and punctuation "
            "without quotes, commas and spaces"
        )
    if not 0 < len(value) <= KEY_CHARACTERS:
        raise KeyInvalid(f"an Idempotency-Key has 1 to {KEY_CHARACTERS} characters")
    return value.decode("ascii")


def key_id(key: str, identity: Iterable[bytes]) -> str:
    """Return under what the key of this client is kept; two clients never share one."""
    return _digest(key.encode(), *identity)


def fingerprint_of(method: str, path: str, query: bytes, length: bytes, body: bytes) -> str:
    """Return what tells one request from another.

    `body` may be the beginning of a long one; `length` is what the request says of the whole.
    """
    return _digest(method.encode(), path.encode("utf-8", "surrogatepass"), query, length, body)


def judge_claim(there: Claimed, *, fingerprint: str, now: float) -> KeyVerdict:
    """Decide what follows for a request with `fingerprint` whose key is `there` already."""
    if there.expires <= now:
        return KeyVerdict.TAKE_OVER
    if there.fingerprint != fingerprint:
        return KeyVerdict.OTHER_REQUEST
    if there.state == "done":
        return KeyVerdict.SAY_AGAIN
    if there.lease_until > now:
        return KeyVerdict.IN_FLIGHT
    return KeyVerdict.TAKE_OVER if there.state == "begun" else KeyVerdict.ANSWER_LOST


def ending_of(*, status: int, whole: bool, took_effect: bool) -> Ending:
    """Decide what is kept; `status` 0 is no answer, `whole` whether all of it could be copied."""
    failed = status == 0 or status >= 500 or status in _PASSING
    if failed and not took_effect:
        return Ending.NOTHING
    return Ending.ANSWER if status and whole else Ending.EFFECT


def kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that are true for whoever gets it later."""
    return [(name, value) for name, value in headers if name.lower() not in _NOT_KEPT]


def _digest(*parts: bytes) -> str:
    digest = sha256()
    for part in parts:
        # With their lengths, so that what ends one part cannot be taken for the start of another.
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()
