"""Applications that nobody here wrote, under `shipworthy run` and in their own test suites.

Each application comes from PyPI, pinned, into an environment of its own, and no line of it is
changed. It is visited twice, step by step: served by a server of its own kind, and under
`shipworthy run`. Two answers are *alike* when status, headers and body are equal but for ids,
times, signatures and what a server says of itself (`Server`, `Date`, how the body is framed).

A suite is run from the source archive on PyPI, unchanged, twice: as it is, and with a pytest
plugin (`evidence/third_party_apps/hardened_clients.py`) that makes the test clients of Flask and
Starlette talk to `harden(app)`. The outcomes are compared test by test.

The raw results, every step and every test, are in `evidence/results/third_party.json`.
"""

import json
import platform
import re
import socket
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from third_party_apps import places, serving
from third_party_apps.apps import SERVED, SUITES, App
from third_party_apps.pages import report
from third_party_apps.suites import suite_twice
from third_party_apps.visits import VISITS, Step, Visitor

RESULTS = Path(__file__).parent / "results" / "third_party.json"
COVERS = (
    "src/shipworthy/assembly.py",
    "src/shipworthy/serve",
    "src/shipworthy/web",
    "evidence/third_party.py",
    "evidence/third_party_apps",
)
PROBES = ("/livez", "/readyz", "/startupz")
# Of two bodies that differ, these are kept: enough to see why.
SHOWN_LINES = 3


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Visit every application and run every suite; return the tables."""
    visited = [visit(app, folder / "visits" / app.name) for app in SERVED]
    suites = [suite_twice(suite, folder / "suites" / suite.name) for suite in SUITES]
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"python": platform.python_version(), "applications": visited, "suites": suites}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return report(visited, suites), {"Shipworthy": metadata.version("shipworthy")}


def visit(app: App, folder: Path) -> dict[str, Any]:
    """Visit an application bare and hardened, let the hardened one drain, and say what was seen."""
    commands = places.environment(app.name)
    # Two folders, because each starts with nothing; their names are taken out of the answers.
    there, here = _prepared(app, folder / "bare"), _prepared(app, folder / "hardened")
    command = (str(commands / app.bare[0]), *app.bare[1:])
    environ = places.surroundings(commands, **app.environ(there))
    with serving.bare(command, there, environ) as plain:
        before = _steps(app, plain)
    environ = places.surroundings(commands, **app.environ(here))
    with serving.hardened(commands, app.target, here, environ) as guarded:
        after = _steps(app, guarded)
        answered = operations(app, guarded)
        drained = drain(app, guarded, here)
    pairs = list(zip(before, after, strict=True))
    return {
        "name": app.name,
        "interface": app.interface,
        "versions": places.versions(commands, *app.versions),
        "bare": app.bare[0],
        "steps": [[step.what, step.path, step.status] for step in after],
        "unexpected": [
            f"{step.what}, {way}, was answered {step.status}"
            for way, steps in (("bare", before), ("hardened", after))
            for step in steps
            if not step.as_expected
        ],
        "differ": [
            difference
            for one, other in pairs
            if (difference := compare(one, other, (str(there), str(here))))
        ],
        "without_one_request_id": [step.what for step in after if step.request_ids != 1],
        **answered,
        "drain": {**drained, "exit_code": guarded.exit_code},
        "errors_in_log": {"bare": len(plain.errors()), "hardened": len(guarded.errors())},
        "errors_not_there_bare": dict(Counter(guarded.errors()) - Counter(plain.errors())),
        "remark": app.remark,
    }


def _prepared(app: App, place: Path) -> Path:
    place.mkdir(parents=True)
    app.prepare(place)
    return place


def _steps(app: App, served: serving.Served) -> list[Step]:
    with httpx.Client(base_url=served.url, timeout=30.0) as client:
        visitor = Visitor(client)
        VISITS[app.name](visitor)
        return visitor.steps


def compare(bare: Step, hardened: Step, folders: tuple[str, str]) -> dict[str, Any] | None:
    """Return what differs between two answers to the same step, None when they are alike."""
    differs: dict[str, Any] = {}
    if bare.status != hardened.status:
        differs["status"] = [bare.status, hardened.status]
    if bare.headers != hardened.headers:
        one, other = Counter(bare.headers), Counter(hardened.headers)
        differs["headers"] = [list(one - other), list(other - one)]
    lines, others = (
        step.body.replace(place, "~").splitlines()
        for step, place in zip((bare, hardened), folders, strict=True)
    )
    if lines != others:
        unlike = [pair for pair in zip_longest(lines, others) if pair[0] != pair[1]]
        differs["body"] = unlike[:SHOWN_LINES]
    return {"step": bare.what, "differs": differs} if differs else None


def operations(app: App, served: serving.Served) -> dict[str, Any]:
    """Ask the probes on both ports, and look into the metrics for routes and for paths."""
    answers = {
        f"{port} {path}": httpx.get(f"{url}{path}").status_code
        for port, url in (("app", served.url), ("operations", served.operations))
        for path in PROBES
    }
    metrics = httpx.get(f"{served.operations}/metrics").text
    counts: dict[str, int] = {}
    for route, count in re.findall(_COUNTED, metrics):
        counts[route] = counts.get(route, 0) + int(count)
    return {
        "probe_paths": PROBES,
        "probes": answers,
        "routes": dict(sorted(counts.items())),
        "raw_paths_in_metrics": [route for route in counts if app.made_up.search(route)],
    }


_COUNTED = re.compile(
    r'^http_server_request_duration_seconds_count\{.*?http_route="([^"]*)".*?\} (\d+)', re.MULTILINE
)


def drain(app: App, served: serving.Served, place: Path) -> dict[str, Any]:
    """Send SIGTERM while a request is at work; the request must be answered and the exit clean."""
    late = app.in_flight
    answer: dict[str, Any] = {}
    half_sent, go_on = threading.Event(), threading.Event()

    def ask() -> None:
        where = urlsplit(served.url)
        head = (
            f"{late.method} {late.path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Content-Type: {late.content_type}\r\nContent-Length: {len(late.body)}\r\n\r\n"
        )
        middle = len(late.body) // 2
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=30) as wire:
            wire.sendall((head + late.body[:middle]).encode())
            half_sent.set()
            if late.body:
                go_on.wait(30)
                wire.sendall(late.body[middle:].encode())
            said = b""
            while part := wire.recv(65536):
                said += part
        answer["said"] = said.decode("utf-8", "replace")

    asking = threading.Thread(target=ask)
    asking.start()
    half_sent.wait(30)
    _until_in_flight(served)
    began = time.monotonic()
    served.leave()
    serving.not_ready(served)
    unready = time.monotonic() - began
    go_on.set()
    asking.join(40)
    served.wait()
    took = time.monotonic() - began
    said = answer.get("said", "")
    status = int(said.split(" ", 2)[1]) if said else 0
    kept = None
    if late.kept is not None:
        with closing(sqlite3.connect(place / late.kept[0])) as database:
            kept = database.execute(late.kept[1]).fetchone() == (1,)
    return {
        "in_flight": late.what,
        "status": status,
        "answered": status in (200, 201) and late.sees in said,
        "connection_close": "connection: close" in said.partition("\r\n\r\n")[0].lower(),
        "in_the_database": kept,
        "seconds_to_not_ready": round(unready, 2),
        "seconds_to_exit": round(took, 2),
    }


def _until_in_flight(served: serving.Served) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        metrics = httpx.get(f"{served.operations}/metrics").text
        if re.search(r"^http_server_active_requests\{[^}]*\} [1-9]", metrics, re.MULTILINE):
            return
        time.sleep(0.05)
    raise RuntimeError("the slow request was not seen in flight within 10 s")
