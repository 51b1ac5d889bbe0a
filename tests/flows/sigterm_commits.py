"""SIGTERM at random times while a service commits: what the test and the evidence share.

The service stands behind two proxies: one of ours notes each COMMIT, its answer, and what the
service did to the connection in between; behind it the fault proxy delays what PostgreSQL says.
The drain is short, so that requests are cancelled while they work. Each request writes a row of
its own, so what a client was told can be compared with what is there.
"""

import asyncio
import random
import re
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serve.launch import Service, brisk, started
from shipworthy.faults import (
    POSTGRES_COMMIT,
    POSTGRES_COMMIT_ANSWER,
    Delay,
    Direction,
    FaultProxy,
)

APP = f"{Path(__file__).parent / 'apps' / 'sigterm_commits.py'}:app"
WAYS = ("session", "thread", "unit")
# Of each way; more than one, so that the requests of one way meet in the same pool.
CALLERS = 2
CANCEL_SECONDS = 2.0
SETTINGS = brisk(drain="50ms", idle_grace="20ms", cancel=f"{CANCEL_SECONDS:g}s")
# Before the transaction, and again within: longer than the drain, so that many are cancelled.
WORK_SECONDS = 0.15
DELAY_SECONDS = 0.03
# From the first request to the signal.
EARLIEST_SECONDS, LATEST_SECONDS = 0.1, 0.7
AT_ONCE = 4
ROWS_EACH = 100_000

# The last word of a client of PostgreSQL that wants a statement of another connection cancelled.
_CANCEL = struct.Struct("!iiii")
_CANCEL_CODE = 80_877_102
_INSERT = b"INSERT INTO "
_KEY = re.compile(rb"K\0\0\0\x0c(....)....", re.DOTALL)
_ANSWERS = (*POSTGRES_COMMIT_ANSWER, b"C\0\0\0\rROLLBACK\0", b"E\0")


