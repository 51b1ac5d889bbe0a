"""What the process says about itself: metric cells and their text, log lines, the sink they go to.

Everything here is cheap where the request passes (a cell is one float, a log line one append) and
bounded everywhere: label sets, the lines that wait for a slow reader, the time to close.

Not here: which facts and metrics exist (declared in `events` by the room that knows them), the
port that serves `/metrics` (`operations`), and how the texts of several workers come together
(`serve` asks each one for its snapshot).
"""

from shipworthy.telemetry.exposition import EXPOSITION_TYPE, exposition, retired
from shipworthy.telemetry.lines import line, timestamp
from shipworthy.telemetry.logs import (
    install_logging,
    logging_installed,
    open_log,
    settle_logging,
    start_logging,
)
from shipworthy.telemetry.metrics import (
    Cell,
    Counter,
    Histogram,
    HistogramCell,
    Registry,
    Snapshot,
)
from shipworthy.telemetry.process import process_metrics, resident_bytes
from shipworthy.telemetry.settings import LogSettings
from shipworthy.telemetry.sink import AccessLog, log_metrics

__all__ = [
    "EXPOSITION_TYPE",
    "AccessLog",
    "Cell",
    "Counter",
    "Histogram",
    "HistogramCell",
    "LogSettings",
    "Registry",
    "Snapshot",
    "exposition",
    "install_logging",
    "line",
    "log_metrics",
    "logging_installed",
    "open_log",
    "process_metrics",
    "resident_bytes",
    "retired",
    "settle_logging",
    "start_logging",
    "timestamp",
]
