"""Faults as data: what can be written, what cannot, and how each says itself."""

import pytest

from shipworthy.errors import Misuse
from shipworthy.faults import (
    COMMIT,
    Bandwidth,
    Cut,
    Delay,
    Direction,
    Fault,
    FaultInvalid,
    HalfClose,
    Refuse,
    Reset,
    Silence,
)


@pytest.mark.parametrize(
    ("build", "because"),
    [
        (lambda: Cut(after_bytes=3, at=b"x"), "Cut has after_bytes and at; a fault has one place"),
        (lambda: Cut(at=b"x", answer_to=b"y"), "Cut has at and answer_to; a fault has one place"),
        (
            lambda: Reset(before=False),
            "Reset says before=False without a pattern in `at` to be behind of",
        ),
        (lambda: Reset(after_bytes=-1), "Reset begins after -1 bytes; 0 is the first place"),
        (lambda: Silence(nth=0), "Silence names connection 0; they count from 1"),
        (lambda: Silence(chance=0), "Silence has the chance 0; it is above 0 and at most 1"),
        (lambda: Silence(chance=1.5), "Silence has the chance 1.5; it is above 0 and at most 1"),
        (lambda: Cut(times=0), "Cut harms 0 connections; at least 1, or leave `times` out"),
        (lambda: Delay(-1), "Delay waits -1 seconds; write a number from 0 on"),
        (lambda: Delay(float("nan")), "Delay waits nan seconds; write a number from 0 on"),
        (
            lambda: Delay(1, jitter_seconds=float("inf")),
            "Delay waits inf seconds; write a number from 0 on",
        ),
        (lambda: Delay(0), "Delay waits 0 seconds, so it does nothing"),
        (lambda: Delay(1, after_bytes=-2), "Delay begins after -2 bytes; 0 is the first place"),
        (
            lambda: Bandwidth(0),
            "Bandwidth passes 0 bytes per second; for none at all use Silence",
        ),
        (
            lambda: HalfClose(direction=Direction.BOTH),
            "HalfClose takes one direction, up or down; to end both use Cut",
        ),
    ],
)
def test_a_fault_that_could_never_happen_is_refused_where_it_is_written(build, because) -> None:
    """The message says what is wrong with it, and it is a misuse as well as a ValueError."""
    with pytest.raises(FaultInvalid) as refused:
        build()

    assert str(refused.value) == because
    assert isinstance(refused.value, Misuse | ValueError)


@pytest.mark.parametrize("pattern", [b"", (b"a", b""), "COMMIT", ("a",)], ids=repr)
@pytest.mark.parametrize("option", ["at", "answer_to"])
def test_a_pattern_is_bytes_that_are_there(option: str, pattern) -> None:
    """A text would never be found in bytes, and nothing is everywhere."""
    with pytest.raises(FaultInvalid, match="Cut has a pattern that is not bytes, or is empty"):
        Cut(**{option: pattern})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Refuse(), "refuse"),
        (Cut(), "cut"),
        (Reset(direction=Direction.UP, after_bytes=2048), "reset, up, after 2KiB"),
        (Delay(0.2), "delay 200ms"),
        (Delay(1, jitter_seconds=0.5, nth=3), "delay 1s + up to 500ms, on connection 3"),
        (Bandwidth(1024), "bandwidth 1024 bytes per second"),
        (Silence(chance=0.25), "silence, for 25 % of the connections"),
        (HalfClose(), "half-close, down"),
        (Cut(at=b"OK", times=2), "cut, at b'OK', on at most 2"),
        (Cut(at=b"OK", before=False), "cut, behind b'OK'"),
        (
            Cut(answer_to=COMMIT),
            f"cut, answer to {COMMIT[0]!r} (or {len(COMMIT) - 1} more)",
        ),
    ],
)
def test_a_fault_says_itself_in_a_few_words(fault: Fault, said: str) -> None:
    """What, and where it begins, without what is the default anyway."""
    assert str(fault) == said


def test_equal_faults_are_equal() -> None:
    """They are data: they can be compared, kept in a set, and never change."""
    assert Cut(at=b"x") == Cut(at=b"x")
    assert len({Delay(1), Delay(1), Delay(2)}) == 2
    assert Cut() != Reset()
