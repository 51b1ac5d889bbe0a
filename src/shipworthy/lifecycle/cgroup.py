"""What the kernel lets this process have, and what its group uses: control groups, v1 and v2.

Which hierarchy counts is decided for each controller, since hybrid hosts have some in one and some
in the other. A limit of any ancestor holds for us too, so all that can be seen are read.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, final

# What the kernel writes for "no limit" in v1 is the largest multiple of a page below 2^63; nothing
# that exists has 2^60 bytes.
UNLIMITED = 2**60
_MICROSECOND = 1e-6
_NANOSECOND = 1e-9

Controller = Literal["memory", "cpu", "pids"]
Version = Literal[1, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much there is of one thing, and whose word that is: a file, or a name of a limit."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupUse:
    """What the group uses now; None is a number that cannot be read here.

    Memory and its limit belong to the level of the tree that is nearest to its limit; the memory
    is the working set, without the file cache that the kernel gives back by itself. Counts are
    those since the group was made, pressures are shares of the last ten seconds in which somebody
    waited.
    """

    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_seconds: float | None = None
    memory_limit_hits: int | None = None
    oom_kills: int | None = None
    memory_pressure_ratio: float | None = None
    cpu_pressure_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a controller's files are: our own folder first, then those above it."""

    version: Version
    folders: tuple[Path, ...]


