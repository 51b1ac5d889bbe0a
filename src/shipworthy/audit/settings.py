"""What the service may be told about its trail: section [audit]."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shipworthy.settings import duration, option, section


@section("audit")
@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Which tables are captured, and what follows where one is not."""

    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "off: nobody asks whether the trail is whole, and writes carry no actor; report: a table "
        "that is not captured is told; enforce: the service is not ready before all are captured",
    )
    tables: tuple[str, ...] = option(
        ("*",), "tables to capture: names or patterns (`order_*`), with their schema if not default"
    )
    exclude: tuple[str, ...] = option(
        ("alembic_version",), "tables that are not captured, as names or patterns"
    )
    personal: tuple[str, ...] = option(
        (),
        "columns whose values can be erased later, each as `table.column = column that names the "
        "person`",
    )
    truncate: Literal["capture", "block"] = option(
        "capture",
        "what a TRUNCATE does where the engine has triggers for it: its rows are captured, or it "
        "is refused",
    )
    bind_reads: bool = option(
        False,  # noqa: FBT003
        "whether the database is told the actor before a SELECT too, for functions that write; "
        "one more round trip for each transaction that only reads",
    )
    keep_payload_seconds: float = duration(
        "400d", "how long entries stay in the log before `audit retain` archives them; 0: for ever"
    )
    keep_metadata_seconds: float = duration(
        "1826d", "how long archives stay, and who made old transactions and when; 0: for ever"
    )
    keep_access_seconds: float = duration(
        "400d", "how long entries about exports, erasures and holds stay in the log; 0: for ever"
    )
    archive_path: str = option(
        "shipworthy-archive", "the folder that `audit retain` writes archives to"
    )
    check_interval_seconds: float = duration(
        "60s", "how often the triggers are compared with the tables", minimum="1s"
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what cannot be read as it is written; it is refused everywhere."""
        del environment
        return [
            f"audit.personal: '{text}' is not of the form `table.column = subject column`"
            for text in self.personal
            if _personal_of(text) is None
        ]


# What decides which triggers there are; the rest is about who looks at them.
_CAPTURE = ("tables", "exclude", "personal", "truncate")


def write_capture(settings: AuditSettings) -> str:
    """Return what is to be captured as text, for whoever looks later without the settings."""
    facts = {name: getattr(settings, name) for name in _CAPTURE}
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def read_capture(text: str) -> AuditSettings:
    """Return settings that capture what `write_capture` was given; the defaults for ''."""
    facts: dict[str, Any] = json.loads(text) if text else {}
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts.items()
        if name in _CAPTURE
    }
    return AuditSettings(**known)


PersonalColumns = Mapping[str, Mapping[str, str]]
"""Table as it is written, to its personal columns, each with the column that names the person."""


def personal_columns(texts: Sequence[str]) -> PersonalColumns:
    """Read the setting `audit.personal`; what cannot be read was refused at the start."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        read = _personal_of(text)
        if read is not None:
            table, column, subject = read
            found.setdefault(table, {})[column] = subject
    return found


def _personal_of(text: str) -> tuple[str, str, str] | None:
    place, _, subject = (part.strip() for part in text.partition("="))
    table, _, column = place.rpartition(".")
    return (table, column, subject) if table and column and subject else None
