"""What a service of the drill finds within its walls is what the drill has written there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.drill_walls import DISK_BYTES, MEMORY_BYTES, PlayedGroup, walls_in, why_no_walls
from shipworthy.lifecycle.cgroup import Cgroup

_LOOK = """
import os, sys
from shipworthy.lifecycle.cgroup import Cgroup
group, disk = Cgroup(), os.statvfs(sys.argv[1])
print(group.versions()["memory"], group.use().memory_limit_bytes, disk.f_blocks * disk.f_frsize)
"""


def test_a_played_group_is_read_as_one_of_a_kernel(tmp_path: Path) -> None:
    """What it uses, how often its quota was used up, and how many were killed."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("1 0 0:1 / /group rw - cgroup2 none rw\n")
    (tmp_path / "group").mkdir()
    unread: list[str] = []
    group = PlayedGroup(tmp_path / "group", used_ratio=0.5)
    read = Cgroup(tmp_path, unread=lambda file, because: unread.append(f"{file}: {because}"))
    for throttled in (False, True):
        group.throttled = throttled
        for _ in range(3):
            group.period()
    group.kill()
    use = read.use()
    assert use.memory_bytes == MEMORY_BYTES / 2
    assert use.memory_limit_bytes == MEMORY_BYTES
    assert (use.cpu_periods, use.cpu_throttled_periods) == (6, 2)
    assert use.oom_kills == 1
    assert unread == []


@pytest.mark.slow
def test_walls_stand_around_one_command_only_or_it_is_said_why_not(tmp_path: Path) -> None:
    """Within are the played group and a small disk; whoever is outside sees neither of them."""
    refused = why_no_walls()
    with walls_in(tmp_path) as walls:
        if shutil.which("unshare") is None:
            assert refused == "there is no command unshare"
            return
        command = [*walls.before, sys.executable, "-c", _LOOK, str(walls.disk)]
        looked = subprocess.run(command, capture_output=True, text=True, check=False)
        if refused:
            assert looked.returncode != 0
            assert refused in looked.stderr
            return
        assert looked.stdout.split() == ["2", str(MEMORY_BYTES), str(DISK_BYTES)]
        mounted = Path("/proc/self/mountinfo").read_text()
        assert str(tmp_path) not in mounted
