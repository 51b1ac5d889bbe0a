"""The proxy itself, before a server that echoes and before real ones through their drivers."""

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from drivers import DRIVERS, Server, Talk
from ends import (
    PATIENCE_SECONDS,
    QUIET_SECONDS,
    Listening,
    connected,
    echoes,
    ends,
    met,
    read,
    until,
)

from shipworthy.errors import PortTaken
from shipworthy.faults import (
    Bandwidth,
    Cut,
    Delay,
    Direction,
    Fault,
    FaultInvalid,
    FaultProxy,
    HalfClose,
    Happening,
    Placed,
    Refuse,
    Reset,
    Silence,
    proxy as proxy_module,
)

HOST = "127.0.0.1"
UP, DOWN = Direction.UP, Direction.DOWN
Dial = Callable[[int], AsyncIterator[Talk]]


@pytest.fixture(params=sorted(DRIVERS))
def server(request: pytest.FixtureRequest) -> Server:
    """A real server, once for each driver."""
    if request.param == "redis":
        return Server(request.getfixturevalue("redis_port"))
    # Nothing is written, so no database of its own is needed.
    kind = "postgres_server" if request.param in {"psycopg", "asyncpg"} else "mariadb_server"
    return Server.of(request.getfixturevalue(kind).url)


@pytest.fixture
def dial(server: Server, request: pytest.FixtureRequest):
    """How the driver connects, dropped without a goodbye at the end."""
    connect = DRIVERS[request.node.callspec.params["server"]]

    @asynccontextmanager
    async def dialled(port: int) -> AsyncIterator[Talk]:
        talk = await connect(server, port)
        try:
            yield talk
        finally:
            await talk.drop()

    return dialled


@pytest.mark.anyio
async def test_without_faults_a_driver_does_not_notice_the_proxy(server: Server, dial) -> None:
    """Connect, ask, be answered."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        assert await talk.ask() == "1"


@pytest.mark.anyio
async def test_refused_is_what_a_driver_sees_of_a_server_that_is_not_there(
    server: Server, dial
) -> None:
    """New connections fail at once, open ones go on, and after `clear` all is as before."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        proxy.apply(Refuse())

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, proxy.port)
        with pytest.raises(Exception):
            async with dial(proxy.port):
                pass
        assert await talk.ask() == "1"
        assert proxy.accepted == 1

        proxy.clear()
        async with dial(proxy.port) as again:
            assert await again.ask() == "1"


@pytest.mark.anyio
async def test_a_delay_makes_an_answer_late_both_ways(server: Server, dial) -> None:
    """Once for the request and once for the answer."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        proxy.apply(Delay(0.05))
        began = time.monotonic()

        assert await talk.ask() == "1"

        assert time.monotonic() - began >= 0.099


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [Silence(), Silence(direction=DOWN)], ids=str)
async def test_a_silent_server_answers_once_it_is_heard_again(
    server: Server, dial, fault: Silence
) -> None:
    """The driver waits, with no error, and gets its answer when the fault is cleared."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        proxy.apply(fault)
        asked = asyncio.ensure_future(talk.ask())

        await asyncio.wait({asked}, timeout=QUIET_SECONDS)
        assert not asked.done()
        proxy.clear()

        assert await asyncio.wait_for(asked, PATIENCE_SECONDS) == "1"