@dataclass(slots=True)
class CommitTap:
    """Carries bytes between a service and its server, and notes what became of each COMMIT.

    Of a connection that has written: to make one ready a driver commits too, and that holds
    nothing, so a request that is cancelled while it connects may cut it.

    `interrupted` counts those whose connection the service ended, or whose statement it asked the
    server to cancel, before the answer had passed to it, though it had not waited for the time it
    gives to what it cancels.
    """

    server: tuple[str, int]
    port: int = 0
    commits: int = 0
    answered: int = 0
    interrupted: int = 0
    late: int = 0
    _written: set[int] = field(default_factory=set)
    _open: dict[int, float] = field(default_factory=dict)
    _numbers: int = 0
    _pids: dict[int, int] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def in_thread(cls, host: str, port: int) -> "Iterator[CommitTap]":
        """Yield one that runs in a thread of its own."""
        tap = cls((host, port))
        loop = asyncio.new_event_loop()
        listening = loop.run_until_complete(asyncio.start_server(tap._serve, "127.0.0.1", 0))
        tap.port = listening.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield tap
        finally:

            def end() -> None:
                listening.close()
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.call_later(0.1, loop.stop)

            loop.call_soon_threadsafe(end)
            thread.join(5)
            loop.close()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self._numbers += 1
        number = self._numbers
        try:
            server, forth = await asyncio.open_connection(*self.server)
        except OSError:
            back.close()
            return
        up = asyncio.create_task(self._up(number, client, forth))
        down = asyncio.create_task(self._down(number, server, back))
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        # Whose end it was: if the service's, a COMMIT that is still open was cut by it.
        if up.done():
            self._cut(number)
        self._open.pop(number, None)
        for task in (up, down):
            task.cancel()
        for writer in (back, forth):
            writer.close()

    async def _up(
        self, number: int, client: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await client.read(65536):
                if len(data) == _CANCEL.size and _CANCEL.unpack(data)[1] == _CANCEL_CODE:
                    self._cut(self._pids.get(_CANCEL.unpack(data)[2], 0))
                if _INSERT in data:
                    self._written.add(number)
                if number in self._written and any(word in data for word in POSTGRES_COMMIT):
                    self.commits += 1
                    self._open[number] = time.monotonic()
                server.write(data)
                await server.drain()

    async def _down(
        self, number: int, server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await server.read(65536):
                if number not in self._pids.values() and (key := _KEY.search(data)):
                    self._pids[int.from_bytes(key[1], "big")] = number
                if number in self._open and any(answer in data for answer in _ANSWERS):
                    del self._open[number]
                    self.answered += 1
                client.write(data)
                await client.drain()

    def _cut(self, number: int) -> None:
        since = self._open.pop(number, None)
        if since is None:
            return
        if time.monotonic() - since < CANCEL_SECONDS:
            self.interrupted += 1
        else:
            self.late += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SigtermTold:
    """What came out of so many `signals`.

    `acknowledged` requests were answered 2xx, `spared` of them though all were being cancelled:
    their COMMIT was under way, or just answered. `flagged` rows are those of requests of which
    we said that a COMMIT was lost. `unexplained` rows are there and nobody was told, `missing` rows
    are not there and somebody was.
    """

    signals: int
    requests: int
    acknowledged: int
    spared: int
    broken_off: int
    unanswered: int
    flagged: int
    rows: int
    unexplained: int
    missing: int
    commits: int
    answered: int
    interrupted: int
    late: int
    codes: dict[int, int]
    worst_seconds: float

    @property
    def exact(self) -> bool:
        """Whether no COMMIT was interrupted, and each row is one that somebody was told of."""
        return (
            not (self.interrupted or self.unexplained or self.missing)
            and self.rows == self.acknowledged + self.flagged
        )


@dataclass(slots=True)
class _One:
    """One service: what its clients were told, by row."""

    told: dict[int, Any] = field(default_factory=dict)
    flagged: set[int] = field(default_factory=set)
    log: list[dict[str, Any]] = field(default_factory=list)
    code: int = -1
    seconds: float = 0.0


def prepare(url: str) -> None:
    """Make the table; nothing keeps a row from being written twice."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE written (id BIGINT)"))
    engine.dispose()


def signalled(url: str, folder: Path, number: int, *, seed: int = 7) -> SigtermTold:
    """Start `number` services, at most four at once, and send each a SIGTERM at a random time."""
    prepare(url)
    plain = sa.make_url(url)
    with ExitStack() as stack:
        proxy = stack.enter_context(
            FaultProxy.in_thread(plain.host or "", plain.port or 5432, seed=seed)
        )
        # Another one for each connection.
        proxy.apply(Delay(0.001, jitter_seconds=DELAY_SECONDS, direction=Direction.DOWN))
        tap = stack.enter_context(CommitTap.in_thread(proxy.host, proxy.port))
        through = plain.set(host="127.0.0.1", port=tap.port).render_as_string(hide_password=False)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ones = list(
                pool.map(
                    lambda one: _signal(through, folder / str(one), one, seed=seed), range(number)
                )
            )
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = list(connection.scalars(sa.text("SELECT id FROM written")))
    engine.dispose()
    return _count(ones, found, tap)


def _signal(url: str, folder: Path, number: int, *, seed: int) -> _One:
    """One service from its start to its end."""
    folder.mkdir()
    draw = random.Random(f"{seed}/{number}")
    one = _One()
    over = threading.Event()
    with started(APP, directory=folder, settings=SETTINGS, environ={"DATABASE": url}) as service:
        service.until_ready()
        service.get("/warm")
        callers = [
            threading.Thread(
                target=_call,
                args=(service, one, way, number * ROWS_EACH + place * 1000, over),
            )
            for place, way in enumerate(WAYS * CALLERS)
        ]
        for caller in callers:
            caller.start()
        time.sleep(draw.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
        began = time.monotonic()
        service.signal()
        one.code = service.ended()
        one.seconds = time.monotonic() - began
        over.set()
        for caller in callers:
            caller.join(20)
        one.log = service.lines()
        one.flagged |= _flagged(one.log)
    return one


def _call(service: Service, one: _One, way: str, first: int, over: threading.Event) -> None:
    """Write one row after the other, until the service is gone."""
    draw = random.Random(first)
    host, port = service.url.removeprefix("http://").split(":")
    # Not httpx: its client takes longer to be made than many a service here lives.
    client = HTTPConnection(host, int(port), timeout=20)
    for row in range(first, first + 1000):
        before, within = draw.uniform(0, WORK_SECONDS), draw.uniform(0, WORK_SECONDS)
        path = f"/{way}/{row}?before={before}&within={within}"
        try:
            if client.sock is None:
                client.connect()
        except OSError:
            return  # it is gone: nothing was sent
        try:
            client.request("POST", path, headers={"X-Request-ID": f"row-{row}"})
            answer = client.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            one.told[row] = repr(error)
            client.close()
        else:
            one.told[row] = answer.status
            if answer.status == 500 and b"lost-commit" in body:
                one.flagged.add(row)
        if over.is_set() or service.process.poll() is not None:
            return


def _flagged(log: list[dict[str, Any]]) -> set[int]:
    """Return the rows of which the log says that the answer to their COMMIT was lost."""
    lost = set()
    for line in log:
        if line.get("event") in {"db.commit_lost", "db.commit_unanswered"}:
            found = re.fullmatch(r"row-(\d+)", str(line.get("request_id", "")))
            lost |= {int(found[1])} if found else set()
    return lost


def _late(log: list[dict[str, Any]]) -> set[int]:
    """Return the rows whose requests were spared when the cancelling began."""
    return {
        int(one.removeprefix("row-"))
        for line in log
        if line.get("event") == "serve.requests_cancelled"
        for one in line["spared"]
        if one.startswith("row-")
    }


def _count(ones: list[_One], found: list[int], tap: CommitTap) -> SigtermTold:
    told = {row: what for one in ones for row, what in one.told.items()}
    flagged = {row for one in ones for row in one.flagged}
    acknowledged = {row for row, what in told.items() if what == 200}
    there = set(found)
    for row in sorted(there - acknowledged - flagged):
        print(f"row {row} is there, and its client was told {told.get(row)}; its log:")
        log = ones[row // ROWS_EACH].log
        print(*(line for line in log if line.get("request_id") == f"row-{row}"), sep="\n")
    for row in sorted(acknowledged - there):
        print(f"row {row} was acknowledged, and is not there")
    for row, what in told.items():
        if what not in {200, 503}:
            print(f"row {row}: {what}")
    codes: dict[int, int] = {}
    for one in ones:
        codes[one.code] = codes.get(one.code, 0) + 1
    return SigtermTold(
        signals=len(ones),
        requests=len(told),
        acknowledged=len(acknowledged),
        spared=len(acknowledged & {row for one in ones for row in _late(one.log)}),
        broken_off=sum(what == 503 for what in told.values()),
        unanswered=sum(isinstance(what, str) for what in told.values()),
        flagged=len((flagged & there) - acknowledged),
        rows=len(found),
        unexplained=len(there - acknowledged - flagged),
        missing=len(acknowledged - there),
        commits=tap.commits,
        answered=tap.answered,
        interrupted=tap.interrupted,
        late=tap.late,
        codes=codes,
        worst_seconds=max(one.seconds for one in ones),
    )
