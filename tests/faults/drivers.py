"""The same three things with every driver: connect, ask for a 1, and say goodbye or not."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import psycopg
import pymysql

CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Server:
    """Where a driver finds its server, and the database it may use there."""

    port: int
    user: str = ""
    database: str = ""

    @classmethod
    def of(cls, url: str) -> "Server":
        parts = urlsplit(url)
        return cls(parts.port or 0, parts.username or "", parts.path.lstrip("/"))

    def psycopg(self, port: int) -> str:
        return (
            f"host=127.0.0.1 port={port} user={self.user} dbname={self.database} "
            f"connect_timeout={CONNECT_SECONDS} sslmode=disable"
        )

    def asyncpg(self, port: int) -> dict[str, Any]:
        return {
            "host": "127.0.0.1", "port": port, "user": self.user, "database": self.database,
            "timeout": CONNECT_SECONDS, "ssl": False,
        }  # fmt: skip

    def mysql(self, port: int) -> dict[str, Any]:
        return {
            "host": "127.0.0.1", "port": port, "user": self.user,
            "database": self.database or None, "connect_timeout": CONNECT_SECONDS,
        }  # fmt: skip


@dataclass
class Talk:
    """One open connection: `ask` returns "1"."""

    ask: Callable[[], Awaitable[str]]
    drop: Callable[[], Awaitable[None]]


async def by_psycopg(server: Server, port: int) -> Talk:
    connection = await psycopg.AsyncConnection.connect(server.psycopg(port), autocommit=True)

    async def ask() -> str:
        row = await (await connection.execute("SELECT 1")).fetchone()
        assert row is not None
        return str(row[0])

    return Talk(ask, connection.close)


async def by_asyncpg(server: Server, port: int) -> Talk:
    connection = await asyncpg.connect(**server.asyncpg(port))

    async def ask() -> str:
        return str(await connection.fetchval("SELECT 1"))

    async def drop() -> None:
        connection.terminate()

    return Talk(ask, drop)


async def by_pymysql(server: Server, port: int) -> Talk:
    connection = await asyncio.to_thread(
        pymysql.connect, **server.mysql(port), read_timeout=CONNECT_SECONDS
    )

    def ask() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            [[answer]] = cursor.fetchall()
        return str(answer)

    async def drop() -> None:
        connection._force_close()

    return Talk(lambda: asyncio.to_thread(ask), drop)


async def by_asyncmy(server: Server, port: int) -> Talk:
    connection = await asyncmy.connect(**server.mysql(port))

    async def ask() -> str:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT 1")
            [[answer]] = await cursor.fetchall()
        return str(answer)

    async def drop() -> None:
        connection.close()

    return Talk(ask, drop)


async def by_redis(server: Server, port: int) -> Talk:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask() -> str:
        writer.write(b"*2\r\n$4\r\nECHO\r\n$1\r\n1\r\n")
        await writer.drain()
        assert await reader.readexactly(4) == b"$1\r\n"
        return (await reader.readexactly(3)).decode().strip()

    async def drop() -> None:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    return Talk(ask, drop)


DRIVERS = {
    "psycopg": by_psycopg,
    "asyncpg": by_asyncpg,
    "pymysql": by_pymysql,
    "asyncmy": by_asyncmy,
    "redis": by_redis,
}