@pytest.mark.anyio
async def test_a_silent_connection_that_is_cut_is_an_error(server: Server, dial) -> None:
    """Nobody waits for ever once the proxy ends it."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        proxy.apply(Silence())
        asked = asyncio.ensure_future(talk.ask())
        await asyncio.wait({asked}, timeout=QUIET_SECONDS)

        proxy.cut_all()

        with pytest.raises(Exception):
            await asyncio.wait_for(asked, PATIENCE_SECONDS)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    [
        Cut(),
        Reset(),
        Cut(after_bytes=1, direction=UP),
        Cut(after_bytes=2, direction=DOWN),
        Reset(after_bytes=2, direction=DOWN),
        HalfClose(),
        HalfClose(direction=UP),
    ],
    ids=str,
)
async def test_a_connection_that_is_broken_is_an_error_and_the_next_one_works(
    server: Server, dial, fault: Fault
) -> None:
    """In front of the request, in the middle of it, or in the middle of the answer."""
    async with FaultProxy(HOST, server.port) as proxy:
        async with dial(proxy.port) as talk:
            assert await talk.ask() == "1"
            proxy.apply(fault)

            with pytest.raises(Exception) as broken:
                await asyncio.wait_for(talk.ask(), PATIENCE_SECONDS)

            assert not isinstance(broken.value, TimeoutError)

        proxy.clear()
        async with dial(proxy.port) as again:
            assert await again.ask() == "1"


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_narrow_line_is_slow_and_right(server: Server, dial) -> None:
    """The answer comes in small pieces, which a driver puts together."""
    async with FaultProxy(HOST, server.port) as proxy, dial(proxy.port) as talk:
        proxy.apply(Bandwidth(500))

        assert await talk.ask() == "1"


@pytest.mark.anyio
async def test_a_connect_that_breaks_is_an_error(server: Server, dial) -> None:
    """Torn down at each early byte of the handshake, none of which leaves a driver waiting."""
    async with FaultProxy(HOST, server.port) as proxy:
        for count in (0, 1, 4):
            proxy.apply(Reset(after_bytes=count, direction=DOWN))

            with pytest.raises(Exception):
                async with asyncio.timeout(PATIENCE_SECONDS), dial(proxy.port) as talk:
                    await talk.ask()  # Redis says nothing until it is asked


def test_a_thread_of_its_own_serves_code_that_blocks(echo: int) -> None:
    """The thread ends with the block."""
    before = threading.active_count()

    with FaultProxy.in_thread(HOST, echo) as proxy:
        assert echoes(proxy) == b"hello"

    until(lambda: threading.active_count() <= before, what="its thread has ended")
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)


def test_an_error_in_the_block_comes_out_of_it(echo: int) -> None:
    """And the proxy is closed all the same."""
    with pytest.raises(KeyError), FaultProxy.in_thread(HOST, echo) as proxy:
        raise KeyError

    with pytest.raises(ConnectionRefusedError):
        connected(proxy)


def test_closing_ends_what_is_open_and_waits_for_nobody(listening: Listening) -> None:
    """Also connections that are silent, delayed, or full because nobody reads."""
    with FaultProxy.in_thread(HOST, listening.port) as proxy:
        quiet, late, full = (connected(proxy) for _ in range(3))
        behind = [listening.accept() for _ in range(3)]
        proxy.apply(Silence(nth=1), Delay(3600))
        quiet.sendall(b"a")
        late.sendall(b"b")
        full.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                full.send(bytes(2**16))
        began = time.monotonic()

    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert proxy.connections == 0
    for end in (quiet, late, full, *behind):
        end.settimeout(PATIENCE_SECONDS)
        ends(end)
        end.close()


def test_refused_is_refused_by_the_kernel_and_the_port_stays_ours(echo: int) -> None:
    """Nobody else can listen there meanwhile, and the same port is open again afterwards."""
    with FaultProxy.in_thread(HOST, echo) as proxy:
        port = proxy.port
        proxy.apply(Refuse())
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        with socket.socket() as other, pytest.raises(OSError):
            other.bind((HOST, port))

        proxy.apply(Delay(0.001))

        assert proxy.port == port
        assert echoes(proxy) == b"hello"


def test_faults_may_be_applied_before_there_is_a_proxy_to_speak_of(echo: int) -> None:
    """What is in force when it starts listening is in force for the first client."""
    proxy = FaultProxy(HOST, echo)
    proxy.apply(Refuse())

    async def look() -> None:
        async with proxy:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, proxy.port)

    asyncio.run(look())
    assert proxy.faults == (Refuse(),)


@pytest.mark.anyio
async def test_another_thread_may_apply_faults_too(echo: int) -> None:
    """The call returns when the fault is in force, and raises what went wrong there."""
    async with FaultProxy(HOST, echo) as proxy:
        await asyncio.to_thread(proxy.apply, Refuse())

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, proxy.port)

        await asyncio.to_thread(proxy.clear)
        assert await asyncio.to_thread(echoes, proxy) == b"hello"


@pytest.mark.anyio
async def test_what_goes_wrong_in_the_loop_is_raised_to_the_thread_that_called(
    echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: the port could not be opened again."""

    def taken(host: str, port: int) -> socket.socket:
        raise PortTaken(host, port, option="--listen")

    async with FaultProxy(HOST, echo) as proxy:
        proxy.apply(Refuse())
        monkeypatch.setattr(proxy_module, "_bound", taken)

        with pytest.raises(PortTaken):
            await asyncio.to_thread(proxy.clear)


