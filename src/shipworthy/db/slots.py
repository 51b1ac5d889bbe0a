"""Whether the pools of all workers together fit into the server that they open connections to.

One that is too small shows under load and nowhere else: the last worker gets no connection, and its
requests fail while the others' go well. So it is said at the start. While a worker is replaced its
successor serves beside it, so there is one more than serve as a rule.

Not here: how a server is asked (`dialects`), and who asks (`prober`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, final

from shipworthy.events import Event, Label, Severity, event

# How many workers there may be beside those that serve: the supervisor replaces one at a time.
SUCCESSORS: Final = 1


@event(severity=Severity.WARNING)
class PoolsExceedServer(Event):
    """The pools of all workers may open more connections than their server has for users."""

    database: Annotated[str, Label]
    wanted: int
    allowed: int
    workers: int
    because: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOnServer:
    """A pool of this worker; `capacity` is None without a limit, `place` tells its server."""

    name: str
    capacity: int | None
    slots: int
    place: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolExcess:
    """Pools that may want more than their server allows, over all `workers`.

    `besides` are as many that there may be beside those, while a worker is replaced: one or none.
    """

    names: tuple[str, ...]
    wanted: int
    allowed: int
    workers: int
    besides: int = 0

    @property
    def because(self) -> str:
        """Say so in a sentence, with what to do."""
        pools = " and ".join(self.names)
        return (
            f"{workers_in_words(self.workers, self.besides)} with the pools of {pools} may open "
            f"{self.wanted} connections, and the server has {self.allowed}; make the pools smaller "
            f"(pool_size, max_overflow), run fewer workers, or raise max_connections"
        )


def workers_in_words(workers: int, besides: int) -> str:
    """Return "4 workers", and what else there may be while one of them is replaced."""
    return f"{workers} workers" + (
        f", and {besides} more while one is replaced," if besides else ""
    )


def pool_excesses(
    pools: Iterable[PoolOnServer], workers: int, *, besides: int = 0
) -> list[PoolExcess]:
    """Return one for each server that may be asked for too much, in the order of its first pool.

    Asked by `workers`, and by as many more as there may be `besides` while one is replaced. A pool
    without a limit is left out: nobody can say how much it wants.
    """
    by_place: dict[str, list[PoolOnServer]] = {}
    for pool in pools:
        by_place.setdefault(pool.place, []).append(pool)
    found = []
    for there in by_place.values():
        wanted = (workers + besides) * sum(pool.capacity or 0 for pool in there)
        # They say the same unless somebody has changed it in between.
        allowed = min(pool.slots for pool in there)
        if wanted > allowed:
            names = tuple(sorted(pool.name for pool in there if pool.capacity))
            found.append(
                PoolExcess(
                    names=names, wanted=wanted, allowed=allowed, workers=workers, besides=besides
                )
            )
    return found
