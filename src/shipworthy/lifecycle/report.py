"""What a shutdown waited for, and what it left behind: the report of a process that has left. Pure.

Not here: who looks, and when (`serve`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import override

from shipworthy.lifecycle.drain import Phase
from shipworthy.lifecycle.fence import CommitUnderWay

# A report is read by people, and must fit through the pipe to the supervisor.
NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReport:
    """How the stop of one component ended; `because` is empty when it did as it should."""

    name: str
    took_seconds: float
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Something the process waits for: what it is, for how long by now, and where it stands."""

    name: str
    for_seconds: float | None = None
    stands: str = ""
    request_id: str = ""

    @override
    def __str__(self) -> str:
        since = "" if self.for_seconds is None else f", for {self.for_seconds:.1f} s"
        at = f", at {self.stands}" if self.stands else ""
        of = f", request {self.request_id}" if self.request_id else ""
        return f"{self.name}{since}{at}{of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """How long a phase took, and what was still there when it was last looked at in it.

    That is what held it: whatever ended earlier did not. `more` are as many that are not named.
    """

    phase: Phase
    seconds: float
    held_by: tuple[Holder, ...]
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadLeft:
    """A thread that was still running at the end, and the line it stood in."""

    name: str
    stands: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownReport:
    """The way out of one process, from the first word to its last.

    `requests_cancelled` were told to come back; `left_behind` swallowed that, or were inside a
    COMMIT; `commits` were not answered when the time to cancel was over, so whether they took
    effect is not known.
    """

    forced: bool
    phases: tuple[PhaseReport, ...]
    requests_cancelled: int
    left_behind: tuple[Holder, ...]
    commits: tuple[CommitUnderWay, ...]
    hooks: tuple[HookReport, ...]
    threads: tuple[ThreadLeft, ...]

    @property
    def clean(self) -> bool:
        """Say whether everything ended, or was ended, as it should."""
        hooks = any(hook.because for hook in self.hooks)
        return not (self.forced or self.left_behind or self.commits or hooks)

    @property
    def took_seconds(self) -> float:
        """Return how long all phases took together."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def held_by(self) -> tuple[str, ...]:
        """Say in one sentence each what held the process, or was left behind."""
        found = []
        for report in self.phases:
            took = f"{report.phase.value}, {report.seconds:.1f} s, waited for"
            found += [f"{took} {holder}" for holder in report.held_by]
            if report.more:
                found.append(f"{took} {report.more} more")
        found += [f"left behind: {holder}" for holder in self.left_behind]
        for commit in self.commits:
            of = f"request {commit.request_id}" if commit.request_id else "no request"
            of = f"background work '{commit.work}'" if commit.work else of
            found.append(f"left behind: a COMMIT of {of}, sent {commit.for_seconds:.1f} s before")
        found += [
            f"left behind: '{hook.name}': {hook.because}" for hook in self.hooks if hook.because
        ]
        found += [
            f"still running: thread '{thread.name}', at {thread.stands}" for thread in self.threads
        ]
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can carry it, with its sentences."""
        return {
            **asdict(self),
            "clean": self.clean,
            "took_seconds": self.took_seconds,
            "held_by": list(self.held_by),
        }


class Shutdown:
    """Gather a `ShutdownReport` from what is seen on the way out. Has no clock of its own."""

    def __init__(self) -> None:
        self._held: dict[Phase, tuple[tuple[Holder, ...], int]] = {}
        self._cancelled: set[str] = set()
        self._commits: tuple[CommitUnderWay, ...] = ()

    def looked(self, phase: Phase, holders: Sequence[Holder], *, more: int = 0) -> None:
        """Note what is waited for in `phase` now; nothing leaves what was noted before."""
        if holders:
            self._held[phase] = (tuple(holders[:NAMED]), more + len(holders[NAMED:]))

    def cancelling(self, request_ids: Iterable[str]) -> None:
        """Note the requests that are cancelled, by their ids."""
        self._cancelled.update(request_ids)

    def commits_left(self, commits: Sequence[CommitUnderWay]) -> None:
        """Note the COMMITs that were under way when the time to cancel was over."""
        self._commits = tuple(commits[:NAMED])

    def report(
        self,
        transitions: Sequence[tuple[Phase, float]],
        *,
        now: float,
        left_behind: Sequence[Holder] = (),
        hooks: Sequence[HookReport] = (),
        threads: Sequence[tuple[str, str]] = (),
    ) -> ShutdownReport:
        """Return the report, given the phases of the life and the instants they began."""
        ends = [at for _, at in transitions[1:]] + [now]
        return ShutdownReport(
            forced=transitions[-1][0] is Phase.FORCED,
            phases=tuple(
                PhaseReport(
                    phase=phase,
                    seconds=end - since,
                    held_by=self._held.get(phase, ((), 0))[0],
                    more=self._held.get(phase, ((), 0))[1],
                )
                for (phase, since), end in zip(transitions, ends, strict=True)
                if phase.leaving and phase not in (Phase.STOPPED, Phase.FORCED)
            ),
            requests_cancelled=len(self._cancelled),
            left_behind=tuple(left_behind[:NAMED]),
            commits=self._commits,
            hooks=tuple(hooks),
            threads=tuple(ThreadLeft(name=name, stands=stands) for name, stands in threads[:NAMED]),
        )
