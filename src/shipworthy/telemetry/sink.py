"""Where log lines go: one descriptor, written by one thread, never waited for."""

import atexit
import contextlib
import logging
import os
import queue
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, final

from shipworthy.events import Metric, OneOf
from shipworthy.redact import REDACTIONS
from shipworthy.telemetry.lines import line, timestamp
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.metrics import Registry

# Lines that wait for a slow reader. 2 MiB is what some 4,000 requests have to say.
HELD_BYTES = 2 * 1024 * 1024
# How long lines gather before the thread writes them together: each time it wakes, it costs the
# process two thread switches, which a line per request should not.
GATHER_SECONDS = 0.02
# As much as a pipe takes in one piece (POSIX), so that the lines of several processes that share
# the pipe are not mixed within a line.
PIECE_BYTES = select.PIPE_BUF
# How long a line may be held when the interpreter ends and nobody called `close`.
_EXIT_SECONDS = 1.0
# How often a write to a full descriptor in non-blocking mode looks whether `close` gave up.
_LOOK_SECONDS = 0.1

_log = logging.getLogger("shipworthy.telemetry")

LINES_DROPPED = Metric(
    "shipworthy_log_lines_dropped_total",
    "counter",
    "Log lines that were dropped: nobody took the ones before them, or the disk is full.",
)
LINES_LEFT_OUT = Metric(
    "shipworthy_access_lines_left_out_total",
    "counter",
    "Lines of requests that were left out, because there were more than `web.access_full` in a "
    "second; the lines beside them say how many they stand for.",
)
SECRETS_REDACTED = Metric(
    "shipworthy_redactions_total",
    "counter",
    "Secrets that were kept out of a text, by the rule that found them.",
    {"rule": OneOf(*REDACTIONS)},
)


# How to make a line, what to make it from, and the bytes that this keeps in memory.
_Taken = tuple[Callable[[Any], bytes], object, int]


