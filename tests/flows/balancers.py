"""Services behind real balancers, and clients that see what a restart costs.

HAProxy forwards connections (`l4`) and requests (`l7`), nginx requests (`nginx`): all three at the
same time in front of the same two services. Written once for the tests and for the evidence.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import services
from flows.steady import Steady, Tally
from serve.launch import TRIALS, Service, brisk, started
from shipworthy.faults import Delay, FaultProxy

# nginx's `fail_timeout` below, and a little: who restarts the second service sooner leaves nginx
# with none that it trusts.
TAKEN_BACK_SECONDS = 1.2
FRONTS = ("l4", "l7", "nginx")
CLIENTS = 20
# HAProxy asks five times a second, so it has seen two failures before the lame duck is over.
# nginx as Debian has it does not ask, and needs `Connection: close` and its second try.
SETTINGS = brisk(lame_duck="800ms", idle_grace="500ms", drain="3s")

HAPROXY = """
global
  maxconn 500
  stats socket {directory}/stats mode 600
defaults
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout http-keep-alive 30s
  # Without it a check has only its interval to be answered in, and a busy moment looks like an end.
  timeout check 2s
  retries 3
  option redispatch 1
  option httpchk GET {check}
  default-server check inter 200ms fall 2 rise 1
frontend connections
  mode tcp
  bind 127.0.0.1:{l4}
  default_backend orders_connections
backend orders_connections
  mode tcp
  balance roundrobin
  server one 127.0.0.1:{one}
  server two 127.0.0.1:{two}
frontend requests
  mode http
  bind 127.0.0.1:{l7}
  default_backend orders_requests
backend orders_requests
  mode http
  balance roundrobin
  http-reuse safe
  server one 127.0.0.1:{one}
  server two 127.0.0.1:{two}
"""
NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 500; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream orders {{
    server 127.0.0.1:{one} max_fails=1 fail_timeout=1s;
    server 127.0.0.1:{two} max_fails=1 fail_timeout=1s;
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{nginx};
    location / {{
      proxy_pass http://orders;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


Find = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to run it: our settings, and how the clients behave.

    `requests` are answered between two restarts, to all clients together; `rounds` are how often
    each service is started anew. `away_seconds` is how far the services are from the balancers,
    one way. `bare` is uvicorn in place of `shipworthy run`.
    """

    settings: str = SETTINGS
    pause_seconds: float = 0.05
    requests: int = 500
    rounds: int = 1
    away_seconds: float = 0.0
    together: bool = False
    bare: bool = False


@contextmanager
def program(*command: str, log: Path) -> Iterator[None]:
    """Run a server in the foreground until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def balancers(
    find: Find, directory: Path, ports: Mapping[str, int], *, check: str = "/readyz"
) -> Iterator[None]:
    """Run HAProxy and nginx in front of the ports `one` and `two`."""
    with ExitStack() as stack:
        for name, text, options in (
            ("haproxy", HAPROXY, ["-db", "-f"]),
            ("nginx", NGINX, ["-e", f"{directory}/error.log", "-c"]),
        ):
            config = directory / f"{name}.conf"
            config.write_text(text.format(directory=directory, check=check, **ports))
            command = [find(name, name), *options, str(config)]
            stack.enter_context(program(*command, log=directory / f"{name}.log"))
        yield


def restarted(find: Find, directory: Path, case: Case) -> dict[str, Tally]:
    """Start all of it, end each service by SIGTERM and start it again, and count by front."""
    ports = {name: services.free_port() for name in ("one", "two", *FRONTS)}

    def start(name: str) -> Service:
        folder = directory / name
        folder.mkdir(exist_ok=True)
        return stack.enter_context(_serving(folder, ports[name], case))

    with ExitStack() as stack:
        running = {name: start(name) for name in ("one", "two")}
        for name, service in running.items():
            _until_ready(service, ports[name], case)
        behind = dict(ports)
        if case.away_seconds:
            for name in running:
                proxy = stack.enter_context(FaultProxy.in_thread("127.0.0.1", ports[name]))
                proxy.apply(Delay(case.away_seconds))
                behind[name] = proxy.port
        stack.enter_context(
            balancers(find, directory, behind, check="/" if case.bare else "/readyz")
        )
        load = Steady(
            [ports[front] for front in FRONTS],
            clients=CLIENTS,
            pause_seconds=case.pause_seconds,
            together=case.together,
            settle=True,
        )
        with load:
            for _ in range(case.rounds):
                for name, service in list(running.items()):
                    _more(service, load, case.requests)
                    service.signal()
                    service.ended()
                    running[name] = start(name)
                    _until_ready(running[name], ports[name], case)
            _more(running["two"], load, case.requests)
    return {front: load.tallies[ports[front]] for front in FRONTS}


def _serving(folder: Path, port: int, case: Case) -> AbstractContextManager[Service]:
    if not case.bare:
        return started(TRIALS, "--port", str(port), directory=folder, settings=case.settings)
    path = Path(TRIALS.partition(":")[0])
    command = ["-m", "uvicorn", f"--app-dir={path.parent}", f"--port={port}", f"{path.stem}:app"]
    return started(None, directory=folder, before=[sys.executable, "-c", _INSTEAD, *command])


# What `started` would run comes after our own words; it is dropped.
_INSTEAD = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:6]])"


def _until_ready(service: Service, port: int, case: Case) -> None:
    if not case.bare:
        service.until_ready()
        return

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        except httpx.HTTPError:
            return False

    service.until(answers)


def _more(service: Service, load: Steady, requests: int) -> None:
    """Wait until the balancers have taken back what they had given up, and have used it."""
    enough, taken_back_at = load.answered() + requests, time.monotonic() + TAKEN_BACK_SECONDS
    service.until(lambda: load.answered() >= enough and time.monotonic() >= taken_back_at)
