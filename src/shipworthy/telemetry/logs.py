"""Standard logging and our events as lines in the log, each with the ids of its request."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from typing_extensions import override

from shipworthy.context import log_fields
from shipworthy.events import Event, listen
from shipworthy.redact import hidden, is_harmless_name, is_secret, redact
from shipworthy.settings import Loaded
from shipworthy.telemetry.lines import line, timestamp
from shipworthy.telemetry.log_file import LogFile
from shipworthy.telemetry.rotation import RotationRule
from shipworthy.telemetry.settings import LogSettings
from shipworthy.telemetry.sink import AccessLog

# Of one text, and of one list or mapping; what is longer is cut. A stack keeps its end, where the
# error is.
TEXT_CHARACTERS = 8192
ENTRIES = 50
DEPTH = 3
# Of one text before it is redacted and cut: a secret that the cut would go through is still whole.
LOOK_CHARACTERS = 2 * TEXT_CHARACTERS
NAME_CHARACTERS = 100
LOOK_NAME_CHARACTERS = 1000
# Of all that is added to one line.
LINE_CHARACTERS = 8 * TEXT_CHARACTERS

_STDOUT = 1
_CLOSE_SECONDS = 1.0
# uvicorn repeats its message with colours in it.
_NOT_EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
# What is not from outside: ids are taken only where they are well-formed.
_OURS = frozenset({"ts", "level", "event", "request_id", "trace_id"})
_RECORD_FIELDS = len(vars(logging.makeLogRecord({})))
# What the fields of every line keep in memory, and what a number or the name of a text does.
_FIELDS_BYTES = 1024
_VALUE_CHARACTERS = 32
_NUMBERS = frozenset({int, float, bool, type(None)})
_SHORT = 100
# What the log adds to every line by itself.
_COMMON = ("pid", "service", "env")
_traceback = logging.Formatter()


def open_log(
    settings: LogSettings, *, environment: str = "", stream_fd: int = _STDOUT
) -> AccessLog:
    """Return the log these settings ask for; whoever opens it closes it.

    Raises `SettingsInvalid` where `log.file` cannot be written.
    """
    known = {"service": settings.service, "env": environment}
    common = {name: value for name, value in known.items() if value}
    if settings.file:
        rule = RotationRule(
            size_bytes=settings.rotate_size_bytes,
            age_seconds=settings.rotate_age_seconds,
            keep=settings.keep,
        )
        file = LogFile(settings.file, rule)
        return AccessLog(file, human=settings.format == "text", common=common)
    human = settings.format == "text" or (settings.format == "auto" and os.isatty(stream_fd))
    return AccessLog(stream_fd, human=human, common=common)


def start_logging(settings: Loaded, *, app_first: bool = False) -> Callable[[], None]:
    """Write standard logging and our events to standard output; return what ends and closes it.

    `app_first` is as for `install_logging`.
    """
    chosen = settings.of(LogSettings)
    access = open_log(chosen, environment=settings.environment)
    uninstall = install_logging(access, level=chosen.level, app_first=app_first)

    def stop() -> None:
        uninstall()
        access.close(_CLOSE_SECONDS)

    return stop


def install_logging(
    access: AccessLog, *, level: str, app_first: bool = False
) -> Callable[[], None]:
    """Write what reaches the root logger, and every event declared so far, to `access`.

    From `level` on; secrets are redacted and texts are cut. Handlers that are there stay. Where it
    is installed already, the first one goes on and this does nothing. Returns what undoes it.
    Events do not pass through `logging`, so a `dictConfig` of the application cannot lose them.

    `logging.basicConfig` does nothing where the root logger has a handler. So that an application
    can call it and have its file, with `app_first` ours is not there until `settle_logging` says
    so; until then it is the one that `logging` turns to where there is no other.
    """
    root = logging.getLogger()
    if logging_installed():
        return lambda: None
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = LogLines(access)
    before, last_resort = root.level, logging.lastResort
    # The application may set the root logger to another level; ours holds for our lines.
    handler.setLevel(number)
    root.setLevel(number)
    if app_first:
        logging.lastResort = handler
    else:
        root.addHandler(handler)

    def heard(fact: Event) -> None:
        if logging.getLevelNamesMapping()[fact.severity.upper()] >= number:
            access.write_later(handler.made, *event_fields(fact))

    deaf = listen(heard)

    def uninstall() -> None:
        deaf()
        root.removeHandler(handler)
        if logging.lastResort is handler:
            logging.lastResort = last_resort
        root.setLevel(before)

    return uninstall


def settle_logging(*, started: bool) -> None:
    """Put the handler that `app_first` held back beside those of the application.

    To be called when the application is imported and again when it has started, because it may
    configure logging at either. Where it has not yet, only the second call does anything. It also
    puts back what a `dictConfig` has thrown out.
    """
    lines, root = logging.lastResort, logging.getLogger()
    if isinstance(lines, LogLines) and (started or root.handlers):
        root.addHandler(lines)  # once, however often this is called


def logging_installed() -> bool:
    """Say whether our lines are what standard logging is written as."""
    return installed_log() is not None


def installed_log() -> AccessLog | None:
    """Return the log that standard logging is written to, None where it is not ours."""
    for handler in (logging.lastResort, *logging.getLogger().handlers):
        if isinstance(handler, LogLines):
            return handler.log
    return None


class LogLines(logging.Handler):
    """The handler of the root logger that writes records as lines."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__()
        self.log = log

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.log.write_later(self.made, *record_fields(record))
        except Exception:  # noqa: BLE001 - logging's own rule: tell standard error, never the caller
            self.handleError(record)

    def made(self, fields: dict[str, Any]) -> bytes:
        """Return the line of these fields, redacted; never raises, as that would be logged too."""
        try:
            return line(redacted(fields), human=self.log.human)
        except Exception as error:  # noqa: BLE001 - the line tells of it in its own place
            said = {name: fields[name] for name in ("ts", "level", "logger")}
            message = "a line could not be made, so what it said is lost"
            said |= {"message": message, "error_type": type(error).__qualname__}
            return line(said, human=self.log.human)


