"""What the service may be told about sealing: section [ledger]."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import Secret, duration, option, secret, section, size


@section("ledger")
@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Whether this service seals its trail, how often, with which key, and where it says so."""

    mode: Literal["off", "seal"] = option(
        "seal",
        "off: the workers seal nothing, another process does or nobody; seal: one of the workers "
        "seals the trail, where it is installed and there is a key",
    )
    url: Secret = secret(  # noqa: RUF009 - it makes a field
        "the database by a role that may write the ledger's tables; else db.url"
    )
    key: Secret = secret(  # noqa: RUF009
        "the signing key itself, as `PRIVATE+KEY+...`; else the file that ledger.key_path names"
    )
    key_path: str = option(
        "shipworthy-audit.key", "the file with the signing key; `audit install` makes it"
    )
    interval_seconds: float = duration(
        "1s", "how often what is new is sealed", minimum="100ms", maximum="1h"
    )
    heartbeat_seconds: float = duration(
        "60s",
        "how often a batch is sealed though nothing is new, so that an end that was cut off shows",
        minimum="1s",
    )
    batch_entries: int = option(
        5000, "how many entries a batch may have", minimum=1, maximum=100_000
    )
    batch_bytes: int = size("16MiB", "how much a batch reads before it is sealed", minimum="64KiB")
    # At 100 a log of a million entries is looked over in three hours.
    recheck_entries: int = option(
        100,
        "how many sealed entries a second are read again, from the first to the last and then "
        "anew, and compared with what was sealed; 0: none, and only `audit verify` finds what was "
        "changed",
        minimum=0,
        maximum=100_000,
    )
    held_after_seconds: float = duration(
        "60s", "how long an open transaction keeps entries from being sealed before it is told"
    )
    anchor_path: str = option(
        "", "a file that signed checkpoints are appended to; best on another machine's disk"
    )
    anchor_log: bool = option(
        True,  # noqa: FBT003
        "whether signed checkpoints are told as events, and so come into the log",
    )
    anchor_interval_seconds: float = duration(
        "60s", "how often a checkpoint is given to the anchors", minimum="1s"
    )
