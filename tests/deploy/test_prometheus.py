"""What Prometheus is told; promtool judges it in `test_monitoring`."""

import yaml

from shipworthy.deploy import MonitoringSettings
from shipworthy.deploy.prometheus import prometheus_file, prometheus_flags


def test_a_scrape_never_takes_longer_than_until_the_next() -> None:
    """Prometheus refuses a timeout longer than the interval."""
    for seconds, timeout in ((1.0, "1s"), (60.0, "10s")):
        settings = MonitoringSettings(scrape_interval_seconds=seconds)
        written = yaml.safe_load(prometheus_file(settings, ["127.0.0.1:9000"]))
        assert written["global"]["scrape_timeout"] == timeout


def test_a_token_is_named_by_its_file_and_stands_nowhere() -> None:
    """What opens /metrics is no part of a file that is shared."""
    without = yaml.safe_load(prometheus_file(MonitoringSettings(), ["a:1"]))
    assert "authorization" not in without["scrape_configs"][0]
    settings = MonitoringSettings(scrape_token_file="/etc/prometheus/token")
    with_it = yaml.safe_load(prometheus_file(settings, ["a:1"]))
    assert with_it["scrape_configs"][0]["authorization"] == {
        "credentials_file": "/etc/prometheus/token"
    }


def test_what_they_say_of_themselves_is_scraped_too() -> None:
    """Else the alerts about rules and notifications would be silent for ever."""
    written = yaml.safe_load(prometheus_file(MonitoringSettings(), ["a:1"]))
    assert [one["job_name"] for one in written["scrape_configs"]] == [
        "shipworthy",
        "prometheus",
        "alertmanager",
    ]


def test_how_long_samples_are_kept_is_an_option_of_the_start() -> None:
    """It cannot stand in the file."""
    flags = prometheus_flags(86400.0 * 90)
    assert "--storage.tsdb.retention.time=90d" in flags
