"""How long lines are kept, as files for whoever keeps them: Vector parts them, logrotate ages them.

Pure. One stream of lines comes from the service; what each kind is kept for, `[retention]` says.
"""

import re
from math import ceil
from typing import Final

from shipworthy.deploy.rules import HEAD
from shipworthy.deploy.yaml import Node, yaml_text
from shipworthy.telemetry import RetentionSettings

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_DAY_SECONDS: Final = 86400.0
# By the logger that every line names; the rest is `app`.
_PARTS: Final = {"access": "shipworthy.access", "security": "shipworthy.operations"}


def log_files(retention: RetentionSettings, *, job: str) -> dict[str, str]:
    """Return the files by path: lines of requests, orders of operators and the rest, each aged."""
    # A name of one folder, whatever the service is called.
    folder = f"/var/log/{_UNFIT.sub('_', job).strip('.') or 'service'}"
    kept = {
        "access": retention.access_lines_seconds,
        "security": retention.security_lines_seconds,
        "app": retention.log_lines_seconds,
    }
    aged = "\n".join(_aged(folder, name, seconds) for name, seconds in kept.items())
    return {
        "logs/vector.yaml": yaml_text(_vector(folder, list(kept)), head=HEAD),
        "logs/logrotate.conf": f"# {HEAD}\n\n{aged}",
    }


def _vector(folder: str, parts: list[str]) -> dict[str, Node]:
    sinks: dict[str, Node] = {
        part: {
            "type": "file",
            "inputs": [f"parts.{part if part in _PARTS else '_unmatched'}"],
            "path": f"{folder}/{part}.log",
            "encoding": {"codec": "json"},
        }
        for part in parts
    }
    return {
        "sources": {"service": {"type": "stdin", "decoding": {"codec": "json"}}},
        "transforms": {
            "parts": {
                "type": "route",
                "inputs": ["service"],
                "route": {part: f'.logger == "{logger}"' for part, logger in _PARTS.items()},
            }
        },
        "sinks": sinks,
    }


def _aged(folder: str, part: str, seconds: float) -> str:
    days = max(1, ceil(seconds / _DAY_SECONDS))
    rows = (
        "daily",
        f"rotate {days}",
        f"maxage {days}",
        "dateext",
        "missingok",
        "notifempty",
        "compress",
        "delaycompress",
        # Whoever writes has the file open, and cannot be told.
        "copytruncate",
    )
    body = "".join(f"    {row}\n" for row in rows)
    return f"{folder}/{part}.log {{\n{body}}}\n"
