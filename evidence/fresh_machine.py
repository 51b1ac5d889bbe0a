"""From a clone to a serving demo.

A clone of this commit, with empty caches, is set up and started by `make demo` alone: through uv,
through pip where uv cannot be had, and each a second time. The bound is 30 seconds for the first.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
COVERS = ("Makefile", "scripts/environment", "pyproject.toml", "uv.lock", "src/shipworthy/demo")
PATIENCE_SECONDS = 300.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Measure the four starts and return a table."""
    rows = []
    for way, environment in (("uv", {}), ("pip", {"WITHOUT_UV": "1"})):
        clone = folder / way
        caches = {f"{tool}_CACHE_DIR": str(folder / f"{way}-{tool}") for tool in ("UV", "PIP")}
        began = time.monotonic()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        cloned = time.monotonic() - began
        for start in ("first", "second"):
            seconds = serving_after(clone, {**os.environ, **caches, **environment})
            rows.append(
                f"| {way} | {start} | {seconds + (cloned if start == 'first' else 0):.1f} s |"
            )
    uv = subprocess.run(
        [folder / "uv" / ".uv" / "bin" / "uv", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    table = ["| through | start | serving after |", "|---|---|---|", *rows]
    return "\n".join(table), {"uv": uv.stdout.split()[1], "processors": str(os.cpu_count())}


def serving_after(clone: Path, environment: dict[str, str]) -> float:
    """Start the demo of `clone`, and return the seconds until its API page is there; stop it."""
    port, ops_port = free_ports(2)
    began = time.monotonic()
    demo = subprocess.Popen(
        ["make", "demo", f"ARGS=--no-browser --port {port} --ops-port {ops_port}"],
        cwd=clone,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}/docs"):
            if demo.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                raise RuntimeError(f"make demo ended with {demo.poll()} before it served")
            time.sleep(0.05)
        return time.monotonic() - began
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait(60)


def answers(url: str) -> bool:
    """Does somebody answer there with success?"""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
