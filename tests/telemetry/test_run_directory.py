"""The directory of a run: where it is made, who may read it, and what killed runs leave."""

import os
import stat
from pathlib import Path

import pytest

from shipworthy.telemetry import RunDirectory


def test_it_is_for_its_user_alone_and_gone_after_use(tmp_path: Path) -> None:
    """With all that is in it."""
    made = RunDirectory.make(str(tmp_path))
    mode = stat.S_IMODE(made.path.stat().st_mode)
    (made.path / "w.cells").touch()
    made.remove()
    made.remove()

    assert mode == 0o700
    assert made.path.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_and_the_living_are_not(
    tmp_path: Path,
) -> None:
    """Death lets go of the lock; nothing that is not ours is touched."""
    living, killed = RunDirectory.make(str(tmp_path)), RunDirectory.make(str(tmp_path))
    (killed.path / "w.cells").touch()
    os.close(killed._lock_fd)
    (tmp_path / "something-else").mkdir()

    third = RunDirectory.make(str(tmp_path))

    assert {path.name for path in tmp_path.iterdir()} == {
        living.path.name,
        third.path.name,
        "something-else",
    }
    living.remove()
    third.remove()


def test_without_a_wish_the_first_place_that_works_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What systemd made for the service goes before all others."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path / 'none'}:{tmp_path}")
    made = RunDirectory.make()

    assert made.path.parent == tmp_path
    made.remove()


def test_a_place_that_cannot_be_is_named_with_the_reason(tmp_path: Path) -> None:
    """One sentence, from which one sees what to do."""
    with pytest.raises(OSError, match=r"no directory could be made in .*none \(No such file"):
        RunDirectory.make(str(tmp_path / "none"))
