"""The log of `shipworthy run`: ids on every line, nobody waits for it, no secret in anything."""

import json
import os
import signal
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from docs.test_logs_page import first_cells
from redact.planted import GIVEN, PLANTED
from serve.launch import BRISK, PATIENCE_SECONDS, TOKEN, Load, started
from shipworthy.telemetry import timestamp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APPS = Path(__file__).parent / "apps"
FASTAPI, FLASK, STARLETTE = (
    f"{APPS / name}:app"
    for name in ("telling_fastapi.py", "telling_flask.py", "telling_starlette.py")
)
# What only some requests have.
OF_SOME = {
    "client_gone", "actor", "db_calls", "db_ms", "db_wait_ms", "retries", "sampled_of"
}  # fmt: skip
OF_A_REQUEST = first_cells("### Of a request") - OF_SOME
# Where each application logs, by the path that is asked for.
TOLD = {
    FASTAPI: {
        "/all": {
            "in middleware, before", "in middleware, after", "in sync dependency", "in async code",
            "in to_thread", "in task", "in thread with context", "in background task",
            "in sync background task",
        },
        "/sync": {"in middleware, before", "in thread pool", "in middleware, after"},
        "/sunk": {"in middleware, before", "in exception handler", "in middleware, after"},
        "/boom": {"in middleware, before", "in except"},
    },
    FLASK: {
        "/all": {
            "in before_request", "in view", "in after_request", "in stream", "in teardown_request",
        },
        "/sunk": {
            "in before_request", "in exception handler", "in after_request", "in teardown_request",
        },
        "/boom": {"in before_request", "in after_request", "in teardown_request"},
    },
    STARLETTE: {
        "/in/all": {
            "in middleware, before", "in middleware, after", "in async code", "in stream",
            "in sync background task",
        },
        "/sync": {"in middleware, before", "in thread pool", "in middleware, after"},
        "/sunk": {"in middleware, before", "in exception handler", "in middleware, after"},
        "/boom": {"in middleware, before"},
    },
}  # fmt: skip


