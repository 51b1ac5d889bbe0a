"""Who holds a connection, who waits for one, and who waits for ever: decided without a clock.

`Permits` stands in front of one pool. A permit that is given back goes straight to the next waiter,
so a pool with a waiter never has a free permit. `stuck` looks over all pools at once for waiters
that no release can ever reach.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, final
from weakref import ref

from shipworthy.db.place import Place


class Flow(Protocol):
    """Something that runs one step after another: a task, or a job in a thread."""

    def done(self) -> bool:
        """Say whether it is over, so that it will never give anything back."""
        ...


@final
@dataclass(slots=True, eq=False)
class Holding:
    """One permit in use. `flow` is asked, not kept: to hold a task would keep it from its end.

    `loop` is the event loop the flow runs in, if any; `request` what the flow works for, if known.
    """

    flow: Callable[[], Flow | None]
    place: Place
    since: float
    permits: "Permits"
    request: object | None = None
    loop: object | None = None
    thread: int = 0
    leaked: bool = False


@final
@dataclass(slots=True, eq=False)
class Waiting:
    """One caller in the queue; `holding` is set once it was granted, `error` once it was refused.

    `blocks` is the event loop whose thread waits, so that none of the loop's tasks goes on.
    """

    flow: Flow
    place: Place
    since: float
    request: object | None = None
    loop: object | None = None
    thread: int = 0
    blocks: object | None = None
    wake: Callable[[], None] = lambda: None
    holding: Holding | None = None
    error: Exception | None = None


@final
@dataclass(slots=True, eq=False)
class Permits:
    """The permits of one pool; `capacity` None is one without a limit.

    `adopted` counts connections that were out before we came, by holders nobody knows. With
    `shared` there is one connection for all: a flow that holds it may take it again. Not safe
    between threads by itself: the shell calls it under one lock.
    """

    capacity: int | None
    adopted: int = 0
    shared: bool = False
    holdings: dict[Holding, None] = field(default_factory=dict)
    queue: dict[Waiting, None] = field(default_factory=dict)

    @property
    def in_use(self) -> int:
        """How many permits are out."""
        return len(self.holdings) + self.adopted

    def ask(self, waiting: Waiting, now: float) -> Holding | None:
        """Grant a permit at once, or put `waiting` at the end of the queue and return None."""
        free = self.capacity is None or self.in_use < self.capacity
        if (free and not self.queue) or (self.shared and self._holds(waiting.flow)):
            return self._grant(waiting, now)
        self.queue[waiting] = None
        return None

    def give_back(self, holding: Holding, now: float) -> Waiting | None:
        """End `holding`; return the waiter that got its permit, to be woken. Twice is once."""
        if self.holdings.pop(holding, self) is self:
            return None
        return self._pass_on(now)

    def give_back_adopted(self, now: float) -> Waiting | None:
        """End one of the holdings nobody knows, if there is one left."""
        if not self.adopted:
            return None
        self.adopted -= 1
        return self._pass_on(now)

    def withdraw(self, waiting: Waiting) -> Holding | None:
        """Leave the queue; return the permit if it had been granted just before."""
        self.queue.pop(waiting, None)
        return waiting.holding

    def refuse_all(self, error: Callable[[], Exception]) -> list[Waiting]:
        """Empty the queue, each with an error of its own; return whom to wake."""
        refused = list(self.queue)
        self.queue.clear()
        for waiting in refused:
            waiting.error = error()
        return refused

    def leaks(self, now: float, after_seconds: float) -> tuple[list[Holding], float | None]:
        """Return holdings that have lasted `after_seconds` and were not named yet, and mark them.

        The second is the instant to look again, None when nobody else holds anything.
        """
        found = []
        again: float | None = None
        for holding in self.holdings:
            if holding.leaked:
                continue
            at = holding.since + after_seconds
            if at <= now:
                holding.leaked = True
                found.append(holding)
            elif again is None or at < again:
                again = at
        return found, again

    def moves(self) -> bool:
        """Say whether a holder is at work now, or nobody knows what it does."""
        waiting = {id(other.flow) for other in self.queue}
        flows = [holding.flow() for holding in self.holdings]
        return bool(self.adopted) or any(
            flow is not None and not flow.done() and id(flow) not in waiting for flow in flows
        )

    def _holds(self, flow: Flow) -> bool:
        return any(holding.flow() is flow for holding in self.holdings)

    def _pass_on(self, now: float) -> Waiting | None:
        if not self.queue or (self.capacity is not None and self.in_use >= self.capacity):
            return None
        waiting = next(iter(self.queue))
        del self.queue[waiting]
        waiting.holding = self._grant(waiting, now)
        return waiting

    def _grant(self, waiting: Waiting, now: float) -> Holding:
        holding = Holding(
            ref(waiting.flow),
            waiting.place,
            now,
            self,
            waiting.request,
            waiting.loop,
            waiting.thread,
        )
        self.holdings[holding] = None
        return holding


def stuck(pools: Iterable[Permits]) -> set[Waiting]:
    """Return the waiters whom nobody can ever serve, because all who could are among them.

    A holding can come back as long as its flow is not itself stuck. Where its flow is over (a
    dependency that ran in a thread of its own, and is done), the request it worked for gives it
    back, so it is stuck when a flow of that request is. Whoever is not known is trusted to come
    back: what is returned is certain, and what is not is left to its deadline.
    """
    pools = list(pools)
    hopeless = {waiting: permits for permits in pools for waiting in permits.queue}
    while hopeless:
        flows = {id(waiting.flow) for waiting in hopeless}
        requests = {id(waiting.request) for waiting in hopeless if waiting.request is not None}
        blocked = {id(waiting.blocks) for waiting in hopeless if waiting.blocks is not None}
        moving = {
            id(permits)
            for permits in pools
            if permits.queue
            and (
                permits.adopted
                or any(_moves(holding, flows, requests, blocked) for holding in permits.holdings)
            )
        }
        left = {waiting: on for waiting, on in hopeless.items() if id(on) not in moving}
        if len(left) == len(hopeless):
            break
        hopeless = left
    return set(hopeless)


def _moves(holding: Holding, flows: set[int], requests: set[int], blocked: set[int]) -> bool:
    if holding.loop is not None and id(holding.loop) in blocked:
        return False
    flow = holding.flow()
    if flow is None or flow.done():
        return holding.request is None or id(holding.request) not in requests
    return id(flow) not in flows
