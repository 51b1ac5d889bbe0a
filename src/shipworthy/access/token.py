"""A token is `sw_<id>_<secret>`: the id finds it, and of its secret only a hash is kept. Pure.

The hash is one SHA-256 without salt. Slow hashes protect what people think up, which can be
guessed; a secret here is 256 random bits, so nobody tries them all, however fast the hash is, and
each call can afford to check it. What is hashed is the text as it was sent: every change of a
character changes the hash, also one that base64 would decode to the same bytes.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final, final

from shipworthy.access.role import AccessRole

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
# What the maker of a token wants from `secrets`.
RANDOM_BYTES: Final = _ID_BYTES + _SECRET_BYTES
PREFIX: Final = "sw_"
MINUTE_SECONDS: Final = 60

_FORM = re.compile(r"sw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@/-]{0,63}")
# Compared with where there is no token of that id, so that this takes no less.
_NOBODY: Final = "0" * 64


class State(StrEnum):
    """Whether a token opens anything."""

    IN_FORCE = "in force"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of one token; times are whole seconds since 1970."""

    id: str
    name: str
    role: AccessRole
    secret_sha256: str = field(repr=False)
    created: int
    expires: int | None = None
    revoked: int | None = None

    def state(self, wall: float) -> State:
        """Return how it stands at `wall`; what was revoked stays so, also when it expires."""
        if self.revoked is not None:
            return State.REVOKED
        if self.expires is not None and wall >= self.expires:
            return State.EXPIRED
        return State.IN_FORCE


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who sent a token that opens something."""

    name: str
    role: AccessRole


@dataclass(frozen=True, slots=True)
class NoBearer:
    """Why a token that was sent opens nothing, in words for who sent it."""

    because: str


UNKNOWN = NoBearer("the token sent is none of this service")


def is_name(text: str) -> bool:
    """Whether a token may be called that: up to 64 letters, digits, spaces and `. _ @ / -`."""
    return _NAME.fullmatch(text) is not None


def make_token(
    name: str, role: AccessRole, *, random: bytes, created: int, expires: int | None = None
) -> tuple[Token, str]:
    """Return a new token to keep, and the text to show once; `random` is `RANDOM_BYTES` long."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token is made of {RANDOM_BYTES} random bytes, not {len(random)}")
    number = random[:_ID_BYTES].hex()
    secret = urlsafe_b64encode(random[_ID_BYTES:]).rstrip(b"=").decode()
    kept = Token(
        id=number,
        name=name,
        role=role,
        secret_sha256=_hash(secret),
        created=created,
        expires=expires,
    )
    return kept, f"{PREFIX}{number}_{secret}"


@final
class TokenBook:
    """The tokens there are, by id; remembers in which minute each was last used.

    Holds data only. One thread judges; others may copy `used`.
    """

    __slots__ = ("_by_id", "used")

    def __init__(self, tokens: Iterable[Token] = (), used: dict[str, int] | None = None) -> None:
        self._by_id = MappingProxyType({token.id: token for token in tokens})
        # The minute each was last used in, as seconds since 1970.
        self.used = {} if used is None else used

    def __contains__(self, number: str) -> bool:
        return number in self._by_id

    def judge(self, sent: str, wall: float) -> Bearer | NoBearer:
        """Say who sent a text that may be a token; why it opens nothing only its owner learns."""
        form = _FORM.fullmatch(sent) if len(sent) <= 100 else None
        number, secret = form.groups() if form else ("", "")
        token = self._by_id.get(number)
        kept = token.secret_sha256 if token else _NOBODY
        right = hmac.compare_digest(_hash(secret), kept)
        if token is None or not right:
            return UNKNOWN
        state = token.state(wall)
        if state is not State.IN_FORCE:
            return NoBearer(f"the token '{token.name}' ({token.id}) is {state}")
        self.used[token.id] = int(wall) // MINUTE_SECONDS * MINUTE_SECONDS
        return Bearer(token.name, token.role)


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
