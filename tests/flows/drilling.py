"""The drill: a service, Prometheus and Alertmanager, and somebody who breaks one thing at a time.

What the test and the evidence share. Time runs 60 times as fast for the rules, in most places: a
window of five minutes is one of five seconds. The causes are in `drill_causes.py`, what is shown
and compared afterwards in `drill_compared.py`.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from queue import Empty
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy import make_url

from alert_sinks import Sink, webhook_sink
from flows.drill_neighbours import Neighbours, with_neighbours
from flows.drill_walls import Walls, walls_in
from otlp_receiver import Collector, collector
from prometheus_server import Prometheus, prometheus_on
from serve.launch import TOKEN, Service, brisk, started
from services import free_port, program
from shipworthy.demo.prepare import prepare
from shipworthy.deploy import MonitoringSettings, monitoring_files, write_folder
from shipworthy.events import Catalogue
from shipworthy.faults import FaultProxy
from shipworthy.serve import service_catalogue
from shipworthy.settings import load

SCALE = 60.0
JOB = "drilled"
APPS = Path(__file__).parent / "apps"
# Causes that are played at a time: more would only have each wait for the CPU.
_AT_ONCE = 8
# As good as for ever.
REFUSALS = 10_000
# It cannot be evaluated while `drill_many` is 1 for more than one label set.
_UNEVALUABLE = f"""
groups:
  - name: drill
    rules:
      - record: drill_one
        expr: vector(1) * on () (drill_many{{job="{JOB}"}} == 1)
