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
    survey: bool = False

    def to_text(self) -> str:
        """Render as the worker's argument."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> "Order":
        """Read the argument back."""
        facts: dict[str, Any] = orjson.loads(text)
        facts["listen_fds"] = tuple(facts["listen_fds"])
        return cls(**facts)