@final
class Cgroup:
    """The control groups of this process, found once and read again and again.

    `root` stands in for `/` in tests. Nothing here raises for what it finds: a number that cannot
    be read is None, and `unread` is called once for each file with a sentence. Not thread-safe.
    """

    def __init__(
        self, root: Path = Path("/"), *, unread: Callable[[str, str], object] = lambda *_: None
    ) -> None:
        self._root = root
        self._unread = unread
        self._said: set[str] = set()
        self._places: dict[Controller, _Place] = dict(self._find())

    def versions(self) -> dict[Controller, Version]:
        """Say which version each controller is read from; one that is not there is left out."""
        return {name: place.version for name, place in self._places.items()}

    def memory_limit(self) -> Limit | None:
        """Return the smallest limit of memory, in bytes; None when there is none to be seen."""
        return _smallest(
            limit for folder in self._folders("memory") for limit in self._memory_limits(folder)
        )

    def cpu_limit(self) -> Limit | None:
        """Return the smallest quota, in CPUs: 1.5 is 150 ms of CPU time in each 100 ms."""
        return _smallest(
            limit for folder in self._folders("cpu") if (limit := self._quota(folder)) is not None
        )

    def pids_limit(self) -> Limit | None:
        """Return the smallest limit of processes and threads together."""
        return _smallest(
            self._limit(folder / "pids.max", number)
            for folder in self._folders("pids")
            if (number := self._number(folder / "pids.max")) is not None
        )

    def use(self) -> CgroupUse:
        """Read what the group uses now; some ten small files."""
        use = self._memory_use()
        pids = _nearest(
            (self._number(folder / "pids.current"), self._number(folder / "pids.max"))
            for folder in self._folders("pids")
        )
        return replace(
            self._cpu_use(use),
            pids=pids[0],
            pids_limit=pids[1],
            memory_pressure_ratio=self._pressure("memory"),
            cpu_pressure_ratio=self._pressure("cpu"),
        )

    # Where things are.

    def _find(self) -> Iterator[tuple[Controller, _Place]]:
        paths = self._own_paths()
        mounts = list(self._mounts())
        names: tuple[Controller, ...] = ("memory", "cpu", "pids")
        for name in names:
            for version, key in ((1, name), (2, "")):
                mount = next((m for m in mounts if m[0] == version and (key in m[1])), None)
                if key in paths and mount is not None:
                    folders = self._folders_of(paths[key], mount[2], mount[3])
                    yield name, _Place(1 if version == 1 else 2, folders)
                    break

    def _own_paths(self) -> dict[str, str]:
        """Return our path in each hierarchy, by controller; '' is the key of version 2."""
        found: dict[str, str] = {}
        for row in self._text("proc/self/cgroup").splitlines():
            parts = row.split(":", 2)
            if len(parts) == 3:
                for controller in parts[1].split(","):
                    found[controller] = parts[2]
        return found

    def _mounts(self) -> Iterator[tuple[int, frozenset[str], str, str]]:
        """Yield version, controllers, the mounted part of the tree, and where it is mounted."""
        for row in self._text("proc/self/mountinfo").splitlines():
            before, _, after = row.partition(" - ")
            mount, kind = before.split(" "), after.split(" ")
            if len(mount) < 5 or not kind[0].startswith("cgroup"):
                continue
            where = _unescaped(mount[3]), _unescaped(mount[4])
            if kind[0] == "cgroup2":
                yield 2, frozenset({""}), *where
            elif len(kind) > 2:
                yield 1, frozenset(kind[2].split(",")), *where

    def _folders_of(self, path: str, mounted: str, point: str) -> tuple[Path, ...]:
        """Return our folder and those above it, as far as they are mounted here.

        In a container the path may be the host's, and what is mounted its very end: then, and
        whenever our folder is not to be seen, the mount itself is ours.
        """
        top = self._root / point.lstrip("/")
        inside = PurePosixPath(path)
        with contextlib.suppress(ValueError):
            inside = inside.relative_to(mounted)
        parts = [part for part in inside.parts if part != "/"]
        if ".." in parts or not top.joinpath(*parts).is_dir():
            parts = []
        return tuple(top.joinpath(*parts[:count]) for count in range(len(parts), -1, -1))

    def _folders(self, name: Controller) -> tuple[Path, ...]:
        place = self._places.get(name)
        return place.folders if place is not None else ()

    def _version(self, name: Controller) -> Version | None:
        place = self._places.get(name)
        return place.version if place is not None else None

    # Memory.

    def _memory_limits(self, folder: Path) -> Iterator[Limit]:
        """Yield what is set at one level: in v2 where we are killed, and where we are slowed."""
        if self._version("memory") == 2:
            files = ["memory.max", "memory.high"]
        else:
            files = ["memory.limit_in_bytes"]
            above = self._pairs(folder / "memory.stat").get("hierarchical_memory_limit", UNLIMITED)
            if above < UNLIMITED:
                yield self._limit(folder / "memory.stat", above)
        for file in files:
            number = self._number(folder / file)
            if number is not None:
                yield self._limit(folder / file, number)

    def _memory_use(self) -> CgroupUse:
        folders = self._folders("memory")
        if not folders:
            return CgroupUse()
        new = self._version("memory") == 2
        used = "memory.current" if new else "memory.usage_in_bytes"
        cache = "inactive_file" if new else "total_inactive_file"

        def level(folder: Path) -> tuple[int | None, int | None]:
            number = self._number(folder / used)
            if number is not None:
                number = max(0, number - self._pairs(folder / "memory.stat").get(cache, 0))
            limit = _smallest(self._memory_limits(folder))
            return number, None if limit is None else int(limit.value)

        memory, limit = _nearest(level(folder) for folder in folders)
        if new:
            events = self._pairs(folders[0] / "memory.events")
            hits, kills = events.get("max"), events.get("oom_kill")
        else:
            hits = self._number(folders[0] / "memory.failcnt")
            kills = self._pairs(folders[0] / "memory.oom_control").get("oom_kill")
        return CgroupUse(
            memory_bytes=memory, memory_limit_bytes=limit, memory_limit_hits=hits, oom_kills=kills
        )

    # CPU.

    def _quota(self, folder: Path) -> Limit | None:
        if self._version("cpu") == 2:
            file = folder / "cpu.max"
            quota, _, period = self._text(file).strip().partition(" ")
        else:
            file = folder / "cpu.cfs_quota_us"
            quota = self._text(file).strip()
            period = self._text(folder / "cpu.cfs_period_us").strip()
        if not (_is_number(quota) and _is_number(period) and int(quota) and int(period)):
            return None  # "max", -1, no such file, or nothing that could be a quota
        return self._limit(file, int(quota) / int(period))

    def _cpu_use(self, use: CgroupUse) -> CgroupUse:
        """Add how often the CPU was taken away, at the level that has the smallest quota."""
        folders = self._folders("cpu")
        if not folders:
            return use
        quotas = [(quota.value, f) for f in folders if (quota := self._quota(f)) is not None]
        stat = self._pairs((min(quotas)[1] if quotas else folders[0]) / "cpu.stat")
        seconds = None
        if "throttled_usec" in stat:
            seconds = stat["throttled_usec"] * _MICROSECOND
        elif "throttled_time" in stat:
            seconds = stat["throttled_time"] * _NANOSECOND
        return replace(
            use,
            cpu_periods=stat.get("nr_periods"),
            cpu_throttled_periods=stat.get("nr_throttled"),
            cpu_throttled_seconds=seconds,
        )

    def _pressure(self, name: Literal["memory", "cpu"]) -> float | None:
        """Return the group's own pressure, or the machine's where groups have none."""
        files = [self._root / "proc/pressure" / name]
        if self._version(name) == 2:
            files.insert(0, self._folders(name)[0] / f"{name}.pressure")
        for file in files:
            found = re.match(r"some avg10=(\d+\.\d+) ", self._text(file))
            if found:
                return float(found[1]) / 100
        return None

    # Files.

    def _text(self, file: str | Path) -> str:
        path = self._root / file
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            pass  # the top of a tree has no limits, and not every kernel has every file
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            self._say(path, getattr(error, "strerror", None) or type(error).__name__)
        return ""

    def _number(self, file: Path) -> int | None:
        """Return a file's one number; None for "max", none at all, and one that is no limit."""
        text = self._text(file).strip()
        if _is_number(text):
            number = int(text)
            return number if number < UNLIMITED else None
        if text and text != "max":
            self._say(file, f"it says {text[:40]!r} where a number is expected")
        return None

    def _pairs(self, file: Path) -> dict[str, int]:
        """Return the rows `name number` of a file; what is none is passed over."""
        found: dict[str, int] = {}
        for row in self._text(file).splitlines():
            name, _, number = row.partition(" ")
            if _is_number(number):
                found[name] = int(number)
        return found

    def _limit(self, file: Path, value: float) -> Limit:
        return Limit(value=value, source=str(self._shown(file)))

    def _say(self, file: Path, because: str) -> None:
        shown = str(self._shown(file))
        if shown not in self._said:
            self._said.add(shown)
            self._unread(shown, because)

    def _shown(self, file: Path) -> PurePosixPath:
        return PurePosixPath("/") / file.relative_to(self._root)


def _smallest(limits: Iterator[Limit]) -> Limit | None:
    return min(limits, key=lambda limit: limit.value, default=None)


def _nearest(levels: Iterator[tuple[int | None, int | None]]) -> tuple[int | None, int | None]:
    """Return use and limit of the level nearest to its limit; without any, our own use."""
    known = list(levels)
    limited = [(used / limit, used, limit) for used, limit in known if used is not None and limit]
    if limited:
        return max(limited)[1:]
    return (known[0][0] if known else None), None


def _is_number(text: str) -> bool:
    """Tell a number of the kernel's, 64 bits at most, from what Python would refuse to read."""
    return text.isdecimal() and len(text) <= 20


def _unescaped(text: str) -> str:
    r"""Undo what the kernel does to blanks in a path: `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
