"""The pipe between supervisor and worker: one JSON object a line, both ways, every wait bounded."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

# A snapshot of 1,000 label sets of a histogram is about 300 kB; far beyond that is a mistake.
LINE_BYTES_MAX = 8 * 1024 * 1024
# What may wait for a process that does not read: beyond it the message is dropped, not queued.
WAITING_BYTES_MAX = 256 * 1024


def encoded(facts: Mapping[str, Any]) -> bytes:
    """Return `facts` as JSON on one line, whatever an app has put into a text of theirs.

    A file name that is no UTF-8 comes as a lone surrogate, which JSON cannot say: it becomes '?'.
    So does an integer beyond 64 bits or an object of another kind become its text. A message with
    a '?' in it is heard; one that is an error is silence, and silence costs a worker its life.
    """
    try:
        return orjson.dumps(facts, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_sayable(facts))


def _sayable(value: Any) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int() if -(2**63) <= value < 2**64:
            return value
        case Mapping():
            return {_sayable_text(name): _sayable(one) for name, one in value.items()}
        case list() | tuple():
            return [_sayable(one) for one in value]
    return _sayable_text(value)


def _sayable_text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


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
        """Send a message without waiting; False when the other side does not read or is gone.

        What JSON cannot say goes as the nearest text (see `encoded`), never as an error.
        """
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            return False
        facts["kind"] = kind
        self._writer.write(encoded(facts) + b"\n")
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

    def hear_out(self) -> None:
        """Take what has arrived for all that will: `messages` yields it and ends.

        For when the other process has ended: a child that it forked may hold its end of the pipe,
        and then no end would be heard. Without effect where the kernel would throw away what has
        arrived (all but Linux).
        """
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # it has hung up by itself
                self._writer.get_extra_info("socket").shutdown(socket.SHUT_RD)

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
