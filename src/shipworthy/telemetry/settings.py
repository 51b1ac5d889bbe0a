"""The settings of the instruments: sections `log`, `history` and `metrics`."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.redact import printable
from shipworthy.settings import Secret, duration, option, secret, section, size


@section("log")
@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and for whom the lines are written."""

    level: Literal["debug", "info", "warning", "error"] = option(
        "info", "the quietest level that is written"
    )
    format: Literal["auto", "json", "text"] = option(
        "auto", "json for programs, text for people; auto is text on a terminal"
    )
    service: str = option("", "the name of the service in every line for programs; '' for none")
    file: str = option("", "the file that lines are appended to; '' is standard output")
    rotate_size_bytes: int = size(
        "100MiB", "from which size on `log.file` is put aside and begun anew; 0 for never"
    )
    rotate_age_seconds: float = duration(
        "0", "after which time it is put aside, in whole periods of UTC as 1d or 1h; 0 for never"
    )
    keep: int = option(
        10, "how many files that were put aside stay; the oldest go. 0 for all", minimum=0
    )


@section("history")
@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """What `run` remembers of the metrics, for charts and alerts without a server beside it.

    How long it remembers, `[retention]` says.
    """

    every_seconds: float = duration(
        "10s",
        "from one snapshot of the metrics to the next; 0 remembers nothing, and no alert is "
        "evaluated",
        maximum="60s",
    )
    memory_bytes: int = size(
        "48MiB",
        "what the history may take of the supervisor's memory; it is shorter where that is not "
        "enough",
        minimum="1MiB",
    )
    file: bool = option(
        True,  # noqa: FBT003
        "whether what is older is kept in a file, which also outlives the process",
    )
    folder: str = option(
        "",
        "where the file is; when not set, where systemd keeps the service's state "
        "($STATE_DIRECTORY), else .shipworthy beside the application",
    )
    disk_bytes: int = size(
        "128MiB", "how large the file may become; what is oldest goes first", minimum="1MiB"
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what would make rates useless; it is refused everywhere."""
        del environment
        if 0 < self.every_seconds < 1:
            what = f"history.every: {self.every_seconds:g}s is less than the second within which "
            return [what + "all workers answer; set 1s or more, or 0 to remember nothing"]
        return []


@section("metrics")
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where several workers count together, and where that is shown without `run`."""

    run_directory: str = option(
        "",
        "directory in which `run` makes one of its own, removed at its end, for what its workers "
        "count; empty for the first that works of systemd's RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, "
        "/dev/shm and the temporary one; in memory is best",
    )
    path: str = option(
        "",
        "path on the application's port at which `harden()` under another server shows what all "
        "its workers count; `run` has it on the operations port, and not there",
    )
    token: Secret = secret(  # noqa: RUF009 - it makes a field
        "the bearer token that opens metrics.path", least_characters=16
    )
    shared_directory: str = option(
        "",
        "directory of this service alone in which those workers count; in memory is best, as "
        "/dev/shm/shop",
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what would show a part for the whole; it is refused everywhere."""
        del environment
        if self.path and not (self.path.startswith("/") and self.path.isprintable()):
            return [f"metrics.path: '{printable(self.path[:100])}' is no path; begin it with /"]
        needed = {"shared_directory": bool(self.shared_directory), "token": bool(self.token)}
        whys = {
            "shared_directory": "each worker would show its own part; name a directory of this "
            "service alone, as /dev/shm/shop",
            "token": "whoever reaches the application would read them; make one of 32 characters",
        }
        if self.path:
            return [
                f"metrics.{name}: not set while metrics.path is, so {whys[name]}"
                for name, given in needed.items()
                if not given
            ]
        return [
            f"metrics.path: not set while metrics.{name} is; set all three, or none"
            for name, given in needed.items()
            if given
        ]
