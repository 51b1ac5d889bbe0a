"""The log's sink over real pipes: it never waits, never grows, and says what it dropped."""

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from shipworthy.redact import REDACTIONS
from shipworthy.telemetry import AccessLog, Registry, log_metrics

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError as error:
            assert error.errno == errno.EBADF  # the test closed it  # noqa: PT017


def fill(writer: int) -> int:
    """Fill the pipe to the last byte, as a reader that stopped reading leaves it."""
    os.set_blocking(writer, False)
    filled = 0
    try:
        while True:
            filled += os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return filled


def drain(reader: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(reader, size - len(found))
    return found


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    """What was written before `close` is with the reader after it."""
    log = AccessLog(pipe[1], human=False)
    lines = [b"%d\n" % number for number in range(1000)]

    for line in lines:
        log.write(line)

    assert log.close(5)
    assert drain(pipe[0], sum(map(len, lines))) == b"".join(lines)
    assert log.dropped == 0


def test_what_is_written_later_is_made_by_the_logs_thread_in_its_turn(
    pipe: tuple[int, int],
) -> None:
    """The caller pays for handing it over, and the order of the lines is kept."""
    log = AccessLog(pipe[1], human=False)

    log.write(b"before\n")
    log.write_later(lambda who: f"{who} {threading.current_thread().name}\n".encode(), "by", 10)
    log.write(b"after\n")

    assert log.close(5)
    assert os.read(pipe[0], 1024) == b"before\nby shipworthy-log\nafter\n"


def test_a_line_that_cannot_be_made_costs_only_itself(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The lines around it are written, what it held is free, and `logging` is told."""
    log = AccessLog(pipe[1], human=False)

    log.write(b"before\n")
    log.write_later(lambda facts: facts[1], (), 100)
    log.write(b"after\n")

    assert log.close(5)
    assert os.read(pipe[0], 1024) == b"before\nafter\n"
    assert log._held_bytes == 0
    assert "could not be made" in caplog.text
    assert "IndexError" in caplog.text


def test_what_waits_to_be_made_is_bounded_by_what_it_keeps(pipe: tuple[int, int]) -> None:
    """Not by the length of lines that nobody has made yet."""
    fill(pipe[1])
    log = AccessLog(pipe[1], human=False, held_bytes=1000)

    for _ in range(10):
        log.write_later(bytes, b"x\n", 400)

    assert log.dropped == 8
    os.close(pipe[0])  # frees the thread
    assert log.close(5)


def test_a_line_is_written_without_a_close(pipe: tuple[int, int]) -> None:
    """A single line does not wait for others to come."""
    log = AccessLog(pipe[1], human=False)

    log.write(LINE)

    assert select.select([pipe[0]], [], [], 5)[0]
    assert log.close(5)


def test_each_write_is_as_much_as_a_pipe_takes_in_one_piece(pipe: tuple[int, int]) -> None:
    """Processes that share a pipe mix no lines: a piece is whole lines and at most PIPE_BUF."""
    fcntl.fcntl(pipe[0], fcntl.F_SETFL, os.O_NONBLOCK)
    other = threading.Thread(
        target=lambda: [os.write(pipe[1], b"y" * 9 + b"\n") for _ in range(2000)]
    )
    log = AccessLog(pipe[1], human=False)

    other.start()
    for _ in range(2000):
        log.write(LINE)
    seen = b""
    deadline = time.monotonic() + 10
    while len(seen) < 2000 * 110 and time.monotonic() < deadline:
        if select.select([pipe[0]], [], [], 0.1)[0]:
            seen += os.read(pipe[0], 65536)
    other.join()

    assert log.close(5)
    assert set(seen.splitlines(keepends=True)) == {LINE, b"y" * 9 + b"\n"}


def test_a_blocked_reader_blocks_nobody(pipe: tuple[int, int]) -> None:
    """A full pipe: writes return at once, memory is bounded, the rest is counted as dropped."""
    fill(pipe[1])
    log = AccessLog(pipe[1], human=False, held_bytes=10_000)
    log.write(LINE)
    began = time.perf_counter()

    for _ in range(20_000):
        log.write(LINE)

    took = time.perf_counter() - began
    assert took < 1.0  # 20,000 waits of any kind would be longer
    assert 20_001 - 100 <= log.dropped <= 20_000
    began = time.perf_counter()
    assert not log.close(0.05)
    assert time.perf_counter() - began < 1.0
    assert log.dropped >= 20_001 - 1 - select.PIPE_BUF // len(LINE)
    os.close(pipe[0])  # frees the thread


def test_what_was_dropped_is_said_when_there_is_room_again(pipe: tuple[int, int]) -> None:
    """The log itself tells that lines are missing, and how many."""
    filled = fill(pipe[1])
    log = AccessLog(pipe[1], human=False, held_bytes=len(LINE) * 3)
    for _ in range(10):
        log.write(LINE)
    dropped = log.dropped

    drain(pipe[0], filled)
    deadline = time.monotonic() + 5
    while log._held_bytes and time.monotonic() < deadline:
        time.sleep(0.001)
    log.write(b"next\n")
    assert log.close(5)

    seen = os.read(pipe[0], 65536).splitlines()
    (notice,) = set(seen) - {LINE.rstrip(), b"next"}
    said = json.loads(notice)
    assert (said["level"], said["dropped"], dropped) == ("warning", 7, 7)
    assert "were dropped" in said["message"]
    assert seen.index(notice) < seen.index(b"next")


def test_a_descriptor_in_non_blocking_mode_loses_nothing(pipe: tuple[int, int]) -> None:
    """Somebody who shares the descriptor set it non-blocking: a full pipe is waited for."""
    filled = fill(pipe[1])
    os.set_blocking(pipe[1], False)
    log = AccessLog(pipe[1], human=False)

    log.write(LINE)
    drain(pipe[0], filled)

    assert drain(pipe[0], len(LINE)) == LINE
    assert log.close(5)
    assert log.dropped == 0


def test_closing_a_full_non_blocking_descriptor_is_bounded(pipe: tuple[int, int]) -> None:
    """The wait for room ends with the time given to `close`, and what is left is counted."""
    fill(pipe[1])
    os.set_blocking(pipe[1], False)
    log = AccessLog(pipe[1], human=False)
    for _ in range(100):
        log.write(LINE)

    log.close(0.05)

    assert log.close(5)
    assert log.dropped == 100


def test_a_reader_that_is_gone_is_counted_and_no_error(pipe: tuple[int, int]) -> None:
    """A broken pipe costs the lines, not the process."""
    os.close(pipe[0])
    log = AccessLog(pipe[1], human=False)

    for _ in range(100):
        log.write(LINE)

    assert log.close(5)
    assert log.dropped == 100


def test_a_line_for_people_ends_as_it_is(pipe: tuple[int, int]) -> None:
    """What every line for programs has is not put into the last row of somebody's stack."""
    log = AccessLog(pipe[1], human=True, common={"env": "development"})

    log.write(b"    ValueError: no such thing as {'a': 1}\n")
    assert log.close(5)

    assert os.read(pipe[0], 4096) == b"    ValueError: no such thing as {'a': 1}\n"


def test_lines_after_the_close_are_counted() -> None:
    """A closed log takes nothing and says so; closing twice, or unused, is no error."""
    log = AccessLog(1, human=True)

    assert log.close(1)
    log.write(LINE)

    assert log.close(1)
    assert log.dropped == 1


def test_the_drops_are_a_metric() -> None:
    """What the log lost shows on /metrics."""
    registry = Registry()
    log = AccessLog(1, human=True)
    log_metrics(registry, log)

    log.close(1)
    log.write(LINE)

    snapshot = registry.snapshot()
    series = snapshot["shipworthy_log_lines_dropped_total"]
    assert (series["kind"], series["sets"]) == ("counter", [([], [1.0])])
    rules = snapshot["shipworthy_redactions_total"]
    assert {tuple(values) for values, _ in rules["sets"]} == {(rule,) for rule in REDACTIONS}


def test_a_signal_handler_may_log_while_its_thread_logs(pipe: tuple[int, int]) -> None:
    """No lock is held that the interrupted thread holds already."""
    log = AccessLog(pipe[1], human=False)
    before = signal.signal(signal.SIGALRM, lambda *_: log.write(b"signal\n"))
    reading = threading.Thread(
        target=lambda: [None for _ in iter(lambda: os.read(pipe[0], 65536), b"")]
    )
    reading.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(20_000):
            log.write(LINE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert log.close(5)
    os.close(pipe[1])
    reading.join(5)


def run(code: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=20
    ).stdout


@pytest.mark.slow
def test_lines_are_written_when_the_interpreter_ends() -> None:
    """Nobody called `close`, and no line is missing all the same."""
    code = """
from shipworthy.telemetry import AccessLog
log = AccessLog(1, human=False)
for number in range(1000):
    log.write(b"%d\\n" % number)
"""

    assert run(code).splitlines() == [b"%d" % number for number in range(1000)]


@pytest.mark.slow
def test_a_forked_child_writes_its_own_lines_and_not_its_parents() -> None:
    """The thread does not survive a fork; the log does, and no line is written twice."""
    code = """
import os
from shipworthy.telemetry import AccessLog
log = AccessLog(1, human=False)
log.write(b"parent\\n")
child = os.fork()
log.write(b"child\\n" if child == 0 else b"after\\n")
log.close(5)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""

    assert sorted(run(code).splitlines()) == [b"after", b"child", b"parent"]
