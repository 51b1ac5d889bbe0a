"""What all workers have counted, whatever ends them: real processes, killed under load."""

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from launch import BRISK, Load, Run, Service, counted
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shipworthy.events import Declared, Metric, listen
from shipworthy.serve.counts import Counts, WorkersCountAlone, segment_name
from shipworthy.telemetry import Registry, Segment, Snapshot, folded

ORDERS = Metric("orders_total", "counter", "Orders.", {"channel": Declared()})


def worker(amount: int) -> Registry:
    registry = Registry()
    registry.counter(ORDERS).cell("web").add(amount)
    return registry


def orders(snapshots: list[Snapshot]) -> float:
    found = folded(snapshots).get("orders_total", {"sets": []})
    return sum(numbers[0] for _, numbers in found["sets"])


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_workers_with_and_without_a_segment_are_counted_together(tmp_path: Path) -> None:
    """Living and ended; the directory of the run is gone with it."""
    counts = Counts()
    counts.begin(str(tmp_path))
    segment = Segment.begin(Path(counts.path), segment_name(1))
    registry = worker(3)
    registry.keep_in(segment)
    counts.heard(2, worker(40).snapshot())
    counts.heard(1, {})
    told = [orders(counts.told())]
    counts.ended(1)
    counts.ended(2)
    told.append(orders(counts.told()))
    counts.ended(2)
    told.append(orders(counts.told()))
    held = files(Path(counts.path))
    counts.close()
    counts.close()

    assert told == [43, 43, 43]
    assert held == ["archive", "lock"]
    assert files(tmp_path) == []
    segment.close()


def test_without_a_directory_each_worker_is_asked_and_it_is_said_why(tmp_path: Path) -> None:
    """No failed start; what a worker has last said of itself stays."""
    said: list[str] = []
    stop = listen(lambda fact: said.append(fact.because), WorkersCountAlone)
    counts = Counts()
    counts.begin(str(tmp_path / "none"))
    counts.heard(1, worker(3).snapshot())
    counts.ended(1)
    stop()

    assert counts.path == ""
    assert orders(counts.told()) == 3
    assert "none (No such file or directory)" in said[0]


def test_a_directory_that_goes_away_is_said_and_what_was_read_last_stands(tmp_path: Path) -> None:
    """Somebody cleans up what is not his."""
    said: list[str] = []
    counts = Counts()
    counts.begin(str(tmp_path))
    registry = worker(3)
    segment = Segment.begin(Path(counts.path), segment_name(1))
    registry.keep_in(segment)
    before = orders(counts.told())
    for path in Path(counts.path).iterdir():
        path.unlink()
    Path(counts.path).rmdir()
    stop = listen(lambda fact: said.append(fact.because), WorkersCountAlone)
    after = [orders(counts.told()) for _ in range(3)]
    stop()
    counts.close()
    segment.close()

    assert (before, after) == (3, [3, 3, 3])
    (once,) = said
    assert "cannot be read" in once


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_workers_killed_under_load_lose_at_most_what_they_held(run: Run, tmp_path: Path) -> None:
    """kill -9, three times; no counter goes backwards; killed at rest, they lose nothing at all."""
    place = tmp_path / "counts"
    place.mkdir()
    settings = BRISK + f'[serve]\nworkers = 2\n[metrics]\nrun_directory = "{place}"\n'
    clients, kills = 6, 3
    seen: list[float] = []
    with run(settings=settings) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        with Load(service, clients=clients) as load:
            for _ in range(kills):
                victim = service.serving()[0]
                seen.append(counted(service.metrics()))
                os.kill(victim, signal.SIGKILL)
                seen += [counted(service.metrics()) for _ in range(3)]
                service.until(lambda v=victim: len(set(service.serving()) - {v}) == 2)
        at_rest = counted(service.metrics())
        for victim in service.serving():
            os.kill(victim, signal.SIGKILL)
        service.until(lambda: len(service.events("serve.worker_lost")) == kills + 2)
        killed_at_rest = counted(service.metrics())
        held = {Path(name).name for name in files(place)}
        _holds_what_prometheus_takes(service)
        service.signal()
        assert service.ended() == 0
        left = files(place)

    answered, failed = load.answered, len(load.failures)
    assert seen == sorted(seen)
    # Each of a killed worker's requests is either counted and its answer lost, or answered and
    # not yet counted, and there are no more of them than clients.
    assert answered - kills * clients <= at_rest <= answered + failed
    assert failed <= kills * clients
    assert killed_at_rest == at_rest
    assert len(held) <= 2 * 2 + 3
    assert left == []


