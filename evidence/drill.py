"""The drill: alerts that have been seen to fire, and panels that have been seen to show it.

Debian's Prometheus and Alertmanager scrape the demo under `shipworthy run` each second and load
what `shipworthy generate monitoring` writes with `monitoring.scale = 60`: a window of five minutes
is one of five seconds there. Causes are injected, several at a time where they do not stand in each
other's way, each until its alerts have arrived at a webhook, and are undone. One whose alert has
not arrived beside the others is played once more by itself, and its row says so. *Fired* and
*arrived* count from the beginning of the cause, *resolved* from its end until the webhook was told.
Then each query of each dashboard is asked over the whole drill.

At last our evaluator is compared with Prometheus, panel by panel. *Recomputed*: over the very
samples that Prometheus has scraped, at the same instants, over the whole drill with all that broke
in it. *Charted*: what the service itself answers (`/api/series`) from what it has remembered, under
steady traffic, over windows of a minute. The two have then looked at different moments, up to a
second apart, so one agrees that lies within 1 % of what Prometheus has within a second and a half.
Two kinds of panels cannot be compared in that way: ages that begin at 0 again each second, and
windows longer than the drill, in which each of the two lacks what a label set had counted before it
first saw it. Recomputed, they can.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/deploy",
    "src/shipworthy/events",
    "src/shipworthy/telemetry",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("src/shipworthy/*/*shown.py")),
    "tests/flows/drilling.py",
    "tests/flows/drill_causes.py",
    "tests/flows/drill_compared.py",
    "tests/flows/drill_neighbours.py",
    "tests/flows/apps/drilled.py",
    "evidence/drill.py",
)
PATIENCE_SECONDS = 60.0
# What lasts four hours is over in four minutes here.
LASTING_SECONDS = 270.0
# The longest short window there is: of six hours, which are six minutes here.
RESOLVING_SECONDS = 450.0
STEADY_SECONDS = 75.0
CHARTED_SECONDS = 60.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Play every cause and return the tables; what does not arrive stands in them as such."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows.drill_causes import (  # type: ignore[import-not-found]
        CAUSES,
        EVERY,
        FORGOTTEN,
        NO_DATA,
        NOT_PROVOKED,
        QUIET,
        TARDY,
        TRAFFIC,
        UNANSWERED,
    )
    from flows.drill_compared import (  # type: ignore[import-not-found]
        asked,
        charted,
        recomputed,
    )
    from flows.drilling import Act, staged  # type: ignore[import-not-found]
    from shipworthy.serve import service_catalogue

    catalogue = service_catalogue()
    began = time.monotonic()
    with (
        services.postgres() as server,
        server.database() as url,
        staged(folder, url) as stage,
        ThreadPoolExecutor() as pool,
    ):
        forgotten = Act(FORGOTTEN, stage, patience_seconds=LASTING_SECONDS, pool=pool)
        stage.play([QUIET], LASTING_SECONDS)
        _tell(began, "quiet", [QUIET], stage)
        # Those that take a worker away come last, for one has a breaker that is isolated.
        stage.play([TRAFFIC, UNANSWERED, TARDY, *_with(CAUSES, alone=False)], PATIENCE_SECONDS)
        stage.until(forgotten.is_over, LASTING_SECONDS + 60)
        _tell(began, "together", [FORGOTTEN, UNANSWERED, TARDY, *_with(CAUSES, alone=False)], stage)
        again = [
            cause
            for cause in _with(CAUSES, alone=False)
            if not all(stage.ears.told[name].arrived for name in cause.alerts)
        ]
        for cause in again:
            stage.play([cause], PATIENCE_SECONDS)
        stage.play(_with(CAUSES, alone=True), PATIENCE_SECONDS)
        _tell(began, "alone", _with(CAUSES, alone=True), stage)
        with _steadily(stage, ("/drill/well", {}), ("/clients", {"size": 5})):
            names = [name for cause in EVERY for name in cause.every]
            stage.until_resolved(names, RESOLVING_SECONDS)
            # What is an alert of its own if it goes on begins when all are over.
            more: list[tuple[str, dict[str, Any]]] = [
                ("/drill/call", {"which": "retried-some"}),
                ("/drill/instead", {}),
            ]
            with _steadily(stage, *more):
                time.sleep(STEADY_SECONDS)
                charts = charted(stage, catalogue, seconds=CHARTED_SECONDS, times=5)
        until = time.time()
        queries, panels = asked(stage, until), recomputed(stage, catalogue, until)
        told = stage.ears.told
        other = {"Watchdog": stage.beat_receiver()}
    _tell(began, "over", EVERY, stage)
    return (
        "\n\n".join(
            (
                _summary(catalogue, told, queries, panels, charts),
                "## Alerts",
                _alerts(catalogue, told, other, {name for one in again for name in one.alerts}),
                "## Not provoked",
                "Each is proven by its test for `promtool`, as all the others are too.",
                _silent(catalogue, told, NOT_PROVOKED),
                "## Panels",
                _panels(queries, panels, charts, NO_DATA),
            )
        ).replace(f"{folder}/", ""),
        {
            "Prometheus": _version("prometheus"),
            "Alertmanager": _version("prometheus-alertmanager"),
        },
    )


def _with(causes: Any, *, alone: bool) -> list[Any]:
    return [cause for cause in causes if cause.alone is alone]


def _tell(began: float, what: str, causes: Any, stage: Any) -> None:
    """Say how far it is, and what did not arrive."""
    names = [name for cause in causes for name in cause.alerts]
    missing = [name for name in names if not stage.ears.told[name].arrived]
    print(
        f"{what}: {time.monotonic() - began:.0f} s, {len(names) - len(missing)} of {len(names)} "
        f"alerts {', '.join(missing)}",
        flush=True,
    )


def _summary(catalogue: Any, told: Any, queries: Any, panels: Any, charts: Any) -> str:
    from flows.drill_causes import receiver_of

    ours = {name: one for name, one in told.items() if name in catalogue.alerts}
    arrived = [one for one in ours.values() if one.arrived]
    right = [
        name
        for name, one in ours.items()
        if one.arrived and one.receiver == receiver_of(name, catalogue)
    ]
    resolved = [one for one in arrived if one.resolved]
    shown = [one for one in queries if one.samples]
    titles = {(one.board, one.title) for one in queries}
    full = {(one.board, one.title) for one in shown}
    return (
        f"- alerts: of {len(catalogue.alerts)} declared, {len(ours)} were provoked, "
        f"{len(arrived)} arrived, {len(right)} at the right receiver, {len(resolved)} resolved "
        f"(of {sum(1 for one in arrived if not one.endless)} that could); "
        f"{len(told) - len(ours)} more are about the watching itself\n"
        f"- panels: {len(full)} of {len(titles)} had data, {len(shown)} of {len(queries)} queries\n"
        f"- our evaluator beside Prometheus, recomputed: {_alike(panels)}\n"
        f"- our evaluator beside Prometheus, charted: {_alike(charts)}"
    )


def _alike(panels: Any) -> str:
    compared = [one for one in panels if one.values]
    alike = [one for one in compared if one.agreed == one.values]
    values = sum(one.values for one in compared)
    agreed = sum(one.agreed for one in compared)
    return (
        f"{len(alike)} of {len(compared)} panels agreed in every value, {agreed} of {values} values"
    )


def _alerts(catalogue: Any, told: Any, other: dict[str, str], again: set[str]) -> str:
    from flows.drill_causes import receiver_of

    rows = [
        "| alert | cause | fired after | arrived at | after | resolved after | what it said |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in told.items():
        cause = f"{one.cause} (played once more, by itself)" if name in again else one.cause
        if not one.arrived:
            rows.append(f"| {name} | {cause} | - | **did not arrive** | - | - | - |")
            continue
        right = one.receiver == receiver_of(name, catalogue)
        resolved = f"{one.resolved - one.ended:.0f} s" if one.resolved else "**it did not**"
        if one.endless and not one.resolved:
            resolved = "not in the drill: its window is half a day here"
        rows.append(
            f"| {name} | {cause} | {max(one.fired - one.began, 0):.0f} s "
            f"| {one.receiver}{'' if right else ' (**wrong**)'} | {one.arrived - one.began:.0f} s "
            f"| {resolved} | {_cell(one.said)} |"
        )
    rows += [
        f"| {name} | always | - | {receiver} | - | never, as it should | - |"
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


def _panels(queries: Any, panels: Any, charts: Any, reasons: dict[str, str]) -> str:
    rows = [
        "| board | panel | queries with data | numbers | recomputed | charted |",
        "|---|---|---|---|---|---|",
    ]
    for board, title in dict.fromkeys((one.board, one.title) for one in queries):
        its = [one for one in queries if (one.board, one.title) == (board, title)]
        rows.append(
            f"| {board} | {title} | {sum(1 for one in its if one.samples)} of {len(its)}"
            f"{': ' + reasons[title] if title in reasons else ''} "
            f"| {sum(one.samples for one in its)} | {_beside(panels, board, title)} "
            f"| {_beside(charts, board, title)} |"
        )
    return "\n".join(rows)


def _beside(panels: Any, board: str, title: str) -> str:
    for one in panels:
        if (one.board, one.title) == (board, title) and one.values:
            said = f"{one.agreed} of {one.values}"
            if one.agreed < one.values:
                said += f"; at most {one.worst_ratio:.1%} apart ({_cell(one.worst)})"
            return said
    return "nothing to compare"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@contextmanager
def _steadily(stage: Any, *paths: tuple[str, dict[str, Any]]) -> Iterator[None]:
    """Ask the same things at the same pace while the block runs."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            for path, parameters in paths:
                stage.get(path, **parameters)

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
