"""Which requests go before others when not all can be served: by method and path. Pure."""

from collections.abc import Sequence
from typing import Final, Literal, final

from shipworthy.admission.pattern import WEBSOCKET, pattern_of, plain

Rank = Literal["critical", "default", "sheddable"]

# In the order in which they are served.
RANKS: Final[tuple[Rank, ...]] = ("critical", "default", "sheddable")


@final
class Ranks:
    """Tell the rank of a request from its method and path.

    What is named is written as for rate limits (`pattern`); what two lists name is of the first.
    Raises `Misuse` for what could never match.
    """

    def __init__(self, *, critical: Sequence[str] = (), sheddable: Sequence[str] = ()) -> None:
        self._critical = tuple(map(pattern_of, critical))
        self._sheddable = tuple(map(pattern_of, sheddable))

    def of(self, method: str, path: str) -> Rank:
        """Return the rank of a request; the method of a websocket is WEBSOCKET or WS."""
        method = WEBSOCKET if method == "WEBSOCKET" else method
        path = plain(path)
        if any(pattern.matches(method, path) for pattern in self._critical):
            return "critical"
        if any(pattern.matches(method, path) for pattern in self._sheddable):
            return "sheddable"
        return "default"
