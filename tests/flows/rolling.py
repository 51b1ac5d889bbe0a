"""A load that says truly what each of its clients met: what the test and the evidence share.

A process of its own (`python rolling.py HOST PORT`) that needs nothing but Python, so it shares no
loop with what it looks at. It speaks HTTP/1.1 and websockets over plain streams: a client that
tries again by itself, or calls every loss an error, would hide what is to be seen.

Its clients ask `apps/rolled.py`. 40 keep their connections and think up to 50 ms between requests,
one in ten of which is slow; ten requests a second come on connections of their own; 10 clients read
streams of a second, 10 read event streams that never end, and 10 talk through websockets. Each
begins again when what it had was ended in order.

It is no failure when an idle connection was closed before the next request was sent, when an answer
says `Connection: close`, when an event stream ends with its terminator after a whole event, and
when a websocket is closed with 1012 or 1001. What fails is counted as what it was: see `FAILURES`.
"""

import asyncio
import base64
import hashlib
import json
import math
import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any, Self

KEPT, NEW_A_SECOND, STREAMS, EVENT_STREAMS, WEBSOCKETS = 40, 10, 10, 10, 10
THINK_SECONDS = 0.05
SLOW_ONE_IN = 10
TALK_SECONDS = 0.1
# Who failed comes back after this long, so that an outage is not counted by the thousand.
AGAIN_SECONDS = 0.05
PATIENCE_SECONDS = 10.0
UNDER_WAY_SECONDS = 15.0
# A request on a kept connection that ends without an answer within this time was lost to a close
# that crossed it; one that ends later had reached the server.
CROSSED_SECONDS = 0.1
IN_ORDER = frozenset({1001, 1012})
SHOWN = 20
WHOLE_STREAM = b"".join(b"part %d\n" % number for number in range(10))

FAILURES = {
    "refused": "no connection could be made",
    "lost_fresh": "the first request of a connection, of whose answer no byte came",
    "lost_keepalive": "a request on a kept connection that was closed as it was sent",
    "lost_inflight": "a request that the server had, and of whose answer no byte came",
    "truncated": "an answer without its end, or an event stream that ended inside an event",
    "no_close_frame": "a websocket that ended without a close frame",
    "wrong_close": "a websocket that was closed with another code than 1012 or 1001",
    "5xx": "an answer from 500 up",
    "wrong": "an answer with another status or body than what was asked for",
    "timeout": f"nothing for {PATIENCE_SECONDS:g} s",
}


class Failed(Exception):
    """What a client met; `kind` is a key of `FAILURES`."""

    def __init__(self, kind: str, about: object = "") -> None:
        super().__init__(f"{kind}: {about}")
        self.kind = kind