"""
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
again = "1s"
timeout = "1s"
[db]
checkout = "500ms"
connect = "1s"
statement = "1s"
statement_warn = "100ms"
leak_after = "1s"
[actor]
from = ["header:X-User"]
[client]
trusted_proxies = ["127.0.0.1", "::1"]
[audit]
exclude = ["alembic_version", "drill_row"]
check_interval = "1s"
[ledger]
anchor_log = false
recheck_entries = 5000
[log]
format = "json"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What makes alerts fire: pressed again and again, by so many at once, until they arrived.

    `alerts` must arrive while it lasts; `later` are those that another alert keeps silent, which
    arrive when that one is over, as do those that are `endless` here: their windows are so long
    that the drill is over before. What `uses` the same is not done at the same time, and nothing is
    beside what is done `alone`.
    """

    name: str
    alerts: tuple[str, ...]
    later: tuple[str, ...] = ()
    endless: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    alone: bool = False
    press: Callable[["Stage"], object] = lambda _: None
    every_seconds: float = 0.05
    at_once: int = 1
    before: Callable[["Stage"], object] = lambda _: None
    after: Callable[["Stage"], object] = lambda _: None

    @property
    def every(self) -> tuple[str, ...]:
        """Return all alerts that it is for."""
        return (*self.alerts, *self.later, *self.endless)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A service and those who watch it, as certain causes need them: the rest has the usual one.

    `prepare` is done to its folder before it starts, `look_through_proxy` has whoever looks at the
    trail meet the faults, and within `walls` it has a control group and a disk that are played.
    `narrow` writes the alerts of these causes only: at such a scale the windows of others would be
    shorter than four scrapes, which is refused.
    """

    name: str = "usual"
    scale: float = SCALE
    environ: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] = lambda _: None
    look_through_proxy: bool = False
    walls: bool = False
    narrow: bool = False
    causes: tuple[Cause, ...] = ()
    patience_seconds: float = 60.0
    resolving_seconds: float = 60.0

    @property
    def alerts(self) -> list[str]:
        """Return the alerts of its causes."""
        return [name for cause in self.causes for name in cause.every]


USUAL = Place()


@dataclass(slots=True)
class Told:
    """What arrived of one alert since its cause began; times are Unix seconds."""

    began: float
    cause: str
    later: bool = False
    endless: bool = False
    said: str = ""
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
                told.said = alert["annotations"]["summary"]
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


class Act:
    """One cause while it is played, in threads of its own: it begins at once."""

    def __init__(
        self, cause: Cause, stage: "Stage", *, patience_seconds: float, pool: Executor
    ) -> None:
        self.cause = cause
        self._stage = stage
        self._patience_seconds = patience_seconds
        began = time.time()
        self._told = {name: Told(began, cause.name) for name in cause.alerts}
        later = {name: Told(began, cause.name, later=True) for name in cause.later}
        endless = {name: Told(began, cause.name, endless=True) for name in cause.endless}
        self._all = self._told | later | endless
        stage.ears.told |= self._all
        self._over = threading.Event()
        self._done = pool.submit(self._run)

    def is_over(self) -> bool:
        """Say whether it is undone, as it is once all has arrived; raises what it raised."""
        if all(one.arrived for one in self._told.values()):
            self._over.set()
        if not self._done.done():
            return False
        self._done.result()
        return True

    def _run(self) -> None:
        cause = self.cause
        cause.before(self._stage)
        threads = [threading.Thread(target=self._press) for _ in range(cause.at_once)]
        for thread in threads:
            thread.start()
        try:
            self._over.wait(self._patience_seconds)
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)
            cause.after(self._stage)
            for one in self._all.values():
                one.ended = time.time()

    def _press(self) -> None:
        while not self._over.wait(self.cause.every_seconds):
            with suppress(httpx.HTTPError, OSError, sa.exc.SQLAlchemyError):
                self.cause.press(self._stage)


@dataclass(kw_only=True)
class Stage:
    """Everything that plays a part."""

    service: Service
    prometheus: Prometheus
    ears: Ears
    beats: Sink  # of the heartbeat
    own: Sink  # which the service itself tells of alerts, and which refuses at first
    traces: Collector
    neighbours: Neighbours
    pipe: Pipe
    proxy: FaultProxy
    database: sa.Engine  # past the proxy
    folder: Path
    monitoring: Path
    began: float
    client: httpx.Client
    alertmanager_port: int
    walls: Walls | None

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

    def play(self, causes: Sequence[Cause], patience_seconds: float) -> None:
        """Play all of them in their order, several at a time; each until its alerts arrived.

        What is played alone begins when those before it are over. After so much patience a cause
        is over whatever arrived.
        """
        waiting, acts, began = list(causes), list[Act](), time.monotonic()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while waiting or acts:
                self.ears.listen(0.05)
                impatient = time.monotonic() - began > patience_seconds
                for cause in list(waiting):
                    if self._may_begin(cause, acts, impatient=impatient):
                        waiting.remove(cause)
                        acts.append(Act(cause, self, patience_seconds=patience_seconds, pool=pool))
                        began = time.monotonic()
                    elif cause.alone:
                        break
                acts = [act for act in acts if not act.is_over()]

    def _may_begin(self, cause: Cause, acts: Sequence[Act], *, impatient: bool) -> bool:
        if len(acts) >= (1 if cause.alone else _AT_ONCE) or any(act.cause.alone for act in acts):
            return False
        if any(set(cause.uses) & set(act.cause.uses) for act in acts):
            return False
        # What still fires from before would be taken for this cause's.
        return impatient or all(map(self.ears.silent, cause.every))

    def beat_receiver(self) -> str:
        """Return who was told that the alarms work, once it was."""
        return str(self.beats.received.get(timeout=30)["receiver"])

    def until_resolved(self, names: Sequence[str], patience_seconds: float) -> None:
        """Wait until each of these that arrived is over, and those have come that come later."""
        told = [self.ears.told[name] for name in names]
        ending = [one for one in told if (one.arrived or one.later) and not one.endless]
        endless = [one for one in told if one.endless]
        self.until(
            lambda: all(one.resolved for one in ending) and all(one.arrived for one in endless),
            patience_seconds,
        )

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Listen until it is so; False where it is not within that time."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                return False
            self.ears.listen(0.1)
        return True


@contextmanager
def staged(folder: Path, postgres_url: str, place: Place = USUAL) -> Iterator[Stage]:
    """Start everything: the database is at `postgres_url`, and is filled here."""
    url = make_url(postgres_url)
    place.prepare(folder)
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
        own.answers.queue.extend([500] * REFUSALS)
        neighbours = stack.enter_context(with_neighbours())
        proxy = stack.enter_context(FaultProxy.in_thread(str(url.host), url.port or 5432))
        through = url.set(host=proxy.host, port=proxy.port)
        pipe = Pipe()
        stack.callback(pipe.close)
        walls = stack.enter_context(walls_in(folder)) if place.walls else None
        service = stack.enter_context(
            started(
                f"{APPS / 'drilled.py'}:app",
                directory=folder,
                settings=brisk(check_interval="500ms", ready_check="drilled:is_well") + _SETTINGS,
                environ={
                    "DATABASE_URL": through.render_as_string(hide_password=False),
                    "DRILL_PAST_URL": postgres_url,
                    "SHIPWORTHY_DB__URL": (
                        through.render_as_string(hide_password=False)
                        if place.look_through_proxy
                        else postgres_url
                    ),
                    "SHIPWORTHY_LEDGER__KEY_PATH": str(prepared.key_path),
                    "SHIPWORTHY_ALERTS__WEBHOOK": f"http://127.0.0.1:{own.port}/",
                    "SHIPWORTHY_TRACES__ENDPOINT": traces.url,
                    "PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                    **({"SHIPWORTHY_RESOURCES__DISK_PATH": str(walls.disk)} if walls else {}),
                    **place.environ,
                },
                # So that a process can have most of what it may have open.
                before=(*(walls.before if walls else ()), "prlimit", "--nofile=1024:1024"),
                stdout=pipe.write,
            )
        ).until_ready()
        port = free_port()
        monitoring = folder / "monitoring"
        config = _config(
            folder,
            {**dict.fromkeys(RECEIVERS, sink.port), "heartbeat": beats.port},
            targets=(service.operations.removeprefix("http://"), neighbours.address),
            alertmanagers=(f"127.0.0.1:{port}", neighbours.address),
            scale=place.scale,
        )
        if place.narrow:
            _generate_narrow(config, monitoring, place.alerts)
        else:
            _generate(config, monitoring, through)
        (monitoring / "rules" / "drill.yml").write_text(_UNEVALUABLE)
        stack.enter_context(_alertmanager(monitoring, folder, port))
        prometheus = stack.enter_context(
            prometheus_on(
                program("prometheus", package="prometheus"),
                monitoring,
                # Else an alert of its first seconds, when it knows no Alertmanager yet, waits for
                # a minute.
                "--rules.alert.resend-delay=5s",
                config=(monitoring / "prometheus.yml").read_text(),
            )
        )
        client = stack.enter_context(httpx.Client(timeout=30))
        yield Stage(
            service=service,
            prometheus=prometheus,
            ears=Ears(sink),
            beats=beats,
            own=own,
            traces=traces,
            neighbours=neighbours,
            pipe=pipe,
            proxy=proxy,
            database=engine,
            folder=folder,
            monitoring=monitoring,
            began=time.time(),
            client=client,
            alertmanager_port=port,
            walls=walls,
        )


def _config(
    folder: Path,
    ports: Mapping[str, int],
    *,
    targets: Sequence[str],
    alertmanagers: Sequence[str],
    scale: float,
) -> Path:
    receivers = "\n".join(f'{name} = ["http://127.0.0.1:{port}/"]' for name, port in ports.items())
    config = folder / "monitoring.toml"
    config.write_text(
        f'[monitoring]\njob = "{JOB}"\nscale = {scale}\nscrape_interval = "1s"\n'
        f"targets = {[*targets]}\nalertmanagers = {[*alertmanagers]}\n{receivers}\n"
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
            "DRILL_PAST_URL": url.render_as_string(hide_password=False),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _generate_narrow(config: Path, into: Path, alerts: Sequence[str]) -> None:
    every, narrow = service_catalogue(), Catalogue()
    narrow.add(*every.panels.values(), *(every.alerts[name] for name in alerts))
    settings = load(file=config, environ={}).of(MonitoringSettings)
    write_folder(into, monitoring_files(narrow, settings, targets=()))


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
