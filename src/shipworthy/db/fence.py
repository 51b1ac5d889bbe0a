"""The commit fence around whatever is a COMMIT to a database.

Not here: what the fence is and who asks it (`lifecycle`), and which calls are COMMITs (`guard`).
"""

from collections.abc import Callable
from typing import Any

from shipworthy.db.attempt import note_failure
from shipworthy.lifecycle import CommitRefused, begin_commit, end_commit


def fenced(
    call: Callable[..., Any],
    *,
    refused: Callable[..., object] | None = None,
    decided: Callable[..., bool] | None = None,
) -> Callable[..., Any]:
    """Let nobody of ours cancel `call`, which is a COMMIT, and do not begin it for who was.

    `refused` then takes back what SQLAlchemy, which believes that its COMMIT failed on the server,
    would leave open there: the next who gets the connection would commit it. What was `decided`
    with others is not refused.
    """

    def commit(*args: Any, **options: Any) -> Any:
        try:
            number = begin_commit(decided=decided is not None and decided(*args, **options))
        except CommitRefused as error:
            note_failure(error)  # so that nobody runs the work again, whoever swallows it
            if refused is not None:
                refused(*args, **options)
            raise
        try:
            return call(*args, **options)
        finally:
            end_commit(number)

    return commit


def is_prepared(_: Any, __: Any, is_prepared: bool = True, *___: Any) -> bool:  # noqa: FBT001, FBT002
    """Say whether a second phase, called as a dialect's, is of what was prepared."""
    return is_prepared
