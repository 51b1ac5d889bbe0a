"""The whole folder, judged by the programs it is for."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deploy.sample import ALERTS, REQUESTS, catalogue
from shipworthy.deploy import MonitoringSettings, monitoring_files, silent_urgencies, write_folder
from shipworthy.deploy.alarms import Unwritable
from shipworthy.deploy.monitoring import monitoring_alarms
from shipworthy.events import (
    Alert,
    Catalogue,
    Compared,
    Number,
    Rate,
    Selection,
    Urgency,
)
from shipworthy.serve import service_catalogue
from shipworthy.telemetry import RetentionSettings

Debian = Callable[[str, str], str]

_SETTINGS = MonitoringSettings(
    job="shop",
    targets=("10.0.0.1:9000", "10.0.0.2:9000"),
    page=("https://pager.example/hook", "pagerduty:/etc/keys/pagerduty"),
    ticket=("mailto:ops@shop.example",),
    info=("slack:/etc/keys/slack",),
    escalation=("https://boss.example/hook",),
    heartbeat=("https://watch.example/beat",),
    smtp="mail.shop.example:587",
    mail_from="alerts@shop.example",
    runbook_url="https://wiki.example/runbooks/",
)


def _run(folder: Path, *command: str, timeout_seconds: float = 55.0) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_seconds, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written for the sample catalogue, with a receiver of every kind."""
    folder = tmp_path_factory.mktemp("monitoring")
    write_folder(folder, monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"]))
    return folder


@pytest.mark.slow
def test_prometheus_takes_its_settings_and_rules(folder: Path, debian: Debian) -> None:
    """`promtool check config` reads the scrape configuration and every file of rules."""
    promtool = debian("promtool", "prometheus")
    assert "valid prometheus config" in _run(folder, promtool, "check", "config", "prometheus.yml")
    # All its lints are errors: a rule written twice, for one.
    rules = [str(path) for path in sorted(folder.glob("rules/*.yml"))]
    _run(folder, promtool, "check", "rules", "--lint=all", "--lint-fatal", *rules)


@pytest.mark.slow
def test_every_alert_fires_stays_silent_and_recovers(folder: Path, debian: Debian) -> None:
    """There is a test for each alert, and promtool passes all of them."""
    tests = sorted(folder.glob("tests/*.yml"))
    written = [
        rule["alert"]
        for path in folder.glob("rules/*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert sorted(path.stem for path in tests) == sorted(written)
    assert {alert.name for alert in ALERTS} < {*written}
    out = _run(folder, debian("promtool", "prometheus"), "test", "rules", *map(str, tests))
    assert out.count("SUCCESS") == len(tests)


@pytest.mark.slow
def test_alertmanager_takes_its_settings(folder: Path, debian: Debian) -> None:
    """`amtool` reads receivers of every kind."""
    amtool = debian("amtool", "prometheus-alertmanager")
    out = _run(folder, amtool, "check-config", "alertmanager.yml")
    assert "5 receivers" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=page", "alertname=PoolExhausted"], "page"),
        (["severity=ticket"], "ticket"),
        (["severity=info"], "info"),
        (["severity=page", "escalated=yes", "alertname=PageUnanswered"], "escalation"),
        (["severity=info", "heartbeat=yes", "alertname=Watchdog"], "heartbeat"),
        (["severity=unheard-of"], "ticket"),
    ],
)
def test_each_severity_reaches_its_receiver(
    folder: Path, debian: Debian, labels: list[str], receiver: str
) -> None:
    """As Alertmanager itself routes them; what nobody foresaw goes to the tickets."""
    out = _run(
        folder,
        debian("amtool", "prometheus-alertmanager"),
        "config",
        "routes",
        "test",
        "--config.file=alertmanager.yml",
        f"--verify.receivers={receiver}",
        *labels,
    )
    assert out.split() == [receiver]


@pytest.mark.slow
def test_a_drill_is_the_same_in_less_time(tmp_path: Path, debian: Debian) -> None:
    """With every window and wait divided by 60, all alerts still pass their tests."""
    settings = MonitoringSettings(job="shop", scale=60.0, scrape_interval_seconds=1.0)
    write_folder(tmp_path, monitoring_files(catalogue(), settings, targets=["127.0.0.1:9000"]))
    promtool = debian("promtool", "prometheus")
    _run(tmp_path, promtool, "check", "config", "prometheus.yml")
    _run(tmp_path, debian("amtool", "prometheus-alertmanager"), "check-config", "alertmanager.yml")
    tests = sorted(tmp_path.glob("tests/*.yml"))
    _run(tmp_path, promtool, "test", "rules", *map(str, tests))


@pytest.mark.slow
def test_what_the_rooms_declare_can_be_drilled() -> None:
    """Short windows leave less room between 'so many' and 'at so little traffic', and enough."""
    settings = MonitoringSettings(scale=60.0, scrape_interval_seconds=1.0)
    files = monitoring_files(service_catalogue(), settings, targets=["127.0.0.1:9000"])
    assert "tests/AvailabilityMissedQuietly.yml" in files


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written for everything the rooms declare."""
    folder = tmp_path_factory.mktemp("ours")
    files = monitoring_files(service_catalogue(), MonitoringSettings(), targets=["127.0.0.1:9000"])
    write_folder(folder, files)
    return folder


def _looks_back_for_days(path: Path) -> bool:
    return "recorded.yml" in path.read_text()


@pytest.mark.slow
def test_what_the_rooms_declare_passes_too(ours: Path, debian: Debian) -> None:
    """Every alert of ours is written, and each that looks back for less than 6 hours is played."""
    promtool = debian("promtool", "prometheus")
    _run(ours, promtool, "check", "config", "prometheus.yml")
    tests = sorted(ours.glob("tests/*.yml"))
    assert len(service_catalogue().alerts) > 40
    assert {path.stem for path in tests} >= {*service_catalogue().alerts}
    short = [str(path) for path in tests if not _looks_back_for_days(path)]
    for some in (short[::2], short[1::2]):
        _run(ours, promtool, "test", "rules", *some)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_alerts_that_look_back_for_days_are_played(ours: Path, debian: Debian) -> None:
    """With their real windows, three days among them: each fires, stays silent and recovers."""
    promtool = debian("promtool", "prometheus")
    long = [path for path in sorted(ours.glob("tests/*.yml")) if _looks_back_for_days(path)]
    assert {"AvailabilityBurn3d", "LatencyBurn1d"} <= {path.stem for path in long}
    for path in long:
        _run(ours, promtool, "test", "rules", str(path), timeout_seconds=120.0)


def test_the_same_declarations_give_the_same_bytes() -> None:
    """In any order of declaring that keeps the order of each kind."""
    again = Catalogue()
    again.add(*reversed(catalogue().metrics.values()), *catalogue().panels.values())
    again.add(*catalogue().alerts.values())
    first = monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"])
    assert monitoring_files(again, _SETTINGS, targets=["127.0.0.1:9000"]) == first


def test_what_it_says_of_itself_is_what_there_is() -> None:
    """The README names the number of alerts and how long is kept, and each alert has its page."""
    files = monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"])
    alarms = monitoring_alarms(catalogue(), _SETTINGS)
    assert f"{len(alarms)} alerts" in files["README.md"]
    assert all(f"runbooks/{alarm.name}.md" in files for alarm in alarms)


@pytest.mark.parametrize(("kept_days", "retention"), [(0.5, "1d"), (15.0, "15d")])
def test_samples_are_kept_for_as_long_as_an_alert_looks_back(
    kept_days: float, retention: str
) -> None:
    """As the policy says, and no shorter than a window of a day needs."""
    kept = RetentionSettings(prometheus_seconds=kept_days * 86400.0)
    files = monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"], retention=kept)
    flag = f"--storage.tsdb.retention.time={retention}"
    assert flag in files["README.md"]
    assert flag in files["compose.yaml"]
    assert f"keeps samples for {retention}," in files["README.md"]
    assert "| samples | prometheus |" in files["README.md"]


def test_sums_are_recorded_only_where_something_relies_on_them() -> None:
    """An empty group would be one more thing to wonder about."""
    files = monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"])
    assert "job:shop_requests_total:increase5m" in files["rules/recorded.yml"]
    assert "rules/recorded.yml" not in monitoring_files(Catalogue(), _SETTINGS, targets=[])


def test_targets_are_those_of_the_settings_and_else_the_service_itself() -> None:
    """The operations port is scraped without a word in the settings."""
    files = monitoring_files(catalogue(), MonitoringSettings(), targets=["127.0.0.1:9000"])
    scraped = yaml.safe_load(files["prometheus.yml"])["scrape_configs"]
    assert scraped[0]["static_configs"] == [{"targets": ["127.0.0.1:9000"]}]
    files = monitoring_files(catalogue(), _SETTINGS, targets=["127.0.0.1:9000"])
    scraped = yaml.safe_load(files["prometheus.yml"])["scrape_configs"]
    assert scraped[0]["static_configs"] == [{"targets": ["10.0.0.1:9000", "10.0.0.2:9000"]}]


def test_an_alert_with_a_name_that_is_always_written_is_refused() -> None:
    """Two rules of one name would hide each other."""
    made = catalogue()
    made.add(
        Alert(
            name="Watchdog",
            when=Compared(Rate(Selection(metric=REQUESTS)), ">", Number(1.0)),
            for_seconds=0.0,
            urgency=Urgency.INFO,
            summary="s",
            cause="c",
            look="l",
            act="a",
            drill="d",
        )
    )
    with pytest.raises(Unwritable, match="alert Watchdog is one that is always written"):
        monitoring_files(made, _SETTINGS, targets=[])


def test_it_is_said_when_nobody_would_hear() -> None:
    """An alarm that goes nowhere is worse than none, because people rely on it."""
    assert silent_urgencies(_SETTINGS) == []
    assert [note.partition(":")[0] for note in silent_urgencies(MonitoringSettings())] == [
        "monitoring.page is empty",
        "monitoring.ticket is empty",
        "monitoring.heartbeat is empty",
    ]
