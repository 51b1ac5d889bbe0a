"""Everything that watches a service, as files: rules, routes, tests, dashboards, runbooks. Pure."""

from collections.abc import Sequence
from typing import Final

from shipworthy.deploy.alarm import AlarmRule
from shipworthy.deploy.alarms import Prometheus, Unwritable, catalogue_alarms
from shipworthy.deploy.alertmanager import alertmanager_file
from shipworthy.deploy.compose import compose_files
from shipworthy.deploy.grafana import dashboard_files, panel_recordings
from shipworthy.deploy.logs import log_files
from shipworthy.deploy.prometheus import prometheus_file, prometheus_flags
from shipworthy.deploy.promql import range_text
from shipworthy.deploy.rules import recorded_file, rule_files, test_files
from shipworthy.deploy.runbooks import runbook_files
from shipworthy.deploy.settings import MonitoringSettings
from shipworthy.deploy.watching import watching_alarms
from shipworthy.deploy.windows import windows_seconds
from shipworthy.events import Catalogue, Condition, Expression, alerts_of
from shipworthy.telemetry import RetentionSettings, policy


def monitoring_files(
    catalogue: Catalogue,
    settings: MonitoringSettings,
    *,
    targets: Sequence[str],
    retention: RetentionSettings | None = None,
) -> dict[str, str]:
    """Return every file by its path; the same input gives the same text.

    `targets` are the operations ports to scrape where the settings name none. Samples are kept as
    `retention` says, and at least for as long as something that is declared looks back. Raises
    `Unwritable` with the declaration that cannot be written, or whose alert could never fire or
    never be silent.
    """
    alarms = monitoring_alarms(catalogue, settings)
    prometheus, panels = _prometheus(settings), tuple(catalogue.panels.values())
    recorded = [
        *(one for alarm in alarms for one in alarm.recordings),
        *panel_recordings(panels, prometheus),
    ]
    kept = retention or RetentionSettings()
    seconds = max(kept.prometheus_seconds, _longest_seconds(catalogue) / settings.scale)
    return {
        "prometheus.yml": prometheus_file(settings, settings.targets or targets),
        "alertmanager.yml": alertmanager_file(settings),
        **recorded_file(recorded),
        **rule_files(alarms, runbook_url=settings.runbook_url),
        **test_files(alarms),
        **dashboard_files(panels, prometheus),
        **runbook_files(alarms),
        **compose_files(settings, retention_seconds=seconds),
        **log_files(kept, job=settings.job),
        "README.md": _readme(settings, alarms, kept, seconds),
    }


def _longest_seconds(catalogue: Catalogue) -> float:
    shown = [of for panel in catalogue.panels.values() for _, of in panel.shows]
    asked: list[Expression | Condition] = [
        *shown,
        *(alert.when for alert in catalogue.alerts.values()),
    ]
    return max((window for of in asked for window in windows_seconds(of, 0.0)), default=0.0)


def _prometheus(settings: MonitoringSettings) -> Prometheus:
    return Prometheus(
        job=settings.job,
        scrape_interval_seconds=settings.scrape_interval_seconds,
        scale=settings.scale,
    )


def monitoring_alarms(catalogue: Catalogue, settings: MonitoringSettings) -> list[AlarmRule]:
    """Return every alarm that is written; raises as `monitoring_files`."""
    prometheus = _prometheus(settings)
    escalates = settings.escalate_after_seconds if settings.escalation else None
    panels = tuple(catalogue.panels.values())
    objectives = {
        alert.name: slo.name for slo in catalogue.slos.values() for alert in alerts_of(slo)
    }
    alarms = [
        *catalogue_alarms(tuple(catalogue.alerts.values()), panels, prometheus, objectives),
        *watching_alarms(prometheus, escalate_after_seconds=escalates),
    ]
    names: set[str] = set()
    for alarm in alarms:
        if alarm.name in names:
            raise Unwritable(f"alert {alarm.name} is one that is always written; rename yours")
        names.add(alarm.name)
    return alarms


def silent_urgencies(settings: MonitoringSettings) -> list[str]:
    """Return a sentence for each kind of alert that nobody would hear of."""
    return [
        f"monitoring.{name} is empty: {what}"
        for name, what in (
            ("page", "nobody is woken by a page"),
            ("ticket", "nobody is told of a ticket"),
            ("heartbeat", "nobody notices when the alarms themselves stop"),
        )
        if not getattr(settings, name)
    ]


_README: Final = """\
# Monitoring of {job}

Written by `shipworthy generate monitoring`, from what the service declares and from the section
`[monitoring]` of its settings. Run it again after either changed; it says what it changed, and asks
before it overwrites what was changed by hand.

| file | what it is |
|---|---|
| `prometheus.yml` | whom Prometheus asks and how often, which rules it loads, whom it calls |
| `rules/` | {alarms} alerts |
| `tests/` | a test for each alert: it fires, it stays silent, it recovers |
| `alertmanager.yml` | who hears of what, and what keeps what silent |
| `runbooks/` | a page for each alert: what it means, where to look, what to do |
| `dashboards/` | the boards, for Grafana |
| `compose.yaml`, `grafana/` | Prometheus, Alertmanager and Grafana as containers that read this |
| `logs/` | how long lines are kept: `vector.yaml` parts them, `logrotate.conf` ages them |

## Start it

With containers, on the machine of the service (they use its network, and listen on 127.0.0.1):

    docker compose up -d

Grafana is then at http://127.0.0.1:3000, Prometheus at :9090, Alertmanager at :9093.

Without containers, Prometheus needs these options, which cannot stand in its file:

    prometheus --config.file=prometheus.yml {flags}

## Check it

    promtool check config prometheus.yml
    promtool test rules tests/*.yml
    amtool check-config alertmanager.yml
    amtool config routes test --config.file=alertmanager.yml severity=page

## How long it is kept

Prometheus keeps samples for {retention}, an option of its start (see above): as long as
`retention.prometheus` says, and no shorter than the longest window of an alert. Alertmanager keeps
what it sent for 5 days, as it does by itself. Lines of the log are parted by kind by `shipworthy
run ... | vector --config logs/vector.yaml`; `logrotate logs/logrotate.conf`, once a day, takes away
what is older than the policy says. The whole policy:

| what | where | how long | setting | who prunes it |
|---|---|---|---|---|
{policy}
"""


def _readme(
    settings: MonitoringSettings,
    alarms: Sequence[AlarmRule],
    kept: RetentionSettings,
    retention_seconds: float,
) -> str:
    rows = (
        f"| {one.what} | {one.place} | {range_text(one.seconds)} | `{one.setting}` | "
        f"{'we' if one.by_us else 'whoever keeps it'} |"
        for one in policy(kept)
    )
    return _README.format(
        job=settings.job,
        alarms=len(alarms),
        flags=" ".join(prometheus_flags(retention_seconds)),
        retention=range_text(retention_seconds),
        policy="\n".join(rows),
    )
