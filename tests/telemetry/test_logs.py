"""Logging and events as lines: with ids, without secrets, whatever is thrown at it."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pytest

from shipworthy.context import RequestRecord, request_scope
from shipworthy.events import Event, Label, Severity, declared, emit, event
from shipworthy.settings import load
from shipworthy.telemetry import (
    AccessLog,
    LogSettings,
    install_logging,
    installed_log,
    logging_installed,
    open_log,
    settle_logging,
    start_logging,
)

RECORD = RequestRecord(
    request_id="req-1", correlation_id="req-1", trace_id="t" * 32, span_id="s" * 16
)


@event(severity=Severity.WARNING)
class LanternLit(Event):
    """A lantern was lit for this test."""

    place: Annotated[str, Label]
    api_token: str = ""


@event(severity=Severity.DEBUG)
class LanternDimmed(Event):
    """A lantern was dimmed for this test."""


class Heard:
    """A log that was installed, and what came out of it."""

    def __init__(self, *, level: str = "info", human: bool = False) -> None:
        self.reader, self.writer = os.pipe()
        self.access = AccessLog(self.writer, human=human)
        self.uninstall = install_logging(self.access, level=level)

    def text(self) -> str:
        self.uninstall()
        with os.fdopen(self.reader, "rb") as reader, ThreadPoolExecutor(1) as beside:
            said = beside.submit(reader.read)  # a long line does not fit into the pipe
            closed = self.access.close(5)
            os.close(self.writer)
            assert closed
            return said.result().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))

    yield

    assert (root.level, root.handlers) == before


def test_a_record_is_a_line_with_the_ids_of_its_request() -> None:
    """Level, logger, message, extras and the ids, also from a thread that has the context."""
    heard = Heard()

    with request_scope(RECORD):
        logging.getLogger("app.orders").warning("sold %d", 3, extra={"berth": 12, "level": "high"})
    logging.getLogger("app").info("no request")

    first, second = heard.lines()
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "app.orders",
        "message": "sold 3",
        "request_id": "req-1",
        "trace_id": "t" * 32,
        "berth": 12,
        "level_": "high",
    }
    assert "request_id" not in second


def test_an_exception_is_its_type_and_its_stack() -> None:
    """The stack keeps its end, where the error is, however deep it was."""
    heard = Heard()

    try:
        raise LookupError("x" * 20_000)
    except LookupError:
        logging.getLogger("app").exception("it failed", stack_info=True)

    (line,) = heard.lines()
    assert (line["error_type"], line["level"]) == ("LookupError", "error")
    assert len(line["stack"]) <= 8192
    assert "Stack (most recent call last)" in line["stack"]


def test_an_event_is_a_line_with_its_sentence_name_and_fields() -> None:
    """Every event that is declared becomes one line, from the level on."""
    heard = Heard()

    with request_scope(RECORD):
        emit(LanternLit, place="quay", api_token="abc123")
    emit(LanternDimmed)

    (line,) = heard.lines()
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": f"shipworthy.{LanternLit.room}",
        "message": "A lantern was lit for this test.",
        "event": LanternLit.name,
        "request_id": "req-1",
        "trace_id": "t" * 32,
        "place": "quay",
        "api_token": "***",
    }


def test_the_level_opens_and_closes() -> None:
    """What is quieter than the level is not written, for records and for events."""
    loud, quiet = Heard(level="error"), None
    logging.getLogger("app").warning("no")
    emit(LanternLit, place="quay")

    assert loud.lines() == []

    quiet = Heard(level="debug")
    logging.getLogger("app").debug("yes")
    emit(LanternDimmed)

    assert [line["level"] for line in quiet.lines()] == ["debug", "debug"]


def test_events_survive_a_configuration_that_disables_every_logger() -> None:
    """`dictConfig` of the application, with its default of disabling, loses no event."""
    heard = Heard()
    logger = logging.getLogger("shipworthy.tests")

    logger.disabled = True
    try:
        emit(LanternLit, place="quay")
    finally:
        logger.disabled = False

    assert [line["event"] for line in heard.lines()] == [LanternLit.name]


@pytest.mark.parametrize(
    "extra",
    [
        {"password": "hunter2"},
        {"note": "postgresql://app:hunter2@db/x"},
        {"nested": {"deep": {"password": "hunter2"}}},
        {"listed": [{"api_key": "hunter2"}, "password=hunter2"]},
        {"too_deep": [[[[{"password": "hunter2"}]]]]},
        {"secret": 2.5, "note": "password: hunter2"},
    ],
    ids=["name", "text", "mapping", "list", "deeper than we look", "number"],
)
def test_secrets_are_not_written(extra: dict[str, Any]) -> None:
    """By name at any depth, and by form in any text: message, extras and stack."""
    heard = Heard()

    try:
        raise LookupError("could not open mysql://root:hunter2@db/x")
    except LookupError:
        logging.getLogger("app").exception("Authorization: Bearer hunter2hunter2", extra=extra)

    text = heard.text()
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("before", range(8192 - 40, 8192, 3))
def test_no_cut_goes_through_a_secret(before: int) -> None:
    """A text is redacted first and cut then, a stack too: half a key is not known as one."""
    secret = "AKIAQ7WM2XK9TR4BN6VC"
    heard = Heard()

    try:
        raise LookupError(f"{secret} {'x' * (before - 100)}")
    except LookupError:
        logging.getLogger("app").exception(
            "%s %s", "x" * before, secret, extra={"a": f"{'y' * before} {secret}"}
        )

    text = heard.text()
    assert not any(secret[:length] in text or secret[-length:] in text for length in (6, 10, 20))


def test_what_is_added_to_a_line_is_bounded_together() -> None:
    """Many long texts in one record: the line stays in bounds, the first of them are whole."""
    heard = Heard()

    texts = {f"text {number}": "x" * 8000 for number in range(40)}
    logging.getLogger("app").warning("long", extra={"all": [texts, texts]})

    (line,) = heard.lines()
    assert len(json.dumps(line)) < 100_000
    assert line["all"][0]["text 0"] == "x" * 8000
    assert "text 39" not in line["all"][1]


def test_a_line_that_cannot_be_made_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is told in the place of the line, and not by a line that fails again."""
    heard = Heard()
    monkeypatch.setattr("shipworthy.telemetry.logs.redact", lambda _: 1 / 0)

    logging.getLogger("app").warning("fine")

    (line,) = heard.lines()
    assert (line["error_type"], line["logger"]) == ("ZeroDivisionError", "app")


