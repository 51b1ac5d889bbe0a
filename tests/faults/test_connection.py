"""One connection, byte for byte: both of its ends are held by the test."""

import os
import socket
import struct
import threading
import time

import pytest
from ends import PATIENCE_SECONDS, Listening, connected, ends, fate, met, read, until

from shipworthy.faults import (
    Bandwidth,
    Cut,
    Delay,
    Direction,
    FaultProxy,
    HalfClose,
    Reset,
    Silence,
)
from shipworthy.faults.connection import _PIECE_BYTES, WINDOW_BYTES

UP, DOWN = Direction.UP, Direction.DOWN
HOST = "127.0.0.1"


def test_without_faults_bytes_pass_unchanged_both_ways(listening: Listening) -> None:
    """A megabyte each way at once, and the ends of both streams."""
    ahead, back = os.urandom(2**20), os.urandom(2**20)
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        sender = threading.Thread(target=lambda: (client.sendall(ahead), client.shutdown(1)))
        answerer = threading.Thread(target=lambda: (server.sendall(back), server.shutdown(1)))
        sender.start()
        answerer.start()

        heard = []
        reader = threading.Thread(target=lambda: heard.append(read(client, 2**21)))
        reader.start()
        up = read(server, 2**21)

        for thread in (sender, answerer, reader):
            thread.join(PATIENCE_SECONDS)
        assert (up, heard) == (ahead, [back])
        until(lambda: proxy.connections == 0, what="both streams have ended")


def test_the_end_of_one_stream_leaves_the_other_open(listening: Listening) -> None:
    """A client that says that it has said all still gets its answer."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        client.sendall(b"all")
        client.shutdown(socket.SHUT_WR)

        assert read(server, 10) == b"all"
        server.sendall(b"answer")
        server.close()
        assert read(client, 10) == b"answer"


def test_a_reset_from_one_side_reaches_the_other(listening: Listening) -> None:
    """The proxy hides nothing that it was not told to hide."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

        assert ends(server) == "reset"


def test_a_delay_makes_bytes_late_and_not_few(listening: Listening) -> None:
    """What is sent one after the other is on its way together, and stays in order."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        proxy.apply(Delay(0.1, direction=UP))
        began = time.monotonic()
        for number in range(20):
            client.sendall(bytes([number]))
            time.sleep(0.002)
        client.shutdown(socket.SHUT_WR)

        heard = read(server, 100)

        took = time.monotonic() - began
        assert heard == bytes(range(20))
        assert 0.1 <= took < 1.0  # one after the other it would be 2 s


def test_a_delay_that_is_cleared_lets_go_at_once(listening: Listening) -> None:
    """What waits because of it waits no longer."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        proxy.apply(Delay(3600))
        client.sendall(b"late")
        assert fate(server) == "quiet"

        proxy.clear()

        assert read(server, 4) == b"late"


def test_a_silent_peer_loses_nothing_once_it_speaks_again(listening: Listening) -> None:
    """Bytes and the end of the stream arrive after the fault is cleared, in order."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        client.sendall(b"before")
        assert read(server, 6) == b"before"
        proxy.apply(Silence())
        client.sendall(b"one")
        client.sendall(b"two")
        client.shutdown(socket.SHUT_WR)
        server.sendall(b"unheard")
        assert (fate(server), fate(client)) == ("quiet", "quiet")

        proxy.clear()

        assert read(server, 100) == b"onetwo"
        assert read(client, 7) == b"unheard"


def test_silence_hides_that_the_other_side_is_gone(listening: Listening) -> None:
    """As behind a dead network: the server is not told that its client left."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        with listening.through(proxy) as (client, server):
            proxy.apply(Silence())
            client.close()

            assert fate(server) == "quiet"
            assert proxy.connections == 1
            proxy.clear()
            assert ends(server) == "closed"
        until(lambda: proxy.connections == 0, what="the connection is over")


def test_a_silence_may_begin_in_the_middle(listening: Listening) -> None:
    """The bytes before its place arrive."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Silence(at=b"world", direction=UP))
        with listening.through(proxy) as (client, server):
            client.sendall(b"hello world")

            assert read(server, 10) == b"hello worl"
            assert fate(server) == "quiet"
            server.sendall(b"still here")
            assert read(client, 10) == b"still here"
            proxy.clear()
            assert read(server, 1) == b"d"


def test_bandwidth_spreads_bytes_evenly(listening: Listening) -> None:
    """The first ones are there early, the last ones when the rate allows it."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        proxy.apply(Bandwidth(10_000))
        began = time.monotonic()
        client.sendall(bytes(2_000))

        first = len(server.recv(2_000))
        rest = len(read(server, 2_000 - first))

        assert first < 2_000
        assert first + rest == 2_000
        assert time.monotonic() - began >= 0.19


