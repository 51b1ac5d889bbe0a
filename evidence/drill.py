"""The drill: alerts that have been seen to fire, and panels that have been seen to show it.

Debian's Prometheus and Alertmanager scrape the demo under `shipworthy run` each second and load
what `shipworthy generate monitoring` writes with `monitoring.scale = 60`: a window of five minutes
is one of five seconds there. Causes are injected, several at a time where they do not stand in each
other's way, each until its alerts have arrived at a webhook, and are undone. One whose alert has
not arrived beside the others is played once more by itself, and its row says so. *Fired* and
*arrived* count from the beginning of the cause, *resolved* from its end until the webhook was told.
Then each query of each dashboard is asked over the whole drill.

Six alerts need another service than the rest. There are three more, each with a Prometheus, an
Alertmanager and a webhook of its own. The first has mounts of its own, in which the kernel's part
is played: the drill writes the files of its control group, in the kernel's format, kills a worker
where the kernel would, and fills its disk, a small one in memory. What is shown there begins with
the reading of these files and ends at the receiver. That a kernel writes them so, and that it takes
memory or CPU away, is not shown. For the other two the rules have another scale: one at which a day
is two minutes (its rules are those of this one alert: windows of others would be shorter than four
scrapes), and one at which a quarter of an hour is six minutes, because what is counted there are
minutes of the clock. Where the service can have no mounts of its own, its alerts stand under *Not
provoked*. `python evidence/drill.py ALERT...` plays single causes of these three, and writes
nothing.

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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
    "tests/flows/drill_walls.py",
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


@dataclass(slots=True)
class Outcome:
    """What was told in one place, and what its panels had."""

    told: dict[str, Any] = field(default_factory=dict)
    queries: list[Any] = field(default_factory=list)
    panels: list[Any] = field(default_factory=list)


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Play every cause and return the tables; what does not arrive stands in them as such."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows.drill_causes import (  # type: ignore[import-not-found]
        DAY,
        MINUTES,
        PLACES,
        WALLED,
    )
    from flows.drill_walls import why_no_walls  # type: ignore[import-not-found]
    from shipworthy.serve import service_catalogue

    catalogue = service_catalogue()
    began = time.monotonic()
    refused = why_no_walls()
    with services.postgres() as server, ThreadPoolExecutor() as pool:
        # It takes half as long as all the rest, and little of the CPU.
        minutes = _begun(MINUTES, server, pool)
        places = (DAY,) if refused else (DAY, WALLED)
        short = [_begun(place, server, pool) for place in places]
        outcomes = [one.result() for one in short]
        print(f"apart: {time.monotonic() - began:.0f} s", flush=True)
        usual, charts, other, again = _played_usually(folder, server, catalogue, began)
        outcomes.append(minutes.result())
    told = usual.told | {name: one for outcome in outcomes for name, one in outcome.told.items()}
    queries, elsewhere = _filled(usual.queries, outcomes)
    panels = usual.panels + [
        panel for outcome in outcomes for panel in outcome.panels if panel.title in elsewhere
    ]
    because = f"not provoked here, because the service can have no mounts of its own: {refused}"
    return (
        "\n\n".join(
            (
                _summary(catalogue, told, queries, panels, charts),
                "## Alerts",
                _alerts(catalogue, told, other, again),
                "## Services of their own",
                _apart(PLACES, told),
                *_silent(catalogue, told, dict.fromkeys(WALLED.alerts, because)),
                "## Panels",
                _panels(queries, panels, charts, elsewhere),
            )
        ).replace(f"{folder}/", ""),
        {
            "Prometheus": _version("prometheus"),
            "Alertmanager": _version("prometheus-alertmanager"),
        },
    )


def _played_usually(
    folder: Path, server: Any, catalogue: Any, began: float
) -> tuple[Outcome, list[Any], dict[str, str], set[str]]:
    """Play what the usual service is for; the charts, who hears the heartbeat, what came again."""
    from flows.drill_causes import (
        CAUSES,
        FORGOTTEN,
        QUIET,
        TARDY,
        TRAFFIC,
        UNANSWERED,
        USUALLY,
    )
    from flows.drill_compared import (  # type: ignore[import-not-found]
        asked,
        charted,
        recomputed,
    )
    from flows.drilling import Act, staged  # type: ignore[import-not-found]

    with (
        server.database() as url,
        staged(folder, url) as stage,
        ThreadPoolExecutor() as pool,
    ):
        told = stage.ears.told
        forgotten = Act(FORGOTTEN, stage, patience_seconds=LASTING_SECONDS, pool=pool)
        stage.play([QUIET], LASTING_SECONDS)
        _tell(began, "quiet", [QUIET], told)
        # Those that take a worker away come last, for one has a breaker that is isolated.
        stage.play([TRAFFIC, UNANSWERED, TARDY, *_with(CAUSES, alone=False)], PATIENCE_SECONDS)
        stage.until(forgotten.is_over, LASTING_SECONDS + 60)
        _tell(began, "together", [FORGOTTEN, UNANSWERED, TARDY, *_with(CAUSES, alone=False)], told)
        again = [
            cause
            for cause in _with(CAUSES, alone=False)
            if not all(told[name].arrived for name in cause.alerts)
        ]
        for cause in again:
            stage.play([cause], PATIENCE_SECONDS)
        stage.play(_with(CAUSES, alone=True), PATIENCE_SECONDS)
        _tell(began, "alone", _with(CAUSES, alone=True), told)
        with _steadily(stage, ("/drill/well", {}), ("/clients", {"size": 5})):
            names = [name for cause in USUALLY for name in cause.every]
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
        outcome = Outcome(told, asked(stage, until), recomputed(stage, catalogue, until))
        other = {"Watchdog": stage.beat_receiver()}
    _tell(began, "over", USUALLY, told)
    return outcome, charts, other, {name for one in again for name in one.alerts}


def _begun(place: Any, server: Any, pool: Any) -> Any:
    """Start the service of a place and those who watch it; its causes are played meanwhile."""
    from flows.drilling import staged

    with ExitStack() as stack:
        # Not within the folder of another: each service has all of its own for itself.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ship-drill")))
        url = stack.enter_context(server.database())
        stage = stack.enter_context(staged(folder, url, place))
        return pool.submit(_played_in, place, stage, stack.pop_all())


def _played_in(place: Any, stage: Any, stack: ExitStack) -> Outcome:
    """Play all of a place, and end it: what is compared later is to have the CPU for itself."""
    with stack:
        return _played_out(place, stage)


def _played_out(place: Any, stage: Any) -> Outcome:
    from flows.drill_compared import asked, recomputed
    from shipworthy.serve import service_catalogue

    stage.play(place.causes, place.patience_seconds)
    stage.until_resolved(place.alerts, place.resolving_seconds)
    until = time.time()
    outcome = Outcome(stage.ears.told, asked(stage, until))
    if place.walls:
        # It alone has panels that the usual service has nothing for.
        outcome.panels = recomputed(stage, service_catalogue(), until)
    return outcome


def _filled(queries: list[Any], outcomes: list[Outcome]) -> tuple[list[Any], set[str]]:
    """Return the queries, those without data from where they had some, and these panels' titles."""
    found = {
        (one.board, one.title, one.line): one
        for outcome in outcomes
        for one in outcome.queries
        if one.samples
    }
    titles = {one.title for one in queries if not one.samples and _key(one) in found}
    return [one if one.samples else found.get(_key(one), one) for one in queries], titles