def test_every_line_for_programs_says_where_it_is_from() -> None:
    """Process, service and environment; what an application calls so keeps its value."""
    reader, writer = os.pipe()
    log = open_log(LogSettings(service="shop"), environment="staging", stream_fd=writer)
    uninstall = install_logging(log, level="info")
    installed = installed_log()

    logging.getLogger("app").info("hello", extra={"pid": 7, "env": "mine"})
    emit(LanternLit, place="quay")
    uninstall()
    assert log.close(5)

    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        first, second = (json.loads(row) for row in pipe.read().splitlines())
    assert installed is log
    for line in (first, second):
        assert (line["pid"], line["service"], line["env"]) == (os.getpid(), "shop", "staging")
    assert (first["pid_"], first["env_"]) == (7, "mine")


def test_a_log_goes_to_the_file_that_the_settings_name(tmp_path: Path) -> None:
    """JSON by itself, text where that is asked for; put aside by size."""
    path = tmp_path / "app.log"
    for wanted, begins in (("auto", "{"), ("text", "1")):
        chosen = LogSettings(file=str(path), format=wanted, rotate_size_bytes=200, keep=2)  # type: ignore[arg-type]
        log = open_log(chosen)
        uninstall = install_logging(log, level="info")
        for _ in range(10):
            logging.getLogger("app").info("one of ten lines that do not fit into two hundred bytes")
        uninstall()
        assert log.close(5)
        assert log.human is (wanted == "text")
        assert path.read_text()[0] in begins + "02"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_wrong_log_call_still_says_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments that do not fit, objects that cannot be shown, endless lists: one line each."""

    class Sulky:
        def __str__(self) -> str:
            raise LookupError("no")

    heard = Heard()
    logger = logging.getLogger("app")
    # Past pytest's own handlers, which raise what we have to survive.
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.getLogger().handlers[-1]])

    logger.warning("%d berths", "many")
    logger.warning("odd", extra={"who": Sulky(), "all": list(range(1000)), "none": None})
    logger.warning("x" * 20_000)

    wrong, odd, long = heard.lines()
    assert wrong["message"].startswith("%d berths (its arguments do not fit: ")
    assert odd["who"] == "<Sulky that cannot be shown: LookupError>"
    assert (odd["all"], odd["none"]) == (list(range(50)), None)
    assert len(long["message"]) == 8192


def test_an_error_of_ours_is_told_as_logging_tells_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens in the handler, the caller does not feel it."""
    heard = Heard()
    monkeypatch.setattr(AccessLog, "write_later", lambda *_: 1 / 0)

    logging.getLogger("app").warning("fine")

    monkeypatch.undo()
    assert heard.lines() == []
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_people_get_text() -> None:
    """The same facts for a terminal."""
    heard = Heard(human=True)

    emit(LanternLit, place="quay")

    text = heard.text()
    assert "WARNING A lantern was lit for this test." in text
    assert "place=quay" in text


