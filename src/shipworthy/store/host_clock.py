"""A time that all processes of a machine share and that nobody can set.

The wall clock is asked once for each start of the machine; from there on the time goes by the clock
that counts since that start, which no correction of the wall clock moves. What was added to it is
kept where the processes meet, so they all have the same time, whenever each was started.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Anchor(NamedTuple):
    """What is kept for all: in which start of the machine, what is added, the newest time seen."""

    boot: str
    offset_ns: int
    seen_ns: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HostClock:
    """The clocks of one machine. `boot` names its present start, and is empty where none does."""

    boot: str
    steady_ns: Callable[[], int]
    wall_ns: Callable[[], int]

    def anchored(self, known: Anchor | None) -> Anchor:
        """Return the anchor to go by: the one that is known, as long as the machine runs.

        A new one never begins before the newest time that was seen, whatever the wall clock says.
        """
        if known is not None and known.boot and known.boot == self.boot:
            return known
        seen = 0 if known is None else known.seen_ns
        begin = max(self.wall_ns(), seen)
        return Anchor(self.boot, begin - self.steady_ns(), begin)


def host_clock() -> HostClock:
    """Return the clocks of this machine."""
    boot = ""
    with suppress(OSError):
        boot = _BOOT.read_text().strip()
    counted = getattr(time, "CLOCK_BOOTTIME", None)
    if counted is None:
        return HostClock(boot=boot, steady_ns=time.monotonic_ns, wall_ns=time.time_ns)
    # It counts a suspended machine's sleep too.
    return HostClock(
        boot=boot, steady_ns=lambda: time.clock_gettime_ns(counted), wall_ns=time.time_ns
    )
