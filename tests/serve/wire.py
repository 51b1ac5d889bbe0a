"""An engine on a real socket, an app that can be held, and clients that speak byte by byte."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import trustme

from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.sockets import listen_tcp

PATIENCE_SECONDS = 10


class App:
    """An ASGI app that answers `/` at once and `/held` when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.began = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        if scope["path"] == "/held":
            self.began.set()
            try:
                await self.let.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if scope["path"] == "/raises":
            raise RuntimeError("on purpose")
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/begun":
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            self.began.set()
            await self.let.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class Client:
    """One HTTP/1.1 connection, byte by byte; `running` closes it."""

    open: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.open.append(self)

    @classmethod
    async def to(cls, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> "Client":
        return cls(*await asyncio.open_connection(*sock.getsockname()[:2], ssl=tls))

    async def rest(self) -> bytes:
        """Read all that comes until the connection ends."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE_SECONDS)

    def ask(self, path: str = "/") -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def drip(self, piece: bytes, *, every_seconds: float = 0.02) -> bytes:
        """Send a piece again and again, and return what came until the connection ended."""
        reading = asyncio.ensure_future(self.rest())
        while not reading.done():
            self.writer.write(piece)
            await asyncio.wait({reading}, timeout=every_seconds)
        try:
            return reading.result()
        except ConnectionError:
            return b""

    async def head(self) -> str:
        """Read one answer and return its head; '' when the connection ended instead."""
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        length = next(
            (int(li.split(b":")[1]) for li in head.lower().splitlines() if b"content-len" in li), 0
        )
        await asyncio.wait_for(self.reader.readexactly(length), PATIENCE_SECONDS)
        return head.decode().lower()

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), PATIENCE_SECONDS) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


def certified(directory: Path) -> tuple[tuple[str, str], ssl.SSLContext]:
    """Make a certificate; return its files for the server, and what a client trusts it with."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return (str(directory / "cert.pem"), str(directory / "key.pem")), context


@asynccontextmanager
async def running(
    app: Any, *, tls: tuple[str, str] | None = None, connections_max: int = 0, **options: Any
) -> AsyncIterator[tuple[UvicornEngine, socket.socket]]:
    (sock,) = listen_tcp("127.0.0.1", 0, backlog=50, option="--port")
    address = sock.dup()
    engine = UvicornEngine(app, tls=tls, connections_max=connections_max, **options)
    await engine.start([sock], {})
    try:
        yield engine, address
    finally:
        engine.cancel()
        await engine.close()
        address.close()
        for client in Client.open:
            await client.close()
        Client.open.clear()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)