def test_installed_twice_is_installed_once() -> None:
    """The first one goes on, and no line is doubled."""
    heard = Heard()

    other = install_logging(heard.access, level="debug")
    logging.getLogger("app").warning("once")
    other()
    logging.getLogger("app").warning("still")

    assert [line["message"] for line in heard.lines()] == ["once", "still"]


@pytest.mark.parametrize(
    ("wanted", "terminal", "human"),
    [("auto", True, True), ("auto", False, False), ("json", True, False), ("text", False, True)],
)
def test_the_format_follows_the_setting_and_the_terminal(
    wanted: Any, terminal: bool, human: bool
) -> None:
    """A terminal gets text, everything else JSON, unless the setting says which."""
    master, slave = os.openpty() if terminal else os.pipe()

    log = open_log(LogSettings(format=wanted), stream_fd=slave)

    os.close(master)
    os.close(slave)
    assert log.human is human


def test_logging_is_started_by_the_settings_and_ended(capfd: pytest.CaptureFixture[str]) -> None:
    """`start_logging` writes to standard output from `log.level` on, and its answer ends that."""
    stop = start_logging(load(environ={"SHIPWORTHY_LOG__LEVEL": "error"}))

    logging.getLogger("app").warning("no")
    logging.getLogger("app").error("yes")
    stop()
    logging.getLogger("app").error("after")

    assert [json.loads(line)["message"] for line in capfd.readouterr().out.splitlines()] == ["yes"]
    assert not any(thread.name == "shipworthy-log" for thread in threading.enumerate())


APP_FIRST = """
import json, logging, sys
from logging.config import dictConfig
from pathlib import Path

from shipworthy.settings import load
from shipworthy.telemetry import settle_logging, start_logging

def configure():
    {configure}

stop = start_logging(load(environ={{}}), app_first=True)
logging.getLogger("app").info("before")
if "{when}" == "import":
    configure()
    logging.getLogger("app").warning("own only")
settle_logging(started=False)
logging.getLogger("app").warning("starting")
if "{when}" == "start":
    configure()
settle_logging(started=True)
settle_logging(started=True)
logging.getLogger("app").warning("serving")
logging.getLogger("app").debug("quiet")
stop()
logging.getLogger("app").warning("after")
"""
BASIC = 'logging.basicConfig(filename="app.log", level=logging.DEBUG)'
FORCED = 'logging.basicConfig(filename="app.log", level=logging.DEBUG, force=True)'
DICT = (
    'dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "DEBUG", '
    '"handlers": ["f"]}, "handlers": {"f": {"class": "logging.FileHandler", '
    '"filename": "app.log"}}})'
)


@pytest.mark.slow
@pytest.mark.parametrize("configure", [BASIC, FORCED, DICT], ids=["basic", "forced", "dict"])
@pytest.mark.parametrize("when", ["import", "start", "never"])
def test_an_application_that_configures_logging_gets_its_file_and_we_our_lines(
    tmp_path: Path, configure: str, when: str
) -> None:
    """`basicConfig` works as without us, at import or at start-up, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", APP_FIRST.format(configure=configure, when=when)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    ours = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    theirs = (tmp_path / "app.log").read_text() if when != "never" else ""
    assert ours == ["before", "starting", "serving"]
    assert ("starting" in theirs) == (when == "import")
    assert all(word in theirs for word in ("serving", "quiet", "after")) == (when != "never")
    # What nobody else takes goes to standard error again once we have ended, as Python does it.
    assert done.stderr == ("" if when != "never" else "after\n")


def test_lines_that_are_held_back_are_installed_too(as_it_was: None) -> None:
    """Nobody else writes them a second time, and the end puts everything back."""
    before = logging.lastResort
    reader, writer = os.pipe()
    access = AccessLog(writer, human=False)

    uninstall = install_logging(access, level="info", app_first=True)
    # pytest has handlers of its own there, as an application may have.
    installed, held = logging_installed(), logging.lastResort in logging.getLogger().handlers
    settle_logging(started=False)
    settled = logging.lastResort in logging.getLogger().handlers
    uninstall()
    settle_logging(started=True)

    assert (installed, held, settled) == (True, False, True)
    assert not logging_installed()
    assert logging.lastResort is before
    access.close(5)
    os.close(reader)
    os.close(writer)


def test_no_event_of_ours_has_a_field_that_the_log_gives_another_meaning() -> None:
    """`pid` is who writes the line: that of a lost worker beside it would be taken for the same."""
    import shipworthy.serve  # noqa: F401 - which brings every room that runs

    ours = {
        name: {field.name for field in kind.schema}
        for name, kind in declared().items()
        if kind.__module__.startswith("shipworthy.")
    }
    assert "serve.worker_lost" in ours
    assert {name for name, fields in ours.items() if fields & {"pid", "service", "env"}} == set()
