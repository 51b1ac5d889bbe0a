"""Behind nginx and HAProxy, as the page tells to set them up, the client is the client.

All of it on one machine, whose addresses tell who is who: the proxies call from 127.0.0.1, clients
from 127.0.0.3, and one who is no proxy from 127.0.0.2.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

import services
from flows.balancers import program
from serve.launch import Service, brisk, started

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "behind-a-proxy.md").read_text()
APP = f"{Path(__file__).parent / 'apps' / 'seen.py'}:app"
SETTINGS = (
    brisk()
    + """
[client]
trusted_proxies = ["127.0.0.1"]
header = "x-forwarded-for"
[hosts]
mode = "enforce"
allowed = ["shop.example", "127.0.0.1"]
[https]
mode = "report"
"""
)
CLIENT, STRANGER = "127.0.0.3", "127.0.0.2"
FORGED = (
    "X-Forwarded-For: 6.6.6.6, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
    "X-Forwarded-Host: evil.example\r\nForwarded: for=6.6.6.6;proto=https\r\n"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@dataclass
class Stage:
    """A service, and the ports of what stands in front of it."""

    service: Service
    nginx: int
    haproxy: int

    def direct(self) -> int:
        return int(self.service.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, debian: Callable[[str, str], str]
) -> Iterator[Stage]:
    """One start for all: what is claimed is claimed of requests."""
    folder = tmp_path_factory.mktemp("proxies")
    ports = {"nginx": services.free_port(), "haproxy": services.free_port()}
    with ExitStack() as stack:
        service = stack.enter_context(
            started(
                APP,
                directory=folder,
                settings=SETTINGS,
                environ={"SHIPWORTHY_ENV": "staging"},
            )
        )
        service.until_ready()
        made = Stage(service, **ports)
        for name, options in (("nginx", ["-e", f"{folder}/error.log", "-c"]), ("haproxy", ["-f"])):
            config = folder / f"{name}.conf"
            config.write_text(_as_on_the_page(name, ports[name], made.direct(), folder))
            command = [debian(name, name), *options, str(config)]
            stack.enter_context(program(*command, log=folder / f"{name}.log"))
            service.until(lambda port=ports[name]: _listens(port))
        yield made


def _as_on_the_page(name: str, port: int, behind: int, folder: Path) -> str:
    # There is no lexer for HAProxy's language.
    fence = {"haproxy": "text\ndefaults"}.get(name, name)
    (text,) = re.findall(rf"(?ms)^```{fence}\n(.*?)```", PAGE)
    text = f"defaults\n{text}" if name == "haproxy" else text
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    if name == "haproxy":
        return text.replace("bind :80", f"bind 127.0.0.1:{port}")
    places = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n"
        f"{text.replace('listen 80', f'listen 127.0.0.1:{port}')} }}\n"
    )


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def seen(port: int, headers: str = "", *, address: str = CLIENT) -> dict[str, Any]:
    """Ask, byte by byte, from an address of the test's own."""
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(address, 0)) as sock:
        request = f"GET /seen HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{headers}\r\n"
        sock.sendall(request.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    found: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    return found


@pytest.mark.parametrize("front", ["nginx", "haproxy"])
def test_behind_a_proxy_the_client_is_who_called_it_whatever_it_sends(
    stage: Stage, front: str
) -> None:
    """In the application and in the record, with what a client may forge and without."""
    for headers in ("", FORGED, f"{FORGED}{FORGED}"):
        assert seen(getattr(stage, front), headers) == {
            "client": CLIENT,
            "record": CLIENT,
            "scheme": "http",
            "host": "shop.example",
        }


def test_who_is_no_proxy_is_never_believed(stage: Stage) -> None:
    """Past the proxies, with the headers that they write."""
    found = seen(stage.direct(), FORGED, address=STRANGER)

    assert (found["client"], found["record"], found["scheme"]) == (STRANGER, STRANGER, "http")
    stage.service.until(lambda: stage.service.events("web.forwarded_ignored"))
    (said,) = stage.service.events("web.forwarded_ignored")
    assert said["because"] == f"{STRANGER} is no proxy of [client]"


@pytest.mark.parametrize(
    ("headers", "client", "scheme"),
    [
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", "http"),
        (
            "X-Forwarded-For: [2001:DB8::1]:443\r\nX-Forwarded-Proto: https\r\n",
            "2001:db8::1",
            "https",
        ),
        (f"X-Forwarded-For: {'6.6.6.6,' * 3_000}192.0.2.1\r\n", "192.0.2.1", "http"),
        ("X-Forwarded-For: 6.6.6.6, unknown\r\n", "127.0.0.1", "http"),
        ("", "127.0.0.1", "http"),
    ],
)
def test_what_a_proxy_writes_is_read_from_the_right(
    stage: Stage, headers: str, client: str, scheme: str
) -> None:
    """The access line, the record and the application have the same client."""
    found = seen(stage.direct(), headers, address="127.0.0.1")

    assert (found["client"], found["record"], found["scheme"]) == (client, client, scheme)
    lines = stage.service.lines
    stage.service.until(lambda: client in [line.get("client") for line in lines()])


def test_a_websocket_has_the_same_client(stage: Stage) -> None:
    """And the scheme of its own."""
    headers = {"X-Forwarded-For": "6.6.6.6, 192.0.2.9", "X-Forwarded-Proto": "https"}
    url = f"ws://127.0.0.1:{stage.direct()}/seen"
    with connect(url, additional_headers=headers, proxy=None) as websocket:
        assert json.loads(websocket.recv(10)) == ["192.0.2.9", "wss"]


def test_a_host_that_is_none_is_refused_told_and_counted(stage: Stage) -> None:
    """With the application unchanged; so is what came over http, where that is only told.

    What is no host at all does not come so far under `run`: the protocol's guard refuses it.
    """
    service = stage.service
    statuses = [
        service.get("/seen", headers={"Host": host}).status_code
        for host in ("shop.example", "evil.example", "a@b")
    ]
    counts = service.metrics()

    assert statuses == [200, 421, 400]
    for labels in ('guard="host",rule="unlisted"', 'guard="protocol",rule="host"'):
        assert f'shipworthy_blocked_total{{{labels},mode="enforce"}} 1' in counts
    plain = re.search(r'blocked_total{guard="https",rule="plain",mode="report"} (\d+)', counts)
    assert plain is not None
    assert int(plain[1]) > 0
    service.until(lambda: len(service.events("web.request_blocked")) >= 3)
