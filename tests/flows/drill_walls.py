"""A control group whose kernel is played, and a small disk: what one service of the drill is in.

The service has mounts of its own, which vanish with it; nothing of the machine is changed. Where
its kernel would show its control group there is a folder of the drill, in the format of version 2.
So the kernel's part is played, and everything from the reading of its files onward is real. It
takes root, and the right to mount.
"""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PERIOD_SECONDS: Final = 0.1
MEMORY_BYTES: Final = 2**30
DISK_BYTES: Final = 16 * 2**20
# A share that is told to nobody.
EASY_RATIO: Final = 0.3
# What of the hierarchies of the machine is to be seen goes first: of version 1 there is one for
# each controller, and it would be asked before ours.
_BUILD: Final = f"""
set -e
group=$1 disk=$2
shift 2
umount --lazy --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount --bind "$group" /sys/fs/cgroup
mount -t tmpfs -o size={DISK_BYTES} none "$disk"
exec "$@"
"""


@dataclass(slots=True)
class PlayedGroup:
    """Writes what a kernel would write about a control group; `period` is to be called by time."""

    folder: Path
    used_ratio: float = EASY_RATIO
    throttled: bool = False
    _periods: int = 0
    _throttled_periods: int = 0
    _kills: int = 0
    _written: dict[str, str] = field(default_factory=dict)

    def period(self) -> None:
        """Let a scheduling period go by; in two of three the quota is used up while it is short."""
        self._periods += 1
        self._throttled_periods += self.throttled and self._periods % 3 > 0
        self._write()

    def kill(self) -> None:
        """Count a process that was killed for want of memory."""
        self._kills += 1
        self._write()

    def _write(self) -> None:
        kills, throttled = self._kills, self._throttled_periods
        for name, text in {
            "memory.max": f"{MEMORY_BYTES}",
            "memory.high": "max",
            "memory.current": f"{round(MEMORY_BYTES * self.used_ratio)}",
            "memory.stat": "inactive_file 0",
            "memory.events": f"low 0\nhigh 0\nmax {kills}\noom {kills}\noom_kill {kills}",
            "cpu.max": f"{(os.cpu_count() or 1) * 100_000} 100000",
            "cpu.stat": f"usage_usec 0\nnr_periods {self._periods}\nnr_throttled {throttled}\n"
            f"throttled_usec {throttled * 50_000}",
        }.items():
            if self._written.get(name) != text:
                # In one go, as the kernel answers.
                new = self.folder / f".{name}"
                new.write_text(text + "\n")
                new.replace(self.folder / name)
                self._written[name] = text


@dataclass(frozen=True, slots=True)
class Walls:
    """The group and the disk of one service, to be built around it by `before`."""

    group: PlayedGroup
    disk: Path

    @property
    def before(self) -> tuple[str, ...]:
        """Return the command that builds them, runs the command after it, and is it then."""
        return _around(self.group.folder, self.disk)

    def fill(self, pid: int, ratio: float) -> None:
        """Fill the disk to that share: it is to be seen only through the service."""
        (self._seen_by(pid) / "filling").write_bytes(bytes(int(DISK_BYTES * ratio)))

    def empty(self, pid: int) -> None:
        """Take away what fills the disk."""
        (self._seen_by(pid) / "filling").unlink()

    def _seen_by(self, pid: int) -> Path:
        return Path(f"/proc/{pid}/root") / self.disk.relative_to("/")


@contextmanager
def walls_in(folder: Path) -> Iterator[Walls]:
    """Play the kernel for a group in `folder`, where the disk is to be, too, while it lasts."""
    group, disk = folder / "group", folder / "disk"
    group.mkdir()
    disk.mkdir()
    played = PlayedGroup(group)
    played.period()
    over = threading.Event()

    def play() -> None:
        while not over.wait(PERIOD_SECONDS):
            played.period()

    playing = threading.Thread(target=play)
    playing.start()
    try:
        yield Walls(played, disk.resolve())
    finally:
        over.set()
        playing.join()


def why_no_walls() -> str:
    """Return why they cannot be built here, or '' where they can."""
    if shutil.which("unshare") is None:
        return "there is no command unshare"
    with tempfile.TemporaryDirectory() as folder:
        group, disk = Path(folder, "group"), Path(folder, "disk")
        group.mkdir()
        disk.mkdir()
        tried = subprocess.run(
            [*_around(group, disk), "true"], capture_output=True, text=True, check=False
        )
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else f"unshare ended with {tried.returncode}"


def _around(group: Path, disk: Path) -> tuple[str, ...]:
    private = ("unshare", "--mount", "--propagation", "private")
    return (*private, "sh", "-c", _BUILD, "walls", str(group), str(disk))
