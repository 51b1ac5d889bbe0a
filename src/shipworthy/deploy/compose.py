"""Prometheus, Alertmanager and Grafana as containers that read the folder. Pure."""

from typing import Final

from shipworthy.deploy.alertmanager import key_files
from shipworthy.deploy.prometheus import prometheus_flags
from shipworthy.deploy.rules import HEAD
from shipworthy.deploy.settings import MonitoringSettings
from shipworthy.deploy.yaml import Node, yaml_text

_IMAGES: Final = {
    "prometheus": "prom/prometheus:v3.4.0",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "grafana": "grafana/grafana:12.0.0",
}
# What the panels name as their source of data; the same in the folder's provisioning.
DATASOURCE_UID: Final = "shipworthy-prometheus"


def compose_files(settings: MonitoringSettings, *, retention_seconds: float) -> dict[str, str]:
    """Return compose.yaml and what Grafana reads when it starts, by path."""
    return {
        "compose.yaml": yaml_text(
            {
                "name": "shipworthy-monitoring",
                "services": _services(settings, retention_seconds),
                "volumes": {"prometheus": {}, "alertmanager": {}, "grafana": {}},
            },
            head=HEAD,
        ),
        "grafana/datasources/prometheus.yml": yaml_text(
            {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": "Prometheus",
                        "uid": DATASOURCE_UID,
                        "type": "prometheus",
                        "url": "http://127.0.0.1:9090",
                        "isDefault": True,
                        # $__rate_interval is four of these.
                        "jsonData": {"timeInterval": f"{settings.scrape_interval_seconds:g}s"},
                    }
                ],
            },
            head=HEAD,
        ),
        "grafana/dashboards/shipworthy.yml": yaml_text(
            {
                "apiVersion": 1,
                "providers": [
                    {
                        "name": "shipworthy",
                        "folder": "Shipworthy",
                        "type": "file",
                        "allowUiUpdates": False,
                        "options": {"path": "/etc/shipworthy/dashboards"},
                    }
                ],
            },
            head=HEAD,
        ),
    }


def _secret(path: str, home: str) -> str:
    """Mount a file with a secret where what reads it looks: a relative one beside its settings."""
    if path.startswith("/"):
        return f"{path}:{path}:ro"
    return f"./{path}:{home}/{path}:ro"


def _services(settings: MonitoringSettings, retention_seconds: float) -> Node:
    token = settings.scrape_token_file
    keys = sorted(key_files(settings))
    return {
        "prometheus": _service(
            "prometheus",
            command=[
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                *prometheus_flags(retention_seconds),
            ],
            volumes=[
                "./prometheus.yml:/etc/prometheus/prometheus.yml:ro",
                "./rules:/etc/prometheus/rules:ro",
                *([_secret(token, "/etc/prometheus")] if token else []),
                "prometheus:/prometheus",
            ],
        ),
        "alertmanager": _service(
            "alertmanager",
            command=[
                "--config.file=/etc/alertmanager/alertmanager.yml",
                "--storage.path=/alertmanager",
                "--web.listen-address=127.0.0.1:9093",
                # One alone has nobody to talk to.
                "--cluster.listen-address=",
            ],
            volumes=[
                "./alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro",
                *(_secret(path, "/etc/alertmanager") for path in keys),
                "alertmanager:/alertmanager",
            ],
        ),
        "grafana": _service(
            "grafana",
            environment={"GF_SERVER_HTTP_ADDR": "127.0.0.1"},
            volumes=[
                "./grafana/datasources:/etc/grafana/provisioning/datasources:ro",
                "./grafana/dashboards:/etc/grafana/provisioning/dashboards:ro",
                "./dashboards:/etc/shipworthy/dashboards:ro",
                "grafana:/var/lib/grafana",
            ],
        ),
    }


def _service(name: str, **more: Node) -> Node:
    # The host's network, because the operations port listens on the loopback of the host.
    return {
        "image": _IMAGES[name],
        "network_mode": "host",
        "restart": "unless-stopped",
        **more,
    }
