"""Standard logging and our events as lines in the log, each with the ids of its request."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from typing_extensions import override

from shipworthy.context import log_fields
from shipworthy.events import Event, listen
from shipworthy.redact import HIDDEN, is_secret_name, redact
from shipworthy.settings import Loaded
from shipworthy.telemetry.lines import line, timestamp
from shipworthy.telemetry.settings import LogSettings
from shipworthy.telemetry.sink import AccessLog

# Of one text, and of one list or mapping; what is longer is cut. A stack keeps its end, where the
# error is.
TEXT_CHARACTERS = 8192
ENTRIES = 50
DEPTH = 3

_STDOUT = 1
_CLOSE_SECONDS = 1.0
# uvicorn repeats its message with colours in it.
_NOT_EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_traceback = logging.Formatter()


def open_log(settings: LogSettings, *, stream_fd: int = _STDOUT) -> AccessLog:
    """Return the log these settings ask for; whoever opens it closes it."""
    human = settings.format == "text" or (settings.format == "auto" and os.isatty(stream_fd))
    return AccessLog(stream_fd, human=human)


def start_logging(settings: Loaded, *, app_first: bool = False) -> Callable[[], None]:
    """Write standard logging and our events to standard output; return what ends and closes it.

    `app_first` is as for `install_logging`.
    """
    chosen = settings.of(LogSettings)
    access = open_log(chosen)
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
            access.write(line(event_fields(fact), human=access.human))

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
    return any(isinstance(h, LogLines) for h in (logging.lastResort, *logging.getLogger().handlers))


class LogLines(logging.Handler):
    """The handler of the root logger that writes records as lines."""

    def __init__(self, access: AccessLog) -> None:
        super().__init__()
        self._access = access

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._access.write(line(record_fields(record), human=self._access.human))
        except Exception:  # noqa: BLE001 - logging's own rule: tell standard error, never the caller
            self.handleError(record)


def record_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record's line: redacted, cut, and with the ids of its request."""
    fields = {
        "ts": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _clean(_message(record)),
        **log_fields(),
    }
    extras = {name: value for name, value in vars(record).items() if name not in _NOT_EXTRA}
    _add(fields, extras)
    stack = _traceback.formatException(record.exc_info) if record.exc_info else record.exc_text
    stack = "\n".join(filter(None, (stack, record.stack_info)))
    if stack:
        if record.exc_info and record.exc_info[0]:
            fields["error_type"] = record.exc_info[0].__qualname__
        fields["stack"] = redact(stack[-TEXT_CHARACTERS:])
    return fields


def event_fields(fact: Event) -> dict[str, Any]:
    """Return the fields of an event's line; the same holds as for a record."""
    fields = {
        "ts": timestamp(time.time()),
        "level": str(fact.severity),
        "logger": f"shipworthy.{fact.room}",
        "message": fact.sentence,
        "event": fact.name,
        **log_fields(),
    }
    _add(fields, {field.name: getattr(fact, field.name) for field in fact.schema})
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a wrong log call still has something to say
        return f"{record.msg} (its arguments do not fit: {error})"


def _add(fields: dict[str, Any], extras: Mapping[str, object]) -> None:
    for name, value in extras.items():
        fields[f"{name}_" if name in fields else name] = _shown(name, value, DEPTH)


def _shown(name: str, value: object, depth: int) -> Any:
    if value is not None and is_secret_name(name):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        some = islice(value.items(), ENTRIES)
        return {str(key): _shown(str(key), inner, depth - 1) for key, inner in some}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_shown("", inner, depth - 1) for inner in islice(value, ENTRIES)]
    try:
        return _clean(str(value))
    except Exception as error:  # noqa: BLE001 - an object that cannot be shown costs only itself
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _clean(text: str) -> str:
    return redact(text[:TEXT_CHARACTERS])
