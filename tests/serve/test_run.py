"""`shipworthy run` from outside: what it serves, refuses and says."""

import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trustme
from launch import TRIALS, Diary, During, Run

from shipworthy import serve

Refused = Callable[..., tuple[int, str]]

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
        ({"shop.py": "app = 1"}, "shop:app", "of type int and no application"),
    ],
    ids=["no module", "no app"],
)
def test_a_target_that_is_no_app_is_said_in_one_sentence(
    run: Run, tmp_path: Path, files: dict[str, str], target: str, sentence: str
) -> None:
    """Exit 3, and no stack; the other sentences are in test_target.py."""
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    with run(target, "--workers", "2") as service:
        code = service.ended()

    assert code == 3
    (last,) = service.err.strip().splitlines()
    assert last.startswith("shipworthy: ")
    assert sentence in last


def test_an_app_that_raises_at_import_shows_its_lines_no_secret_and_steers_no_terminal(
    run: Run, tmp_path: Path
) -> None:
    """Its stack, and our sentence under it; in neither what a DSN or an escape sequence says."""
    (tmp_path / "shop.py").write_text(
        "raise OSError('postgresql://shop:s3cret@db/shop \\x1b]0;owned\\x07 \\x9b2J\\rgone')\n"
    )
    with run("shop:app") as service:
        code = service.ended()

    assert code == 3
    stack, _, sentence = service.err.strip().rpartition("\n")
    assert stack.startswith("Traceback ")
    assert "shop.py" in stack
    assert "shipworthy/serve" not in stack
    assert sentence.startswith("shipworthy: 'shop:app': importing 'shop' raised ")
    for said in (stack, sentence):
        assert "OSError: postgresql://shop:***@db/shop \\x1b]0;owned\\x07 \\x9b2J" in said
    said = service.err + service.out
    assert "s3cret" not in said
    assert said.replace("\n", "").isprintable()


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Refused]:
    """Run in this process what must end before there is another: the code, and what it says."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(tmp_path)

    def call(target: str | None, *, settings: str = "") -> tuple[int, str]:
        (tmp_path / "shipworthy.toml").write_text(settings)
        ports = {"serve.port": "0", "operations.port": "0"}
        code = serve.run(serve.RunOptions(target=target, overrides=ports))
        return code, capsys.readouterr().err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def test_misuse_of_the_command_line_is_exit_two(refused: Refused) -> None:
    """A target that cannot be one, or none at all."""
    assert refused("a b:c")[0] == 2
    code, said = refused(None)
    assert code == 2
    assert "no application was named" in said


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ("[serve]\nprot = 1\n", ["port"]),
        ("[serve\n", ["shipworthy.toml"]),
        (
            '[lifecycle]\ngrace = "1s"\n[serve]\ntls_cert = "x.pem"\n',
            ["lifecycle.grace is 1s", "tls_key"],
        ),
        ('[serve]\nwedged = "1s"\n', ["serve.wedged is 1s", "raise it to 2s"]),
        ("[serve]\nworkers = -1\n", ["serve.workers"]),
        ('[serve]\ntls_cert = "x.pem"\ntls_key = "y.pem"\n', ["there is no TLS file x.pem"]),
    ],
    ids=[
        "unknown key",
        "broken file",
        "impossible budget and half of TLS",
        "every loop is wedged",
        "fewer than no worker",
        "no such file",
    ],
)
def test_settings_that_cannot_be_used_are_exit_78(
    refused: Refused, settings: str, sentences: list[str]
) -> None:
    """Starting again would not help, so an orchestrator must not try. All is said, and once."""
    code, said = refused("shop:app", settings=settings)

    assert code == 78
    lines = said.splitlines()
    assert len(set(lines)) == len(lines), said
    assert all(sentence in said for sentence in sentences), said
    assert "Traceback" not in said


def test_clients_and_handlers_that_misbehave_harm_only_themselves(run: Run) -> None:
    """A 1 MB header, ids with line breaks, half a head at SIGTERM, a client that vanishes.

    A handler that raises says nothing outside and everything in the log; before its answer that
    is a problem with the id, and after it began the connection ends early.
    """
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
        raised = service.get("/raises")
        with service.raw() as late:
            late.sendall(b"GET /raises-late HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b"".join(iter(lambda: late.recv(4096), b""))
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
    assert raised.status_code == 500
    assert raised.headers["content-type"] == "application/problem+json"
    problem = raised.json()
    assert problem["request_id"] == raised.headers["x-request-id"]
    for secret in ("s3cret", "postgresql", "Traceback", "trials.py", "RuntimeError"):
        assert secret not in raised.text
    assert b"first" in received
    assert not received.endswith(b"0\r\n\r\n")
    logged = [line for line in service.lines() if problem["request_id"] in str(line)]
    assert any("trials.py" in str(line) for line in logged)
    assert "s3cret" not in service.out + service.err
    assert "too late for a status" in service.out


def test_what_an_application_does_beside_the_guards_is_said_when_it_has_started(
    run: Run, tmp_path: Path
) -> None:
    """Also of what it imports in its own start-up: before, there is nothing to be seen of it."""
    (tmp_path / "shop.py").write_text(
        "from contextlib import asynccontextmanager\nfrom fastapi import FastAPI\n"
        "@asynccontextmanager\nasync def life(app):\n"
        "    import httpx\n"
        "    class Tunnel(httpx.BaseTransport): ...\n"
        "    app.state.tunnel = Tunnel\n"
        "    from django.conf import settings\n"
        "    settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3'}})\n"
        "    yield\n"
        "app = FastAPI(lifespan=life)\n"
    )
    with run("shop:app") as service:
        service.until_ready()
        service.signal()
        service.ended()

    said = {line.get("event"): line.get("what", "") for line in service.lines()}
    assert said["db.databases_unguarded"].startswith("Django's ORM has a way of its own")
    assert "Tunnel sends in a way of its own" in said["outbound.calls_unguarded"]


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


def test_without_a_target_the_project_names_it_and_its_own_probe_wins(
    run: Run, tmp_path: Path
) -> None:
    """`[tool.fastapi] entrypoint`.

    Where names collide the app keeps its route and a warning says so; our others are there.
    """
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "shop:app"\n')
    (tmp_path / "shop.py").write_text(
        "from fastapi import FastAPI\napp = FastAPI()\n"
        "@app.get('/livez')\ndef livez():\n    return 'mine'\n"
    )
    with run(None) as service:
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
