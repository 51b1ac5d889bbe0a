"""The compose file and what Grafana reads at its start. No container is started here."""

import yaml

from deploy.sample import catalogue
from shipworthy.deploy import MonitoringSettings, monitoring_files
from shipworthy.deploy.compose import DATASOURCE_UID, compose_files


def test_every_file_that_is_mounted_is_written() -> None:
    """A path that is not there becomes an empty folder, and the container starts all the same."""
    files = monitoring_files(catalogue(), MonitoringSettings(), targets=["127.0.0.1:9000"])
    compose = yaml.safe_load(files["compose.yaml"])
    mounts = [
        mount.partition(":")[0]
        for service in compose["services"].values()
        for mount in service["volumes"]
    ]
    for mount in mounts:
        if mount.startswith("./"):
            place = mount.removeprefix("./")
            assert any(path == place or path.startswith(f"{place}/") for path in files), mount
        else:
            assert mount in compose["volumes"]


def test_prometheus_is_started_with_what_cannot_stand_in_its_file() -> None:
    """How long samples are kept, for one; and it listens on this machine only."""
    files = compose_files(MonitoringSettings(), retention_seconds=86400.0 * 60)
    compose = yaml.safe_load(files["compose.yaml"])
    command = compose["services"]["prometheus"]["command"]
    assert "--storage.tsdb.retention.time=60d" in command
    assert "--web.listen-address=127.0.0.1:9090" in command


def test_grafana_finds_its_source_of_data_by_a_name_that_stays() -> None:
    """The interval lets $__rate_interval be four scrapes."""
    settings = MonitoringSettings(scrape_interval_seconds=30.0)
    files = compose_files(settings, retention_seconds=86400.0)
    (source,) = yaml.safe_load(files["grafana/datasources/prometheus.yml"])["datasources"]
    assert source["uid"] == DATASOURCE_UID
    assert source["jsonData"] == {"timeInterval": "30s"}


def test_the_files_with_secrets_are_where_the_containers_look_for_them() -> None:
    """Else Prometheus is refused by the operations port, and Alertmanager tells nobody."""
    settings = MonitoringSettings(
        scrape_token_file="/k/token",
        page=("pagerduty:/k/page", "https://pager.example/hook"),
        ticket=("slack:keys/chat",),
        info=("slack:keys/chat",),
    )
    services = yaml.safe_load(compose_files(settings, retention_seconds=1.0)["compose.yaml"])[
        "services"
    ]
    assert "/k/token:/k/token:ro" in services["prometheus"]["volumes"]
    keys = [mount for mount in services["alertmanager"]["volumes"] if "k" in mount.split("/")]
    assert keys == ["/k/page:/k/page:ro"]
    chat = "./keys/chat:/etc/alertmanager/keys/chat:ro"
    assert services["alertmanager"]["volumes"].count(chat) == 1
