"""The process that holds a SQLite file's write lock."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shipworthy.demo import lock

pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with one table, as readers beside a writer need it."""
    path = tmp_path / "a file?.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE boats (name TEXT)")
    return path


@contextmanager
def holder(file: Path, seconds: float, *, parent: int | None = None) -> Iterator["Held"]:
    """Run it as the demo does; what is left of it at the end is killed."""
    command = [sys.executable, "-m", "shipworthy.demo.lock", str(file), "--seconds", str(seconds)]
    process = subprocess.Popen([*command, "--parent", str(parent or os.getpid())])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


Held = subprocess.Popen[bytes]


def writes(file: Path) -> bool:
    """Write a row at once, or say that somebody has the lock."""
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("INSERT INTO boats VALUES ('Meridian')")
        except sqlite3.OperationalError:
            return False
    return True


def until(file: Path, *, free: bool) -> None:
    """Wait until the lock is held, or free; 10 s at most."""
    give_up = time.monotonic() + 10
    while writes(file) is not free:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_nobody_writes_while_it_holds_and_everybody_reads(file: Path):
    """It ends by itself with 0, and the lock is free."""
    with holder(file, 1.5) as process:
        until(file, free=False)
        with closing(sqlite3.connect(file, timeout=0)) as connection:
            read = connection.execute("SELECT count(*) FROM boats").fetchone()
        code = process.wait(10)

    assert read[0] >= 0
    assert code == 0
    assert writes(file)


def test_killed_it_leaves_no_lock(file: Path):
    """It wrote nothing, so there is nothing to undo."""
    with holder(file, 60) as process:
        until(file, free=False)
        process.kill()
        process.wait()

    assert writes(file)


def test_it_ends_when_its_parent_is_gone(file: Path):
    """A demo that was killed leaves nobody behind who holds a lock."""
    command = (
        "import subprocess, sys, os, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'shipworthy.demo.lock', sys.argv[1],"
        " '--seconds', '60', '--parent', str(os.getpid())])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", command, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        until(file, free=False)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(file, free=True)

    give_up = time.monotonic() + 10
    while Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < give_up:
        if not Path(f"/proc/{child}/cmdline").read_bytes():
            break  # over, and not buried yet by who inherited it
        time.sleep(0.02)
    assert time.monotonic() < give_up


def test_a_lock_that_cannot_be_had_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Somebody else has it for longer than is waited."""
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.01)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        code = lock.main([str(file), "--seconds", "1"])

    assert code == 1
    assert capsys.readouterr().err == f"{file}: database is locked\n"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A mistyped path leaves no empty database."""
    code = lock.main([str(tmp_path / "none.sqlite3"), "--seconds", "1"])

    assert code == 1
    assert "unable to open" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