def record_fields(record: logging.LogRecord) -> tuple[dict[str, Any], int]:
    """Return the fields of a record's line, and about how many bytes they keep.

    They are plain and of bounded length, so that whatever was logged may change or go meanwhile;
    `redacted` must follow.
    """
    fields: dict[str, Any] = {
        "ts": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _message(record)[:LOOK_CHARACTERS],
        **log_fields(),
    }
    held = _FIELDS_BYTES + len(fields["message"])
    known = vars(record)
    if len(known) > _RECORD_FIELDS:
        held += _add(fields, {name: known[name] for name in known if name not in _NOT_EXTRA})
    stack = _traceback.formatException(record.exc_info) if record.exc_info else record.exc_text
    stack = "\n".join(filter(None, (stack, record.stack_info)))
    if stack:
        if record.exc_info and record.exc_info[0]:
            fields["error_type"] = record.exc_info[0].__qualname__
        fields["stack"] = stack[-LOOK_CHARACTERS:]
        held += len(fields["stack"])
    return fields, held


def redacted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as they may be written: without secrets, and cut.

    Cut last: half a secret is not recognised.
    """
    shown: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _OURS:
            shown[name] = value
        elif name == "stack":
            shown[name] = redact(value)[-TEXT_CHARACTERS:]
        else:
            shown[_name(name)] = _redacted(value)
    return shown


def event_fields(fact: Event) -> tuple[dict[str, Any], int]:
    """Return the fields of an event's line; the same holds as for those of a record."""
    fields = {
        "ts": timestamp(time.time()),
        "level": str(fact.severity),
        "logger": f"shipworthy.{fact.room}",
        "message": fact.sentence,
        "event": fact.name,
        **log_fields(),
    }
    held = _add(fields, {field.name: getattr(fact, field.name) for field in fact.schema})
    return fields, _FIELDS_BYTES + held


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a wrong log call still has something to say
        return f"{record.msg} (its arguments do not fit: {error})"


def _add(fields: dict[str, Any], extras: Mapping[str, Any]) -> int:
    """Add what is known beside, under names that are free; return about how many bytes it keeps."""
    left = [LINE_CHARACTERS]
    for long, value in extras.items():
        name = long[:LOOK_NAME_CHARACTERS]
        shown = f"{name}_" if name in fields or name in _COMMON else name
        kind = type(value)
        if is_harmless_name(name) and (kind in _NUMBERS or (kind is str and len(value) <= _SHORT)):
            fields[shown] = value  # most are: the rest is for what is large or may be secret
            left[0] -= _SHORT
        else:
            fields[shown] = _plain(name, value, DEPTH, left)
    return LINE_CHARACTERS - left[0] + 64 * len(extras)


def _plain(name: str, value: object, depth: int, left: list[int]) -> Any:
    """Return `value` as plain data of bounded size, without what its name says is secret.

    `left` is how many characters the line has left for all that is added to it.
    """
    left[0] -= _VALUE_CHARACTERS
    if is_secret(name, value):
        return hidden("name")
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and not isinstance(value, str):
        if isinstance(value, Mapping):
            some = islice(value.items(), _room(left))
            named = ((str(key)[:LOOK_NAME_CHARACTERS], inner) for key, inner in some)
            return {key: _plain(key, inner, depth - 1, left) for key, inner in named}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain("", inner, depth - 1, left) for inner in islice(value, _room(left))]
    try:
        text = str(value)[: max(min(LOOK_CHARACTERS, left[0]), 0)]
    except Exception as error:  # noqa: BLE001 - an object that cannot be shown costs only itself
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    left[0] -= len(text)
    return text


def _room(left: list[int]) -> int:
    return ENTRIES if left[0] > 0 else 0


# Names come again with every line.
@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    return redact(name)[:NAME_CHARACTERS]


def _redacted(value: Any) -> Any:
    if type(value) in _NUMBERS:
        return value
    if isinstance(value, str):
        return redact(value)[:TEXT_CHARACTERS]
    if isinstance(value, dict):
        return {_name(name): _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return value
