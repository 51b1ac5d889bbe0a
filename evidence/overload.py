"""Ten times overload: what is served in time, and the knee below which nothing changes

One worker on one CPU, the clients on another. They come at their own pace (an open loop), give up
after a second and close their connection then. What a service can serve is measured first, with two
clients that ask again as soon as they are answered; every rate below is a share of that. `work` is
a FastAPI route of our tests that computes for 25 ms of CPU in the event loop, `thread` the same in
a worker thread, `projects` the demo's list of projects (SQLite, a worker thread). All settings have
their defaults, except that `admission.mode` is enforce, and that one route like `work` is
`critical`, which is asked for with half of what can be served.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "overload.json"
COVERS = (
    "src/shipworthy/admission",
    "src/shipworthy/web/admission.py",
    "src/shipworthy/web/line.py",
    "tests/flows/overload.py",
    "tests/flows/apps/costly.py",
    "evidence/overload.py",
)
DEADLINE_SECONDS = 1.0
KNEE = (0.5, 0.8, 0.95, 1.25, 2.0)
KNEE_SECONDS = 3.0
OVERLOAD_SECONDS = 10.0
TIMES = 10.0
AFTER_SECONDS = 5.0
BARE, OURS = "bare uvicorn", "shipworthy run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One service: what is asked for, and what else is critical."""

    name: str
    target: str
    path: str
    critical: str = ""


CASES = (
    Case(name="work", target="costly:app", path="/work", critical="/critical"),
    Case(name="thread", target="costly:app", path="/thread", critical="/critical-thread"),
    Case(name="projects", target="shipworthy.demo.service:app", path="/projects"),
)


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Measure each case on both servers, write the numbers and return the tables."""
    from shipworthy.demo.prepare import prepare

    prepare(f"sqlite:///{folder}/demo.sqlite3", directory=folder)
    rows = []
    load = [os.getloadavg()[0]]
    for case in CASES:
        for kind in (BARE, OURS):
            rows.append(measure(folder, case, kind))
            print(f"  {kind}, {case.name}: {json.dumps(rows[-1])}", flush=True)
            load.append(os.getloadavg()[0])
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"load": load, "rows": rows}, indent=1) + "\n")
    return _page(rows, load), {name: version(name) for name in ("uvicorn", "uvloop", "fastapi")}


def measure(folder: Path, case: Case, kind: str) -> dict[str, Any]:
    """Start one server, and take it below, at and far above what it can serve."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    words = {
        BARE: ["uvicorn", "--no-access-log", "--log-level", "warning"],
        OURS: ["shipworthy", "run", "--ops-port", "0"],
    }
    (folder / "shipworthy.toml").write_text(
        '[admission]\nmode = "enforce"\n'
        + (f'critical = ["{case.critical}"]\n' if case.critical else "")
    )
    paths = [str(ROOT / "src"), str(ROOT / "tests" / "flows" / "apps")]
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith("SHIPWORTHY_")},
        "PYTHONPATH": os.pathsep.join(paths),
        "DATABASE_URL": f"sqlite:///{folder}/demo.sqlite3",
    }
    command = [sys.executable, "-m", *words[kind], case.target, "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*_on_cpu(0), *command], cwd=folder, env=environ, stdout=log, stderr=log
        )
    try:
        _await_answer(f"http://127.0.0.1:{port}{case.path}", server)
        return _measured(port, case, kind)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:  # bare, it works off what nobody waits for any more
            server.kill()
            server.wait(10)


def _measured(port: int, case: Case, kind: str) -> dict[str, Any]:
    _clients(port, {"closed": {"path": case.path, "clients": 2, "seconds": 1.0}})
    served = {"closed": {"path": case.path, "clients": 2, "seconds": 4.0}}
    capacity = _clients(port, served)
    knee, phases = [], []
    for share in KNEE:
        rate = max(capacity * share, 1.0)
        phases += [
            {"seconds": KNEE_SECONDS, "rates": {case.path: rate}},
            {"seconds": 1.0, "rates": {}},
        ]
    told = _clients(port, {"phases": phases, "deadline_seconds": DEADLINE_SECONDS})
    for share, phase in zip(KNEE, told["phases"][::2], strict=True):
        knee.append({"share": share, **phase["paths"][case.path]})
    rates = {case.path: capacity * TIMES}
    if case.critical:
        rates[case.critical] = capacity / 2
        rates[case.path] -= capacity / 2
    half = {"seconds": 2.0, "rates": {case.path: capacity / 2}}
    rush = {"seconds": OVERLOAD_SECONDS, "rates": rates}
    after = {**half, "seconds": AFTER_SECONDS}
    told = _clients(port, {"phases": [half, rush, after], "deadline_seconds": DEADLINE_SECONDS})
    _, during, then = told["phases"]
    # Once more, since what the machine does beside is not always the same.
    peak = max(capacity, _clients(port, served))
    good = sum(found["good"] for found in during["paths"].values())
    critical = during["paths"].get(case.critical)
    return {
        "kind": kind,
        "case": case.name,
        "capacity": capacity,
        "peak": peak,
        "knee": knee,
        "overload": during["paths"],
        "goodput_ratio": good / OVERLOAD_SECONDS / peak,
        "critical_ratio": critical
        and critical["good"] / max(1, sum(critical[name] for name in _OUTCOMES)),
        "recovered_seconds": then["well_after_seconds"],
        "clients_behind_seconds": told["most_behind_seconds"],
    }


