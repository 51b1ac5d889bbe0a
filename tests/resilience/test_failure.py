"""What exceptions mean to a judge that knows only the operating system."""

import pytest

from shipworthy.errors import Draining
from shipworthy.resilience import Effect, Failure, judge_io


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            ConnectionRefusedError(),
            Failure(
                transient=True, effect=Effect.NONE, refused=True,
                because="the connection was refused",
            ),
        ),
        (
            TimeoutError(),
            Failure(transient=True, effect=Effect.UNKNOWN, because="no answer in time"),
        ),
        (
            ConnectionResetError(),
            Failure(transient=True, effect=Effect.UNKNOWN, because="the connection was lost"),
        ),
        (
            EOFError(),
            Failure(transient=True, effect=Effect.UNKNOWN, because="the connection was lost"),
        ),
        (
            Draining(retry_after_seconds=3.0),
            Failure(
                transient=True, effect=Effect.NONE, counts=False, retry_after_seconds=3.0,
                because="this instance is shutting down; send the request again",
            ),
        ),
        (ValueError("of the caller"), None),
        (FileNotFoundError(), None),
    ],
    ids=["refused", "no answer", "reset", "end of file", "our own refusal", "caller", "no file"],
)  # fmt: skip
def test_what_the_operating_system_says_is_judged(
    error: BaseException, failure: Failure | None
) -> None:
    """Only a refusal is certain to have had no effect; what is no failure of the target is None."""
    assert judge_io(error) == failure