@pytest.mark.parametrize("target", TOLD, ids=["FastAPI", "Flask", "Starlette"])
def test_every_line_of_a_request_has_its_ids(tmp_path: Path, target: str) -> None:
    """From async code, tasks, threads, background tasks, handlers of exceptions and hooks: each of
    many requests at once finds exactly its own lines by its id, and its trace."""
    settings = f'{BRISK}[log]\nservice = "shop"\n'
    asked: dict[str, tuple[str, str]] = {}
    with started(target, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        began = timestamp(time.time())
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            for number in range(5):
                for path in TOLD[target]:
                    trace = f"{number:031x}7"
                    answer = client.get(
                        path, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
                    )
                    given = client.get(path, headers={"X-Request-ID": f"ship-{len(asked):08}"})
                    asked[answer.headers["x-request-id"]] = path, trace
                    asked[given.headers["x-request-id"]] = path, ""
        service.signal()
        assert service.ended() == 0
        lines = service.lines()

    # A trace that the caller began is the id of more than one request.
    for trace in {trace for _, trace in asked.values()} - {""}:
        mine = [line for line in lines if line.get("trace_id") == trace]
        told = [line["message"] for line in mine if line["logger"] == "shop"]
        assert sorted(told) == sorted(text for texts in TOLD[target].values() for text in texts)
    for request_id, (path, trace) in asked.items():
        if trace:
            continue
        mine = [line for line in lines if line.get("request_id") == request_id]
        assert {line["message"] for line in mine if line["logger"] == "shop"} == TOLD[target][path]
        assert len({line["trace_id"] for line in mine}) == 1
        (access,) = [line for line in mine if line["logger"] == "shipworthy.access"]
        assert access["path"] == path
        if path == "/boom":
            (error,) = [line for line in mine if line.get("event") == "web.exception_unhandled"]
            assert error["error_type"] == "RuntimeError"
    # At the start we ask the application once whether the paths of the probes are its own.
    said = [line for line in lines if line["logger"] == "shop" and line["ts"] > began]
    assert [line for line in said if not line.get("request_id") or not line["trace_id"]] == []
    assert [line for line in lines if line.get("service") != "shop" or not line.get("pid")] == []
    documented = first_cells("### On every line")
    for line in lines:
        if line["logger"] == "shipworthy.access":
            assert line.keys() - OF_SOME == documented | OF_A_REQUEST
        elif line in said:
            assert line.keys() - {"error_type", "stack"} == documented


def test_no_secret_comes_out_anywhere(tmp_path: Path) -> None:
    """More than fifty kinds, each in a message, its arguments, its extras, an exception, a path,
    a query, a header; read: the log, error pages, /metrics, /health, /api."""
    outlets: dict[str, str] = {}
    given = {"PTARMIGAN_API_KEY": GIVEN}
    with started(FASTAPI, directory=tmp_path, settings=BRISK, environ=given) as service:
        service.until_ready()
        operations = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            for number, (_, text, _) in enumerate(PLANTED):
                assert client.post("/secret", content=text).status_code == 200
                answer = client.post("/raise", content=text)
                assert answer.status_code == 500
                asked = client.get(f"/nowhere/{quote(text, safe='')}?{quote(text, safe='=&?')}")
                assert asked.status_code == 404
                boom = client.get(
                    "/boom", headers={"User-Agent": text.replace("\n", " "), "X-Note": "x"}
                )
                outlets[f"problem {number}"] = answer.text + str(answer.headers) + boom.text
        outlets["metrics"] = service.metrics()
        for path in ("/health", "/api/status", "/api/requests", "/api/breakers", "/api/databases"):
            answer = httpx.get(
                service.operations + path, headers=operations, timeout=PATIENCE_SECONDS
            )
            assert answer.status_code == 200, path
            outlets[path] = answer.text
        service.signal()
        assert service.ended() == 0
        outlets |= {"log": service.out, "standard error": service.err}
        lines = service.lines()

    failed = [line for line in lines if line["message"] == "failed"]
    assert len(failed) == len(PLANTED), failed
    assert sum(line.get("event") == "web.exception_unhandled" for line in lines) == 2 * len(PLANTED)
    answered = [line for line in lines if line["logger"] == "shipworthy.access"]
    assert sum(line["route"] == "_unmatched" for line in answered) == len(PLANTED)
    leaks = [
        f"{kind} in {outlet}: ...{shown[max(shown.find(secret) - 60, 0) :][:160]}"
        for kind, _, secret in PLANTED
        for outlet, shown in outlets.items()
        if secret in shown or secret in shown.replace("\\\\", "\\")
    ]
    assert leaks == []
    counted = [row for row in outlets["metrics"].splitlines() if "redactions_total{" in row]
    assert sum(float(row.rsplit(" ", 1)[1]) for row in counted) > 4 * len(PLANTED)


def test_a_reader_that_stops_holds_up_no_request(tmp_path: Path) -> None:
    """Standard output is a pipe that nobody reads: every request is answered, memory stays bounded,
    and what was dropped is counted; the service leaves in time."""
    reader, writer = os.pipe()
    settings = BRISK
    (tmp_path / "shipworthy.toml").write_text(settings)
    with started(FASTAPI, directory=tmp_path, settings=settings, stdout=writer) as service:
        os.close(writer)
        service.until_ready()
        text = "x" * 8000
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            for _ in range(150):
                assert client.post("/secret", content=text).status_code == 200
            assert client.get("/sync").status_code == 200
        metrics = service.metrics()
        service.signal()
        code = service.ended()
    os.close(reader)

    dropped = next(
        float(row.rsplit(" ", 1)[1])
        for row in metrics.splitlines()
        if row.startswith("shipworthy_log_lines_dropped_total")
    )
    assert dropped > 100
    assert code == 0


def test_workers_share_a_file_that_is_moved_and_rotated_under_load(tmp_path: Path) -> None:
    """Two workers and their supervisor write one file, which logrotate moves: none is missing."""
    settings = f'{BRISK}[log]\nfile = "app.log"\nrotate_size = "20KiB"\nkeep = 0\n'
    target = f"{Path(__file__).parents[1] / 'serve' / 'apps' / 'trials.py'}:app"
    with started(target, "--workers", "2", directory=tmp_path, settings=settings) as service:
        service.until_ready()
        with Load(service) as load:
            for number in range(3):
                before = load.answered
                service.until(lambda at=before: load.answered > at + 100)
                (tmp_path / "app.log").rename(tmp_path / f"app.log.moved{number}")
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        assert service.lines() == []

    files = list(tmp_path.glob("app.log*"))
    found = [json.loads(row) for path in files for row in path.read_text().splitlines()]
    mine = [line for line in found if line["logger"] == "shipworthy.access"]
    assert load.failures == []
    assert len(mine) >= load.answered > 300
    assert len({line["request_id"] for line in mine}) == len(mine)
    assert len({line["pid"] for line in found}) >= 3
    assert len(files) > 5


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """With one sentence that names the setting, before anything is served."""
    settings = f'{BRISK}[log]\nfile = "nowhere/app.log"\n'
    with started(FASTAPI, directory=tmp_path, settings=settings) as service:
        assert service.ended() == 78
        assert "log.file = 'nowhere/app.log' cannot be written: No such file" in service.err
        assert "Traceback" not in service.err
