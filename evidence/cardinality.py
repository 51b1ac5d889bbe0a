"""110,000 requests that are all different leave a service as it was

Each has a path, a method, a host, an agent, a query, an id and a sender of its own
(`tests/flows/cardinality.py`): paths of every route with ever new parameters, with and without a
slash at their end, of nothing, of static files, below mounts whose prefix is a parameter, and of a
route that raises an exception of a new class each time. Three in ten have a method nobody knows.

100,000 are sent in process, to what `harden()` makes of the application with its access log on;
10,000 over real sockets to `shipworthy run`, where unknown methods end at the server's parser. What
was kept on purpose is there after a warm-up of 5,000; memory is what the process gained after it.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
COVERS = (
    "src/shipworthy/web/routes.py",
    "src/shipworthy/web/request_metrics.py",
    "src/shipworthy/telemetry/metrics.py",
    "tests/flows/cardinality.py",
    "evidence/cardinality.py",
)
IN_PROCESS, OVER_SOCKETS, CONNECTIONS = 100_000, 10_000, 8
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Attack in process and over sockets, and tell what was left behind."""
    inside = in_process(folder)
    outside = over_sockets(folder)
    rows = "\n".join(
        f"| `{name}` | {count:,} | {outside['label_sets'].get(name, 0):,} |"
        for name, count in inside["label_sets"].items()
    )
    before, after = (sum(inside[when].values()) for when in ("label_sets_warm", "label_sets"))
    outside_after = sum(outside["label_sets"].values())
    gained = [f"{left['grown_bytes'] / 1e6:.1f}" for left in (inside, outside)]
    outcome = f"""
## What is left

| | in process | over sockets |
|---|--:|--:|
| requests | {inside["requests"]:,} | {outside["requests"]:,} |
| label sets of requests' metrics before, warm | {before:,} | |
| label sets after | {after:,} | {outside_after:,} |
| labels that no declaration allows | {len(inside["strangers"])} | {len(outside["strangers"])} |
| bytes of an exposition | {inside["exposition_bytes"]:,} | {outside["exposition_bytes"]:,} |
| memory gained after the warm-up, MB | {gained[0]} | {gained[1]} |
| answered by the server's parser (400) | | {outside["refused"]:,} |

## Label sets by metric

| metric | in process | over sockets |
|---|--:|--:|
{rows}

The one that grows is `shipworthy_http_exceptions_total`: the route that raises a class of its own
for each request is made so that it does, and it ends at the most its label may have.
"""
    return outcome, {name: version(name) for name in ("fastapi", "starlette", "uvicorn")}


def in_process(folder: Path) -> dict[str, Any]:
    """Return what the attack left in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "flows" / "cardinality.py"), str(IN_PROCESS)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(TESTS)])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    left: dict[str, Any] = json.loads(done.stdout)
    return left


def over_sockets(folder: Path) -> dict[str, Any]:
    """Return what the attack left in a worker of `shipworthy run`."""
    sys.path[:0] = [str(TESTS)]

    from flows import cardinality  # type: ignore[import-not-found]
    from serve.launch import started  # type: ignore[import-not-found]

    environ = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(TESTS)])}
    target = f"{TESTS / 'flows' / 'apps' / 'attacked.py'}:app"
    with started(target, directory=folder, environ=environ) as service:
        service.until_ready()

        def told() -> str:
            with urllib.request.urlopen(f"{service.operations}/metrics", timeout=10) as answer:
                return str(answer.read(), "utf-8")

        port = int(service.url.rsplit(":", 1)[1])
        asyncio.run(attack(cardinality, port, cardinality.WARM, seed=1))
        before = _resident(told())
        refused = asyncio.run(attack(cardinality, port, OVER_SOCKETS, seed=2))
        text = told()
    sets, strangers = read(cardinality, text)
    return {
        "requests": OVER_SOCKETS,
        "refused": refused,
        "label_sets": sets,
        "strangers": strangers,
        "exposition_bytes": len(text),
        "grown_bytes": _resident(text) - before,
    }


async def attack(cardinality: Any, port: int, count: int, *, seed: int) -> int:
    """Send the requests over a few connections; return how many the parser refused."""
    left = cardinality.attack(count, seed=seed)
    refused = 0

    async def client() -> None:
        nonlocal refused
        reader = writer = None
        for sent in left:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = b"".join(b"%s: %s\r\n" % pair for pair in sent.headers)
            line = f"{sent.method} {sent.path}?{sent.query} HTTP/1.1\r\n".encode()
            writer.write(line + head + b"content-length: 0\r\n\r\n")
            status, ends = await answered(reader, is_head=sent.method == "HEAD")
            refused += status == 400
            if ends:
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    await asyncio.wait_for(asyncio.gather(*(client() for _ in range(CONNECTIONS))), 600)
    return refused


async def answered(reader: Any, *, is_head: bool) -> tuple[int, bool]:
    """Read an answer; return its status, and whether the connection ends with it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    found = _ANSWER.match(head.upper())
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    status = int(found[1]) if found else 0
    bodiless = is_head or status in (204, 304)
    if length is not None and not bodiless:
        await reader.readexactly(int(length[1]))
    return status, b"connection: close" in head or (length is None and not bodiless)


def read(cardinality: Any, text: str) -> tuple[dict[str, int], list[str]]:
    """Return the label sets of each metric of requests in an exposition, and who is strange."""
    sets: dict[str, set[str]] = {name: set() for name in cardinality.METRICS}
    snapshot: dict[str, Any] = {name: {"sets": []} for name in cardinality.METRICS}
    for line in text.splitlines():
        found = re.fullmatch(r"(\w+?)(?:_count)?(?:\{(.*)\})? \S+", line)
        if found is None or found[1] not in sets or "le=" in line or line.startswith("#"):
            continue
        if (found[2] or "") not in sets[found[1]]:
            sets[found[1]].add(found[2] or "")
            values = [value for _, value in re.findall(r'(\w+)="([^"]*)"', found[2] or "")]
            snapshot[found[1]]["sets"].append((values, []))
    return {name: len(found) for name, found in sets.items()}, cardinality.strangers(snapshot)


def _resident(text: str) -> float:
    values = re.findall(r"^process_resident_memory_bytes(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))
