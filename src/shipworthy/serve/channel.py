"""The pipe between supervisor and worker: one JSON object a line, both ways, every wait bounded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson

# A snapshot of 1,000 label sets of a histogram is about 300 kB; far beyond that is a mistake.
LINE_BYTES_MAX = 8 * 1024 * 1024
# What may wait for a process that does not read: beyond it the message is dropped, not queued.
WAITING_BYTES_MAX = 256 * 1024


class Channel:
    """One end of the pipe, on an asyncio loop. Belongs to one loop; not thread-safe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> "Channel":
        """Speak over one end of a socket pair, which the channel then owns."""
        sock.settimeout(0)
        reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_BYTES_MAX)
        # `flush` means all of it: drain() then waits for an empty buffer, not for a lower mark.
        writer.transport.set_write_buffer_limits(high=0)
        return cls(reader, writer)

    def send(self, kind: str, **facts: Any) -> bool:
        """Send a message without waiting; False when the other side does not read or is gone."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            return False
        facts["kind"] = kind
        self._writer.write(orjson.dumps(facts, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        return True

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the other side says until it is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            except ValueError:  # longer than a line may be: its rest is skipped
                continue
            if not line.endswith(b"\n"):
                return
            try:
                message: dict[str, Any] = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            yield message

    async def flush(self, seconds: float) -> None:
        """Give what was sent up to `seconds` to leave this process."""
        done, pending = await asyncio.wait(
            {asyncio.ensure_future(self._writer.drain())}, timeout=seconds
        )
        for task in pending:
            task.cancel()
        for task in done:
            task.exception()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
