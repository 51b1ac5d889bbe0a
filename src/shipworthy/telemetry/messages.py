"""A message about an alert, as webhooks of Alertmanager's form take it and as people read it.

Pure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shipworthy.redact import printable, redact
from shipworthy.telemetry.alerting import Message, Raised

# As many as somebody reads; the rest is a number.
TOLD_MAX: Final = 50
_NEVER: Final = "0001-01-01T00:00:00Z"


def webhook_of(message: Message, *, offset_seconds: float, receiver: str, url: str) -> Any:
    """Return a message in the form of Alertmanager's webhooks, version 4.

    `offset_seconds` is what the wall clock is ahead of the clock of the times; `url` is where more
    is to be seen.
    """
    alert = message.alert
    told = [*message.firing, *message.over]
    alerts = [_entry(one, offset_seconds=offset_seconds, url=url) for one in told[:TOLD_MAX]]
    common = dict(
        set(alerts[0]["labels"].items()).intersection(*(one["labels"].items() for one in alerts))
    )
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{alert.name}"}}',
        "truncatedAlerts": max(0, len(told) - TOLD_MAX),
        "status": "firing" if message.firing else "resolved",
        "receiver": receiver,
        "groupLabels": {"alertname": alert.name},
        "commonLabels": dict(sorted(common.items())),
        "commonAnnotations": _runbook(message),
        "externalURL": url,
        "alerts": alerts,
    }


def mail_of(message: Message, *, offset_seconds: float, url: str) -> tuple[str, str]:
    """Return the subject and the text of a message."""
    alert = message.alert
    counts = [
        f"{len(some)} {word}"
        for some, word in ((message.firing, "firing"), (message.over, "over"))
        if some
    ]
    subject = f"[{alert.urgency}] {alert.name}: {', '.join(counts)}"
    lines = []
    for title, some in (("Firing", message.firing), ("Over", message.over)):
        if some:
            lines += [f"{title}:"]
            for one in some[:TOLD_MAX]:
                since = _time(one.since + offset_seconds)
                lines.append(f"  {_clean(one.summary)} (since {since})")
            if len(some) > TOLD_MAX:
                lines.append(f"  and {len(some) - TOLD_MAX} more")
            lines.append("")
    lines += [f"Cause: {alert.cause}", f"Look: {alert.look}", f"Act: {alert.act}"]
    return subject, "\n".join([*lines, *(["", url] if url else []), ""])


def _entry(one: Raised, *, offset_seconds: float, url: str) -> dict[str, Any]:
    labels = {
        "alertname": one.alert.name,
        "severity": str(one.alert.urgency),
        **{name: _clean(value) for name, value in one.named.items()},
    }
    over = one.over_at
    return {
        "status": "firing" if over is None else "resolved",
        "labels": labels,
        "annotations": {
            "summary": _clean(one.summary),
            "value": f"{one.value:.10g}",
        },
        "startsAt": _time(one.since + offset_seconds),
        "endsAt": _NEVER if over is None else _time(over + offset_seconds),
        "generatorURL": url,
        "fingerprint": _fingerprint(labels),
    }


def _runbook(message: Message) -> Mapping[str, str]:
    return {"cause": message.alert.cause, "look": message.alert.look, "act": message.alert.act}


def _fingerprint(labels: Mapping[str, str]) -> str:
    """Return what a label set is known by to whoever is told twice: FNV-1a of 64 bits."""
    number = 0xCBF29CE484222325
    for name, value in sorted(labels.items()):
        for byte in f"{name}\xff{value}\xff".encode("utf-8", "backslashreplace"):
            number = ((number ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{number:016x}"


def _clean(text: str) -> str:
    return printable(redact(text))


def _time(wall: float) -> str:
    at = datetime.fromtimestamp(wall, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
