"""One process at a time holds a file."""

import os
from pathlib import Path

import pytest

from shipworthy.telemetry.lock_file import FileHeld, hold


def test_who_comes_second_is_told_what_to_set(tmp_path: Path) -> None:
    """Until the first lets go, or is dead, which is the same to the kernel."""
    first = hold(tmp_path / "it.lock", what="the history")
    with pytest.raises(
        FileHeld,
        match=rf"another process keeps the history in {tmp_path}; give each service a "
        r"history\.folder of its own",
    ):
        hold(tmp_path / "it.lock", what="the history")
    os.close(first)
    os.close(hold(tmp_path / "it.lock", what="the history"))


def test_a_folder_that_is_not_there_is_what_the_system_says(tmp_path: Path) -> None:
    """It is not for a lock to make it."""
    with pytest.raises(FileNotFoundError):
        hold(tmp_path / "nowhere" / "it.lock", what="the history")
