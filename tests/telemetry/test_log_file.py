"""A file of the log: followed wherever it goes, put aside by one of many, never a lost line."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.events import listen
from shipworthy.telemetry import AccessLog
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.rotation import RotationRule

NEVER = RotationRule()


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    facts: list[Any] = []
    stop = listen(facts.append)
    yield facts
    stop()


def put(file: LogFile, text: str) -> None:
    os.write(file.descriptor(len(text)), text.encode())


def all_lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    """A restart begins no new file; others on the machine may not read it."""
    path = tmp_path / "app.log"
    path.write_text("before\n")

    file = LogFile(str(path), NEVER)
    put(file, "after\n")
    file.close()

    assert path.read_text() == "before\nafter\n"
    path.unlink()
    LogFile(str(path), NEVER).close()
    assert path.stat().st_mode & 0o137 == 0


def test_a_file_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """At the start, with the setting and the reason."""
    with pytest.raises(SettingsInvalid, match=r"log\.file = .*No such file or directory; name a"):
        LogFile(str(tmp_path / "nowhere" / "app.log"), NEVER)


def test_a_relative_path_stays_where_it_was_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that changes its folder takes no log with it."""
    monkeypatch.chdir(tmp_path)
    file = LogFile("app.log", NEVER)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "app.log").unlink()

    put(file, "x\n")
    file.close()

    assert (tmp_path / "app.log").read_text() == "x\n"


def test_a_file_that_was_moved_or_removed_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """What logrotate does with `create` or without, and without telling us."""
    path = tmp_path / "app.log"
    file = LogFile(str(path), NEVER)
    put(file, "first\n")
    path.rename(tmp_path / "app.log.1")
    put(file, "second\n")
    path.rename(tmp_path / "app.log.2")
    path.touch()
    put(file, "third\n")
    path.unlink()
    put(file, "fourth\n")
    file.close()

    assert (tmp_path / "app.log.1").read_text() == "first\n"
    assert (tmp_path / "app.log.2").read_text() == "second\n"
    assert path.read_text() == "fourth\n"


def test_a_file_that_was_copied_and_emptied_goes_on_from_its_beginning(tmp_path: Path) -> None:
    """logrotate's `copytruncate`: no hole of zeros."""
    path = tmp_path / "app.log"
    file = LogFile(str(path), NEVER)
    put(file, "first\n")
    os.truncate(path, 0)
    put(file, "second\n")
    file.close()

    assert path.read_bytes() == b"second\n"


def test_a_full_file_is_put_aside_and_old_ones_go(tmp_path: Path) -> None:
    """No line is cut by it, none is larger than the limit, and as many stay as were asked for."""
    path = tmp_path / "app.log"
    moments = iter(range(1_000_000))
    rule = RotationRule(size_bytes=50, keep=3)
    file = LogFile(str(path), rule, wall=lambda: next(moments) / 8)

    for number in range(100):
        put(file, f"line {number:04}\n")
    file.close()

    assert len(list(tmp_path.iterdir())) == 4
    assert all(found.stat().st_size <= 50 for found in tmp_path.iterdir())
    kept = [int(line.split()[1]) for line in sorted(all_lines(tmp_path))]
    assert kept == list(range(80, 100))


def test_a_file_of_an_earlier_day_is_put_aside_by_whoever_writes_first(tmp_path: Path) -> None:
    """Also when nobody ran at midnight; the time of the file itself tells."""
    path = tmp_path / "app.log"
    path.write_text("yesterday\n")
    os.utime(path, (86_000, 86_000))
    file = LogFile(str(path), RotationRule(age_seconds=86_400), wall=lambda: 90_000.0)

    put(file, "today\n")
    file.close()

    assert path.read_text() == "today\n"
    assert (tmp_path / "app.log.19700102T010000.000000Z").read_text() == "yesterday\n"


def test_two_that_share_a_file_rotate_it_once(tmp_path: Path) -> None:
    """The lock is the file's own: whoever comes second follows, and both write to the new one."""
    path = tmp_path / "app.log"
    one, two = (LogFile(str(path), RotationRule(size_bytes=20)) for _ in range(2))

    put(one, "0123456789abcdef\n")
    put(one, "one\n")
    put(one, "again\n")
    put(two, "two\n")
    one.close()
    two.close()

    assert path.read_text() == "one\nagain\ntwo\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_who_finds_the_lock_taken_writes_on(tmp_path: Path) -> None:
    """Nobody waits for the one that is putting the file aside."""
    path = tmp_path / "app.log"
    file = LogFile(str(path), RotationRule(size_bytes=10))
    put(file, "0123456\n")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        put(file, "full\n")
        assert path.read_text() == "0123456\nfull\n"
    put(file, "new\n")
    file.close()

    assert path.read_text() == "new\n"


