"""Each refusal says what to do next."""

import pytest

from shipworthy.errors import Misuse
from shipworthy.records.refusals import (
    DeletionHalfVisible,
    DeletionHeld,
    DeletionUnknown,
    RecordsRefused,
    TrashNotInstalled,
    UndoRefused,
)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (DeletionUnknown(7), "`shipworthy trash list`"),
        (DeletionHalfVisible(7, rows=9, left=3), "an archive of that time"),
        (DeletionHeld(7, "case"), "--release"),
        (UndoRefused(7, "it changed"), "it changed"),
    ],
)
def test_a_refusal_is_an_answer_with_advice(refusal: RecordsRefused, said: str) -> None:
    """It was understood, so it is no misuse."""
    assert said in str(refusal)
    assert "7" in str(refusal)
    assert not isinstance(refusal, Misuse)


def test_a_database_without_a_trail_is_a_misuse() -> None:
    """The command ends with 2 then."""
    assert isinstance(TrashNotInstalled(), Misuse)
