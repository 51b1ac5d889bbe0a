"""The drill: a service, Prometheus and Alertmanager, and somebody who breaks one thing at a time.

What the test and the evidence share. Time runs 60 times as fast for the rules: a window of five
minutes is one of five seconds. The causes are in `drill_causes.py`.
"""

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy import make_url

from alert_sinks import Sink, webhook_sink
from otlp_receiver import Collector, collector
from prometheus_server import Prometheus, prometheus_on
from serve.launch import TOKEN, Service, brisk, started
from services import free_port, program
from shipworthy.demo.prepare import prepare
from shipworthy.deploy import Scope, promql
from shipworthy.deploy.promql import range_text
from shipworthy.events import Catalogue, Panel
from shipworthy.faults import FaultProxy

SCALE = 60.0
JOB = "drilled"
APPS = Path(__file__).parent / "apps"
# Both look once a second, and an exposition is a little older than its scrape.
_APART_SECONDS = 1.5
_CLOSE_RATIO = 0.01
RECEIVERS = ("page", "ticket", "info", "escalation", "heartbeat")
_SETTINGS = """
[serve]
wedged = "60s"
[web]
access_log = true
[history]
every = "1s"
[alerts]
every = "1s"
wait = "0s"
change = "1s"
timeout = "1s"
[db]
checkout = "500ms"
connect = "1s"
statement = "1s"
statement_warn = "100ms"
leak_after = "1s"
[actor]
from = ["header:X-User"]
trusted_proxies = ["127.0.0.1", "::1"]
[audit]
exclude = ["alembic_version", "drill_row"]
check_interval = "1s"
[ledger]
anchor_log = false
[log]
format = "json"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What makes alerts fire: pressed again and again, by so many at once, until they arrived.

    `alerts` must arrive while it lasts; `later` are those that another alert keeps silent, which
    arrive when that one is over. A `lasting` cause takes longer than some seconds.
    """

    name: str
    alerts: tuple[str, ...]
    later: tuple[str, ...] = ()
    lasting: bool = False
    press: Callable[["Stage"], object] = lambda _: None
    every_seconds: float = 0.05
    at_once: int = 1
    before: Callable[["Stage"], object] = lambda _: None
    after: Callable[["Stage"], object] = lambda _: None


@dataclass(slots=True)
class Told:
    """What arrived of one alert since its cause began; times are Unix seconds."""

    began: float
    cause: str
    later: bool
    ended: float = 0.0
    fired: float = 0.0
    arrived: float = 0.0
    receiver: str = ""
    resolved: float = 0.0


@dataclass
class Ears:
    """Hears all that Alertmanager tells, and knows what fires."""

    sink: Sink
    firing: dict[str, set[str]] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)

    def listen(self, seconds: float) -> None:
        """Hear what comes within that time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                self._hear(self.sink.received.get(timeout=left))

    def silent(self, name: str) -> bool:
        """Say whether an alert fires for nobody."""
        return not self.firing.get(name)

    def _hear(self, message: dict[str, Any]) -> None:
        for alert in message["alerts"]:
            name = alert["labels"]["alertname"]
            which = self.firing.setdefault(name, set())
            if alert["status"] == "firing":
                which.add(alert["fingerprint"])
            else:
                which.discard(alert["fingerprint"])
            told = self.told.get(name)
            if told is None:
                continue
            if alert["status"] == "firing" and not told.arrived:
                told.fired = datetime.fromisoformat(alert["startsAt"]).timestamp()
                told.arrived, told.receiver = time.time(), message["receiver"]
            if told.arrived and not which:
                told.resolved = told.resolved or time.time()
            elif told.arrived:
                told.resolved = 0.0


class Pipe:
    """Standard output of the service, with a reader that can stop reading."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        self.flowing = threading.Event()
        self.flowing.set()
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def _drain(self) -> None:
        while self.flowing.wait() and os.read(self._read, 1 << 16):
            pass
        os.close(self._read)

    def close(self) -> None:
        """Close our end of what is written to, and wait for the end of it."""
        self.flowing.set()
        os.close(self.write)
        self._thread.join(30)


