"""One connection through the proxy: carries bytes, keeps the times, and ends as it is told.

Plain non-blocking sockets instead of streams, because a proxy that harms must know what the kernel
has and what it has not, and must be able to send RST.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import final

from shipworthy.faults.fault import Cut, Direction, HalfClose, Reset
from shipworthy.faults.plan import Pass, Plan, Struck

_PIECE_BYTES = 64 * 1024
# What one direction may have on its way; the cost of a piece beside its bytes is counted with it.
WINDOW_BYTES = 256 * 1024
_PIECE_COST_BYTES = 256
_SLICES_PER_SECOND = 50
_CONNECT_SECONDS = 10.0
_DRAIN_READS = 16

Address = tuple[socket.AddressFamily, tuple[object, ...]]


class End(Enum):
    """How the proxy closes a connection."""

    IN_ORDER = auto()
    TORN_DOWN = auto()


class NotReached(Exception):
    """The server took no connection."""


@final
@dataclass(frozen=True, slots=True)
class _Sent:
    """Something on its way in one direction; `free` is set once it need not wait any more."""

    what: Pass | End | None  # None: the stream ends here
    due: float
    free: asyncio.Event


@final
class Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self, number: int, client: socket.socket, plan: Plan, note: Callable[[int, Struck], None]
    ) -> None:
        self.number = number
        self.plan = plan
        self.changed = asyncio.Event()
        self._client = client
        self._server: socket.socket | None = None
        self._note = note
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._lanes: dict[Direction, _Lane] = {}
        self._ended: set[Direction] = set()

    async def run(self, addresses: Sequence[Address]) -> None:
        """Carry bytes until an end is reached or told; raises `NotReached`."""
        how = End.TORN_DOWN
        work = asyncio.create_task(self._carry(addresses))
        try:
            self._begin(self.plan.start())
            await asyncio.wait({work, self._over}, return_when=asyncio.FIRST_COMPLETED)
            how = self._over.result() if self._over.done() else work.result()
        finally:
            work.cancel()
            try:
                await asyncio.wait({work})
            finally:
                for side in (self._client, self._server):
                    if side is not None:
                        _close(side, how)

    def renew(self, plan: Plan) -> None:
        """Go on under other faults: what waits because of the old ones waits no longer."""
        self.plan = plan
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        self._begin(plan.start())

    def end(self, how: End) -> None:
        """Close the connection at once; what is on its way is lost."""
        if not self._over.done():
            self._over.set_result(how)
        if how is End.IN_ORDER:
            # Here already, so that both sides have been told when this returns.
            for side in (self._client, self._server):
                with suppress(OSError):
                    if side is not None:
                        side.shutdown(socket.SHUT_WR)

    def suffer(self, struck: Struck) -> None:
        """Do what a fault does by its beginning; the rest is in what the plan says later."""
        self._note(self.number, struck)
        if isinstance(struck.fault, HalfClose):
            self._ended.add(struck.direction)
            if struck.direction in self._lanes:
                self._lanes[struck.direction].send(None)

    def _begin(self, begun: Sequence[Struck]) -> None:
        for struck in begun:
            self.suffer(struck)
            if (how := end_of(struck)) is not None:
                self.end(how)

    async def _carry(self, addresses: Sequence[Address]) -> End:
        self._server = await _connect(addresses)
        up = _Lane(self, Direction.UP, self._client, self._server)
        down = _Lane(self, Direction.DOWN, self._server, self._client)
        self._lanes = {Direction.UP: up, Direction.DOWN: down}
        for way in self._ended:
            self._lanes[way].send(None)
        how = End.IN_ORDER
        try:
            async with asyncio.TaskGroup() as both:
                for lane in (up, down):
                    both.create_task(lane.read())
                    both.create_task(lane.write())
        except* OSError:
            how = End.TORN_DOWN
        return how


@final
class _Lane:
    """One direction: what was read and is not yet written, at most `WINDOW_BYTES` and a piece."""

    def __init__(
        self, connection: Connection, way: Direction, source: socket.socket, target: socket.socket
    ) -> None:
        self._connection = connection
        self._way = way
        self._source = source
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Sent] = deque()
        self._cost_bytes = 0
        self._last = False
        self._paced = 0.0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    def send(self, what: Pass | End | None) -> None:
        """Put something on its way; behind an end there is nothing more."""
        if self._last:
            return
        self._last = not isinstance(what, Pass)
        wait = what.delay_seconds if isinstance(what, Pass) else self._latest_wait()
        self._queue.append(_Sent(what, self._loop.time() + wait, self._connection.changed))
        self._cost_bytes += _cost_bytes(what)
        self._filled.set()

    async def read(self) -> None:
        """Take what comes, as the plan says, until the stream ends."""
        while True:
            data = await self._loop.sock_recv(self._source, _PIECE_BYTES)
            await self._take(data)
            while self._cost_bytes >= WINDOW_BYTES:
                self._room.clear()
                await self._room.wait()
            if not data:
                self.send(None)
                return

    async def write(self) -> None:
        """Write what is due, in order, until the stream ends."""
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            sent = self._queue[0]
            await self._until(sent.due, sent.free)
            if sent.what is None:
                self._target.shutdown(socket.SHUT_WR)
                return
            if isinstance(sent.what, End):
                self._connection.end(sent.what)
                return
            await self._pass_on(sent.what, sent.free)
            self._queue.popleft()
            self._cost_bytes -= _cost_bytes(sent.what)
            self._room.set()

    async def _take(self, data: bytes) -> None:
        while True:
            plan, changed = self._connection.plan, self._connection.changed
            fed = plan.feed(self._way, data)
            for step in fed.steps:
                if isinstance(step, Pass):
                    self.send(step)
                else:
                    self._connection.suffer(step)
                    if (how := end_of(step)) is not None:
                        self.send(how)
            if not plan.silent(self._way):
                return
            # Not reading on is the whole of a silence: the kernel's buffers fill, as they would.
            data = fed.held
            await changed.wait()

    async def _pass_on(self, what: Pass, free: asyncio.Event) -> None:
        rate = what.bytes_per_second
        if rate is None:
            await self._loop.sock_sendall(self._target, what.data)
            return
        size = max(1, int(rate / _SLICES_PER_SECOND))
        for start in range(0, len(what.data), size):
            part = what.data[start : start + size]
            self._paced = max(self._paced, self._loop.time()) + len(part) / rate
            await self._until(self._paced, free)
            await self._loop.sock_sendall(self._target, part)

    async def _until(self, due: float, free: asyncio.Event) -> None:
        """Wait until then, or until the faults are others."""
        if due > self._loop.time():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await free.wait()

    def _latest_wait(self) -> float:
        """Return how long an end must wait so that it does not overtake what is delayed."""
        return max(0.0, self._queue[-1].due - self._loop.time()) if self._queue else 0.0


def end_of(struck: Struck) -> End | None:
    """Return how a fault ends the connection, None if it does not."""
    if isinstance(struck.fault, Cut):
        return End.IN_ORDER
    return End.TORN_DOWN if isinstance(struck.fault, Reset) else None


def _cost_bytes(what: Pass | End | None) -> int:
    return _PIECE_COST_BYTES + (len(what.data) if isinstance(what, Pass) else 0)


async def _connect(addresses: Sequence[Address]) -> socket.socket:
    """Connect to the first address that answers; raises `NotReached`."""
    failed: OSError | None = None
    for family, address in addresses:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.settimeout(0)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(server, address)
        except OSError as error:  # TimeoutError is one
            server.close()
            failed = error
        except BaseException:
            server.close()
            raise
        else:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return server
    raise NotReached from failed


def _close(side: socket.socket, how: End) -> None:
    with suppress(OSError):
        if how is End.TORN_DOWN:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            side.shutdown(socket.SHUT_WR)
            # A socket that is closed with unread bytes sends RST, which is not what was told.
            for _ in range(_DRAIN_READS):
                if not side.recv(_PIECE_BYTES):
                    break
    side.close()
