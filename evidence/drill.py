"""The drill: alerts that have been seen to fire, and panels that have been seen to show it.

Debian's Prometheus and Alertmanager scrape the demo under `shipworthy run` each second and load
what `shipworthy generate monitoring` writes with `monitoring.scale = 60`: a window of five minutes
is one of five seconds there. One cause after the other is injected until its alerts have arrived at
a webhook, and is undone. *Fired* and *arrived* count from the beginning of the cause, *resolved*
from its end until the webhook was told. Then each query of each dashboard is asked over the whole
drill. At last, under steady traffic, the service's own charts (`/api/series`) are compared with
Prometheus value by value, over windows of a minute: one agrees that lies within 1 % of what
Prometheus has within a second and a half, because the two look at different moments.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/deploy",
    "src/shipworthy/events",
    "tests/flows/drilling.py",
    "tests/flows/drill_causes.py",
    "tests/flows/apps/drilled.py",
    "evidence/drill.py",
)
PATIENCE_SECONDS = 45.0
# The longest short window there is: of six hours, which are six minutes here.
RESOLVING_SECONDS = 450.0
STEADY_SECONDS = 100.0
COMPARED_SECONDS = 60.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Play every cause and return the tables; what does not arrive stands in them as such."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows.drill_causes import CAUSES, NOT_PROVOKED, TRAFFIC  # type: ignore[import-not-found]
    from flows.drilling import asked, compared, staged  # type: ignore[import-not-found]
    from shipworthy.serve import service_catalogue

    catalogue = service_catalogue()
    with (
        services.postgres() as server,
        server.database() as url,
        staged(folder, url) as stage,
    ):
        stage.play(TRAFFIC, 0)
        for cause in CAUSES:
            stage.play(cause, PATIENCE_SECONDS * (6 if cause.lasting else 1))
            arrived = [name for name in cause.alerts if stage.ears.told[name].arrived]
            print(f"{cause.name}: {len(arrived)} of {len(cause.alerts)}", flush=True)
        names = [name for cause in CAUSES for name in (*cause.alerts, *cause.later)]
        with _steadily(stage):
            steady = time.monotonic()
            stage.until_resolved(names, RESOLVING_SECONDS)
            queries = asked(stage, time.time())
            time.sleep(max(0.0, STEADY_SECONDS - (time.monotonic() - steady)))
            panels = compared(stage, catalogue, seconds=COMPARED_SECONDS, times=5)
        told = stage.ears.told
        other = {"Watchdog": stage.beat_receiver()}
    return (
        "\n\n".join(
            (
                _summary(catalogue, told, queries, panels),
                "## Alerts",
                _alerts(catalogue, told, other),
                "## Not provoked",
                _silent(catalogue, told, NOT_PROVOKED),
                "## Panels",
                _panels(queries, panels),
            )
        ),
        {
            "Prometheus": _version("prometheus"),
            "Alertmanager": _version("prometheus-alertmanager"),
        },
    )


def _summary(catalogue: Any, told: Any, queries: Any, panels: Any) -> str:
    ours = {name: one for name, one in told.items() if name in catalogue.alerts}
    arrived = [one for one in ours.values() if one.arrived]
    right = [
        name
        for name, one in ours.items()
        if one.arrived and one.receiver == str(catalogue.alerts[name].urgency)
    ]
    resolved = [one for one in arrived if one.resolved]
    shown = [one for one in queries if one.samples]
    titles = {(one.board, one.title) for one in queries}
    full = {(one.board, one.title) for one in shown}
    values = sum(one.values for one in panels)
    agreed = sum(one.agreed for one in panels)
    alike = [one for one in panels if one.values and one.agreed == one.values]
    comparable = [one for one in panels if one.values]
    return (
        f"- alerts: of {len(catalogue.alerts)} declared, {len(ours)} were provoked, "
        f"{len(arrived)} arrived, {len(right)} at the right receiver, {len(resolved)} resolved\n"
        f"- panels: {len(full)} of {len(titles)} had data, {len(shown)} of {len(queries)} queries\n"
        f"- charts beside Prometheus: {len(alike)} of {len(comparable)} panels that could be "
        f"compared agreed in every value, {agreed} of {values} values in all"
    )


def _alerts(catalogue: Any, told: Any, other: dict[str, str]) -> str:
    rows = [
        "| alert | cause | fired after | arrived at | after | resolved after |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in told.items():
        if not one.arrived:
            rows.append(f"| {name} | {one.cause} | - | **did not arrive** | - | - |")
            continue
        right = name not in catalogue.alerts or one.receiver == str(catalogue.alerts[name].urgency)
        resolved = f"{one.resolved - one.ended:.0f} s" if one.resolved else "**it did not**"
        rows.append(
            f"| {name} | {one.cause} | {max(one.fired - one.began, 0):.0f} s "
            f"| {one.receiver}{'' if right else ' (**wrong**)'} | {one.arrived - one.began:.0f} s "
            f"| {resolved} |"
        )
    rows += [
        f"| {name} | always | - | {receiver} | - | never, as it should |"
        for name, receiver in other.items()
    ]
    return "\n".join(rows)


def _silent(catalogue: Any, told: Any, reasons: dict[str, str]) -> str:
    rows = ["| alert | why |", "|---|---|"]
    rows += [
        f"| {name} | {reasons.get(name, 'nobody has written its cause yet')} |"
        for name in (*catalogue.alerts, *(set(reasons) - set(catalogue.alerts)))
        if name not in told
    ]
    return "\n".join(rows)


def _panels(queries: Any, panels: Any) -> str:
    rows = [
        "| board | panel | queries with data | numbers | chart beside Prometheus |",
        "|---|---|---|---|---|",
    ]
    beside = {(one.board, one.title): one for one in panels}
    for board, title in dict.fromkeys((one.board, one.title) for one in queries):
        its = [one for one in queries if (one.board, one.title) == (board, title)]
        full = [one for one in its if one.samples]
        chart = beside.get((board, title))
        said = "nothing to compare"
        if chart is not None and chart.values:
            said = f"{chart.agreed} of {chart.values}"
            if chart.agreed < chart.values:
                said += f"; at most {chart.worst_ratio:.1%} apart ({chart.worst})"
        rows.append(
            f"| {board} | {title} | {len(full)} of {len(its)} "
            f"| {sum(one.samples for one in its)} | {said} |"
        )
    return "\n".join(rows)


@contextmanager
def _steadily(stage: Any) -> Iterator[None]:
    """Ask the same things at the same pace while the block runs."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            stage.get("/drill/well")
            stage.get("/clients", size=5)
            stage.get("/drill/call", which="retried-some")
            stage.get("/drill/instead")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).split("version ")[1].split()[0]
