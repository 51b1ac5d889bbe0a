"""What is answered instead, and how the answer shows it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

Source = Literal["call", "replica", "stale", "default"]
_UNSET: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Generic[T]):
    """A value with where it came from, so that nobody takes a stand-in for the real thing.

    `age_seconds` is how old a stale value is; `because` is the error a stand-in replaces.
    """

    value: T
    source: Source = "call"
    age_seconds: float = 0.0
    because: str = ""

    @property
    def instead(self) -> bool:
        """Say whether this stands in for the answer that was asked for."""
        return self.source != "call"


class Fallback:
    """Where an answer may come from when the call has failed, in this order.

    `replica`: a function that takes what the call takes, and asks somebody else. `stale_seconds`:
    what the same call answered within that time, for at most `stale_entries` different arguments
    (the least recently used go first); arguments that cannot be hashed are not remembered.
    `default`: a value declared beforehand. Meant for reading; a write has no stand-in. Safe to
    share between threads.
    """

    def __init__(
        self,
        *,
        replica: Callable[..., Any] | None = None,
        stale_seconds: float = 0.0,
        stale_entries: int = 1000,
        default: Any = _UNSET,
    ) -> None:
        if stale_seconds < 0 or stale_entries < 1:
            raise ValueError(
                f"a stale answer is 0 s old or more and one of at least 1, got {stale_seconds} s "
                f"and {stale_entries}"
            )
        if replica is None and not stale_seconds and default is _UNSET:
            raise ValueError("a fallback needs one of replica, stale_seconds and default")
        self.replica = replica
        self.stale_seconds = stale_seconds
        self.stale_entries = stale_entries
        self._default = default
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def remember(self, key: Hashable, value: Any, now: float) -> None:
        """Keep what a call answered, to answer it again when it fails."""
        if not self.stale_seconds or key is None:
            return
        with self._lock:
            self._known[key] = (now, value)
            self._known.move_to_end(key)
            if len(self._known) > self.stale_entries:
                self._known.popitem(last=False)

    def stand_in(self, key: Hashable, because: str, now: float) -> Answered[Any] | None:
        """Return the remembered value if it is young enough, else the default, else None."""
        if key is not None:
            with self._lock:
                known = self._known.get(key)
                if known is not None:
                    self._known.move_to_end(key)
            if known is not None and now - known[0] <= self.stale_seconds:
                return Answered(
                    value=known[1], source="stale", age_seconds=now - known[0], because=because
                )
        if self._default is not _UNSET:
            return Answered(value=self._default, source="default", because=because)
        return None


def key_of(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Return what a call is remembered by, or None when its arguments cannot be hashed."""
    key = (fn, args, tuple(sorted(kwargs.items())))
    try:
        hash(key)
    except TypeError:
        return None
    return key
