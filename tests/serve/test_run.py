"""`shipworthy run` from outside: what it serves, refuses and says."""

import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trustme
from launch import TRIALS, Diary, During, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_an_unmodified_app_is_served_and_leaves_cleanly(run: Run, diary: Diary) -> None:
    """Ids and probes around it, both halves of its lifespan, exit 0, quickly when idle."""
    with run() as service:
        service.until_ready()
        answer = service.get("/")
        probe = service.get("/readyz")
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert (answer.status_code, answer.text) == (200, "hello")
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert probe.status_code == 200
    assert code == 0
    assert took < 5
    assert diary() == ["start", "stop"]
    access = [line for line in service.lines() if line.get("path") == "/"]
    assert [line["request_id"] for line in access] == [answer.headers["x-request-id"]]


@pytest.mark.parametrize(
    ("files", "target", "sentence"),
    [
        ({}, "nothing_here:app", "there is no module 'nothing_here'"),
        ({"shop.py": "ap = 1"}, "shop:app", "has no attribute 'app'; did you mean 'ap'?"),
        ({"shop.py": "app = 1"}, "shop:app", "is no"),
        ({"shop.py": "import os\nraise OSError('no disk')"}, "shop:app", "OSError: no disk"),
    ],
    ids=["no module", "no attribute", "no app", "raises at import"],
)
def test_a_target_that_is_no_app_is_said_in_one_sentence(
    run: Run, tmp_path: Path, files: dict[str, str], target: str, sentence: str
) -> None:
    """Exit 3; the last line is ours and has no stack in it."""
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    with run(target) as service:
        code = service.ended()

    assert code == 3
    last = service.err.strip().splitlines()[-1]
    assert last.startswith("shipworthy: ")
    assert sentence in last
    assert ("Traceback" in service.err) == ("raise" in str(files))
    if "raise" in str(files):
        assert "shipworthy/serve" not in service.err


def test_misuse_of_the_command_line_is_exit_two(run: Run) -> None:
    """A target that cannot be one, or none at all."""
    with run("a b:c") as service:
        assert service.ended() == 2
    with run(None) as service:
        assert service.ended() == 2
    assert "no application was named" in service.err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("[serve]\nprot = 1\n", "port"),
        ("[serve\n", "shipworthy.toml"),
        ('[lifecycle]\ngrace = "1s"\n', "lifecycle.grace is 1s"),
        ('[serve]\ntls_cert = "x.pem"\n', "tls_key"),
        ('[serve]\ntls_cert = "x.pem"\ntls_key = "y.pem"\n', "there is no TLS file x.pem"),
    ],
    ids=["unknown key", "broken file", "impossible budget", "half of TLS", "no such file"],
)
def test_settings_that_cannot_be_used_are_exit_78(run: Run, settings: str, sentence: str) -> None:
    """Starting again would not help, so an orchestrator must not try."""
    with run(settings=settings) as service:
        code = service.ended()

    assert code == 78
    assert sentence in service.err
    assert "Traceback" not in service.err


def test_a_port_that_is_taken_is_said_with_the_option(run: Run) -> None:
    """Exit 3, for either port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run(TRIALS, "--port", str(port)) as service:
            code = service.ended()
        with run(TRIALS, "--ops-port", str(port)) as other:
            other_code = other.ended()

    assert (code, other_code) == (3, 3)
    assert f"127.0.0.1:{port} is in use" in service.err
    assert "--port" in service.err
    assert "--ops-port" in other.err


def test_clients_that_misbehave_harm_only_themselves(run: Run) -> None:
    """A 1 MB header, ids with line breaks, half a head at SIGTERM, a client that vanishes."""
    with run() as service:
        service.until_ready()
        with service.raw() as huge:
            _send_all(huge, b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 2**20 + b"\r\n\r\n")
            huge_answer = huge.recv(100)
        with service.raw() as smuggler:
            smuggler.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: evil id;<script>\r\n"
                b"Connection: close\r\n\r\n"
            )
            smuggled = b"".join(iter(lambda: smuggler.recv(4096), b""))
        gone = service.raw()
        gone.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        gone.close()
        half = service.raw()
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Never")
        alive = service.get("/")
        service.signal()
        code = service.ended()
        half.close()

    assert huge_answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert b"evil" not in smuggled
    assert smuggled.lower().count(b"x-request-id: ") == 1
    assert alive.text == "hello"
    assert code == 0


def test_a_handler_that_raises_says_nothing_outside_and_everything_in_the_log(run: Run) -> None:
    """Before the answer: a problem with the id. After it began: the connection ends early."""
    with run() as service:
        service.until_ready()
        answer = service.get("/raises")
        with service.raw() as late:
            late.sendall(b"GET /raises-late HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b"".join(iter(lambda: late.recv(4096), b""))
        service.signal()
        service.ended()

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["request_id"] == answer.headers["x-request-id"]
    for secret in ("s3cret", "postgresql", "Traceback", "trials.py", "RuntimeError"):
        assert secret not in answer.text
    assert b"first" in received
    assert not received.endswith(b"0\r\n\r\n")
    logged = [line for line in service.lines() if problem["request_id"] in str(line)]
    assert any("trials.py" in str(line) for line in logged)
    assert "s3cret" not in service.out + service.err
    assert "too late for a status" in service.out


def test_a_unix_socket_serves_and_is_removed(run: Run, tmp_path: Path) -> None:
    """`--uds`."""
    path = tmp_path / "app.sock"
    with run(TRIALS, "--uds", str(path)) as service:
        service.until_ready()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            text = client.get("http://x/").text
        service.signal()
        code = service.ended()

    assert (text, code) == ("hello", 0)
    assert not path.exists()


def test_tls_files_serve_https(run: Run, tmp_path: Path) -> None:
    """`--tls-cert` and `--tls-key`; the plain client of before gets no answer."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with run(TRIALS, *files) as service:
        service.until_ready()
        answer = service.get("/", verify=context)
        slow = During(service, "/slow?seconds=1", verify=context)
        service.until(lambda: "slow began" in (tmp_path / "diary.txt").read_text())
        service.signal()
        code = service.ended()

    assert service.url.startswith("https://")
    assert answer.text == "hello"
    assert (slow.result().text, slow.result().headers["connection"]) == ("slow", "close")
    assert code == 0


def test_without_a_target_the_project_names_it(run: Run, tmp_path: Path) -> None:
    """`[tool.fastapi] entrypoint`."""
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "shop:app"\n')
    (tmp_path / "shop.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    with run(None) as service:
        service.until_ready()
        assert service.get("/openapi.json").status_code == 200


def test_the_apps_own_probe_wins_and_a_warning_says_so(run: Run, tmp_path: Path) -> None:
    """Where names collide the app keeps its route; the operations port has ours."""
    (tmp_path / "shop.py").write_text(
        "from fastapi import FastAPI\napp = FastAPI()\n"
        "@app.get('/livez')\ndef livez():\n    return 'mine'\n"
    )
    with run("shop:app") as service:
        service.until_ready()
        own = service.get("/livez")
        ours = service.get("/readyz")
        service.signal()
        service.ended()

    assert own.json() == "mine"
    assert ours.status_code == 200
    assert "web.probe_route_taken" in service.out


def _send_all(sock: socket.socket, data: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
