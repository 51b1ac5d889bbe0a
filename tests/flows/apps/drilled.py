"""The demo with a route for each thing that an alert is about: what the drill presses on.

The engine `wide` goes through the same address as that of the demo, where faults are injected; the
small ones go past it. Marks on the outside are files in the current directory: `unwell` fails the
check, `hold-start` holds the start of a worker back.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Response, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, create_engine, text

from shipworthy.db import run_transaction
from shipworthy.demo import service
from shipworthy.demo.database import driver_urls
from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Metric,
    Number,
    OneOf,
    Panel,
    Selection,
    Urgency,
    Value,
    declare,
)
from shipworthy.lifecycle import start_background
from shipworthy.resilience import (
    Backoff,
    Breaker,
    BreakerRule,
    Bulkhead,
    Fallback,
    Pipeline,
    RetryBudget,
    RetryRule,
    judge_io,
)
from shipworthy.telemetry import counter, gauge

MANY = 300
_MANY = Metric(
    "drill_many", "gauge", "As many label sets as an alert may not have.",
    {"which": OneOf(*(f"n{number}" for number in range(MANY)))},
)  # fmt: skip
_SPOILT = Metric("drill_spoilt", "gauge", "What cannot be read while the file 'spoilt' is there.")
_NARROW = Metric(
    "drill_narrow_total", "counter", "What has one value and is given others.", {"of": OneOf("one")}
)
_by_which = Selection(metric=_MANY, by=("which",))
declare(
    Panel(
        title="Of the drill",
        help="What the drill itself declares.",
        board=Board.BUSINESS,
        shows=(("spoilt", Value(Selection(metric=_SPOILT))), ("{which}", Value(_by_which))),
        unit="count",
    ),
    Alert(
        name="DrillMany",
        when=Compared(Value(_by_which), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.INFO,
        summary="{which} holds",
        cause="The drill.",
        look="At the drill.",
        act="Nothing.",
        drill="the file 'many'",
    ),
)


def _read_spoilt() -> float:
    if Path("spoilt").exists():
        raise ValueError("it is spoilt")
    return 1.0


gauge(_SPOILT, read=_read_spoilt)
gauge(
    _MANY,
    read=lambda: {(f"n{n}",): float(Path("many").exists()) for n in range(MANY)},
)
_narrow = counter(_NARROW)

_url, _ = driver_urls(os.environ["DATABASE_URL"])
_past, _ = driver_urls(os.environ["DRILL_PAST_URL"])
small = create_engine(_past, pool_size=2, max_overflow=0)
single = create_engine(_past, pool_size=1, max_overflow=0)
lone = create_engine(_past, pool_size=1, max_overflow=0)
few = create_engine(_past, pool_size=4, max_overflow=0)
wide = create_engine(_url, pool_size=12, max_overflow=0, isolation_level="SERIALIZABLE")

_QUICK = BreakerRule(
    window_seconds=2, minimum_calls=2, refused_calls=2, open_seconds=0.1, open_cap_seconds=0.5,
    trials=1, ramp_seconds=0,
)  # fmt: skip
flapping = Pipeline("drill-flapping", judge=judge_io, breaker=Breaker("drill-flapping", _QUICK))
opened = Pipeline(
    "drill-opened", judge=judge_io, breaker=Breaker("drill-opened", BreakerRule(open_seconds=3))
)
isolated = Pipeline(
    "drill-isolated", judge=judge_io, breaker=Breaker("drill-isolated", BreakerRule())
)
_BACKOFF = Backoff(base_seconds=0.001, cap_seconds=0.002)
retried = Pipeline(
    "drill-retried", judge=judge_io, retry=RetryRule(attempts=3, backoff=_BACKOFF), idempotent=True
)
# Its budget lets all of them through: the usual one keeps a storm from rising at such a pace.
stormy = Pipeline(
    "drill-stormy", judge=judge_io, retry=RetryRule(attempts=3, backoff=_BACKOFF),
    budget=RetryBudget(ratio=1.0), idempotent=True,
)  # fmt: skip
full = Pipeline("drill-full", judge=judge_io, bulkhead=Bulkhead("drill-full", 2))
standing_in = Pipeline("drill-standing-in", judge=judge_io, fallback=Fallback(default="instead"))

kept: list[Any] = []
_calls = 0


def is_well() -> bool:
    """Answer the check of readiness."""
    return not Path("unwell").exists()


app = service.create_app()
_within = app.router.lifespan_context


@asynccontextmanager
async def _lifespan(of: FastAPI) -> AsyncIterator[None]:
    while Path("hold-start").exists():
        await asyncio.sleep(0.05)
    async with _within(of):
        yield
    for engine in (small, single, lone, few, wide):
        engine.dispose()


app.router.lifespan_context = _lifespan


@app.get("/drill/well")
async def well() -> str:
    return "well"


@app.get("/drill/raise")
async def broken(seconds: float = 0) -> None:
    await asyncio.sleep(seconds)
    raise RuntimeError("the drill raises")


@app.get("/drill/sleep")
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.get("/drill/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"part"
            await asyncio.sleep(0.1)

    return StreamingResponse(parts())


@app.websocket("/drill/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for said in websocket.iter_text():
        await websocket.send_text(said)


@app.get("/drill/stand")
async def stand(seconds: float) -> str:
    time.sleep(seconds)  # in the loop, which is the point
    return "stood"


@app.get("/drill/background")
async def background() -> str:
    async def fail() -> None:
        raise RuntimeError("the background of the drill raises")

    start_background("drill", fail())
    return "begun"


@app.get("/drill/descriptors")
async def descriptors(count: int) -> str:
    if count:
        kept.extend(Path(os.devnull).open() for _ in range(count))  # noqa: SIM115 - kept open on purpose
    else:
        for file in kept:
            file.close()
        kept.clear()
    return str(len(kept))


@app.get("/drill/narrow")
async def narrow() -> str:
    _narrow.cell("another").add()
    return "counted"


@app.get("/drill/hold")
def hold(engine: str, seconds: float) -> str:
    with _engine(engine).connect() as connection:
        connection.execute(text("SELECT 1"))
        time.sleep(seconds)
    return "held"


def _connected() -> Iterator[Connection]:
    """Give a connection for as long as the request lasts, over several jobs of the threads."""
    with few.connect() as connection:
        yield connection


@app.get("/drill/kept")
def kept_connection(connection: Annotated[Connection, Depends(_connected)], seconds: float) -> str:
    connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return "kept"


@app.get("/drill/thread-hold")
def thread_hold(engine: str, seconds: float) -> str:
    """Hold a connection in a thread of its own: not work of a request, so no door is before it."""
    threading.Thread(target=_held, args=(engine, seconds), daemon=True).start()
    return "begun"


def _held(engine: str, seconds: float) -> None:
    try:
        hold(engine, seconds)
    except Exception:
        return


@app.get("/drill/twice")
def twice() -> str:
    with lone.connect() as first:
        first.execute(text("SELECT 1"))
        with lone.connect() as second:
            second.execute(text("SELECT 1"))
    return "had two"


@app.get("/drill/statement")
def statement(seconds: float) -> str:
    with wide.connect() as connection:
        connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return "asked"


@app.get("/drill/read")
def read() -> str:
    with wide.connect() as connection:
        for _ in range(3):
            connection.execute(text("SELECT 1"))
            time.sleep(0.02)
    return "read"


@app.get("/drill/commit")
def commit() -> str:
    with wide.begin() as connection:
        connection.execute(text("UPDATE drill_row SET number = number + 1 WHERE id = 2"))
    return "committed"


@app.get("/drill/unit")
def unit() -> str:
    def change(connection: Any) -> None:
        number = connection.scalar(text("SELECT number FROM drill_row WHERE id = 1"))
        time.sleep(0.01)
        connection.execute(
            text("UPDATE drill_row SET number = :number WHERE id = 1"), {"number": number + 1}
        )

    run_transaction(wide, change, name="drill", attempts=5)
    return "changed"


@app.post("/drill/write")
def write() -> str:
    with few.begin() as connection:
        connection.execute(text("UPDATE clients SET email = concat(email, 'x') WHERE id = 1"))
    return "written"


@app.get("/drill/call")
def call(which: str) -> Response:
    global _calls
    _calls += 1
    number = _calls

    def target() -> str:
        if which == "retried-some" and number % 3:
            return "answered"
        if which == "flapping" and time.monotonic() % 0.6 < 0.2:
            return "answered"
        raise ConnectionRefusedError(111, "the drill refuses")

    pipeline = {
        "flapping": flapping, "opened": opened, "retried-some": stormy, "retried-all": retried,
    }[which]  # fmt: skip
    try:
        return Response(pipeline.call(target))
    except Exception as error:
        return Response(type(error).__name__)


@app.get("/drill/full")
async def into_bulkhead(seconds: float) -> str:
    async def target() -> str:
        await asyncio.sleep(seconds)
        return "done"

    try:
        return await full.call_async(target)
    except Exception as error:
        return type(error).__name__


@app.get("/drill/instead")
def instead() -> str:
    def target() -> str:
        raise ConnectionRefusedError(111, "the drill refuses")

    return str(standing_in.answer(target).value)


@app.get("/drill/dependency")
def dependency(url: str) -> str:
    return str(httpx.get(url, timeout=5).status_code)


def _engine(name: str) -> Any:
    return {"small": small, "single": single, "wide": wide}[name]
