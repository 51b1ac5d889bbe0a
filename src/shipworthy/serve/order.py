"""What the supervisor hands to a worker it starts: one JSON argument, and descriptors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything a worker needs to begin; secrets travel in the environment, never here."""

    target: str
    directory: str
    config: str | None
    overrides: Mapping[str, str]
    channel_fd: int
    listen_fds: tuple[int, ...]
    generation: int
    # How many are to serve; each may have to share what a database has with so many.
    workers: int = 1
    # A datagram socket on which the worker's watcher says that the event loop stands, and where;
    # -1 is none.
    watch_fd: int = -1
    survey: bool = False
    # The directory in which it counts, "" for its memory.
    segments: str = ""
    # Not yet a worker: it imports what it is told over the pipe, and waits there to be needed.
    spare: bool = False
    # The sockets were handed over: whoever did so goes on listening when the service leaves.
    keep_listening: bool = False

    @property
    def fds(self) -> tuple[int, ...]:
        """Return the descriptors that the worker is handed."""
        watch = () if self.watch_fd < 0 else (self.watch_fd,)
        return (self.channel_fd, *watch, *self.listen_fds)

    def to_text(self) -> str:
        """Render as the worker's argument."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> "Order":
        """Read the argument back."""
        facts: dict[str, Any] = orjson.loads(text)
        facts["listen_fds"] = tuple(facts["listen_fds"])
        return cls(**facts)