def test_who_comes_late_to_the_lock_looks_again(tmp_path: Path) -> None:
    """Between the look and the lock another may have put the file aside: that is followed."""
    path = tmp_path / "app.log"

    def moved() -> float:
        if path.stat().st_size:
            path.rename(tmp_path / "moved")
            path.touch()
        return 0.0

    file = LogFile(str(path), RotationRule(size_bytes=10), wall=moved)
    put(file, "0123456\n")
    put(file, "new\n")
    file.close()

    assert path.read_text() == "new\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_is_gone_costs_an_event_and_no_line(tmp_path: Path, heard: list[Any]) -> None:
    """The descriptor is still good; said once, and once more after it was well meanwhile."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "app.log"
    file = LogFile(str(path), NEVER)
    path.rename(tmp_path / "app.log")
    folder.rmdir()

    put(file, "one\n")
    put(file, "two\n")
    folder.mkdir()
    put(file, "three\n")
    file.close()

    assert (tmp_path / "app.log").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"
    (fact,) = heard
    assert (fact.step, fact.because) == ("open", f"{path}: No such file or directory")


def test_a_file_that_cannot_be_put_aside_grows_and_says_so(
    tmp_path: Path, heard: list[Any]
) -> None:
    """Its new name is taken by a folder: the lines go on, and it is tried again."""
    path = tmp_path / "app.log"
    file = LogFile(str(path), RotationRule(size_bytes=5), wall=lambda: 0.0)
    taken = tmp_path / "app.log.19700101T000000.000000Z"
    taken.mkdir()

    for text in ("1234\n", "5678\n", "9\n"):
        put(file, text)
    taken.rmdir()
    put(file, "new\n")
    file.close()

    assert taken.read_text() == "1234\n5678\n9\n"
    assert path.read_text() == "new\n"
    assert [fact.step for fact in heard] == ["put aside"]


MANY = """
import sys
from shipworthy.telemetry import AccessLog
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.rotation import RotationRule
log = AccessLog(LogFile("logs/app.log", RotationRule(size_bytes=20_000)), human=False, common={})
for number in range(5000):
    log.write(b'{"who":"%s","number":%d}\\n' % (sys.argv[1].encode(), number))
assert log.close(20)
assert log.dropped == 0
"""


@pytest.mark.slow
def test_several_processes_share_a_file_that_is_rotated_all_the_time(tmp_path: Path) -> None:
    """Every line of every process is there once and whole, in the order of its writer."""
    (tmp_path / "logs").mkdir()
    names = ["a", "b", "c"]
    running = [subprocess.Popen([sys.executable, "-c", MANY, n], cwd=tmp_path) for n in names]
    assert [process.wait(40) for process in running] == [0, 0, 0]

    found = [json.loads(line) for line in all_lines(tmp_path / "logs")]
    for name in names:
        numbers = [line["number"] for line in found if line["who"] == name]
        assert sorted(numbers) == list(range(5000))
    assert len({line["pid"] for line in found}) == 3
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert len(files) > 20
    assert all(re.fullmatch(r"app\.log(\.\d{8}T\d{6}\.\d{6}Z)?", name) for name in files)


FORKED = """
import os
from shipworthy.telemetry import AccessLog
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.rotation import RotationRule
log = AccessLog(LogFile("app.log", RotationRule(size_bytes=1_000, keep=0)), human=False, common={})
children = []
for child in range(3):
    if not (pid := os.fork()):
        for number in range(500):
            log.write(b'{"who":%d,"number":%d}\\n' % (child, number))
        os._exit(not log.close(20))
    children.append(pid)
assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
"""


@pytest.mark.slow
def test_workers_that_were_forked_after_the_file_was_opened_rotate_it_too(tmp_path: Path) -> None:
    """As under gunicorn with `preload_app`: each child has a lock of its own."""
    subprocess.run([sys.executable, "-c", FORKED], cwd=tmp_path, check=True, timeout=40)

    found = [json.loads(line) for line in all_lines(tmp_path)]
    assert sorted((line["who"], line["number"]) for line in found) == [
        (who, number) for who in range(3) for number in range(500)
    ]


FULL = """
import resource, signal, sys
from shipworthy.telemetry import AccessLog
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.rotation import RotationRule
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
log = AccessLog(LogFile("app.log", RotationRule()), human=False, common={})
for number in range(1000):
    log.write(b'{"number":%d}\\n' % number)
while log._held_bytes:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write(b'{"number":1000}\\n')
assert log.close(5)
print(log.dropped)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_loses_what_it_cannot_take_and_counts_it(tmp_path: Path) -> None:
    """No half line spoils the one after it; what is missing is said once there is room again."""
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=tmp_path, check=True, timeout=40, capture_output=True
    )

    dropped = int(done.stdout)
    *most, torn, notice, last = (tmp_path / "app.log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in most] == list(range(len(most)))
    with pytest.raises(ValueError):
        json.loads(torn)
    assert json.loads(notice)["dropped"] == dropped == 1000 - len(most)
    assert json.loads(last)["number"] == 1000


def test_a_device_without_room_is_counted(tmp_path: Path) -> None:
    """/dev/full takes nothing, ever."""
    log = AccessLog(LogFile("/dev/full", NEVER), human=False)
    for _ in range(100):
        log.write(b"{}\n")

    assert log.close(5)
    assert log.dropped == 100