def _key(query: Any) -> tuple[str, str, str]:
    return query.board, query.title, query.line


def play(names: list[str]) -> int:
    """Play the places that these alerts have a service of their own in, and print what came."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services
    from flows.drill_causes import PLACES
    from flows.drill_walls import why_no_walls
    from shipworthy.serve import service_catalogue

    places = [_only(place, names) for place in PLACES if {*names} & {*place.alerts}]
    unknown = {*names} - {name for place in places for name in place.alerts}
    refused = why_no_walls() if any(place.walls for place in places) else ""
    if unknown or refused or not names:
        known = ", ".join(name for place in PLACES for name in place.alerts)
        print(refused or f"no service of its own has {', '.join(unknown) or 'nothing'}: {known}")
        return 2
    with services.postgres() as server, ThreadPoolExecutor() as pool:
        begun = [_begun(place, server, pool) for place in places]
        outcomes = [one.result() for one in begun]
    told = {name: one for outcome in outcomes for name, one in outcome.told.items()}
    print(_alerts(service_catalogue(), told, {}, set()))
    for place, outcome in zip(places, outcomes, strict=True):
        for panel in outcome.panels:
            if panel.agreed < panel.values:
                print(f"{place.name}: {panel.title}: {panel.agreed} of {panel.values} agreed")
    return 0 if all(one.resolved for one in told.values()) else 1


def _only(place: Any, names: list[str]) -> Any:
    return replace(place, causes=tuple(one for one in place.causes if {*names} & {*one.every}))


def _with(causes: Any, *, alone: bool) -> list[Any]:
    return [cause for cause in causes if cause.alone is alone]


def _tell(began: float, what: str, causes: Any, told: Any) -> None:
    """Say how far it is, and what did not arrive."""
    names = [name for cause in causes for name in cause.alerts]
    missing = [name for name in names if not told[name].arrived]
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
        if one.arrived < one.resolved < one.ended:
            resolved = "before its cause was undone"
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


def _apart(places: Any, told: Any) -> str:
    rows = ["| where | scale | alerts |", "|---|---|---|"]
    rows += [
        f"| {place.name} | {place.scale:g} "
        f"| {', '.join(name for name in place.alerts if name in told) or 'none'} |"
        for place in places
    ]
    return "\n".join(rows)


def _silent(catalogue: Any, told: Any, reasons: dict[str, str]) -> tuple[str, ...]:
    silent = [name for name in catalogue.alerts if name not in told]
    if not silent:
        return ()
    rows = ["| alert | why |", "|---|---|"]
    rows += [f"| {name} | {_cell(reasons.get(name, 'it has no cause yet'))} |" for name in silent]
    return (
        "## Not provoked",
        "Each is proven by its test for `promtool`, as all the others are too.",
        "\n".join(rows),
    )


def _panels(queries: Any, panels: Any, charts: Any, elsewhere: set[str]) -> str:
    rows = [
        "| board | panel | queries with data | numbers | recomputed | charted |",
        "|---|---|---|---|---|---|",
    ]
    for board, title in dict.fromkeys((one.board, one.title) for one in queries):
        its = [one for one in queries if (one.board, one.title) == (board, title)]
        rows.append(
            f"| {board} | {title} | {sum(1 for one in its if one.samples)} of {len(its)}"
            f"{', in a service of its own' if title in elsewhere else ''} "
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


if __name__ == "__main__":
    sys.exit(play(sys.argv[1:]))
