"""What databases did in one piece of work: what whoever would run it again has to know.

The guard of each engine notes here; who reads is `transaction`, and the guards of `web` that run
a request again or keep its answer.
"""

from contextvars import ContextVar
from itertools import count
from typing import Final, final

from shipworthy.context import current_request
from shipworthy.db.classify import classify

# More failures than this in one piece of work say nothing new about whether it may run again.
KEPT_FAILURES: Final = 16


@final
class Attempt:
    """Commits and failures of one piece of work, in its tasks and in threads with its context.

    `commits` counts what was applied for good: each COMMIT that went well, and each statement in
    autocommit. A statement that commits what came before it counts though it failed. `failures` are
    those of databases in their order, one of each meaning, the first `KEPT_FAILURES` of them.
    `statement_seconds` is how long one statement of the work may take, where its kind says so.
    Threads may note at the same time; read it when the work is over.
    """

    __slots__ = ("_outer", "commits", "failures", "statement_seconds")

    def __init__(self, outer: "Attempt | None" = None) -> None:
        self._outer = outer
        self.commits = 0
        self.failures: list[BaseException] = []
        self.statement_seconds = 0.0

    def committed(self) -> None:
        """Note that something was applied; whoever stands around this is told too."""
        self.commits += 1
        if self._outer is not None:
            self._outer.committed()

    def failed(self, error: BaseException) -> None:
        """Note a failure of a database; whoever stands around this is told too."""
        # Each meaning once: a loop that skips duplicates must not hide the deadlock after them.
        if len(self.failures) < KEPT_FAILURES:
            meaning = classify(error)
            if all(meaning != classify(one) for one in self.failures):
                self.failures.append(error)
        if self._outer is not None:
            self._outer.failed(error)


_attempt: ContextVar[Attempt | None] = ContextVar("shipworthy_db_attempt", default=None)


# Commits of threads that carry nothing of what they work for, as those of a plain executor.
_strays = count()
_strays_seen = 0


def commits_count() -> bool:
    """Say whether a commit here is worth to be known: somebody asks, or nobody stands for it."""
    return _attempt.get() is not None or current_request() is None


def note_commit() -> None:
    """Note that something was applied, with whoever asks for it here, or as one nobody asks for."""
    global _strays_seen  # noqa: PLW0603 - of the whole process, and so is this
    attempt = _attempt.get()
    if attempt is not None:
        attempt.committed()
    elif current_request() is None:
        _strays_seen = next(_strays) + 1


def note_failure(error: BaseException) -> None:
    """Note a failure of a database with whoever asks for it here."""
    attempt = _attempt.get()
    if attempt is not None:
        attempt.failed(error)


def strays() -> int:
    """Return how many commits of this process belong to no attempt and to no request.

    Whoever would run work again compares it before and after: one in between may be the work's.
    """
    return _strays_seen


def current_attempt() -> Attempt | None:
    """Return what is to be told of commits and failures here, None where nobody asks."""
    return _attempt.get()


@final
class attempt_scope:  # noqa: N801 - it is used as a function
    """Note what databases do from here on, also in tasks and threads that are begun within.

    A class, because a generator costs a microsecond on each request.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> Attempt:
        """Begin; what was noted is in what is returned."""
        attempt = Attempt(_attempt.get())
        self._token = _attempt.set(attempt)
        return attempt

    def __exit__(self, *_: object) -> None:
        """Note with whoever stands around this again."""
        _attempt.reset(self._token)