def _holds_what_prometheus_takes(service: Service) -> None:
    """The page of all processes, in both formats, before the strictest readers there are."""
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    opened = httpx.get(f"{service.operations}/metrics", headers=accept).text
    names = {family.name for family in text_string_to_metric_families(opened)}
    assert {"process_cpu_seconds", "shipworthy_serve_workers"} <= names
    linted = subprocess.run(
        ["promtool", "check", "metrics"],
        input=service.metrics().encode(),
        capture_output=True,
        check=False,
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


@pytest.mark.slow
def test_what_a_stopped_worker_has_counted_is_shown_to_the_last_request(run: Run) -> None:
    """It cannot be asked, and need not be."""
    with run(settings=BRISK) as service:
        service.until_ready()
        for _ in range(5):
            service.get("/")
        pid = service.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        during = counted(service.metrics())
        os.kill(pid, signal.SIGCONT)
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
        after = counted(service.metrics())

    assert during == after == 5


@pytest.mark.slow
def test_an_unwritable_run_directory_is_said_in_a_sentence_and_stops_nobody(run: Run) -> None:
    """The workers are asked, as long as they live."""
    settings = BRISK + '[metrics]\nrun_directory = "/proc"\n'
    with run(settings=settings) as service:
        service.until_ready()
        service.get("/")
        number = counted(service.metrics())
        (said,) = service.events("serve.workers_count_alone")
        service.signal()
        code = service.ended()

    assert (number, code) == (1, 0)
    assert "/proc (" in said["because"]
    assert "Traceback" not in service.err


@pytest.mark.slow
def test_what_a_killed_supervisor_leaves_is_removed_by_the_next(run: Run, tmp_path: Path) -> None:
    """Once its workers are gone with it; the directory of one that runs is left alone."""
    place = tmp_path / "counts"
    place.mkdir()
    settings = BRISK + f'[metrics]\nrun_directory = "{place}"\n'
    with run(settings=settings) as first:
        first.until_ready()
        first.signal(signal.SIGKILL)
        first.ended()
    (old,) = place.iterdir()
    with run(settings=settings) as second:
        second.until_ready()
        (new,) = place.iterdir()
        second.signal()
        second.ended()

    assert old.name != new.name
    assert list(place.iterdir()) == []


SHOP = """
import prometheus_client
from fastapi import FastAPI

from shipworthy.events import Metric, OneOf
from shipworthy.telemetry import counter

CHANNELS = {"channel": OneOf("web", "phone")}
OURS = counter(Metric("shop_orders_total", "counter", "Orders.", CHANNELS)).cell("web")
THEIRS = prometheus_client.Counter("shop_parcels", "Parcels.", ["by"])
prometheus_client.Gauge("process_open_fds_", "A name of its own.").set(1)
app = FastAPI()


@app.get("/")
def order() -> str:
    OURS.add()
    THEIRS.labels("bike").inc()
    return "hello"
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_the_application_counts_is_summed_over_its_workers(run: Run, tmp_path: Path) -> None:
    """In three lines of ours, or with `prometheus_client`, in a module that knows no hull."""
    (tmp_path / "shop.py").write_text(SHOP)
    settings = BRISK + "[serve]\nworkers = 2\n"
    with run("shop:app", settings=settings) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        for _ in range(12):
            service.get("/")
        before = service.metrics()
        for victim in service.serving():
            os.kill(victim, signal.SIGKILL)
        service.until(lambda: len(service.events("serve.worker_lost")) == 2)
        service.until(lambda: len(service.serving()) == 2)
        after = service.metrics()

    for page in (before, after):
        assert 'shop_orders_total{channel="web"} 12\n' in page
        # Read at the scrape before, so nothing of it is lost with the processes.
        assert 'shop_parcels_total{by="bike"} 12\n' in page
    # None of our own labels has a value that its declaration does not know.
    overflow = [row for row in before.splitlines() if row.startswith("shipworthy_metrics_overflow")]
    assert [row for row in overflow if not row.endswith(" 0")] == []
    assert len(overflow) > 20
