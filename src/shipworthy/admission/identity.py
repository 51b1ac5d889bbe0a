"""Who a request is charged to, and the name of the bucket that is: a keyed hash, and no client's.

Pure but for the secret, which is made here where nobody gives one.
"""

import os
from hashlib import blake2b
from typing import Final, Literal, final, get_args

Source = Literal["api_key", "user", "network"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)
NETWORK: Final[Source] = "network"
# Its 30 digits are the longest text that CPython keeps in 80 bytes.
_DIGEST_BYTES: Final = 15
# A hash takes no longer key.
_SECRET_BYTES: Final = 64


@final
class KeyMaker:
    """Makes the names of buckets; two that have the same `secret` make the same.

    Without one it is drawn for this process: nobody outside can then choose a name.
    """

    __slots__ = ("_begun",)

    def __init__(self, secret: str = "") -> None:
        key = blake2b(secret.encode()).digest() if secret else os.urandom(_SECRET_BYTES)
        self._begun = blake2b(digest_size=_DIGEST_BYTES, key=key)

    def key(self, policy: str, source: str, value: str, route: str = "") -> str:
        """Return 30 characters for what may be of any length."""
        made = self._begun.copy()
        # A length in front of what a client chooses: no two of them can run into one another.
        text = f"{policy}\0{source}\0{route}\0{len(value)}\0{value}"
        made.update(text.encode("utf-8", "surrogatepass"))
        return made.hexdigest()
