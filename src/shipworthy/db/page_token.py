"""Page tokens: a position in an ordered list, signed, so that it can be handed to a client.

A token is base64url of one byte of version, 16 bytes of HMAC-SHA256 and the position as JSON. What
the position belongs to (the list, its order, its filter) is not in the token: it is signed with it,
so a token of another list is as invalid as a forged one, and the two cannot be told apart. Pure;
safe to share between threads.
"""

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, final
from uuid import UUID

from typing_extensions import override

from shipworthy.db.page_settings import PageSettings
from shipworthy.errors import Misuse, RequestInvalid, SettingsInvalid

# Servers and proxies begin to refuse lines above 8 KiB, and a page has other parameters too.
LONGEST_TOKEN = 4096

_VERSION = b"\x01"
_MAC_BYTES = 16
_PURPOSE = b"shipworthy page token 1\0"

Why = Literal["unreadable", "not ours", "expired"]


class PageTokenInvalid(RequestInvalid):
    """A page token that was not issued for this request, or too long ago.

    The message is for the client and never holds anything of the token. `why` is for the log:
    unreadable, not ours (forged, of another list, order or filter, or of a key that is gone) or
    expired.
    """

    def __init__(self, why: Why) -> None:
        self.why = why
        super().__init__(
            "the page token has expired; begin again with the first page"
            if why == "expired"
            else "the page token does not belong to this request; begin again with the first page"
        )


@final
@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: behind the row with these `values`, in the order or against it.

    Without values it begins at the first row, or `backward` at the last.
    """

    values: tuple[Any, ...] | None
    backward: bool = False


@final
class PageKeys:
    """The keys that page tokens are signed with: the first signs, every one verifies.

    To change the key, put the new one first; take the old one away when its tokens have expired.
    Several processes that serve one list must have the same keys, in any order while they change.
    """

    __slots__ = ("_keys",)

    def __init__(self, *keys: str | bytes) -> None:
        if not keys or not all(keys):
            raise Misuse("page tokens need a key of at least one character to be signed with")
        self._keys = tuple(key.encode() if isinstance(key, str) else key for key in keys)

    @classmethod
    def of(cls, settings: PageSettings) -> "PageKeys":
        """Return the keys that are set; raises `SettingsInvalid` when none is."""
        keys = settings.keys.reveal().split()
        if not keys:
            problem = (
                "pages.keys: not set, so no page token could be signed; set it to what "
                '`python -c "import secrets; print(secrets.token_urlsafe(32))"` prints'
            )
            raise SettingsInvalid([problem])
        return cls(*keys)

    @classmethod
    def random(cls) -> "PageKeys":
        """Return a key of this process alone: its tokens end with it, and no other takes them."""
        return cls(secrets.token_bytes(32))

    @override
    def __repr__(self) -> str:
        return f"<PageKeys: {len(self._keys)}>"

    def sign(self, position: Position, *, binding: bytes, expires: float) -> str:
        """Return the token of a position; `expires` in Unix seconds, `binding` from `bind`.

        Raises `Misuse` for a value that no token can hold, and when the token would be too long.
        """
        values = None if position.values is None else [_packed(one) for one in position.values]
        content = [int(expires), int(position.backward), values]
        payload = json.dumps(content, separators=(",", ":")).encode()
        token = _text(_VERSION + _mac(self._keys[0], binding, payload) + payload)
        if len(token) > LONGEST_TOKEN:
            raise Misuse(
                f"a page token of {len(token)} characters is longer than the {LONGEST_TOKEN} that "
                "travel safely in a URL; order by something shorter"
            )
        return token

    def read(self, token: str, *, binding: bytes, now: float) -> Position:
        """Return the position of a token; raises `PageTokenInvalid`."""
        data = _bytes(token)
        if data is None or data[:1] != _VERSION:
            raise PageTokenInvalid("unreadable")
        mac, payload = data[1 : 1 + _MAC_BYTES], data[1 + _MAC_BYTES :]
        # Every key is tried each time, so that the time says nothing about which one fits.
        fits = [hmac.compare_digest(_mac(key, binding, payload), mac) for key in self._keys]
        if not any(fits):
            raise PageTokenInvalid("not ours")
        expires, backward, values = json.loads(payload)
        if now >= expires:
            raise PageTokenInvalid("expired")
        unpacked = None if values is None else tuple(_unpacked(one) for one in values)
        return Position(unpacked, backward=bool(backward))


def bind(parts: Sequence[str]) -> bytes:
    """Return what a token is bound to; no two different sequences of texts give the same."""
    return sha256(json.dumps(list(parts)).encode()).digest()


def _mac(key: bytes, binding: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + binding + payload, "sha256")[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(token: str) -> bytes | None:
    """Return what a token is made of; only the one spelling that `_text` writes is read."""
    if not token.isascii() or len(token) > LONGEST_TOKEN:
        return None
    try:
        data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (NotBase64, ValueError):
        return None
    return data if _text(data) == token else None


_PLAIN = (str, int, bool, type(None))
# A datetime is a date, so it stands before it.
_PACKINGS: tuple[tuple[str, type[Any], Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    ("f", float, float.hex, float.fromhex),
    ("n", Decimal, str, Decimal),
    ("t", datetime, datetime.isoformat, datetime.fromisoformat),
    ("d", date, date.isoformat, date.fromisoformat),
    ("c", time, time.isoformat, time.fromisoformat),
    (
        "i",
        timedelta,
        lambda one: [one.days, one.seconds, one.microseconds],
        lambda n: timedelta(*n),
    ),
    ("u", UUID, str, UUID),
    ("b", bytes, bytes.hex, bytes.fromhex),
)
_UNPACK = {tag: unpack for tag, _, _, unpack in _PACKINGS}


def _packed(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    for tag, kind, pack, _ in _PACKINGS:
        if isinstance(value, kind):
            return [tag, pack(value)]
    raise Misuse(
        f"a value of type {type(value).__qualname__} cannot be put into a page token; order by a "
        "column of a plain type, or give `type_coerce(column, ...)` one"
    )


def _unpacked(packed: Any) -> Any:
    if not isinstance(packed, list):
        return packed
    tag, value = packed
    return _UNPACK[tag](value)