def test_cut_all_ends_what_is_open_and_nothing_else(echo: int) -> None:
    """As a server does that restarts: new clients are served."""
    with FaultProxy.in_thread(HOST, echo) as proxy, connected(proxy) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"

        proxy.cut_all()

        assert ends(client) == "closed"
        assert echoes(proxy) == b"hello"


def test_a_fault_with_times_harms_so_many_connections_and_no_more(echo: int) -> None:
    """A retry that follows gets through."""
    with FaultProxy.in_thread(HOST, echo) as proxy:
        proxy.apply(Cut(at=b"llo", direction=DOWN, times=2))

        heard = [echoes(proxy) for _ in range(4)]

        assert heard == [b"hell", b"hell", b"hello", b"hello"]


def test_the_nth_connection_is_counted_from_the_apply(echo: int) -> None:
    """Those before are nobody's second."""
    with FaultProxy.in_thread(HOST, echo) as proxy:
        echoes(proxy)
        proxy.apply(Cut(after_bytes=1, nth=2, direction=DOWN))

        assert [echoes(proxy) for _ in range(3)] == [b"hello", b"h", b"hello"]


@pytest.mark.slow
def test_the_same_seed_does_the_same_harm(echo: int) -> None:
    """The logs of two runs are equal, and those of another seed are not."""

    def run(seed: int) -> tuple[tuple[Happening, ...], list[bytes]]:
        with FaultProxy.in_thread(HOST, echo, seed=seed) as proxy:
            proxy.apply(
                Cut(after_bytes=2, direction=DOWN, chance=0.5),
                Delay(0.001, jitter_seconds=0.002, chance=0.5),
            )
            heard = []
            for number in range(20):
                heard.append(echoes(proxy))
                until(lambda: proxy.connections == 0, what=f"{number} is over")
            return proxy.log, heard

    first, again, other = run(7), run(7), run(8)

    assert first == again
    assert first != other
    assert {len(heard) for heard in first[1]} == {2, 5}


def test_the_log_says_what_was_done_and_where(echo: int) -> None:
    """To which connection, in which direction, after how many bytes; and it is bounded."""
    with FaultProxy.in_thread(HOST, echo) as proxy:
        proxy.apply(Cut(after_bytes=2, direction=DOWN))
        echoes(proxy)
        until(lambda: proxy.connections == 0, what="it is over")

        assert proxy.log == (
            Happening(1, "opened"),
            Happening(1, "cut", DOWN, 2),
            Happening(1, "closed"),
        )
        assert proxy._log.maxlen == 1_000


def test_more_connections_than_the_proxy_holds_are_sent_away(
    echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed at once and logged; the others go on."""
    monkeypatch.setattr(proxy_module, "MOST_CONNECTIONS", 1)
    with FaultProxy.in_thread(HOST, echo) as proxy, connected(proxy) as first:
        until(lambda: proxy.connections == 1, what="the first is in")

        assert met(proxy) == "closed"

        assert Happening(2, "too many") in proxy.log
        first.sendall(b"x")
        assert read(first, 1) == b"x"


def test_a_process_without_descriptors_accepts_again_when_it_has_some(echo: int) -> None:
    """Meanwhile the client waits in the kernel's queue, and the proxy does not spin."""
    with (
        FaultProxy.in_thread(HOST, echo) as proxy,
        socket.socket() as client,
        socket.socket() as spare,
    ):
        client.settimeout(PATIENCE_SECONDS)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(spare.fileno())
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            client.connect((proxy.host, proxy.port))
            time.sleep(0.15)
            assert proxy.accepted == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        client.sendall(b"x")
        assert read(client, 1) == b"x"


def test_a_port_that_is_taken_is_said_with_the_option(echo: int) -> None:
    """Before anything has been started."""
    with (
        pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{echo} is in use"),
        FaultProxy.in_thread(HOST, echo, listen_port=echo),
    ):
        pass


def test_a_server_without_an_address_is_said_at_the_start() -> None:
    """Not with the first connection."""
    with (
        pytest.raises(FaultInvalid, match=r"no address for the server nowhere\.invalid:1"),
        FaultProxy.in_thread("nowhere.invalid", 1),
    ):
        pass


def test_what_is_no_fault_is_refused(echo: int) -> None:
    """A class instead of a fault is the mistake that is made."""
    proxy = FaultProxy(HOST, echo)

    for wrong in (Reset, Placed(), Fault()):
        with pytest.raises(FaultInvalid, match="is no fault: write one as in"):
            proxy.apply(wrong)
