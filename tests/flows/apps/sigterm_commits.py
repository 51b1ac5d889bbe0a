"""A service that writes one row for each request, in each of the ways in which people commit."""

import asyncio
import os
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shipworthy.db import run_transaction_async

INSERT = sa.text("INSERT INTO written (id) VALUES (:id)")

url = sa.make_url(os.environ["DATABASE"])
waiting = create_async_engine(url.set(drivername="postgresql+asyncpg"))
blocking = sa.create_engine(url.set(drivername="postgresql+psycopg"))
sessions = async_sessionmaker(waiting)


def asked(request: Request) -> tuple[int, float, float]:
    """The row, and how long to work before the transaction and within."""
    of = request.query_params
    return int(request.path_params["row"]), float(of["before"]), float(of["within"])


async def session(request: Request) -> JSONResponse:
    row, before, within = asked(request)
    await asyncio.sleep(before)
    async with sessions() as one:
        await one.execute(INSERT, {"id": row})
        await asyncio.sleep(within)
        await one.commit()
    return JSONResponse(row)


def thread(request: Request) -> JSONResponse:
    row, before, within = asked(request)
    time.sleep(before)
    with sessionmaker(blocking)() as one:
        one.execute(INSERT, {"id": row})
        time.sleep(within)
        one.commit()
    return JSONResponse(row)


async def unit(request: Request) -> JSONResponse:
    row, before, within = asked(request)
    await asyncio.sleep(before)

    async def write(one: Any) -> None:
        await one.execute(INSERT, {"id": row})
        await asyncio.sleep(within)

    await run_transaction_async(sessions, write, name="write", operation_id=str(row))
    return JSONResponse(row)


async def warm(_: Request) -> JSONResponse:
    def look() -> None:
        with blocking.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    async with waiting.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))
    await asyncio.to_thread(look)
    return JSONResponse("warm")


app = Starlette(
    routes=[
        Route("/session/{row}", session, methods=["POST"]),
        Route("/thread/{row}", thread, methods=["POST"]),
        Route("/unit/{row}", unit, methods=["POST"]),
        Route("/warm", warm),
    ]
)