@dataclass(kw_only=True)
class Stage:
    """Everything that plays a part."""

    service: Service
    prometheus: Prometheus
    ears: Ears
    beats: Sink  # of the heartbeat
    traces: Collector
    pipe: Pipe
    proxy: FaultProxy
    database: sa.Engine  # past the proxy
    folder: Path
    monitoring: Path
    began: float
    client: httpx.Client
    alertmanager_port: int

    def get(self, path: str, **parameters: Any) -> httpx.Response | None:
        """Ask the service; whatever becomes of it is what the drill is about."""
        with suppress(httpx.HTTPError):
            return self.client.get(self.service.url + path, params=parameters)
        return None

    def ask(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """Ask the operations port."""
        return httpx.request(
            method,
            self.service.operations + path,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=20,
            **options,
        )

    def sql(self, *statements: str) -> None:
        """Do something at the database, past the service."""
        with self.database.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def mark(self, name: str) -> Path:
        """Return a file that the application looks for."""
        return self.folder / name

    def play(self, cause: Cause, patience_seconds: float) -> None:
        """Press until all its alerts have arrived, or the patience is over; then undo it."""
        ears, began = self.ears, time.time()
        for name in (*cause.alerts, *cause.later):
            # What still fires from before would be taken for this cause's.
            self._until(partial(ears.silent, name), patience_seconds)
        began = time.time()
        for name in (*cause.alerts, *cause.later):
            ears.told[name] = Told(began, cause.name, name in cause.later)
        over = threading.Event()
        cause.before(self)
        threads = [
            threading.Thread(target=self._press, args=(cause, over)) for _ in range(cause.at_once)
        ]
        for thread in threads:
            thread.start()
        try:
            told = [ears.told[name] for name in cause.alerts]
            self._until(lambda: all(one.arrived for one in told), patience_seconds)
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
            cause.after(self)
        for name in (*cause.alerts, *cause.later):
            ears.told[name].ended = time.time()

    def _press(self, cause: Cause, over: threading.Event) -> None:
        while not over.wait(cause.every_seconds):
            with suppress(httpx.HTTPError, OSError, sa.exc.SQLAlchemyError):
                cause.press(self)

    def beat_receiver(self) -> str:
        """Return who was told that the alarms work, once it was."""
        return str(self.beats.received.get(timeout=30)["receiver"])

    def until_resolved(self, names: Sequence[str], patience_seconds: float) -> None:
        """Wait until each of these that arrived is over, and those have come that come later."""
        told = [self.ears.told[name] for name in names]
        waited = [one for one in told if one.arrived or one.later]
        self._until(lambda: all(one.resolved for one in waited), patience_seconds)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                return False
            self.ears.listen(0.1)
        return True


@contextmanager
def staged(folder: Path, postgres_url: str) -> Iterator[Stage]:
    """Start everything: the database is at `postgres_url`, and is filled here."""
    url = make_url(postgres_url)
    prepared = prepare(postgres_url, directory=folder)
    engine = sa.create_engine(url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE drill_row (id int PRIMARY KEY, number int)"))
            connection.execute(sa.text("INSERT INTO drill_row VALUES (1, 0), (2, 0)"))
        sink = stack.enter_context(webhook_sink())
        own = stack.enter_context(webhook_sink())
        beats = stack.enter_context(webhook_sink())
        traces = stack.enter_context(collector())
        proxy = stack.enter_context(FaultProxy.in_thread(str(url.host), url.port or 5432))
        through = url.set(host=proxy.host, port=proxy.port)
        pipe = Pipe()
        stack.callback(pipe.close)
        service = stack.enter_context(
            started(
                f"{APPS / 'drilled.py'}:app",
                directory=folder,
                settings=brisk(check_interval="500ms", ready_check="drilled:is_well")
                + _SETTINGS
                + f'[traces]\nendpoint = "{traces.url}"\n',
                environ={
                    "DATABASE_URL": through.render_as_string(hide_password=False),
                    "SHIPWORTHY_DB__URL": postgres_url,
                    "SHIPWORTHY_LEDGER__KEY_PATH": str(prepared.key_path),
                    "SHIPWORTHY_ALERTS__WEBHOOK": f"http://127.0.0.1:{own.port}/",
                    "PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                },
                # So that a process can have most of what it may have open.
                before=("prlimit", "--nofile=1024:1024"),
                stdout=pipe.write,
            )
        ).until_ready()
        port = free_port()
        monitoring = folder / "monitoring"
        config = _config(
            folder, service, {**dict.fromkeys(RECEIVERS, sink.port), "heartbeat": beats.port}, port
        )
        _generate(config, monitoring, through)
        stack.enter_context(_alertmanager(monitoring, folder, port))
        prometheus = stack.enter_context(
            prometheus_on(
                program("prometheus", package="prometheus"),
                monitoring,
                config=(monitoring / "prometheus.yml").read_text(),
            )
        )
        client = stack.enter_context(httpx.Client(timeout=30))
        yield Stage(
            service=service,
            prometheus=prometheus,
            ears=Ears(sink),
            beats=beats,
            traces=traces,
            pipe=pipe,
            proxy=proxy,
            database=engine,
            folder=folder,
            monitoring=monitoring,
            began=time.time(),
            client=client,
            alertmanager_port=port,
        )


def _config(folder: Path, service: Service, ports: Mapping[str, int], alertmanager: int) -> Path:
    receivers = "\n".join(f'{name} = ["http://127.0.0.1:{port}/"]' for name, port in ports.items())
    config = folder / "monitoring.toml"
    config.write_text(
        f'[monitoring]\njob = "{JOB}"\nscale = {SCALE}\nscrape_interval = "1s"\n'
        f'targets = ["{service.operations.removeprefix("http://")}"]\n'
        f'alertmanagers = ["127.0.0.1:{alertmanager}"]\n{receivers}\n'
    )
    return config


def _generate(config: Path, into: Path, url: sa.URL) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shipworthy", "generate", "monitoring", into,
         "--config", config, "--import", "drilled"],
        cwd=config.parent,
        env={
            **os.environ,
            "PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "DATABASE_URL": url.render_as_string(hide_password=False),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _alertmanager(monitoring: Path, folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    log = (folder / "alertmanager.log").open("wb")
    process = subprocess.Popen(
        [
            program("prometheus-alertmanager", package="prometheus-alertmanager"),
            f"--config.file={monitoring / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        log.close()


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel, and how many numbers it had over the drill."""

    board: str
    title: str
    line: str
    expression: str
    samples: int


def asked(stage: Stage, until: float) -> list[Query]:
    """Ask Prometheus every query of every dashboard, over the whole drill."""
    found = []
    step = max(1.0, (until - stage.began) / 1000)
    for path in sorted((stage.monitoring / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                expression = (
                    target["expr"]
                    .replace("$__rate_interval", "5s")
                    .replace("$job", JOB)
                    .replace("$instance", ".+")
                )
                values = stage.prometheus.over(expression, stage.began, until, step)
                found.append(
                    Query(
                        path.stem,
                        panel["title"],
                        target["legendFormat"],
                        expression,
                        sum(map(len, values.values())),
                    )
                )
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """A panel in the service's own charts beside Prometheus: how many values agreed."""

    board: str
    title: str
    values: int
    agreed: int
    worst_ratio: float
    worst: str


def compared(stage: Stage, catalogue: Catalogue, *, seconds: float, times: int) -> list[Compared]:
    """Compare every panel, over windows of so many seconds, at so many times.

    The two look at different moments, up to a second apart. So what is asked is whether ours lies
    within 1 % of what Prometheus has within that second and a half. A time at which Prometheus got
    no answer is left out.
    """
    until = time.time() - 3
    ends = [until - 2 * number for number in range(times)]
    up = stage.prometheus.over(f'up{{job="{JOB}"}}', until - 2 * times - 3, until + 3, 0.25)
    down = [at for at, vector in up.items() if 0.0 in vector.values()]
    ends = [end for end in ends if not any(abs(end - at) <= _APART_SECONDS for at in down)]
    return [_compared(stage, panel, ends, seconds) for panel in catalogue.panels.values()]


def _compared(stage: Stage, panel: Panel, ends: list[float], seconds: float) -> Compared:
    values = agreed = 0
    worst, where = 0.0, ""
    for end in ends:
        chart = _chart(stage, panel, end, seconds)
        near = _near(stage, panel, end, chart["window_seconds"])
        for line in chart["lines"]:
            value = line["values"][-1]
            theirs = near.get(line["name"], [])
            if value is None and not theirs:
                continue
            values += 1
            apart = _apart(value, theirs)
            agreed += apart <= _CLOSE_RATIO
            if apart > worst:
                worst, where = apart, f"{line['name']}: {value} beside {min(theirs, default=None)}"
    return Compared(str(panel.board), panel.title, values, agreed, worst, where)


def _chart(stage: Stage, panel: Panel, end: float, seconds: float) -> Any:
    parameters = {
        "panel": panel.title,
        "since": datetime.fromtimestamp(end - seconds, UTC).isoformat(),
        "until": datetime.fromtimestamp(end, UTC).isoformat(),
        "points": 1,
    }
    return stage.ask("/api/series", params=parameters).json()


def _near(stage: Stage, panel: Panel, end: float, window: float) -> dict[str, list[float]]:
    """Return what Prometheus has for each line, within the time that the two may be apart."""
    found: dict[str, list[float]] = {}
    for name, of in panel.shows:
        query = promql(of, window=range_text(window), scope=Scope(matching=f'job="{JOB}"'))
        answer = stage.prometheus.over(query, end - _APART_SECONDS, end + _APART_SECONDS, 0.25)
        for vector in answer.values():
            for labels, value in vector.items():
                found.setdefault(name.format_map(dict(labels)), []).append(value)
    return found


def _apart(value: float | None, near: list[float]) -> float:
    if value is None or not near:
        return math.inf
    least, most = min(near), max(near)
    if least <= value <= most:
        return 0.0
    off = min(abs(value - least), abs(value - most))
    return off / max(abs(value), abs(least), abs(most))
