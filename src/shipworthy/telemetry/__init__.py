"""What the process says about itself: metric cells and their text, log lines, kept traces.

Everything here is cheap where the request passes (a cell is one float, a log line one append) and
bounded everywhere: label sets, the lines that wait for a slow reader, the time to close.

Not here: which facts and metrics exist (declared in `events` by the room that knows them), the
port that serves `/metrics` (`operations`), and who reads the segments of several workers (`serve`).
"""

from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.alerting import AlertState, Raised, about
from shipworthy.telemetry.cells import Cell, HistogramCell
from shipworthy.telemetry.counting import PROCESS, counter, gauge, histogram
from shipworthy.telemetry.declarations import plain_declarations
from shipworthy.telemetry.evaluate import evaluate, holds
from shipworthy.telemetry.exposition import EXPOSITION_TYPE, Form, exposition, negotiated
from shipworthy.telemetry.foreign import ForeignMetrics
from shipworthy.telemetry.history import Histories, History
from shipworthy.telemetry.keeping import Keeping, Point, state_folder
from shipworthy.telemetry.line_sampling import Sampler
from shipworthy.telemetry.lines import line, timestamp
from shipworthy.telemetry.log_shown import LOG_SHOWN
from shipworthy.telemetry.logs import (
    event_fields,
    install_logging,
    installed_log,
    logging_installed,
    open_log,
    settle_logging,
    start_logging,
)
from shipworthy.telemetry.memory import Memory
from shipworthy.telemetry.memory_shown import MEMORY_SHOWN
from shipworthy.telemetry.metrics import Counter, Histogram, Registry
from shipworthy.telemetry.process import process_metrics, resident_bytes
from shipworthy.telemetry.retention import Retained, RetentionSettings, StoredIn, policy
from shipworthy.telemetry.rounds import Rounds
from shipworthy.telemetry.run_directory import RunDirectory
from shipworthy.telemetry.sampling import Allowance, HeadRule, kept_because
from shipworthy.telemetry.segment import Segment
from shipworthy.telemetry.settings import HistorySettings, LogSettings, MetricsSettings
from shipworthy.telemetry.shared_counts import SharedCounts
from shipworthy.telemetry.shown import COUNTING_SHOWN
from shipworthy.telemetry.sink import LINES_LEFT_OUT, AccessLog, log_metrics
from shipworthy.telemetry.snapshot import Series, Snapshot, folded, from_json, retired
from shipworthy.telemetry.span_export import (
    SPANS_CLOSE_SECONDS,
    SpanExport,
    Trace,
    export_of,
)
from shipworthy.telemetry.together import SegmentDirectory
from shipworthy.telemetry.trace_settings import TraceSettings
from shipworthy.telemetry.trace_shown import TRACES_SHOWN

__all__ = [
    "COUNTING_SHOWN",
    "EXPOSITION_TYPE",
    "LINES_LEFT_OUT",
    "LOG_SHOWN",
    "MEMORY_SHOWN",
    "PROCESS",
    "SPANS_CLOSE_SECONDS",
    "TRACES_SHOWN",
    "AccessLog",
    "AlertSettings",
    "AlertState",
    "Allowance",
    "Cell",
    "Counter",
    "ForeignMetrics",
    "Form",
    "HeadRule",
    "Histogram",
    "HistogramCell",
    "Histories",
    "History",
    "HistorySettings",
    "Keeping",
    "LogSettings",
    "Memory",
    "MetricsSettings",
    "Point",
    "Raised",
    "Registry",
    "Retained",
    "RetentionSettings",
    "Rounds",
    "RunDirectory",
    "Sampler",
    "Segment",
    "SegmentDirectory",
    "Series",
    "SharedCounts",
    "Snapshot",
    "SpanExport",
    "StoredIn",
    "Trace",
    "TraceSettings",
    "about",
    "counter",
    "evaluate",
    "event_fields",
    "export_of",
    "exposition",
    "folded",
    "from_json",
    "gauge",
    "histogram",
    "holds",
    "install_logging",
    "installed_log",
    "kept_because",
    "line",
    "log_metrics",
    "logging_installed",
    "negotiated",
    "open_log",
    "plain_declarations",
    "policy",
    "process_metrics",
    "resident_bytes",
    "retired",
    "settle_logging",
    "start_logging",
    "state_folder",
    "timestamp",
]
