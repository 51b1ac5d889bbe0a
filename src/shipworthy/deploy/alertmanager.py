"""Who hears of an alert, as the configuration of Alertmanager. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from shipworthy.deploy.promql import range_text
from shipworthy.deploy.rules import HEAD
from shipworthy.deploy.settings import MonitoringSettings
from shipworthy.deploy.watching import ALL_DOWN, DOWN, ESCALATED, HEARTBEAT
from shipworthy.deploy.yaml import Node, yaml_text

# For each receiver: how long alerts are gathered before the first is sent, and after how long one
# that still fires is sent again.
_TIMES: Final = {
    "heartbeat": (0.001, 60.0),
    "escalation": (10.0, 1800.0),
    "page": (10.0, 3600.0),
    "ticket": (60.0, 43200.0),
    "info": (300.0, 86400.0),
}
_GATHER_MORE_SECONDS: Final = 300.0


def alertmanager_file(settings: MonitoringSettings) -> str:
    """Return alertmanager.yml: routes by severity, what keeps what silent, and the receivers.

    What has no severity we know goes to the tickets rather than nowhere.
    """
    return yaml_text(
        {
            **_mail(settings),
            "route": {
                "receiver": "ticket",
                "group_by": ["job", "alertname", "slo"],
                **_times("ticket", settings.scale),
                "routes": [
                    _route("heartbeat", HEARTBEAT, settings.scale),
                    _route("escalation", ESCALATED, settings.scale),
                    *(
                        _route(severity, {"severity": severity}, settings.scale)
                        for severity in ("page", "ticket", "info")
                    ),
                ],
            },
            "inhibit_rules": list(_inhibitions()),
            "receivers": [_receiver(name, getattr(settings, name)) for name in _TIMES],
        },
        head=HEAD,
    )


def _mail(settings: MonitoringSettings) -> dict[str, Node]:
    if not settings.smtp:
        return {}
    return {"global": {"smtp_smarthost": settings.smtp, "smtp_from": settings.mail_from}}


def _route(receiver: str, labels: dict[str, str], scale: float) -> Node:
    matchers = [f'{name}="{value}"' for name, value in labels.items()]
    return {"receiver": receiver, "matchers": matchers, **_times(receiver, scale)}


def _times(receiver: str, scale: float) -> dict[str, Node]:
    wait, repeat = _TIMES[receiver]
    more = min(_GATHER_MORE_SECONDS, repeat)
    return {
        "group_wait": range_text(max(wait / scale, 0.001)),
        "group_interval": range_text(more / scale),
        "repeat_interval": range_text(repeat / scale),
    }


def _inhibitions() -> Iterator[Node]:
    """Yield what keeps what silent.

    Two alerts without a label count as equal in it, so each target must have what is compared.
    """
    yield {
        "source_matchers": ['severity="page"', 'slo=~".+"'],
        "target_matchers": ['severity="ticket"', 'slo=~".+"'],
        "equal": ["job", "slo"],
    }
    # Not that one instance is down: a ticket must not silence a page, and the others still serve.
    yield {
        "source_matchers": [f'alertname="{ALL_DOWN}"'],
        "target_matchers": ['slo=~".+"'],
        "equal": ["job"],
    }
    yield {
        "source_matchers": [f'alertname="{ALL_DOWN}"'],
        "target_matchers": [f'alertname="{DOWN}"'],
        "equal": ["job"],
    }


def key_files(settings: MonitoringSettings) -> set[str]:
    """Return the files that hold the keys of receivers, as the settings name them."""
    ways = (text for name in _TIMES for text in getattr(settings, name))
    split = (text.partition(":") for text in ways)
    return {rest for kind, _, rest in split if kind in ("pagerduty", "slack")}


def _receiver(name: str, ways: Iterable[str]) -> Node:
    found: dict[str, list[Node]] = {}
    for text in ways:
        kind, config = _way(text)
        found.setdefault(f"{kind}_configs", []).append({**config, "send_resolved": True})
    return {"name": name, **found}


def _way(text: str) -> tuple[str, dict[str, Node]]:
    kind, _, rest = text.partition(":")
    match kind:
        case "mailto":
            return "email", {"to": rest}
        case "pagerduty":
            return kind, {"routing_key_file": rest}
        case "slack":
            return kind, {"api_url_file": rest}
        case _:
            return "webhook", {"url": text}
