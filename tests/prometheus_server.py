"""Debian's Prometheus, started on a history, to be asked what it makes of it."""

import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import urlencode

from services import free_port
from shipworthy.telemetry import Snapshot

_START_SECONDS = 30.0

Vector = dict[frozenset[tuple[str, str]], float]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def ask(self, path: str, **parameters: str | float) -> object:
        """Return the data of an answer of its API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def over(self, query: str, start: float, end: float, step: float) -> dict[float, Vector]:
        """Return the values at each step, without those that are no number."""
        data = self.ask("/api/v1/query_range", query=query, start=start, end=end, step=step)
        assert isinstance(data, dict)
        found: dict[float, Vector] = {}
        for series in data["result"]:
            labels = frozenset(item for item in series["metric"].items() if item[0] != "__name__")
            for at, text in series["values"]:
                if text not in {"NaN", "+Inf", "-Inf"}:
                    found.setdefault(round(at, 3), {})[labels] = float(text)
        return found

    def samples(
        self, selector: str, until: float, seconds: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return every sample of the series in that time, each with when it was taken."""
        query = f"{selector}[{round(seconds * 1000)}ms]"
        data = self.ask("/api/v1/query", query=query, time=until)
        assert isinstance(data, dict)
        return [
            (series["metric"], [(float(at), float(text)) for at, text in series["values"]])
            for series in data["result"]
        ]


@contextmanager
def prometheus_on(
    binary: str, folder: Path, *options: str, config: str = ""
) -> Iterator[Prometheus]:
    """Run Prometheus on the blocks in `folder`; a `config` that names :9090 gets its port."""
    port = free_port()
    (folder / "prometheus.yml").write_text(
        config.replace("127.0.0.1:9090", f"127.0.0.1:{port}") or "global: {}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder}",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, port, folder / "log")
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/-/ready")
                if connection.getresponse().status == 200:
                    return
            finally:
                connection.close()
        time.sleep(0.05)
    raise AssertionError(f"Prometheus does not serve: {log.read_text()[-2000:]}")


def load_blocks(promtool: str, snapshots: Sequence[tuple[float, Snapshot]], folder: Path) -> None:
    """Write snapshots with their times as blocks that Prometheus reads."""
    text = folder / "history.txt"
    text.write_text(openmetrics(snapshots))
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", text, folder],
        check=True,
        capture_output=True,
        timeout=60,
    )


def openmetrics(snapshots: Sequence[tuple[float, Snapshot]]) -> str:
    """Return samples with times, as text."""
    by_name: dict[str, list[str]] = {}
    for at, snapshot in snapshots:
        for name, series in snapshot.items():
            lines = by_name.setdefault(
                name, [f"# TYPE {name.removesuffix('_total')} {series['kind']}"]
            )
            for values, numbers in series["sets"]:
                labels = dict(zip(series["labels"], values, strict=True))
                if series["kind"] != "histogram":
                    lines.append(f"{name}{_labels(labels)} {numbers[0]!r} {at:.3f}")
                    continue
                counts = list(accumulate(numbers[:-1]))
                bounds = [*map(repr, series["buckets"]), "+Inf"]
                for bound, count in zip(bounds, counts, strict=True):
                    lines.append(
                        f"{name}_bucket{_labels({**labels, 'le': bound})} {count!r} {at:.3f}"
                    )
                lines.append(f"{name}_sum{_labels(labels)} {numbers[-1]!r} {at:.3f}")
                lines.append(f"{name}_count{_labels(labels)} {counts[-1]!r} {at:.3f}")
    return "\n".join([*(line for lines in by_name.values() for line in lines), "# EOF", ""])


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