@final
class AccessLog:
    """Takes lines at once and writes them to `stream` from a thread of its own.

    `write` and `write_later` never wait: what a slow or blocked reader leaves no room for is
    dropped, counted in `dropped`, and said in the log as soon as there is room. Both are safe from
    any thread, from signal handlers and after a fork. A descriptor is borrowed and stays open, a
    file is the log's own. `human` says for whom the lines are written: people at a terminal, or
    programs (JSON). `common` is what every line for programs has, beside the number of the process.
    """

    def __init__(
        self,
        stream: int | LogFile,
        *,
        human: bool,
        held_bytes: int = HELD_BYTES,
        common: Mapping[str, str] | None = None,
    ) -> None:
        self.human = human
        self.dropped = 0
        self._stream = stream
        self._common = common
        self._torn = False
        self._limit_bytes = held_bytes
        self._told = 0
        self._closed = False
        self._deadline = float("inf")
        self._begin()
        _living.add(self)

    def write(self, text: bytes) -> None:
        """Take a line with its newline; at once, and dropped when there is no room."""
        self.write_later(bytes, text, len(text))

    def write_later(self, make: Callable[[Any], bytes], facts: object, size_bytes: int) -> None:
        """Take what a line is made from; the log's thread calls `make(facts)` for the line.

        So the caller does not wait for the making, and may leave the decision whether there is a
        line to it: nothing is written of nothing. `size_bytes` is what `facts` keep in memory.
        """
        if self._held_bytes + size_bytes > self._limit_bytes or self._closed:
            self.dropped += 1
            return
        # Single statements without a call in them: no thread switch comes between load and store.
        self._held_bytes += size_bytes
        self._lines.put((make, facts, size_bytes))
        if self._thread is None:
            self._start()

    def close(self, timeout_seconds: float) -> bool:
        """Write what is held, for at most `timeout_seconds`; tell whether that was long enough.

        Lines that come later are dropped. May be called more than once.
        """
        self._closed = True
        atexit.unregister(self._at_exit)
        thread = self._thread
        if thread is None:
            return True
        self._deadline = min(self._deadline, time.monotonic() + timeout_seconds)
        self._closing.set()
        self._lines.put(None)
        thread.join(timeout_seconds)
        if not thread.is_alive():
            return True
        # Nobody takes the lines; the thread ends with the write it is in.
        with contextlib.suppress(queue.Empty):
            while True:
                self.dropped += self._lines.get_nowait() is not None
        self._lines.put(None)
        return False

    def _begin(self) -> None:
        """Start empty: also in the child of a fork, where the parent's lines are not ours."""
        self._lines: queue.SimpleQueue[_Taken | None] = queue.SimpleQueue()
        self._held_bytes = 0
        self._thread: threading.Thread | None = None
        # Reentrant, because a signal handler may log while its thread is just here.
        self._starting = threading.RLock()
        self._closing = threading.Event()
        # What each line ends with in place of its brace, put there by the log's thread.
        self._end = b""
        if self._common is not None and not self.human:
            common = line({"pid": os.getpid(), **self._common}, human=False)
            self._end = b"," + common[1:]

    def _begin_in_child(self) -> None:
        self._begin()
        if isinstance(self._stream, LogFile):
            self._stream.begin_in_child()

    def _start(self) -> None:
        # Not before the first line: a server that loads the application and then forks its workers
        # would leave the thread behind.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="shipworthy-log", daemon=True
                )
                self._thread.start()
                atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close(_EXIT_SECONDS)

    def _run(self) -> None:
        while True:
            taken = self._lines.get()
            self._closing.wait(GATHER_SECONDS)
            piece, count, held_bytes = b"", 0, 0
            while taken is not None:
                make, facts, size_bytes = taken
                text = _made(make, facts)
                if self._end and text.endswith(b"}\n"):
                    text = text[:-2] + self._end
                if piece and len(piece) + len(text) > PIECE_BYTES:
                    self._put(piece, count, held_bytes)
                    piece, count, held_bytes = b"", 0, 0
                piece += text
                count += bool(text)
                held_bytes += size_bytes
                try:
                    taken = self._lines.get_nowait()
                except queue.Empty:
                    break
            self._put(piece, count, held_bytes)
            if taken is None:
                return

    def _put(self, piece: bytes, count: int, held_bytes: int) -> None:
        missing = self.dropped - self._told
        if missing and self._write(_notice(missing, human=self.human)) is None:
            self._told += missing
        left = self._write(piece)
        if left is not None:
            # Lines for people may have rows of a stack below them, so those are all taken for lost.
            done = 0 if self.human else piece[: max(len(piece) - left, 0)].count(b"\n")
            self.dropped += max(count - done, 0)
        self._held_bytes -= held_bytes

    def _write(self, piece: bytes) -> int | None:
        """Write `piece`; return None, or how much of it is left for want of room or a reader."""
        rest = memoryview(b"\n" + piece if self._torn and piece else piece)
        while rest:
            stream = self._stream
            fd = stream.descriptor(len(rest)) if isinstance(stream, LogFile) else stream
            try:
                rest = rest[os.write(fd, rest) :]
                self._torn = len(rest) > 0
            except BlockingIOError:
                # Somebody who shares the descriptor set it non-blocking.
                if time.monotonic() >= self._deadline:
                    return len(rest)
                room = select.poll()
                room.register(fd, select.POLLOUT)
                room.poll(_LOOK_SECONDS * 1000)
            except OSError:
                # The reader is gone or the disk is full. There is nobody to tell it to but the
                # counter; the next lines are tried again, on a line of their own.
                return len(rest)
        return None


def log_metrics(registry: Registry, log: AccessLog) -> None:
    """Register in `registry` what `log` had to drop, and what was kept out of every text."""
    registry.running_total(LINES_DROPPED, read=lambda: log.dropped)
    registry.running_total(SECRETS_REDACTED, read=_redactions)
    # Counted by whoever makes those lines; here it is there from the start.
    registry.counter(LINES_LEFT_OUT)


def _redactions() -> dict[tuple[str, ...], float]:
    return {(rule,): count for rule, count in REDACTIONS.items()}


def _made(make: Callable[[Any], bytes], facts: object) -> bytes:
    try:
        return make(facts)
    except Exception:  # noqa: BLE001
        # The thread must live, and the line that is missing is told of in its place.
        _log.exception("a line of the log could not be made")
        return b""


def _notice(missing: int, *, human: bool) -> bytes:
    fields = {
        "ts": timestamp(time.time()),
        "level": "warning",
        "logger": "shipworthy.telemetry",
        "message": "log lines were dropped: nobody took the ones before them, or the disk is full",
        "dropped": missing,
    }
    return line(fields, human=human)


_living: "weakref.WeakSet[AccessLog]" = weakref.WeakSet()


def _begin_in_child() -> None:
    for log in _living:
        log._begin_in_child()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_begin_in_child)
