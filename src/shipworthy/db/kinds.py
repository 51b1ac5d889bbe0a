"""How long each kind of operation may take: section [kinds], read once, used by every unit.

A page that a person waits for and a nightly job have nothing in common but the database, so one
number for both is wrong for one of them.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final, final

from shipworthy.db.dialects.bounds import Bounds
from shipworthy.errors import Misuse
from shipworthy.settings import option, section
from shipworthy.units import parse_duration


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationKind:
    """How long one kind of operation may take; a length of 0 is no limit.

    `total_seconds` is for the unit with all its attempts, `checkout_seconds` for getting a
    connection, with the handshake of a new one. `statement_seconds`, `lock_seconds` (waiting for a
    lock) and `idle_seconds` (a transaction in which nothing happens) are told to a server that
    takes them for one transaction; a statement that may take longer than `db.statement` is given
    that time by the guard as well, and one without a length has that of `db.statement`. Raises
    `ValueError` for numbers that contradict each other.
    """

    name: str
    total_seconds: float = 0.0
    checkout_seconds: float = 0.0
    statement_seconds: float = 0.0
    lock_seconds: float = 0.0
    idle_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a length that could never be reached, or is none."""
        for part in _PARTS:
            seconds = getattr(self, f"{part}_seconds")
            if not 0 <= seconds < float("inf"):
                raise ValueError(f"kind '{self.name}': {part} is {seconds} s; use 0 for no limit")
        for inner, outer in _WITHIN:
            inside, around = getattr(self, f"{inner}_seconds"), getattr(self, f"{outer}_seconds")
            if inside and around and inside >= around:
                raise ValueError(
                    f"kind '{self.name}': {inner} ({inside:g} s) is never reached, because {outer} "
                    f"ends after {around:g} s; make it shorter"
                )

    def bounds(self, *, read_only: bool) -> Bounds:
        """Return what a server is told of it."""
        return Bounds(
            statement_seconds=self.statement_seconds,
            lock_seconds=self.lock_seconds,
            idle_seconds=self.idle_seconds,
            read_only=read_only,
        )


_PARTS: Final = ("total", "checkout", "statement", "lock", "idle")
# `idle` stands for itself: it is for a client that has stopped, whose own deadline has as well.
_WITHIN: Final = (
    ("checkout", "total"),
    ("statement", "total"),
    ("lock", "statement"),
    ("lock", "total"),
)


@section("kinds")
@dataclass(frozen=True, slots=True, kw_only=True)
class KindSettings:
    """How long each kind of operation may take, such as `total 2s, statement 1500ms`.

    The lengths are total, checkout, statement, lock and idle; one that is left out keeps its
    default, and 0s is no limit.
    """

    probe: str = option(
        "total 1s, checkout 800ms, statement 800ms", "what asks whether the database is there"
    )
    interactive_read: str = option(
        "total 2s, checkout 1s, statement 1500ms, idle 5s", "reads that a person waits for"
    )
    interactive_write: str = option(
        "total 5s, checkout 2s, statement 4s, lock 2s, idle 5s", "writes that a person waits for"
    )
    background: str = option(
        "total 30s, checkout 5s, statement 25s, idle 60s", "jobs that nobody waits for"
    )
    report: str = option("total 2m, checkout 5s, statement 110s, idle 60s", "reports and exports")
    migration: str = option(
        "checkout 5s, statement 1h, lock 2s",
        "changes of the schema; it gives up a lock before others queue",
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what cannot be read, and lengths that contradict each other; refused everywhere."""
        del environment
        found = []
        for one in fields(self):
            try:
                self.kind(one.name.replace("_", "-"))
            except ValueError as error:
                found.append(f"kinds.{one.name}: {error}")
        return found

    def kind(self, name: str) -> OperationKind:
        """Return the kind of that name; `Misuse` for one there is not, `ValueError` as written."""
        defaults = {one.name.replace("_", "-"): one.default for one in fields(self)}
        if name not in defaults:
            raise Misuse(f"there is no kind of operation '{name}'; there are {', '.join(defaults)}")
        default = _read(OperationKind(name=name), str(defaults[name]))
        return _read(default, getattr(self, name.replace("-", "_")))


@lru_cache(64)
def _read(kind: OperationKind, text: str) -> OperationKind:
    lengths: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        word, _, length = part.partition(" ")
        if word not in _PARTS:
            raise ValueError(f"'{part}' is no length of a kind; write one of {', '.join(_PARTS)}")
        lengths[f"{word}_seconds"] = parse_duration(length.strip())
    return replace(kind, **lengths)


_settings = KindSettings()


def use_kinds(settings: KindSettings) -> None:
    """Let every unit that begins from here on take its lengths from `settings`."""
    global _settings  # noqa: PLW0603 - one process has one set of settings
    _settings = settings


def kind_named(name: str) -> OperationKind:
    """Return a kind as it is set in this process; `Misuse` for a name there is not."""
    return _settings.kind(name)
