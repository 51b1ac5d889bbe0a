"""What Prometheus is told: whom to ask how often, which rules, whom to call. Pure."""

from collections.abc import Sequence
from typing import Final

from shipworthy.deploy.promql import range_text
from shipworthy.deploy.rules import HEAD
from shipworthy.deploy.settings import MonitoringSettings
from shipworthy.deploy.yaml import Node, yaml_text

_SCRAPE_TIMEOUT_SECONDS: Final = 10.0
# A service of ours has some thousand series; more than this is one that ran away.
_MOST_SAMPLES: Final = 50_000


def prometheus_file(settings: MonitoringSettings, targets: Sequence[str]) -> str:
    """Return prometheus.yml for these targets."""
    interval = settings.scrape_interval_seconds
    return yaml_text(
        {
            "global": {
                "scrape_interval": range_text(interval),
                "scrape_timeout": range_text(min(interval, _SCRAPE_TIMEOUT_SECONDS)),
                "evaluation_interval": range_text(interval),
            },
            "rule_files": ["rules/*.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": list(settings.alertmanagers)}]}]
            },
            "scrape_configs": [
                {
                    "job_name": settings.job,
                    "sample_limit": _MOST_SAMPLES,
                    **_credentials(settings),
                    "static_configs": [{"targets": list(targets)}],
                },
                # What they say of themselves is what the alerts on them ask for.
                {
                    "job_name": "prometheus",
                    "static_configs": [{"targets": ["127.0.0.1:9090"]}],
                },
                {
                    "job_name": "alertmanager",
                    "static_configs": [{"targets": list(settings.alertmanagers)}],
                },
            ],
        },
        head=HEAD,
    )


def prometheus_flags(retention_seconds: float) -> list[str]:
    """Return the options Prometheus is started with, which cannot stand in its file."""
    return [
        "--web.listen-address=127.0.0.1:9090",
        f"--storage.tsdb.retention.time={range_text(retention_seconds)}",
        "--enable-feature=exemplar-storage",
    ]


def _credentials(settings: MonitoringSettings) -> dict[str, Node]:
    if not settings.scrape_token_file:
        return {}
    return {"authorization": {"credentials_file": settings.scrape_token_file}}
