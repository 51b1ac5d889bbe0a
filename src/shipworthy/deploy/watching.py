"""Alarms about the watching itself, which no service can declare: nobody answers, nobody is told.

Pure. They ask what Prometheus and Alertmanager say of themselves, so they are written by hand, and
so are their tests.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from shipworthy.deploy.alarm import AlarmRule, Scenario
from shipworthy.deploy.alarms import Prometheus
from shipworthy.deploy.promql import range_text
from shipworthy.deploy.scenario import series_text
from shipworthy.events import Urgency

GROUP: Final = "watching"
HEARTBEAT: Final = {"heartbeat": "yes"}
ESCALATED: Final = {"escalated": "yes"}
DOWN: Final = "TargetDown"
# Nothing can be known of the service then, so its other alerts are not sent beside it.
ALL_DOWN: Final = "AllTargetsDown"
_INSTANCE: Final = "one:9000"
_STEPS: Final = 60


def watching_alarms(
    prometheus: Prometheus, *, escalate_after_seconds: float | None
) -> Iterator[AlarmRule]:
    """Yield the alarms about targets, rules and notifications; one escalates pages, if asked to."""
    yield from _targets(prometheus)
    yield from _notifications(prometheus)
    if escalate_after_seconds is not None:
        yield _escalation(prometheus, escalate_after_seconds)
    yield AlarmRule(
        name="Watchdog",
        group=GROUP,
        expr="vector(1)",
        for_seconds=0.0,
        keep_seconds=0.0,
        urgency=Urgency.INFO,
        labels=HEARTBEAT,
        summary="The alarms work: this one always fires.",
        cause="This alert is not a problem: it fires always, so that its absence can be noticed.",
        look="Nothing to look at while it arrives. When it stops, look whether Prometheus and "
        "Alertmanager run, and whether they reach the receiver.",
        act="Have a service outside of this installation expect it (monitoring.heartbeat), and "
        "call somebody when it stays away.",
        drill="stop Prometheus, and wait for whoever expects it to call",
        scenarios=(
            Scenario(
                about="it always fires",
                interval_seconds=15.0,
                evaluation_seconds=15.0,
                series=((series_text("up", {"job": prometheus.job}), f"1+0x{_STEPS}"),),
                checks=((0.0, ({},)), (_STEPS * 15.0, ({},))),
            ),
        ),
    )


def _targets(prometheus: Prometheus) -> Iterator[AlarmRule]:
    labels = {"job": prometheus.job, "instance": _INSTANCE}
    other = {"job": prometheus.job, "instance": "two:9000"}
    up = f"up{{{prometheus.matching}}}"
    for_, keep = 120.0 / prometheus.scale, 300.0 / prometheus.scale
    yield AlarmRule(
        name=DOWN,
        group=GROUP,
        expr=f"{up} == 0",
        for_seconds=for_,
        keep_seconds=keep,
        urgency=Urgency.TICKET,
        summary="{{ $labels.instance }} of {{ $labels.job }} does not answer on its operations "
        "port.",
        cause="The process is gone, its machine is, or the network between it and Prometheus is. "
        "The operations port answers whatever the application does, so a busy one is no cause.",
        look="`up` by instance in Prometheus, and the error of the target under Status, Targets. "
        "On the machine: is `shipworthy run` alive, and what did it log last?",
        act="Start it again if it ended; its exit code says why (70 forced, 75 recycle, 78 "
        "settings or crash loop). If only Prometheus cannot reach it, mend the way between them.",
        drill="stop one instance of two",
        scenarios=(
            _three(
                "it fires, and recovers",
                {series_text("up", labels): (1, 0, 1), series_text("up", other): (1, 1, 1)},
                for_seconds=for_,
                keep_seconds=keep,
                fired=labels,
            ),
        ),
    )
    for_ = 60.0 / prometheus.scale
    yield AlarmRule(
        name=ALL_DOWN,
        group=GROUP,
        expr=f"max by (job) ({up}) == 0 or absent({up})",
        for_seconds=for_,
        keep_seconds=keep,
        urgency=Urgency.PAGE,
        summary="No instance of {{ $labels.job }} answers.",
        cause="The whole service is gone, or Prometheus looks for it in the wrong place.",
        look="Status, Targets in Prometheus; whether the service answers its users at all.",
        act="If users are not served: start the service, roll back what was deployed last. If "
        "they are: mend the targets (monitoring.targets) or the network.",
        drill="stop every instance, or `kill -STOP` their supervisors",
        scenarios=(
            _three(
                "it fires when none answers, and recovers",
                {series_text("up", labels): (1, 0, 1), series_text("up", other): (1, 0, 1)},
                for_seconds=for_,
                keep_seconds=keep,
                fired={"job": prometheus.job},
            ),
            _three(
                "it stays silent while one answers",
                {series_text("up", labels): (1, 0, 1), series_text("up", other): (1, 1, 1)},
                for_seconds=for_,
                keep_seconds=keep,
                fired=None,
            ),
        ),
    )


def _notifications(prometheus: Prometheus) -> Iterator[AlarmRule]:
    window = range_text(300.0 / prometheus.scale)
    for_ = 300.0 / prometheus.scale
    for name, counter, labels, sentence, look, act, drill in (
        (
            "RulesFailing",
            "prometheus_rule_evaluation_failures_total",
            {"rule_group": "/etc/prometheus/rules/service.yml;service"},
            "Rules of {{ $labels.rule_group }} cannot be evaluated, so their alerts are silent.",
            "Status, Rules in Prometheus shows the error beside the rule.",
            "Run `promtool check rules` over the folder; `shipworthy generate` writes it anew.",
            "a rule of your own that matches one series with many",
        ),
        (
            "NotificationsNotSent",
            "prometheus_notifications_errors_total",
            {"alertmanager": "http://127.0.0.1:9093/api/v2/alerts"},
            "Prometheus cannot hand alerts to {{ $labels.alertmanager }}.",
            "Is Alertmanager running, and does Prometheus reach it (monitoring.alertmanagers)?",
            "Start Alertmanager; until then read the alerts in Prometheus under Alerts.",
            "two of them (monitoring.alertmanagers), one of which refuses",
        ),
        (
            "NotificationsNotDelivered",
            "alertmanager_notifications_failed_total",
            {"integration": "webhook"},
            "Alertmanager cannot deliver through {{ $labels.integration }}.",
            "The log of Alertmanager names the receiver and its answer.",
            "Mend the receiver; until then read the alerts in Alertmanager.",
            "a receiver that answers 400, beside one that hears pages",
        ),
    ):
        yield AlarmRule(
            name=name,
            group=GROUP,
            expr=f"sum by ({next(iter(labels))}) (increase({counter}[{window}])) > 0",
            for_seconds=for_,
            keep_seconds=0.0,
            urgency=Urgency.PAGE,
            # They are about the way to whoever is called for this service: as its own pages, they
            # are escalated, which asks by `job`.
            labels={"job": prometheus.job},
            summary=sentence,
            cause="The way from a condition to a person is broken; other alerts do not arrive.",
            look=look,
            act=act,
            drill=drill,
            scenarios=(
                _three(
                    "it fires, and recovers",
                    {series_text(counter, {**labels, "job": "prometheus"}): (0, 1, 0)},
                    for_seconds=2 * for_,
                    keep_seconds=for_,
                    fired=labels,
                    grows=True,
                ),
            ),
        )


def _escalation(prometheus: Prometheus, seconds: float) -> AlarmRule:
    for_ = seconds / prometheus.scale
    name = "PageUnanswered"
    pages = f'ALERTS{{{prometheus.matching}, severity="page", alertstate="firing", alertname!='
    page = {
        "alertname": "SomePage",
        "alertstate": "firing",
        "job": prometheus.job,
        "severity": "page",
    }
    return AlarmRule(
        name=name,
        group=GROUP,
        # Not of itself, else it would never end.
        expr=f'max by (job) ({pages}"{name}"}})',
        for_seconds=for_,
        keep_seconds=0.0,
        urgency=Urgency.PAGE,
        labels=ESCALATED,
        summary=f"A page of {{{{ $labels.job }}}} has gone on for {range_text(seconds)}.",
        cause="Somebody was woken, and what they were woken for still lasts.",
        look="Which page it is, in Alertmanager; whether somebody works on it.",
        act="Reach whoever is on call, or take over. A silence in Alertmanager does not end this "
        "one: it asks for the condition.",
        drill="let any page go on for that long",
        scenarios=(
            _three(
                "it fires, and recovers",
                {
                    series_text("ALERTS", page): (None, 1, None),
                    series_text("up", {"job": prometheus.job}): (1, 1, 1),
                },
                for_seconds=for_,
                keep_seconds=0.0,
                fired={"job": prometheus.job},
            ),
        ),
    )


def _three(
    about: str,
    series: Mapping[str, tuple[int | None, int | None, int | None]],
    *,
    for_seconds: float,
    keep_seconds: float,
    fired: Mapping[str, str] | None,
    grows: bool = False,
) -> Scenario:
    """Play series that are well, bad and well again, each longer than an alert waits."""
    interval = max(for_seconds / 8, 0.001)
    steps = 24 + round(keep_seconds / interval)
    firing = () if fired is None else (fired,)
    checks: list[tuple[int, tuple[Mapping[str, str], ...]]] = [
        (steps - 1, ()),
        (2 * steps - 1, firing),
        (3 * steps - 1, ()),
    ]
    if not grows:
        checks.insert(1, (steps + 4, ()))
    return Scenario(
        about=about,
        interval_seconds=interval,
        evaluation_seconds=interval,
        series=tuple(
            (name, _played(levels, steps, grows=grows)) for name, levels in series.items()
        ),
        checks=tuple((step * interval, fires) for step, fires in checks),
    )


def _played(levels: tuple[int | None, ...], steps: int, *, grows: bool) -> str:
    written, total = [], 0
    for index, level in enumerate(levels):
        if level is None:
            written.append(f"stale _x{steps - 1}" if index else f"_x{steps}")
        elif grows:
            written.append(f"{total}+{level}x{steps - 1}")
            total += level * steps
        else:
            written.append(f"{level}+0x{steps - 1}")
    return " ".join(written)
