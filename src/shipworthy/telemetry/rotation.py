"""When a file of the log is full or old, what it is called then, and which old ones go."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

_MOMENT = re.compile(r"\.\d{8}T\d{6}\.\d{6}Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRule:
    """How large and how old a file may be, and how many old ones are kept; 0 is without a limit.

    Age is counted in whole periods since 1970, in UTC: with a day, a file ends at midnight.
    """

    size_bytes: int = 0
    age_seconds: float = 0.0
    keep: int = 0

    def due(self, size_bytes: int, modified: float, *, more_bytes: int, now: float) -> bool:
        """Tell whether the file should be put aside before `more_bytes` are written at `now`.

        `modified` is when it was last written to, so whoever looks decides the same, after a
        restart and in every process. An empty file never is.
        """
        if size_bytes == 0:
            return False
        if self.size_bytes and size_bytes + more_bytes > self.size_bytes:
            return True
        age = self.age_seconds
        # Only forward: a clock that was put back ends no file.
        return bool(age) and now // age > modified // age

    def surplus(self, name: str, names: Iterable[str]) -> list[str]:
        """Return which of the files `names` in the folder of the log `name` go, the oldest first.

        Only what `aside` has named is one of them.
        """
        ours = sorted(
            found
            for found in names
            if found.startswith(name) and _MOMENT.fullmatch(found, len(name))
        )
        return ours[: -self.keep] if self.keep else []


def aside(path: str, now: float) -> str:
    """Return what the file at `path` is called from `now` on: in the order of time."""
    return f"{path}.{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S.%f}Z"