_OUTCOMES = ("good", "shed", "other", "late", "refused")


def _clients(port: int, plan: dict[str, Any]) -> Any:
    script = ROOT / "tests" / "flows" / "overload.py"
    done = subprocess.run(
        [*_on_cpu(1), sys.executable, str(script), str(port), json.dumps(plan)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def _on_cpu(number: int) -> list[str]:
    return ["taskset", "-c", str(number)] if (os.cpu_count() or 1) > 1 else []


def _await_answer(url: str, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise SystemExit(f"{server.args!r} does not answer at {url}")


_HEAD = (
    "| | can serve | in time | of what it can | turned away | given up on | critical in time "
    "| all well again after |"
)
_PROMISED = (
    "What was promised for `work` (goodput at least 90 % of what it can serve, critical at least "
    "99 %, recovery within 2 s)"
)
_KNEE = (
    "requests answered in time / turned away / given up on, and how long those took that were in "
    "time (half, 99 of 100)."
)


def _page(rows: list[dict[str, Any]], load: list[float]) -> str:
    lines = [
        f"## Ten times overload, {OVERLOAD_SECONDS:g} s\n",
        _HEAD,
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["overload"].values()
        good, shed = (sum(one[name] for one in found) for name in ("good", "shed"))
        late = sum(one[name] for one in found for name in ("late", "refused", "other"))
        critical = row["critical_ratio"]
        lines.append(
            f"| {row['case']}, {row['kind']} | {row['peak']:.0f}/s "
            f"| {good / OVERLOAD_SECONDS:.1f}/s | {row['goodput_ratio']:.0%} | {shed:,} "
            f"| {late:,} | {'-' if critical is None else f'{critical:.1%}'} "
            f"| {_recovered(row)} |"
        )
    (ours,) = (row for row in rows if row["kind"] == OURS and row["case"] == "work")
    lines += [
        "",
        f"{_PROMISED}: {_met(ours)}.",
        "",
        f"## The knee\n\nOf {KNEE_SECONDS:g} s at each share of what it can serve: {_KNEE}\n",
    ]
    for case in CASES:
        lines += [
            f"| {case.name} | {BARE} | half | 99 of 100 | {OURS} | half | 99 of 100 |",
            "|---|---|---|---|---|---|---|",
        ]
        pair = [row for row in rows if row["case"] == case.name]
        for number, share in enumerate(KNEE):
            cells = " | ".join(_cell(row["knee"][number]) for row in pair)
            lines.append(f"| {share:.0%} | {cells} |")
        lines.append("")
    behind = max(row["clients_behind_seconds"] for row in rows)
    lines.append(
        f"Load average of the machine before and after each: "
        f"{', '.join(f'{number:.1f}' for number in load)}, of {os.cpu_count()} CPUs. What it does "
        f"beside takes from both servers, though not at the same time; in a quiet run it is about "
        f"2. The clients were {behind * 1000:.0f} ms behind their plan at the most."
    )
    return "\n".join(lines)


def _recovered(row: dict[str, Any]) -> str:
    seconds = row["recovered_seconds"]
    return "not within 5 s" if seconds > AFTER_SECONDS - 0.5 else f"{seconds:.1f} s"


def _met(row: dict[str, Any]) -> str:
    met = {
        "goodput": row["goodput_ratio"] >= 0.9,
        "critical": row["critical_ratio"] >= 0.99,
        "recovery": row["recovered_seconds"] <= 2.0,
    }
    return ", ".join(f"{name} {'met' if well else 'NOT met'}" for name, well in met.items())


def _cell(found: dict[str, Any]) -> str:
    bad = sum(found[name] for name in ("late", "refused", "other"))
    half, most = (found[name] for name in ("p50", "p99"))
    times = " | ".join("-" if took is None else f"{took * 1000:.0f} ms" for took in (half, most))
    return f"{found['good']} / {found['shed']} / {bad} | {times}"
