"""FastAPI with a database and another service behind it; knows nothing of traces."""

import asyncio
import logging
import os

import httpx
from fastapi import FastAPI, Request, Response
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

log = logging.getLogger("shop")
app = FastAPI()
engine = create_engine("sqlite:///traced.db", poolclass=QueuePool, pool_size=2, max_overflow=0)


@app.get("/fast/{number}")
async def fast(number: int) -> dict[str, int]:
    return {"number": number}


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.3)
    return "slow"


@app.get("/rows")
def rows() -> int:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS clients (name TEXT, note TEXT)"))
        connection.execute(
            text("INSERT INTO clients VALUES ('Ana', :note)"), {"note": "bound-secret-1"}
        )
        connection.execute(text("SELECT * FROM clients WHERE note = 'literal-secret-2'"))
    log.info("rows were read")
    raise RuntimeError("after the rows")


@app.get("/held")
def held() -> None:
    with engine.connect(), engine.connect(), engine.connect():
        pass


@app.get("/call")
async def call(path: str = "/fast/1") -> Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(os.environ["NEXT"] + path)
    return Response(answer.content, 500 if answer.is_error else 200)


@app.post("/raise")
async def raises(request: Request) -> None:
    raise RuntimeError((await request.body()).decode())


@app.get("/stream")
async def stream() -> Response:
    from fastapi.responses import StreamingResponse

    async def parts():
        for _ in range(3):
            yield b"part"
            await asyncio.sleep(0.1)

    return StreamingResponse(parts())
