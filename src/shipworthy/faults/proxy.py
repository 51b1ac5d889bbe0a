"""The proxy itself: listens, refuses where it is told to, and holds the connections."""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, final

from shipworthy.errors import PortTaken
from shipworthy.faults.connection import Address, Connection, End, NotReached
from shipworthy.faults.fault import KINDS, Direction, Fault, FaultInvalid, Placed, Refuse
from shipworthy.faults.plan import Charge, Plan, Struck

MOST_CONNECTIONS = 1_000
_LOG_LINES = 1_000
_BACKLOG = 128
_PAUSE_SECONDS = 0.1
_CALL_SECONDS = 5.0


@final
@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that the proxy did: `what` to which connection, after how many bytes.

    `what` is "opened", "closed", "not reached" (the server took no connection), "too many", or the
    name of the fault in lower case: "cut". There is no time in it, so two runs can be compared.
    """

    connection: int
    what: str
    direction: Direction = Direction.BOTH
    at_bytes: int = 0


@final
class FaultProxy:
    """A TCP proxy in front of `host:port` that harms what passes, as `apply` says.

    Use it as an async context manager; or, where a thread blocks while it talks to the server, as
    `with FaultProxy.in_thread(host, port) as proxy:`, with an event loop of its own. Clients
    connect to `proxy.host` and `proxy.port`. What is the same: faults, `seed`, bytes, and the order
    in which clients connect; then the harm is the same too.

    Every method may be called from any thread. Closing is bounded: connections end at once. Raises
    `PortTaken` when `listen_port` is in use, and `FaultInvalid` when `host` has no address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        seed: int = 0,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
    ) -> None:
        self.host = listen_host
        self.port = listen_port
        self._server = (host, port)
        self._seed = seed
        self._faults: tuple[Fault, ...] = ()
        self._charges: tuple[Charge, ...] = ()
        self._since = 0
        self._accepted = 0
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._log: deque[Happening] = deque(maxlen=_LOG_LINES)
        self._addresses: tuple[Address, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._place: socket.socket | None = None
        self._listener: socket.socket | None = None

    @classmethod
    @contextmanager
    def in_thread(
        cls,
        host: str,
        port: int,
        *,
        seed: int = 0,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
    ) -> Iterator[Self]:
        """Yield a proxy that runs in a thread of its own, for code that blocks."""
        proxy = cls(host, port, seed=seed, listen_host=listen_host, listen_port=listen_port)
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            over = asyncio.Event()
            async with proxy:
                started.set_result((asyncio.get_running_loop(), over))
                await over.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="shipworthy-faults", daemon=True)
        thread.start()
        loop, over = started.result()
        try:
            yield proxy
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(_CALL_SECONDS)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._addresses = await _addresses(*self._server)
        self._place = _bound(self.host, self.port)
        self.port = int(self._place.getsockname()[1])
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._listen_or_refuse()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the port and every connection."""
        self._stop_listening()
        if self._place is not None:
            self._place.close()
        self._loop = None
        self._cut_all()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is in force."""
        return self._faults

    @property
    def connections(self) -> int:
        """How many connections are open; under `Silence` also those whose client has left."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """How many connections there were in all; their numbers count from 1."""
        return self._accepted

    @property
    def log(self) -> tuple[Happening, ...]:
        """What the proxy did, the last 1,000 happenings, oldest first."""
        return tuple(self._log)

    def apply(self, *faults: Fault) -> None:
        """From now on do these and nothing else, to open connections as to new ones.

        `Refuse` concerns new connections only. What earlier faults still hold or delay is let go.
        """
        for fault in faults:
            if not isinstance(fault, KINDS):
                raise FaultInvalid(f"{fault!r} is no fault: write one as in Delay(0.2)")
        self._on_loop(lambda: self._apply(faults))

    def clear(self) -> None:
        """Harm nothing any more."""
        self.apply()

    def cut_all(self) -> None:
        """Close every connection that is open now, as a server does that stops; once."""
        self._on_loop(self._cut_all)

    def _apply(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        placed = [fault for fault in faults if isinstance(fault, Placed)]
        self._charges = tuple(Charge(fault, index) for index, fault in enumerate(placed))
        self._since = self._accepted
        self._listen_or_refuse()
        for connection in tuple(self._connections.values()):
            connection.renew(self._plan(connection.number))

    def _cut_all(self) -> None:
        for connection in tuple(self._connections.values()):
            connection.end(End.IN_ORDER)

    def _plan(self, number: int) -> Plan:
        ordinal = number - self._since
        return Plan(
            self._charges,
            seed=self._seed,
            connection=number,
            ordinal=ordinal if ordinal > 0 else None,
        )

    def _listen_or_refuse(self) -> None:
        if any(isinstance(fault, Refuse) for fault in self._faults):
            self._stop_listening()
        elif self._listener is None and self._loop is not None:
            self._listener = _bound(self.host, self.port)
            self._listener.listen(_BACKLOG)
            self._loop.add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        if self._listener is None or self._loop is None:
            return
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:  # the client has left already
            return
        except OSError:
            # No descriptors left: trying again at once would only keep the processor warm.
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE_SECONDS, self._accept_again)
            return
        client.settimeout(0)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted += 1
        number = self._accepted
        if len(self._connections) >= MOST_CONNECTIONS:
            self._log.append(Happening(number, "too many"))
            client.close()
            return
        self._log.append(Happening(number, "opened"))
        connection = Connection(number, client, self._plan(number), self._note)
        task = self._loop.create_task(self._run(connection))
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _accept_again(self) -> None:
        if self._listener is not None and self._loop is not None:
            self._loop.add_reader(self._listener, self._accept)

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run(self._addresses)
        except NotReached:
            self._log.append(Happening(connection.number, "not reached"))
        finally:
            self._log.append(Happening(connection.number, "closed"))

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]

    def _note(self, number: int, struck: Struck) -> None:
        what = type(struck.fault).__name__.lower()
        self._log.append(Happening(number, what, struck.direction, struck.at_bytes))

    def _on_loop(self, call: Callable[[], None]) -> None:
        """Call it where the connections live, and return when it was called."""
        if self._loop is None or threading.get_ident() == self._thread_id:
            call()
            return
        done: Future[None] = Future()

        def work() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the caller's to see
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(work)
        done.result(_CALL_SECONDS)


async def _addresses(host: str, port: int) -> tuple[Address, ...]:
    """Return where the server is, asked once, so that a slow resolver cannot hold a close up."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise FaultInvalid(f"no address for the server {host}:{port}: {error}") from error
    return tuple((family, address) for family, _, _, _, address in found)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen.

    One is kept for the proxy's whole life: while connects are refused, it is what keeps the port
    from being given to somebody else.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.settimeout(0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortTaken(host, port, option="--listen") from error
    return bound