@dataclass(slots=True, kw_only=True)
class Tally:
    """What clients met, by what they did.

    `longest_seconds` is the longest wait for an answer, for the next part of a stream, for an echo.
    `ended` counts what the server ended in order: answers that said `Connection: close`, event
    streams, websockets. `lateness_seconds` is the worst that the load itself was late by.
    """

    attempted: Counter[str] = field(default_factory=Counter)
    failed: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    longest_seconds: dict[str, float] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    lateness_seconds: float = 0.0
    shown: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def well(self, what: str) -> None:
        """Count what went well."""
        self.attempted[what] += 1

    def ill(self, what: str, failure: Failed) -> None:
        """Count what failed."""
        self.attempted[what] += 1
        self.failed[what][failure.kind] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"after {time.monotonic() - self.began:.2f} s, {what}: {failure}")

    def waited(self, what: str, since: float) -> None:
        """Note how long something took."""
        seconds = time.monotonic() - since
        self.longest_seconds[what] = max(self.longest_seconds.get(what, 0.0), seconds)

    @property
    def attempts(self) -> int:
        """All of them."""
        return self.attempted.total()

    @property
    def failures(self) -> int:
        """All of them."""
        return sum(kinds.total() for kinds in self.failed.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return what another process has told by `to_dict`."""
        failed = defaultdict(Counter, {what: Counter(k) for what, k in told["failed"].items()})
        counters = {name: Counter(told[name]) for name in ("attempted", "ended")}
        return cls(**{**told, **counters, "failed": failed})


def upper_bound(failed: int, attempted: int, *, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a failure rate.

    The rate at which so few failures in so many attempts come with a chance of 1 - confidence.
    """
    if failed >= attempted:
        return 1.0

    def chance_of_so_few(rate: float) -> float:
        logs = (math.log(rate), math.log1p(-rate))
        whole = math.lgamma(attempted + 1)
        return math.fsum(
            math.exp(
                whole
                - math.lgamma(count + 1)
                - math.lgamma(attempted - count + 1)
                + count * logs[0]
                + (attempted - count) * logs[1]
            )
            for count in range(failed + 1)
        )

    if failed == 0:
        return -math.expm1(math.log1p(-confidence) / attempted)
    low, high = failed / attempted, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if chance_of_so_few(middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


# -- one connection --


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer."""

    status: int
    headers: dict[str, str]

    @property
    def closes(self) -> bool:
        """Whether it is the last of its connection."""
        return self.headers.get("connection", "").lower() == "close"


class Connection:
    """One connection to a server; whatever goes wrong on it is a `Failed` of its kind."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked = 0
        self._sent_at = 0.0

    @classmethod
    async def to(cls, address: tuple[str, int]) -> Self:
        """Connect."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return cls(*await asyncio.open_connection(*address))
        except TimeoutError as error:
            raise Failed("timeout", "connecting") from error
        except OSError as error:
            raise Failed("refused", error) from error

    @property
    def is_over(self) -> bool:
        """Whether the server has closed it while nothing was asked."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """End it from here."""
        self._writer.close()

    async def ask(self, path: str, *headers: str) -> Answer:
        """Send a GET and return the head of its answer."""
        self._asked += 1
        self._sent_at = time.monotonic()
        rows = (f"GET {path} HTTP/1.1", "Host: rolled.example", *headers, "", "")
        self._writer.write("\r\n".join(rows).encode())
        try:
            head = await self._bounded(self._reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            kind = "truncated" if error.partial else self._lost()
            raise Failed(kind, f"{path}, closed after {self._since():.3f} s") from error
        except OSError as error:
            raise Failed(self._lost(), f"{path}, {error} after {self._since():.3f} s") from error
        first, *fields = head.decode("latin-1").split("\r\n")
        pairs = (row.partition(":") for row in fields if row)
        answer = Answer(int(first.split()[1]), {n.lower(): v.strip() for n, _, v in pairs})
        if answer.status >= 500:
            raise Failed("5xx", f"{path}: {answer.status} after {self._since():.3f} s")
        return answer

    def _since(self) -> float:
        return time.monotonic() - self._sent_at

    def _lost(self) -> str:
        if self._asked == 1:
            return "lost_fresh"
        return "lost_keepalive" if self._since() < CROSSED_SECONDS else "lost_inflight"

    async def body(self, answer: Answer) -> bytes:
        """Read the whole body."""
        if "content-length" in answer.headers:
            return await self._read(int(answer.headers["content-length"]))
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        """Read the next chunk; an empty one is the terminator."""
        try:
            size = await self._bounded(self._reader.readuntil(b"\r\n"))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Failed("truncated", f"instead of a chunk: {error}") from error
        return (await self._read(int(size, 16) + 2))[:-2]

    async def _read(self, count: int) -> bytes:
        try:
            return await self._bounded(self._reader.readexactly(count))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Failed("truncated", f"inside a body: {error}") from error

    async def _bounded(self, reading: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await reading
        except TimeoutError as error:
            raise Failed("timeout") from error

    # RFC 6455, as far as short texts need it.

    async def upgrade(self, path: str) -> None:
        """Become a websocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        answer = await self.ask(
            path,
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        )
        proof = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accepted = answer.headers.get("sec-websocket-accept")
        if answer.status != 101 or accepted != base64.b64encode(proof).decode():
            raise Failed("wrong", f"{answer.status} to a handshake")

    def say(self, payload: bytes, *, opcode: int = 1) -> None:
        """Send a short frame, a text unless told otherwise."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self._writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    async def hear(self) -> bytes | int:
        """Return the next message, or the code of a close frame (1005 when it has none)."""
        while True:
            try:
                first, size = await self._bounded(self._reader.readexactly(2))
                payload = await self._bounded(self._reader.readexactly(size))
            except (asyncio.IncompleteReadError, OSError) as error:
                raise Failed("no_close_frame", error) from error
            match first & 0x0F:
                case 8:
                    self.say(payload[:2], opcode=8)
                    return struct.unpack("!H", payload[:2])[0] if len(payload) > 1 else 1005
                case 9:
                    self.say(payload, opcode=10)
                case 10:
                    continue
                case _:
                    return payload


# -- the clients, in their process --


class Clients:
    """All clients of one load, on one event loop."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.tally = Tally()
        self._address = address
        self._resting = False
        self._number = 0
        self._first: set[asyncio.Task[Any] | None] = set()

    async def run(self, words: "asyncio.Queue[str]", said: Callable[[str], None]) -> None:
        """Ask until told otherwise. On `rest` nobody begins anew, and what is open stays open
        until the server ends it; on `end` it is left.
        """
        begin = asyncio.create_task
        short = {begin(self._again("kept", self._keep)) for _ in range(KEPT)}
        short |= {begin(self._again("stream", self._stream)) for _ in range(STREAMS)}
        long = {begin(self._again("events", self._follow)) for _ in range(EVENT_STREAMS)}
        long |= {begin(self._again("websocket", self._talk)) for _ in range(WEBSOCKETS)}
        lateness, arriving = begin(self._measure_lateness()), begin(self._arrive())
        give_up = time.monotonic() + UNDER_WAY_SECONDS
        while not self._first >= short | long and time.monotonic() < give_up:
            await asyncio.sleep(0.01)
        said("under way")
        word = await words.get()
        self._resting = True
        await asyncio.wait({*short, arriving})
        if word == "rest":
            said("resting")
            told = begin(words.get())
            ended = asyncio.gather(*long)
            await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
        for task in {*long, lateness}:
            task.cancel()
        for done in await asyncio.gather(*short, arriving, *long, return_exceptions=True):
            if isinstance(done, Exception):
                raise done

    async def _again(self, what: str, scene: Callable[[], Awaitable[None]]) -> None:
        while not self._resting:
            try:
                await scene()
            except Failed as failure:
                self.tally.ill(what, failure)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _measure_lateness(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            late = time.monotonic() - began - 0.01
            self.tally.lateness_seconds = max(self.tally.lateness_seconds, late)

    async def _arrive(self) -> None:
        arrived: set[asyncio.Task[None]] = set()
        while not self._resting:
            arrived.add(asyncio.create_task(self._once()))
            await asyncio.sleep(1 / NEW_A_SECOND)
            arrived = {task for task in arrived if not task.done()}
        await asyncio.gather(*arrived)

    async def _once(self) -> None:
        try:
            connection = await Connection.to(self._address)
            try:
                await self._word(connection, "new")
            finally:
                connection.close()
        except Failed as failure:
            self.tally.ill("new", failure)

    async def _keep(self) -> None:
        connection = await Connection.to(self._address)
        try:
            while not self._resting and not connection.is_over:
                if await self._word(connection, "kept"):
                    self.tally.ended["kept"] += 1
                    return
                await asyncio.sleep(random.random() * THINK_SECONDS)
        finally:
            connection.close()

    async def _word(self, connection: Connection, what: str) -> bool:
        """Ask for a word of one's own; return whether the answer was the connection's last."""
        self._number += 1
        number = self._number
        began = time.monotonic()
        path = "slow" if number % SLOW_ONE_IN == 0 else "word"
        answer = await connection.ask(f"/{path}/w{number}")
        body = await connection.body(answer)
        if (answer.status, body) != (200, f"w{number}".encode()):
            raise Failed("wrong", f"w{number}: {answer.status} {body[:40]!r}")
        self._went_on(what, began)
        self.tally.well(what)
        return answer.closes

    async def _stream(self) -> None:
        connection = await Connection.to(self._address)
        try:
            parts = b"".join([part async for part in self._parts(connection, "stream", "/stream")])
            if parts != WHOLE_STREAM:
                raise Failed("truncated", f"a stream that ended after {parts[-20:]!r}")
            self.tally.well("stream")
        finally:
            connection.close()

    async def _follow(self) -> None:
        connection = await Connection.to(self._address)
        seen = b""
        try:
            async for part in self._parts(connection, "events", "/events"):
                seen = (seen + part)[-40:]
            if not seen.endswith(b"\n\n"):
                raise Failed("truncated", f"an event stream that ended after {seen!r}")
            self.tally.ended["events"] += 1
            self.tally.well("events")
        except asyncio.CancelledError:
            self.tally.well("events")  # left by us
            raise
        finally:
            connection.close()

    async def _parts(self, connection: Connection, what: str, path: str) -> AsyncIterator[bytes]:
        began = time.monotonic()
        answer = await connection.ask(path)
        if answer.status != 200:
            raise Failed("wrong", f"{path}: {answer.status}")
        while part := await connection.chunk():
            self._went_on(what, began)
            began = time.monotonic()
            yield part

    async def _talk(self) -> None:
        connection = await Connection.to(self._address)
        # Listened to all the time: a close frame must be read before what may come after it.
        hearing: asyncio.Task[bytes | int] | None = None
        try:
            await connection.upgrade("/echo")
            hearing = asyncio.create_task(connection.hear())
            while True:
                await asyncio.wait({hearing}, timeout=random.random() * TALK_SECONDS)
                said, began = b"", time.monotonic()
                if not hearing.done():
                    self._number += 1
                    said = f"w{self._number}".encode()
                    connection.say(said)
                heard = await hearing
                if isinstance(heard, int):
                    if heard not in IN_ORDER:
                        raise Failed("wrong_close", heard)
                    self.tally.ended["websocket"] += 1
                    self.tally.well("websocket")
                    return
                if heard != said:
                    raise Failed("wrong", f"{heard!r} as the echo of {said!r}")
                self._went_on("websocket", began)
                self.tally.well("echo")
                hearing = asyncio.create_task(connection.hear())
        except asyncio.CancelledError:
            self.tally.well("websocket")  # left by us
            raise
        finally:
            if hearing is not None:
                hearing.cancel()
            connection.close()

    def _went_on(self, what: str, since: float) -> None:
        """Note a wait that ended well, and that this client is under way."""
        self.tally.waited(what, since)
        self._first.add(asyncio.current_task())


def main(host: str, port: str) -> None:
    """Be the load: words come on standard input, lines of JSON go to standard output."""

    async def run() -> None:
        words: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            for word in sys.stdin:
                loop.call_soon_threadsafe(words.put_nowait, word.strip())
            loop.call_soon_threadsafe(words.put_nowait, "end")

        threading.Thread(target=listen, daemon=True).start()
        clients = Clients((host, int(port)))
        await clients.run(words, lambda word: print(json.dumps(word), flush=True))
        print(json.dumps(clients.tally.to_dict()), flush=True)

    asyncio.run(run())


# -- from the process that looks on --


class Load:
    """The load on `host:port`, in a process of its own, while the block runs.

    When the block begins, each client has been served once, or has had 15 s for it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._command = [sys.executable, "-I", __file__, host, str(port)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._expect("under way")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def rest(self) -> None:
        """Have nobody begin anew; returns when only what never ends by itself is open."""
        self._tell("rest")
        self._expect("resting")

    def tally(self) -> Tally:
        """Return what was met, once the server has ended all that is open. After `rest`."""
        return Tally.of(self._read())

    def end(self) -> Tally:
        """Leave all that is open and return what was met."""
        self._tell("end")
        return Tally.of(self._read())

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _expect(self, word: str) -> None:
        said = self._read()
        if said != word:
            raise RuntimeError(f"the load said {said!r} instead of {word!r}")

    def _read(self) -> Any:
        # Bounded by the load, whose every wait is.
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended with {self._process.wait()}")
        return json.loads(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