def test_a_rate_below_one_byte_is_no_division_by_nothing(listening: Listening) -> None:
    """Half a byte in a second: nothing for a while, and everything once it is cleared."""
    with (
        FaultProxy.in_thread(HOST, listening.port) as proxy,
        listening.through(proxy) as (client, server),
    ):
        proxy.apply(Bandwidth(0.5))
        client.sendall(b"slow")
        assert fate(server) == "quiet"

        proxy.clear()

        assert read(server, 4) == b"slow"


@pytest.mark.parametrize("live", [True, False], ids=["while open", "from the start"])
def test_a_half_close_ends_one_direction_and_leaves_the_other(
    listening: Listening, *, live: bool
) -> None:
    """The client sees the end of the stream and can go on talking; nothing more comes down."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        if not live:
            proxy.apply(HalfClose())
        with listening.through(proxy) as (client, server):
            if live:
                proxy.apply(HalfClose())

            assert fate(client) == "closed"
            client.sendall(b"still")
            assert read(server, 5) == b"still"
            server.sendall(b"dropped")
            proxy.clear()  # what has ended does not begin again
            server.sendall(b"dropped too")
            assert fate(client) == "closed"
            client.shutdown(socket.SHUT_WR)
            assert ends(server) == "closed"
        until(lambda: proxy.connections == 0, what="the connection is over")


def test_a_half_close_in_the_middle_passes_what_came_before(listening: Listening) -> None:
    """Also where bytes are late: the end does not overtake them."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Delay(0.05), HalfClose(after_bytes=3))
        with listening.through(proxy) as (client, server):
            server.sendall(b"abcdef")

            assert read(client, 100) == b"abc"


def test_a_cut_closes_both_ends_in_order_after_what_came_before(listening: Listening) -> None:
    """Each end reads what was its own and then the end of the stream, no error."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Cut(after_bytes=5, direction=UP))
        with listening.through(proxy) as (client, server):
            client.sendall(b"hello world")

            assert read(server, 100) == b"hello"
            assert ends(client) == "closed"
            assert ends(server) == "closed"


def test_a_cut_waits_for_bytes_that_are_late(listening: Listening) -> None:
    """Two faults: the delayed bytes before the place arrive, and then the end."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Delay(0.05), Cut(at=b"world", before=False))
        with listening.through(proxy) as (client, server):
            client.sendall(b"hello world and more")

            assert read(server, 100) == b"hello world"


def test_a_reset_tears_both_ends_down(listening: Listening) -> None:
    """Each end sees an error, after what came before the place."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Reset(after_bytes=5, direction=UP))
        with listening.through(proxy) as (client, server):
            client.sendall(b"hello world")

            assert read(server, 5) == b"hello"
            assert ends(server) == "reset"
            assert ends(client) == "reset"


@pytest.mark.parametrize(("fault", "seen"), [(Cut(), "closed"), (Reset(), "reset")], ids=str)
def test_an_end_that_is_applied_ends_open_connections_and_each_new_one(
    listening: Listening, fault: Cut | Reset, seen: str
) -> None:
    """A new client is let in and sent away, before the server hears of it."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        with listening.through(proxy) as (client, server):
            proxy.apply(fault)
            assert (ends(client), ends(server)) == (seen, seen)

        assert met(proxy) == seen


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, Delay(3600), Silence(), Bandwidth(1)], ids=str)
def test_what_a_receiver_does_not_read_is_held_in_bounds(listening: Listening, fault) -> None:
    """The sender is made to wait, and the proxy holds no more than its window and a piece."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        if fault is not None:
            proxy.apply(fault)
        with listening.through(proxy) as (client, _):
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                for _piece in range(4096):
                    client.send(bytes(2**16))

            [connection] = proxy._connections.values()
            held = connection._lanes[UP]._cost_bytes
            assert held <= WINDOW_BYTES + 2 * _PIECE_BYTES
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_small_pieces_that_are_late_are_held_in_bounds_too(listening: Listening) -> None:
    """Each costs memory beside its one byte, and that is counted."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        proxy.apply(Delay(3600))
        with listening.through(proxy) as (client, _):
            for _piece in range(2_000):
                client.sendall(b"x")
                time.sleep(0)

            [connection] = proxy._connections.values()
            assert len(connection._lanes[UP]._queue) <= 1 + WINDOW_BYTES // 256


def test_a_server_that_is_not_there_is_a_reset_for_the_client() -> None:
    """The log says which connections did not reach it."""
    with socket.create_server((HOST, 0)) as gone:
        port = gone.getsockname()[1]

    with FaultProxy.in_thread(HOST, port) as proxy:
        assert met(proxy) == "reset"
        until(lambda: proxy.connections == 0, what="the connection is over")
        assert [happening.what for happening in proxy.log] == ["opened", "not reached", "closed"]


def test_a_proxy_closes_while_it_still_connects() -> None:
    """A server that answers no SYN does not hold it up."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOST, 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        began = time.monotonic()

        with (
            FaultProxy.in_thread(HOST, full.getsockname()[1]) as proxy,
            connected(proxy) as client,
        ):
            until(lambda: proxy.connections == 1, what="the client is let in")
            assert fate(client) == "quiet"

        assert time.monotonic() - began < PATIENCE_SECONDS / 2
