"""A service that is replaced under load loses nothing, and the load would say so if it did."""

import asyncio
import base64
import hashlib
import re
import signal
import socket
from pathlib import Path

import pytest

from flows import rolling
from flows.rolling import FAILURES, Clients, Failed, Load, upper_bound
from serve.launch import brisk, started

APP = f"{Path(__file__).parent / 'apps' / 'rolled.py'}:app"
REPLACEMENTS = 3

# -- the load says truly what it met --

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nw1"
LAST = WELL.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: 0\n\n\r\n"
HALF_AN_EVENT = b"8\r\ndata: 0\n\r\n"
PART = b"7\r\npart 0\n\r\n"
TERMINATOR = b"0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def upgraded(frames):
    """An answer to a handshake, and what comes after it."""

    def answer(head):
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        proof = base64.b64encode(digest)
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n" + frames
        )

    return answer


def closing(code):
    """A close frame."""
    return b"\x88\x02" + code.to_bytes(2)


async def met(scene, *answers):
    """Play a scene against a server that answers so on a connection, then closes it."""

    async def serve(reader, writer):
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(head) if callable(answer) else answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        clients = Clients(server.sockets[0].getsockname()[:2])
        await getattr(clients, scene)()
    return clients.tally


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "scene", "answers"),
    [
        ("lost_fresh", "_keep", [b""]),
        ("lost_keepalive", "_keep", [WELL, b""]),
        ("truncated", "_keep", [WELL[:-1]]),
        ("truncated", "_keep", [WELL[:20]]),
        ("5xx", "_keep", [BUSY]),
        ("wrong", "_keep", [WELL.replace(b"w1", b"w2")]),
        ("wrong", "_keep", [WELL.replace(b"200", b"404")]),
        ("truncated", "_stream", [CHUNKED + PART]),
        ("truncated", "_stream", [CHUNKED + PART + TERMINATOR]),
        ("truncated", "_follow", [CHUNKED + EVENT]),
        ("truncated", "_follow", [CHUNKED + HALF_AN_EVENT + TERMINATOR]),
        ("lost_fresh", "_talk", [b""]),
        ("5xx", "_talk", [BUSY]),
        ("wrong", "_talk", [WELL]),
        ("no_close_frame", "_talk", [upgraded(b"")]),
        ("wrong_close", "_talk", [upgraded(closing(1011))]),
        ("wrong_close", "_talk", [upgraded(b"\x88\x00")]),
        ("wrong", "_talk", [upgraded(b"\x81\x02w7")]),
    ],
)
async def test_what_a_client_met_is_called_what_it_was(kind, scene, answers):
    """Each loss has its own name, else a table of losses would say nothing of their cause."""
    assert kind in FAILURES
    with pytest.raises(Failed) as failure:
        await met(scene, *answers)

    assert failure.value.kind == kind


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scene", "answers", "attempted", "ended"),
    [
        ("_keep", [WELL], {"kept": 1}, {}),
        ("_keep", [LAST], {"kept": 1}, {"kept": 1}),
        ("_follow", [CHUNKED + EVENT + TERMINATOR], {"events": 1}, {"events": 1}),
        ("_talk", [upgraded(closing(1012))], {"websocket": 1}, {"websocket": 1}),
        ("_talk", [upgraded(closing(1001))], {"websocket": 1}, {"websocket": 1}),
    ],
)
async def test_what_ends_in_order_is_no_failure(scene, answers, attempted, ended):
    """A server may end what is idle, what it has announced, and what it ends by the protocol."""
    tally = await met(scene, *answers)

    assert (tally.attempted, tally.ended, tally.failures) == (attempted, ended, 0)


@pytest.mark.anyio
async def test_a_request_that_the_server_had_is_told_from_one_that_crossed_a_close(monkeypatch):
    """What tells them apart is how long after the request the connection ended."""
    monkeypatch.setattr(rolling, "CROSSED_SECONDS", 0.0)
    with pytest.raises(Failed, match="lost_inflight"):
        await met("_keep", WELL, b"")


@pytest.mark.anyio
async def test_no_connection_and_no_answer_are_told_apart(monkeypatch):
    """A port on which nobody listens refuses; one whose queue nobody serves says nothing."""
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = nobody.getsockname()
        with pytest.raises(Failed, match="timeout"):
            await Clients(address)._keep()
    with pytest.raises(Failed, match="refused"):
        await Clients(address)._keep()


def test_the_bound_of_a_failure_rate_is_that_of_the_tables():
    """Clopper and Pearson's, one-sided; without a failure it is the rule of three."""
    assert upper_bound(1, 10) == pytest.approx(0.39416, abs=1e-5)
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05**0.01)
    assert upper_bound(0, 1_000_000) == pytest.approx(3e-6, rel=0.01)
    assert upper_bound(10, 10) == 1.0


# -- the service loses nothing --


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_rolling_replacements_under_load_lose_nothing(tmp_path):
    """Both workers are replaced three times, then the service is ended: no client fails.

    40 keep their connections, ten requests a second come on new ones, and streams, event streams
    and websockets are open all the time. Those that never end by themselves are ended in order,
    also at the end of the service, which exits with 0.
    """
    # A line for each of so many requests is more than what reads them here can take.
    settings = brisk(drain="5s", grace="20s") + "[web]\naccess_log = false\n"
    with started(APP, "--workers", "2", directory=tmp_path, settings=settings) as service:
        service.until_ready()
        service.until(lambda: serving(service) and len(serving(service)) == 2)
        host, port = service.url.removeprefix("http://").split(":")
        with Load(host, int(port)) as load:
            for _ in range(REPLACEMENTS):
                replace(service)
            load.rest()
            service.signal()
            tally = load.tally()
        code = service.ended()

    assert tally.failures == 0, (tally.failed, tally.shown, service.err[-2000:])
    assert code == 0, service.err[-2000:]
    # Else nobody was in the way of what was replaced.
    assert tally.ended["kept"] >= REPLACEMENTS
    assert tally.ended["events"] >= REPLACEMENTS * rolling.EVENT_STREAMS
    assert tally.ended["websocket"] >= REPLACEMENTS * rolling.WEBSOCKETS
    assert min(tally.attempted[what] for what in ("kept", "new", "stream", "echo")) > 0


def serving(service):
    """The workers by generation, or nothing while one of them starts or leaves."""
    workers = service.status()["workers"]
    return {} if any(w["phase"] != "ready" for w in workers) else {w["generation"] for w in workers}


def replace(service):
    """Have both workers replaced, and wait until both are new and the old ones gone."""
    before = serving(service)
    service.signal(signal.SIGHUP)
    service.until(lambda: len(now := serving(service)) == 2 and not now & before)
