"""Ways to write a line of a log, each measured when told to.

`python loglines_arms.py ours|peers` answers each line `N` on standard input with one line of JSON:
the CPU seconds of a line of each arm over N lines, all threads of the process together. Every arm
writes the same five fields to the null device. `ours` needs Shipworthy, `peers` what is in
loglines_peers.txt; both have the text formatter of `logging`, by which they can be compared.
"""

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

FIELDS = {"client": 17, "quay": "north", "berths": 3, "paid": True, "seconds": 0.0123}
Arm = tuple[Callable[[int], None], Callable[[], None]]


def nothing() -> None:
    """Wait for nothing: the caller has written its lines itself."""


def by_logging(name: str, handler: logging.Handler, *, extra: bool = True) -> Callable[[int], None]:
    """Return what writes N lines by a logger that has this handler alone."""
    logger = logging.getLogger(f"bench.{name}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]

    def write(count: int) -> None:
        if extra:
            for number in range(count):
                logger.info("sold berth %d", number, extra=FIELDS)
        else:
            for number in range(count):
                logger.info(
                    "sold berth %d client=%d quay=%s berths=%d paid=%s seconds=%f",
                    number, 17, "north", 3, True, 0.0123,
                )  # fmt: skip

    return write


def text() -> Arm:
    """Return the standard library's own: text, written by the caller."""
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: PTH123, SIM115
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(form)
    return by_logging("text", handler, extra=False), nothing


def ours() -> dict[str, Arm]:
    """Return a record through `logging`: in a queue, redacted and written by a thread."""
    from shipworthy.telemetry import AccessLog
    from shipworthy.telemetry.logs import LogLines

    null = os.open(os.devnull, os.O_WRONLY)
    log = AccessLog(null, human=False, held_bytes=2**30, common={"env": "production"})

    def over() -> None:
        while log._held_bytes > 0:  # noqa: SLF001 - its thread's part of the cost is waited for
            time.sleep(0.001)
        if log.dropped:
            raise SystemExit(f"{log.dropped} lines were dropped, so they cannot be compared")

    return {"text": text(), "shipworthy": (by_logging("ours", LogLines(log)), over)}


def peers() -> dict[str, Arm]:
    """Return structlog, loguru and python-json-logger, as their documentation sets them up."""
    import loguru
    import orjson
    import structlog
    from pythonjsonlogger.json import JsonFormatter
    from pythonjsonlogger.orjson import OrjsonFormatter

    def open_null(mode: str = "w") -> Any:
        return open(os.devnull, mode)  # noqa: PTH123

    def with_formatter(name: str, formatter: logging.Formatter) -> Arm:
        handler = logging.StreamHandler(open_null())
        handler.setFormatter(formatter)
        return by_logging(name, handler), nothing

    def by_structlog(**configuration: Any) -> Arm:
        structlog.reset_defaults()
        logger = structlog.wrap_logger(configuration.pop("logger"), **configuration).bind()

        def write(count: int) -> None:
            for number in range(count):
                logger.info("sold berth", number=number, **FIELDS)

        return write, nothing

    def by_loguru(**options: Any) -> Arm:
        loguru.logger.remove()
        added: list[int] = []

        def write(count: int) -> None:
            if not added:
                loguru.logger.remove()
                added.append(loguru.logger.add(open_null(), **options))
            bound = loguru.logger.bind(**FIELDS)
            for number in range(count):
                bound.info("sold berth {}", number)
            loguru.logger.remove()
            added.clear()

        return write, nothing

    stamped = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    level = structlog.make_filtering_bound_logger(logging.INFO)

    def as_json(event: Any, **_: Any) -> str:
        return orjson.dumps(event).decode()

    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(
                serializer=lambda event, **_: orjson.dumps(event).decode()
            ),
        ]
    )
    shown = "{asctime}{levelname}{name}{message}"
    through = logging.StreamHandler(open_null())
    through.setFormatter(formatter)
    stdlib = logging.getLogger("bench.structlog")
    stdlib.propagate, stdlib.handlers = False, [through]
    stdlib.setLevel(logging.INFO)
    return {
        "text": text(),
        "python-json-logger": with_formatter("json", JsonFormatter(shown, style="{")),
        "python-json-logger, orjson": with_formatter("orjson", OrjsonFormatter(shown, style="{")),
        "structlog, JSON": by_structlog(
            logger=structlog.PrintLogger(open_null()),
            processors=[*stamped, structlog.processors.JSONRenderer()],
            wrapper_class=level,
        ),
        "structlog, orjson to bytes": by_structlog(
            logger=structlog.BytesLogger(open_null("wb")),
            processors=[*stamped, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
            wrapper_class=level,
        ),
        "structlog through logging": by_structlog(
            logger=stdlib,
            processors=[*stamped, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
        "loguru, text": by_loguru(),
        "loguru, JSON": by_loguru(serialize=True),
    }


def measure(arm: Arm, count: int) -> float:
    """Return the CPU seconds of one line."""
    write, over = arm
    gc.collect()
    began = time.process_time()
    write(count)
    over()
    return (time.process_time() - began) / count


def main() -> None:
    """Measure each arm once for every line read, the order turned round each time."""
    arms = {"ours": ours, "peers": peers}[sys.argv[1]]()
    for arm in arms.values():
        measure(arm, 200)
    turn = list(arms)
    print(json.dumps(turn), flush=True)
    for line in sys.stdin:
        seconds = {name: measure(arms[name], int(line)) for name in turn}
        turn.reverse()
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
