"""The one seam between the guard and the breaker: one ticket for each checkout.

A statement on a connection that is out is never refused: its transaction has begun. So the breaker
is asked before a checkout, and told when the first failure shows or the connection comes back.
"""

from dataclasses import replace
from typing import Any, final

import sqlalchemy.exc
from typing_extensions import override

from shipworthy.errors import Rejected
from shipworthy.resilience import BreakerOpen, BreakerState, Ended, Judge, ResilienceSettings

VISIT = "_shipworthy_visit"


class _Visit:
    """One checkout, as far as the breaker is concerned."""

    __slots__ = ("answered", "slowest", "ticket")

    def __init__(self, ticket: Any) -> None:
        self.ticket = ticket
        self.answered = False
        self.slowest = 0.0


@final
class DatabaseRefused(Rejected, sqlalchemy.exc.OperationalError):
    """The breaker of a database is open, so nothing was sent; callers see an OperationalError."""

    def __init__(self, error: BreakerOpen) -> None:
        sqlalchemy.exc.OperationalError.__init__(self, None, None, error)
        self.name = error.name
        self.because = error.because
        self.retry_after_seconds = error.retry_after_seconds

    @property
    @override
    def public_detail(self) -> str:
        """Return what a client may be told: not which database, and not why."""
        return "a database that this request needs cannot be reached now"


@final
class Breaking:
    """The breaker of one engine, seen by its guard. Safe between threads."""

    def __init__(
        self, name: str, judge: Judge, settings: ResilienceSettings, *, listed: bool = True
    ) -> None:
        # No ramp: the pool's permits admit who comes back, in turn. A ramp refuses, so that those
        # who come later pass those who wait. And no wait that doubles: a few trials a second are no
        # load on a database, and units of 5 s were over before a breaker of 4 s let them see that
        # a server was back that had been away for half a second.
        settings = replace(settings, ramp_seconds=0.0, open_cap_seconds=settings.open_seconds)
        self.breaker = settings.new_breaker(f"db:{name}", listed=listed)
        self._judge = judge

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    def ask(self) -> Any:
        """Return a ticket for one checkout, or raise `DatabaseRefused`."""
        try:
            return self.breaker.admit()
        except BreakerOpen as error:
            raise DatabaseRefused(error) from None

    def failed(self, ticket: Any, error: BaseException, took_seconds: float) -> bool:
        """Tell that a checkout gave no connection; true when the breaker is open after that."""
        self.breaker.record(ticket, self._ended(error), took_seconds)
        return self.breaker.state is BreakerState.OPEN

    def handed_over(self, record: Any, ticket: Any) -> None:
        """Keep the ticket with the connection until there is something to tell."""
        record.__dict__[VISIT] = _Visit(ticket)

    def answered(self, record: Any, took_seconds: float) -> None:
        """Note that the database answered."""
        visit = record.__dict__.get(VISIT)
        if visit is not None:
            visit.answered = True
            visit.slowest = max(visit.slowest, took_seconds)

    def broke(self, record: Any, error: BaseException, took_seconds: float) -> bool:
        """Tell of an error, at once where it speaks against the database; true when now open."""
        ended = self._ended(error)
        if ended is Ended.NEUTRAL:
            self.answered(record, took_seconds)
            return False
        visit = record.__dict__.pop(VISIT, None)
        if visit is None:
            return False
        self.breaker.record(visit.ticket, ended, took_seconds)
        return self.breaker.state is BreakerState.OPEN

    def returned(self, record: Any) -> None:
        """Tell how the checkout went, unless that was told before."""
        visit = record.__dict__.pop(VISIT, None)
        if visit is not None:
            # A connection that was taken and not used says nothing of the database.
            ended = Ended.SUCCESS if visit.answered else Ended.NEUTRAL
            self.breaker.record(visit.ticket, ended, visit.slowest)

    def refusal(self) -> Exception:
        """Return a new refusal, for somebody who waits while the breaker is open."""
        statistics = self.breaker.statistics()
        return DatabaseRefused(
            BreakerOpen(
                self.breaker.name,
                because=statistics.because,
                retry_after_seconds=statistics.retry_after_seconds,
            )
        )

    def _ended(self, error: BaseException) -> Ended:
        if isinstance(error, Rejected) or not isinstance(error, Exception):
            return Ended.NEUTRAL
        failure = self._judge(error)
        if failure is None or not failure.counts:
            return Ended.NEUTRAL
        return Ended.REFUSED if failure.refused else Ended.FAILURE
