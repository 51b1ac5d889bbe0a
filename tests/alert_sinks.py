"""A webhook and a mail server on real sockets, which can also be rude."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

from typing_extensions import override


@dataclass
class Sink:
    """What was received, in order; how the next calls are answered."""

    port: int
    received: "Queue[Any]" = field(default_factory=Queue)
    # One for each call, then 200: a status, or "drip" for a byte now and then, or "hang", or "slow"
    # for who takes `slow_seconds` each for the handshake and the answer, or "silent" for a mail
    # server that takes a mail and says nothing, "busy" for one
    # that then refuses it, "lingers" for one that takes it and does not say goodbye, "unknown" for
    # one that refuses all receivers but the first.
    answers: "Queue[int | str]" = field(default_factory=Queue)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    slow_seconds: float = 0.0


@contextmanager
def webhook_sink(secure: ssl.SSLContext | None = None) -> Iterator[Sink]:
    """Serve a webhook on a port of this machine, over TLS where it is given a context."""
    sink = Sink(0)

    class Post(BaseHTTPRequestHandler):
        @override
        def setup(self) -> None:
            if secure is not None:
                sink.closing.wait(sink.slow_seconds)
                self.request = secure.wrap_socket(self.request, server_side=True)
            super().setup()

        @override
        def finish(self) -> None:
            super().finish()
            if secure is not None:
                # Its owner knows the plain one only.
                self.request.close()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = sink.answers.get() if not sink.answers.empty() else 200
            if answer == "hang":
                sink.closing.wait(30)
                return
            if answer == "slow":
                sink.closing.wait(sink.slow_seconds)
                answer = 200
            if answer == "drip":
                with suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not sink.closing.wait(0.1):
                        self.wfile.write(b"X-Drip: 1\r\n")
                        self.wfile.flush()
                return
            sink.headers.append(dict(self.headers))
            sink.received.put(json.loads(body))
            self.send_response(int(answer))
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Post) as server:
        sink.port = server.server_port
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield sink
        finally:
            sink.closing.set()
            server.shutdown()
            serving.join()


@contextmanager
def mail_sink(secure: ssl.SSLContext | None = None) -> Iterator[Sink]:
    """Serve SMTP on a port of this machine, with STARTTLS and AUTH where it is given a context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sink = Sink(listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError, UnicodeError):
                    _converse(connection, sink, secure)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield sink
        finally:
            sink.closing.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            serving.join()


# A line with a dash is half an answer.
_AFTER_ALL = {"busy": "421 not now", "silent": "250-yes, but"}


def _converse(connection: socket.socket, sink: Sink, secure: ssl.SSLContext | None) -> None:
    said: dict[str, Any] = {"to": [], "tls": False}

    how = sink.answers.get() if not sink.answers.empty() else ""

    def pause() -> None:
        sink.closing.wait({"hang": 30.0, "slow": sink.slow_seconds}.get(how, 0.0))

    pause()
    lines = connection.makefile("rb")

    def say(text: str) -> None:
        connection.sendall(text.encode() + b"\r\n")

    try:
        say("220 sink")
        while line := lines.readline():
            word, _, rest = line.decode().strip().partition(" ")
            match word.upper():
                case "EHLO":
                    secured = "250-AUTH PLAIN\r\n"
                    plain = "250-STARTTLS\r\n" if secure else ""
                    say(f"250-sink\r\n{secured if said['tls'] else plain}250 8BITMIME")
                case "STARTTLS":
                    assert secure is not None
                    say("220 go on")
                    lines.close()
                    pause()
                    connection = secure.wrap_socket(connection, server_side=True)
                    lines = connection.makefile("rb")
                    said["tls"] = True
                case "AUTH":
                    said["auth"] = rest
                    say("235 welcome")
                case "MAIL":
                    said["from"] = rest
                    say("250 yes")
                case "RCPT" if how == "unknown" and said["to"]:
                    say("550 nobody of that name")
                case "RCPT":
                    said["to"].append(rest)
                    say("250 yes")
                case "DATA":
                    say("354 go on")
                    text = b""
                    while (part := lines.readline()) != b".\r\n":
                        text += part
                    sink.received.put({**said, "mail": text})
                    say(_AFTER_ALL.get(how, "250 taken"))
                    sink.closing.wait(30 if how in {"silent", "lingers"} else 0)
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("500 what?")
    finally:
        lines.close()
        connection.close()
