"""The other side of the port: how a command asks, and what it says when it cannot."""

import http.server
import json
import socket
import threading
from contextlib import contextmanager

import pytest

from shipworthy.errors import Misuse
from shipworthy.operations import OperationsClient, PortRefused, PortUnreachable


@contextmanager
def port(status, body, *, headers=()):
    """A port that answers everything so, and notes what it was asked."""
    asked = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("content-length", 0))
            asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_): ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status, detail):
    """The body of a problem."""
    return json.dumps({"status": status, "detail": detail}).encode()


def test_a_question_carries_the_token_and_its_body():
    """GET without a body, POST with JSON; the answer is what the JSON says."""
    with port(200, b'{"well": true}') as (url, asked):
        client = OperationsClient(url, "t0k")
        answers = [
            client.ask("/api/breakers"),
            client.ask("/api/breakers/a b?/close", method="POST", body={"because": "x"}),
        ]

    assert answers == [{"well": True}] * 2
    (method, path, headers, body), (method2, path2, headers2, body2) = asked
    assert (method, path, body) == ("GET", "/api/breakers", b"")
    assert headers["Authorization"] == headers2["Authorization"] == "Bearer t0k"
    assert (method2, path2, body2) == ("POST", "/api/breakers/a%20b%3F/close", b'{"because":"x"}')
    assert headers2["Content-Type"] == "application/json"


def test_without_a_token_none_is_sent():
    """The port says that one is needed."""
    with port(200, b"{}") as (url, asked):
        OperationsClient(url).ask("/")

    assert "Authorization" not in asked[0][2]


def test_a_proxy_of_the_environment_never_sees_the_token(monkeypatch):
    """The operations port is asked, and nobody else."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with port(200, b"{}") as (url, asked):
        OperationsClient(url, "t0k").ask("/")

    assert len(asked) == 1


def test_a_redirect_is_not_followed():
    """No operations port redirects, and the token must not go elsewhere."""
    with (
        port(302, b"", headers=[("Location", "http://127.0.0.1:1/")]) as (url, asked),
        pytest.raises(PortUnreachable, match="answers 302 at /api/breakers, as no operations"),
    ):
        OperationsClient(url, "t0k").ask("/api/breakers")

    assert len(asked) == 1


def test_nobody_there_is_said_with_the_address():
    """The sentence names who was asked, and what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    with pytest.raises(PortUnreachable) as caught:
        OperationsClient(url, "t0k").ask("/")

    assert str(caught.value) == (
        f"nobody answers as an operations port at {url}: Connection refused; is the service "
        f"running, and is this its address (--ops)?"
    )


def test_somebody_who_says_nothing_is_not_waited_for(monkeypatch):
    """A port that takes the connection and is silent."""
    monkeypatch.setattr("shipworthy.operations.client.ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PortUnreachable, match=r"no answer within 0\.05 s"):
            OperationsClient(url).ask("/")


@pytest.mark.parametrize("body", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_what_does_not_speak_http_is_no_operations_port(body):
    """The reason is the protocol's."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(body)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PortUnreachable, match="nobody answers as an operations port"):
            OperationsClient(f"http://127.0.0.1:{other.getsockname()[1]}").ask("/")
        thread.join()


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (404, b"<html>"), (500, b"[]")])
def test_a_page_of_something_else_is_no_operations_port(status, body):
    """The application's own port, for one."""
    with port(status, body) as (url, _), pytest.raises(PortUnreachable, match=f"answers {status}"):
        OperationsClient(url).ask("/api/breakers")


def test_a_wrong_token_is_said_with_where_to_set_it():
    """And is not shown."""
    body = problem(401, "the token sent is not the operations token")
    with port(401, body) as (url, _), pytest.raises(Misuse) as caught:
        OperationsClient(url, "wr0ng").ask("/")

    assert str(caught.value) == (
        f"{url} answers: the token sent is not the operations token; set operations.token as the "
        f"service has it, or give it with --token"
    )


@pytest.mark.parametrize("status", [400, 404, 421, 422])
def test_what_was_asked_wrongly_is_misuse_in_the_words_of_the_port(status):
    """Without control characters, whoever wrote them."""
    body = problem(status, "there is no breaker '\x1b[2Jx'")
    with port(status, body) as (url, _), pytest.raises(Misuse) as caught:
        OperationsClient(url).ask("/")

    assert str(caught.value) == "there is no breaker '\\x1b[2Jx'"


@pytest.mark.parametrize("status", [409, 503])
def test_a_no_for_now_is_told_as_one(status):
    """It may be yes later."""
    body = problem(status, "no worker answered within 0.8 s")
    with (
        port(status, body) as (url, _),
        pytest.raises(PortRefused, match=f"answers {status}: no w"),
    ):
        OperationsClient(url).ask("/")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:9000", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://a:x"],
)
def test_an_address_that_is_none_is_misuse(url):
    """It says what one looks like."""
    with pytest.raises(Misuse, match=r"write one as in http://127\.0\.0\.1:9000"):
        OperationsClient(url)


def test_https_is_spoken_where_it_is_asked_for():
    """A plain port does not understand it, and the sentence says so."""
    with port(200, b"{}") as (url, asked), pytest.raises(PortUnreachable):
        OperationsClient(url.replace("http:", "https:")).ask("/")

    assert asked == []


def test_credentials_in_an_address_are_in_no_message():
    """They are not used either."""
    with pytest.raises(PortUnreachable) as caught:
        OperationsClient("http://me:hunter2@127.0.0.1:1").ask("/")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://[::1", ""),
        ("http://127.0.0.1:9000", "t0k-of-the-test\n"),
        ("http://127.0.0.1:9000", "t0k-of-the-test\u20ac"),
    ],
)
def test_an_address_or_a_token_that_cannot_be_one_is_misuse(url, token):
    """It is said in a sentence, without the token."""
    with pytest.raises(Misuse) as caught:
        OperationsClient(url, token)

    assert "t0k-of-the-test" not in str(caught.value)
